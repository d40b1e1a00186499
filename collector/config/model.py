"""The settings: sections, keys, defaults, limits, and what each is for.

The documentation's table is checked against these models by a test.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field
from pydantic.fields import FieldInfo

from collector.config.section import Section
from collector.config.sinks import Sink, Sinks
from collector.config.values import (
    Address,
    Country,
    Duration,
    Hashes,
    Listen,
    Location,
    Names,
    Origins,
    Recipient,
    Size,
    UnixSocket,
    Whole,
    shown,
)

__all__ = [
    "About",
    "Admin",
    "Auth",
    "Config",
    "Grpc",
    "Http",
    "Limits",
    "Log",
    "Setting",
    "Spool",
    "Tls",
    "settings",
    "variable",
]

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
_Text = Annotated[str, Field(min_length=1, max_length=4096)]


class Http(Section):
    """HTTP: events as JSON and NDJSON, and OTLP/HTTP."""

    address: Listen = Field(
        Address("127.0.0.1", 4318), description="Where events and OTLP/HTTP are received, or `off`."
    )
    unix: UnixSocket = Field(
        None, description="A socket file that takes the same, for its owner only (0600)."
    )
    origins: Origins = Field(
        (),
        description="Web origins whose pages may send (CORS), such as `https://app.example.com`.",
    )
    hosts: Names = Field(
        (),
        description="Names by which senders may call a loopback address, besides loopback's own;"
        " an open address takes any.",
    )
    trusted_hops: Annotated[Whole, Field(ge=0, le=16)] = Field(
        0,
        description="How many proxies of yours stand before it: the sender's address is that many"
        " from the right of `X-Forwarded-For`. With 0 it is the peer's.",
    )


class Grpc(Section):
    """OTLP/gRPC."""

    address: Listen = Field(
        Address("127.0.0.1", 4317), description="Where OTLP/gRPC is received, or `off`."
    )


class Admin(Section):
    """Health, metrics and the page, for operators."""

    address: Listen = Field(
        Address("127.0.0.1", 4319), description="Where health and metrics are shown, or `off`."
    )
    hosts: Names = Field(
        (), description="Names by which it may be called, besides loopback's and its own address."
    )


class Limits(Section):
    """What a sender may ask for."""

    wire: Annotated[Size, Field(ge=_KIB, le=64 * _MIB)] = Field(
        4 * _MIB, description="The largest body as sent."
    )
    body: Annotated[Size, Field(ge=_KIB, le=64 * _MIB)] = Field(
        16 * _MIB, description="The largest body once decompressed; at most `64MiB`."
    )
    ratio: Annotated[Whole, Field(ge=2, le=1000)] = Field(
        100, description="How many times larger a body may become, past its first `1MiB`."
    )
    header: Annotated[Size, Field(ge=_KIB, le=_MIB)] = Field(
        64 * _KIB, description="All headers of a request together."
    )
    header_time: Annotated[Duration, Field(ge=0.1, le=300)] = Field(
        5.0, description="How long a sender may take for the headers."
    )
    body_time: Annotated[Duration, Field(ge=0.1, le=300)] = Field(
        10.0, description="How long a sender may take for a body."
    )
    connections: Annotated[Whole, Field(ge=1, le=100_000)] = Field(
        1000, description="How many connections at a time."
    )


class Tls(Section):
    """Encryption of what is received."""

    certificate: Location = Field(None, description="The certificate chain, a PEM file.")
    key: Location = Field(None, description="Its private key, a PEM file.")
    client_ca: Location = Field(
        None, description="Who signs senders' certificates, a PEM file: then each sender needs one."
    )


class Auth(Section):
    """Who may send."""

    tokens: Hashes = Field(
        (),
        description="SHA-256 of each bearer token that is taken, in hexadecimal. With none, anybody"
        " who reaches the address may send.",
    )


class Spool(Section):
    """What waits on disk for delivery."""

    limit: Annotated[Size, Field(ge=_MIB, le=1024 * _GIB)] = Field(
        _GIB, description="How much may wait; past it, senders are asked to come again."
    )


class Log(Section):
    """What the process says on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least that is said: `debug`, `info`, `warning` or `error`."
    )


class About(Section):
    """Who is responsible, for the privacy notice and the record of processing."""

    controller: Recipient = Field(
        None, description="Who decides what is collected and why: the controller's name."
    )
    contact: Recipient = Field(
        None, description="How the controller is reached: an address of any kind, on one line."
    )
    officer: Recipient = Field(
        None, description="How the data protection officer is reached, if there is one."
    )
    country: Country = Field(
        None, description="The country of the controller, two letters, such as `DE`."
    )

    def place(self, sink: Sink) -> str | None:
        """The country that records of a sink go to: its own, or for what is ours, ours."""
        return sink.country or (self.country if sink.party == "first" else None)


class Config(Section):
    """All settings of the sidecar."""

    data: Location = Field(
        Path("collector-data"),
        description="The directory of spool and store, made if it is not there. One process each.",
    )
    schema_: _Text = Field(
        "conferencing",
        alias="schema",
        description="What is collected: a shipped schema's name, or the path of a schema file.",
    )
    http: Http = Http()
    grpc: Grpc = Grpc()
    admin: Admin = Admin()
    limits: Limits = Limits()
    tls: Tls = Tls()
    auth: Auth = Auth()
    spool: Spool = Spool()
    sinks: Sinks = Sinks()
    log: Log = Log()
    about: About = About()


class Setting(NamedTuple):
    """One setting: the keys that lead to it, and what pydantic knows of it."""

    loc: tuple[str, ...]
    info: FieldInfo

    @property
    def name(self) -> str:
        """``section.key``."""
        return ".".join(self.loc)

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return variable(self.loc)

    def of(self, config: Config) -> Any:
        """Its value, as one would write it; of secrets only the number."""
        value: Any = config
        for key in self.loc:
            value = getattr(value, "schema_" if key == "schema" else key)
        return shown(self.info, value)


def variable(loc: tuple[str, ...]) -> str:
    """The environment variable of a setting, or of a section."""
    return "__".join(["COLLECTOR", *loc]).upper()


def settings(section: type[Section] = Config, loc: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Every setting, in order."""
    for name, info in section.model_fields.items():
        inner = (*loc, info.alias or name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            yield from settings(info.annotation, inner)
        else:
            yield Setting(inner, info)
