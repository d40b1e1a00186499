"""The target of records as a URL: a sink, or a sidecar.

``to=SCHEME:///PATH`` names a type of sinks by its scheme; after ``SCHEME+https://`` and the like
comes an address of that kind.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote, urlsplit

from collector.addresses import is_ip
from collector.errors import ConfigError

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?", re.ASCII).fullmatch
_PREFIX = re.compile(r"[A-Za-z0-9/_.~%-]*", re.ASCII).fullmatch
_FORMS = (
    "this must be `sqlite:///PATH`, `ndjson:///PATH`, `postgres://USER@HOST/DATABASE`,"
    " `otlp+https://HOST`, `http://HOST:PORT`, `https://HOST` or `unix:///PATH`"
)
_DEFAULT_PORT = 4318


@dataclass(frozen=True, slots=True, repr=False)
class Target:
    """A sink of the type ``sink_type`` at ``path`` or, on another machine, at ``url``; a sidecar's
    socket at ``path``; or a sidecar at ``host`` and ``port``, with ``prefix`` before the paths of
    requests."""

    scheme: str
    path: Path = Path()
    host: str = "localhost"
    port: int = 0
    prefix: str = ""
    sink_type: str = ""
    url: str = ""

    def __repr__(self) -> str:
        return f"<Target: {self.scheme}>"

    @property
    def is_sink(self) -> bool:
        """Whether the target is a sink, which this process opens itself."""
        return bool(self.sink_type)

    @property
    def is_file(self) -> bool:
        """Whether the target is a sink on this machine."""
        return bool(self.sink_type) and not self.url


def target(url: str) -> Target:
    """Read a URL. As in SQLAlchemy, a sink's relative path follows three slashes, an absolute one
    four. Raises ``ValueError``, whose message quotes nothing."""
    scheme, colon, rest = url.partition("://")
    if colon and scheme == "unix":
        return Target("unix", Path("/") / _path(rest))
    if colon and scheme in ("http", "https"):
        return _sidecar(url)
    from collector.config.sink_types import takes_address, type_of  # noqa: PLC0415 - not for a sidecar

    name, plus, _ = scheme.partition("+")
    type_ = type_of(name) if colon else None
    if type_ and (plus or takes_address(type_)):
        return Target(scheme, sink_type=type_, url=url)
    if type_:
        return Target(scheme, _path(rest), sink_type=type_)
    raise ValueError(_FORMS)


def local_store() -> Target:
    """Return the store in the user's data directory, by the XDG Base Directory Specification.

    Raises ``ConfigError`` E203 for a user without such a directory.
    """
    base = Path(os.environ.get("XDG_DATA_HOME", ""))
    with suppress(RuntimeError):
        if not base.is_absolute():
            is_mac = sys.platform == "darwin"
            base = Path.home() / ("Library/Application Support" if is_mac else ".local/share")
    if not base.is_absolute():
        raise ConfigError(
            "E203", "there is no home directory for the default store: set `to` or `local`"
        )
    return Target("sqlite", base / "collector" / "telemetry.db", sink_type="store")


def _path(rest: str) -> Path:
    path = unquote(rest.removeprefix("/"))
    if not rest.startswith("/") or not path.strip("/ ") or "\0" in path or "?" in rest:
        raise ValueError("a path must follow, after three slashes: `sqlite:///telemetry.db`")
    return Path(path)


def _sidecar(url: str) -> Target:
    is_valid = False
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        is_valid = not (parts.query or parts.fragment or "@" in parts.netloc)
        is_valid = is_valid and _PREFIX(parts.path) is not None
    except ValueError:
        pass
    if not is_valid or not (_HOST(host) or is_ip(host)):
        raise ValueError(f"{_FORMS}, without a name, a password or a query in it")
    if "/v1/" in f"{parts.path}/":
        raise ValueError("leave the path of the receiver out of it: `http://127.0.0.1:4318`")
    if parts.scheme == "https":
        return Target("https", host=host, port=port or 443, prefix=parts.path.rstrip("/"))
    if not _is_loopback(host):
        raise ValueError("only a sidecar on this machine is reached without encryption: use https")
    return Target("http", host=host, port=port or _DEFAULT_PORT, prefix=parts.path.rstrip("/"))


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (is_ip(host) and ip_address(host).is_loopback)
