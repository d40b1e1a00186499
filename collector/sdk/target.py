"""Where records go, as a URL: a store, a file, or a sidecar."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from collector.errors import ConfigError

__all__ = ["Scheme", "Target", "local_store", "target"]

Scheme = Literal["sqlite", "ndjson", "http", "https", "unix"]

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?", re.ASCII).fullmatch
_PREFIX = re.compile(r"[A-Za-z0-9/_.~%-]*", re.ASCII).fullmatch
_FORMS = (
    "this must be `sqlite:///PATH`, `ndjson:///PATH`, `http://HOST:PORT`, `https://HOST` or"
    " `unix:///PATH`"
)
_DEFAULT_PORT = 4318


@dataclass(frozen=True, slots=True, repr=False)
class Target:
    """A store or a file at ``path``, a sidecar's socket file there, or a sidecar at ``host`` and
    ``port``, with ``prefix`` before the paths of its requests."""

    scheme: Scheme
    path: Path = Path()
    host: str = "localhost"
    port: int = 0
    prefix: str = ""

    def __repr__(self) -> str:
        return f"<Target: {self.scheme}>"

    @property
    def is_file(self) -> bool:
        """Whether records stay in a file of this machine."""
        return self.scheme in ("sqlite", "ndjson")


def target(url: str) -> Target:
    """Reads a URL. Three slashes begin a relative path of a store or a file, four an absolute one,
    as SQLAlchemy has it. Raises ``ValueError``, whose message quotes nothing."""
    scheme, colon, rest = url.partition("://")
    if colon and scheme in ("sqlite", "ndjson"):
        return Target("sqlite" if scheme == "sqlite" else "ndjson", _path(rest))
    if colon and scheme == "unix":
        return Target("unix", Path("/") / _path(rest))
    if colon and scheme in ("http", "https"):
        return _sidecar(url)
    raise ValueError(_FORMS)


def local_store() -> Target:
    """The store in the user's data directory, by the XDG Base Directory Specification.

    Raises ``ConfigError`` E203 for a user without one.
    """
    base = Path(os.environ.get("XDG_DATA_HOME", ""))
    with suppress(RuntimeError):
        if not base.is_absolute():
            is_mac = sys.platform == "darwin"
            base = Path.home() / ("Library/Application Support" if is_mac else ".local/share")
    if not base.is_absolute():
        raise ConfigError("E203", "there is no home directory for the store: say where it goes")
    return Target("sqlite", base / "collector" / "telemetry.db")


def _path(rest: str) -> Path:
    path = unquote(rest.removeprefix("/"))
    if not rest.startswith("/") or not path.strip("/ ") or "\0" in path or "?" in rest:
        raise ValueError("a path must follow, after three slashes: `sqlite:///telemetry.db`")
    return Path(path)


def _sidecar(url: str) -> Target:
    is_ours = False
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        is_ours = not (parts.query or parts.fragment or "@" in parts.netloc)
        is_ours = is_ours and _PREFIX(parts.path) is not None
    except ValueError:
        pass
    if not is_ours or not (_HOST(host) or _is_address(host)):
        raise ValueError(f"{_FORMS}, without a name, a password or a query in it")
    if parts.scheme == "https":
        return Target("https", host=host, port=port or 443, prefix=parts.path.rstrip("/"))
    if not _is_loopback(host):
        raise ValueError("only a sidecar on this machine is reached without encryption: use https")
    return Target("http", host=host, port=port or _DEFAULT_PORT, prefix=parts.path.rstrip("/"))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)
