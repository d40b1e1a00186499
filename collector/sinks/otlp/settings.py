"""The settings of a sink of the type ``otlp``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, ValidationError

from collector.addresses import Address
from collector.config.sink_settings import SinkSettings
from collector.config.values import Duration, Line, Location, Reference, resolved
from collector.documents import fault
from collector.errors import ConfigError

AGENT = "data-minimisation-collector"
"""The user agent of requests. It names no version and no machine."""
UID, COUNT = "log.record.uid", "collector.count"
"""The attributes of a log record besides the fields of its record."""
_ENDPOINT = re.compile(
    r"https?://(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::[0-9]{1,5})?(?:/[A-Za-z0-9/_.~-]{0,1000})?",
    re.ASCII,
).fullmatch
_HEADER = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}", re.ASCII).fullmatch
_OURS = re.compile(r"grpc-.*|.*-bin|te|host|connection|user-agent|(?:content|transfer|accept)-.*")
"""Headers that a sink sets itself, or that neither protocol can carry."""
_MOST_HEADERS = 20
_PORTS = {"http": 80, "https": 443}
_NO_ADDRESS = (
    "this must be `otlp+https://HOST:PORT`, or `otlp+http://` on this machine; what authenticates"
    " requests follows as `?NAME=env:NAME`"
)
_Protocol = Literal["http", "grpc"]


@dataclass(frozen=True, slots=True, repr=False)
class OtlpPeer:
    """Where a receiver listens, and the prefix of the paths of its requests."""

    scheme: str
    host: str
    port: int
    prefix: str
    path: Path = Path()

    @property
    def address(self) -> str:
        """Return ``host:port``."""
        return str(Address(self.host, self.port))


def _peer(endpoint: str) -> OtlpPeer:
    """Read an endpoint. Raises ``ValueError``."""
    parts = urlsplit(endpoint)
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    return OtlpPeer(parts.scheme, parts.hostname or "", port, parts.path.rstrip("/"))


def _endpoint(value: Any) -> str:
    peer = None
    if isinstance(value, str) and _ENDPOINT(value):
        with suppress(ValueError):
            peer = _peer(value)
    if peer is None or not 0 < peer.port < 1 << 16:
        raise fault("E107", "this must be an address such as `https://otel.example.org:4318`")
    if peer.scheme == "http" and not Address(peer.host, peer.port).is_loopback:
        raise fault(
            "E107", "only a receiver on this machine is reached without encryption: use https"
        )
    return str(value)


def _headers(value: Any) -> dict[str, Any]:
    """Read a mapping, or a text from the environment: ``name=env:NAME``, separated by commas."""
    if isinstance(value, str):
        value = dict(part.strip().split("=", 1) for part in value.split(",") if "=" in part)
    is_named = isinstance(value, dict) and 0 < len(value) <= _MOST_HEADERS
    if not is_named or not all(isinstance(name, str) and _HEADER(name) for name in value):
        raise fault(
            "E107", "this must map names of headers, in small letters, to `env:NAME`, `file:PATH`"
        )
    if any(map(_OURS.fullmatch, value)):
        raise fault("E107", "one of these headers is set by the sink itself; leave it out")
    return dict(value)


class OtlpSettings(SinkSettings):
    """Records as OTLP log records."""

    endpoint: Annotated[str, BeforeValidator(_endpoint)] = Field(
        description="The receiver, such as `https://otel.example.org:4318`; over HTTP `/v1/logs` is"
        " appended. `http://` is for this machine only."
    )
    protocol: _Protocol = Field("http", description="`http` (as protobuf) or `grpc`.")
    headers: Annotated[Mapping[str, Reference], BeforeValidator(_headers)] = Field(
        {},
        description="Headers that authenticate requests, each with where its value is: `env:NAME`"
        " or `file:PATH`, which is read anew when the receiver refuses it.",
    )
    ca: Location = Field(
        None, description="Who signs the receiver's certificate, a PEM file; none: the system's."
    )
    certificate: Location = Field(
        None, description="The sink's own certificate, a PEM file, for a receiver that wants one."
    )
    key: Location = Field(
        None, description="Its private key, a PEM file. Default: in the file of the certificate."
    )
    compression: Literal["gzip", "none"] = Field("gzip", description="`gzip` or `none`.")
    timeout: Annotated[Duration, Field(ge=0.1, le=60)] = Field(
        10.0, description="How long a request may take, from the connection to the answer."
    )
    service: Annotated[Line, Field(max_length=255)] = Field(
        "collector", description="`service.name` of the resource, which has nothing else."
    )

    @classmethod
    def at_address(cls, type_: str, url: str) -> Self:
        """Return the settings for ``otlp+https://HOST``. Headers follow as ``?NAME=env:NAME``,
        separated by ``&``. The protocol is HTTP, because a process with gRPC could not fork.

        Raises ``ConfigError`` E107 for another address.
        """
        endpoint, mark, query = url.removeprefix("otlp+").partition("?")
        values: dict[str, Any] = {"type": type_, "endpoint": endpoint}
        if mark:
            parts = (part.partition("=") for part in query.split("&"))
            values["headers"] = {name: unquote(reference) for name, _, reference in parts}
        with suppress(ValidationError):
            return cls(**values)
        raise ConfigError("E107", _NO_ADDRESS)

    @property
    def peer(self) -> OtlpPeer:
        """Where the receiver listens."""
        return _peer(self.endpoint)

    def place(self, directory: Path) -> str:
        """Name the receiver without the path, which may contain a secret."""
        return f"OTLP at {self.peer.address}"

    def credentials(self) -> dict[str, str]:
        """Read the headers that authenticate requests. Raises ``ConfigError`` E202."""
        return {name: _header_text(reference) for name, reference in self.headers.items()}


def _header_text(reference: str | None) -> str:
    text = resolved(reference or "")
    if text.isascii():
        return text
    raise ConfigError("E202", "the reference leads to a text that no header can have")
