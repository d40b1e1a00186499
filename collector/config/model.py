"""The settings: sections, keys, defaults, limits, and the purpose of each.

The documentation's table is checked against these models by a test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, PlainValidator, PrivateAttr
from pydantic.fields import FieldInfo

from collector.addresses import Address
from collector.config.broker_settings import DrainSection
from collector.config.sink_settings import Section, SinkSettings
from collector.config.sink_types import DEFAULTS, built_in_settings, settings_of
from collector.config.values import (
    Bucket,
    Country,
    Duration,
    Endpoint,
    Flag,
    Hashes,
    KeySet,
    Line,
    Listen,
    Location,
    Names,
    Origins,
    Recipient,
    Reference,
    Sandbox,
    SchemaList,
    Size,
    UnixSocket,
    Whole,
    WorkerCount,
    plain_value,
)
from collector.contracts import MOST_BYTES, MOST_EVENTS
from collector.schema import resources

SWITCH = "enabled"
"""The setting that a section written as ``true`` or ``false`` sets."""

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
_HOUR = 3600


class Sinks(Mapping[str, SinkSettings]):
    """The settings of all sinks by name: the default ones, on or off, and others."""

    def __init__(self, chosen: Mapping[str, SinkSettings] | None = None) -> None:
        defaults = {name: built_in_settings(name) for name in DEFAULTS}
        chosen = chosen or {}
        self._every: dict[str, SinkSettings] = {
            name: chosen[name] if name in chosen else defaults[name](type=name)
            for name in dict.fromkeys([*defaults, *chosen])
        }

    def __getitem__(self, name: str) -> SinkSettings:
        return self._every[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._every)

    def __len__(self) -> int:
        return len(self._every)

    def __repr__(self) -> str:
        return f"<settings of {len(self)} sinks>"

    def on(self) -> dict[str, SinkSettings]:
        """Return the sinks that are switched on, by name."""
        return {name: sink for name, sink in self.items() if sink.is_on}

    def sections(self) -> dict[str, type[SinkSettings]]:
        """Return the class of each sink's settings, by name."""
        return {name: type(sink) for name, sink in self.items()}


class Http(Section):
    """HTTP: events as JSON and NDJSON, and OTLP/HTTP."""

    address: Listen = Field(
        Address("127.0.0.1", 4318), description="The address for events and OTLP/HTTP, or `off`."
    )
    unix: UnixSocket = Field(
        None, description="A Unix socket for the same, for its owner only (0600)."
    )
    origins: Origins = Field(
        (),
        description="Web origins whose pages may send events (CORS), such as `https://app.example.com`.",
    )
    hosts: Names = Field(
        (),
        description="More host names that requests to a loopback address may use; an address that"
        " other machines can reach accepts any.",
    )
    preferences: Flag = Field(
        False,
        description="Whether to serve `/preferences`, where visitors can switch off optional"
        " purposes; it needs no token.",
    )
    trusted_hops: Annotated[Whole, Field(ge=0, le=16)] = Field(
        0,
        description="How many of your own proxies forward requests. The sender's address is then"
        " that many from the right in `X-Forwarded-For`; with 0, it is that of the connection.",
    )


class Grpc(Section):
    """OTLP/gRPC."""

    address: Listen = Field(
        Address("127.0.0.1", 4317), description="The address for OTLP/gRPC, or `off`."
    )


class Admin(Section):
    """Health, metrics and the page, for operators."""

    address: Listen = Field(
        Address("127.0.0.1", 4319),
        description="The address for health, metrics and the page, or `off`.",
    )
    hosts: Names = Field((), description="More host names that requests to it may use.")
    open: Flag = Field(
        False,
        description="Whether other machines may reach it without TLS and without a token. It shows"
        " counts and the names of schemas, fields and sinks, but no value.",
    )

    @property
    def is_encrypted(self) -> bool:
        """Whether the admin address needs TLS and a token: other machines can reach it, and
        ``open`` is off."""
        return self.address is not None and not (self.address.is_loopback or self.open)


class Limits(Section):
    """Limits on what a sender may ask for."""

    wire: Annotated[Size, Field(ge=_KIB, le=MOST_BYTES)] = Field(
        MOST_BYTES, description="The largest body as it is sent; at most `8MiB`."
    )
    body: Annotated[Size, Field(ge=_KIB, le=MOST_BYTES)] = Field(
        MOST_BYTES, description="The largest body after decompression; at most `8MiB`."
    )
    ratio: Annotated[Whole, Field(ge=2, le=1000)] = Field(
        100,
        description="How many times larger a body may grow by decompression, beyond its first"
        " `1MiB`.",
    )
    events: Annotated[Whole, Field(ge=1, le=MOST_EVENTS)] = Field(
        MOST_EVENTS,
        description="How many events a request may have, at most `20000`, over lines, elements and"
        " nested lists together. Elements that contain lists also count, and a record whose `count`"
        " becomes several records counts as that many.",
    )
    header: Annotated[Size, Field(ge=_KIB, le=_MIB)] = Field(
        32 * _KIB, description="The size of all headers of a request together."
    )
    header_time: Annotated[Duration, Field(ge=0.1, le=300)] = Field(
        5.0, description="How long a sender may take to send the headers."
    )
    body_time: Annotated[Duration, Field(ge=0.1, le=300)] = Field(
        10.0, description="How long a sender may take to send a body."
    )
    connections: Annotated[Whole, Field(ge=1, le=100_000)] = Field(
        1000,
        description="How many connections may be open; with HTTP over TLS, at most 128 per worker.",
    )


class Tls(Section):
    """Encryption of the receivers."""

    certificate: Location = Field(None, description="The certificate chain, a PEM file.")
    key: Location = Field(None, description="Its private key, a PEM file.")
    client_ca: Location = Field(
        None,
        description="The authority that signs senders' certificates, a PEM file. If it is set,"
        " every sender needs a certificate.",
    )


class Auth(Section):
    """Authentication of senders."""

    tokens: Hashes = Field(
        (),
        description="The SHA-256 of each accepted bearer token, in hexadecimal. If there is none,"
        " everyone who can reach the address may send.",
    )


class Spool(Section):
    """The queue on disk, in which batches wait for delivery."""

    limit: Annotated[Size, Field(ge=_MIB, le=1024 * _GIB)] = Field(
        _GIB, description="How many bytes may wait for sinks; when it is full, senders get 503."
    )


class Log(Section):
    """The log on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="The lowest level to log: `debug`, `info`, `warning` or `error`.",
    )


class About(Section):
    """The controller, for the privacy notice and the record of processing."""

    controller: Recipient = Field(
        None, description="The name of the controller: who decides what is collected and why."
    )
    contact: Recipient = Field(
        None, description="How to reach the controller: an address of any kind, on one line."
    )
    officer: Recipient = Field(
        None, description="How to reach the data protection officer, if there is one."
    )
    country: Country = Field(
        None, description="The country of the controller, two letters, such as `DE`."
    )

    def place(self, sink: SinkSettings) -> str | None:
        """Return the country that a sink's records go to. Without a country of its own, a sink of
        the party ``first`` has the controller's."""
        return sink.country or (self.country if sink.party == "first" else None)


class RecorderSection(Section):
    """Recordings. A process of its own, `collector recording serve`, keeps them."""

    enabled: Flag = Field(
        False,
        description="Whether `collector recording serve` may run. `recorder: true` means the same.",
    )
    data: Location = Field(
        Path("recorder-data"),
        description="The directory of recordings, their keys and their ledger; not the one of"
        " `data`.",
    )
    address: Listen = Field(
        Address("127.0.0.1", 4320),
        description="The address at which meetings reach the recorder, or `off`.",
    )
    unix: UnixSocket = Field(
        None, description="A Unix socket for the same, for its owner only (0600)."
    )
    hosts: Names = Field((), description="More host names that requests to it may use.")
    keys: KeySet = Field(
        None,
        description="The platform's public keys (JWKS), which verify tokens: a file or an `https`"
        " address.",
    )
    eddsa: Flag = Field(
        False,
        description="Whether tokens may name their algorithm `EdDSA`, as before RFC 9864, instead"
        " of `Ed25519`.",
    )
    bucket: Bucket = Field(
        None,
        description="Where encrypted recordings are kept, such as `s3://recordings`. Default: in"
        " `recorder.data`.",
    )
    bucket_endpoint: Endpoint = Field(
        None, description="The address of a bucket that is not at the provider, such as MinIO."
    )
    bucket_region: Line | None = Field(None, description="The region of the bucket.")
    bucket_access_key: Reference = Field(
        None,
        description="Where the id of the bucket's access key is: `env:NAME` or `file:PATH`."
        " Default: where the provider's tools look.",
    )
    bucket_secret_key: Reference = Field(
        None, description="Where the secret of the access key is: `env:NAME` or `file:PATH`."
    )
    queue: Annotated[Size, Field(ge=16 * _MIB, le=1024 * _GIB)] = Field(
        _GIB, description="How many bytes may wait for the bucket; beyond that, chunks are refused."
    )
    longest: Annotated[Duration, Field(ge=60, le=168 * _HOUR)] = Field(
        24.0 * _HOUR, description="How long a grant may stay open, from the request on."
    )
    retention: Annotated[Duration, Field(ge=60, le=87_600 * _HOUR)] = Field(
        720.0 * _HOUR, description="The longest retention that a host may choose."
    )
    local_time: Annotated[Duration, Field(ge=60, le=720 * _HOUR)] = Field(
        72.0 * _HOUR,
        description="How long the files of a local recording wait for the host to fetch them.",
    )


def _sinks(value: Any) -> Sinks:
    """Return the settings of sinks; make them from a mapping as the loader does."""
    if isinstance(value, Sinks):
        return value
    return Sinks(
        {
            name: settings_of(each.get("type", name))(**{"type": name, **each})
            for name, each in value.items()
        }
    )


class Config(Section):
    """All settings of the sidecar and the recorder."""

    data: Location = Field(
        Path("collector-data"),
        description="The directory of spool and store, for one sidecar. It is created if it is"
        " missing; its parent directory must exist.",
    )
    schema_: Line = Field(
        "conferencing",
        alias="schema",
        description="What is collected: the name of a shipped schema, or the path of a schema"
        " file.",
    )
    schemas: SchemaList = Field(
        (),
        description="Up to 8 schemas instead of one, as a list of names and paths. The first is the"
        " default; a request can name another.",
    )
    claims: Location = Field(
        None,
        description="A file of your own public sentences, in the form of `schemas/claims.yaml`;"
        " they are added to those of Collector.",
    )
    workers: WorkerCount = Field(
        1, description="How many processes receive and filter; `auto` is one per core."
    )
    sandbox: Sandbox = Field(
        "auto",
        description="Whether the kernel keeps workers from opening files and connections:"
        " `required` (otherwise the sidecar does not start), `auto` (if the kernel can) or `off`.",
    )
    watch: Flag = Field(
        False,
        description="Whether the sidecar reloads, as with `collector config reload`, when a file of"
        " its configuration, schemas or certificates changes.",
    )
    http: Http = Http()
    grpc: Grpc = Grpc()
    admin: Admin = Admin()
    limits: Limits = Limits()
    tls: Tls = Tls()
    auth: Auth = Auth()
    spool: Spool = Spool()
    sinks: Annotated[Sinks, PlainValidator(_sinks)] = Field(default_factory=Sinks)
    log: Log = Log()
    about: About = About()
    recorder: RecorderSection = RecorderSection()
    drain: DrainSection = DrainSection()
    _directory: Path = PrivateAttr(default_factory=Path)

    def in_directory(self, directory: Path) -> Config:
        """Return the settings as those of a file in this directory."""
        found = self.model_copy()
        found._directory = directory  # noqa: SLF001 - of this class
        return found

    def approved_copy(self, reference: str) -> Path:
        """Return the path of a schema's approved copy. It is beside the schema's file. For a
        shipped schema it is beside the configuration, or in the working directory without one."""
        return resources.approved_copy(reference, self._directory)

    @property
    def references(self) -> tuple[str, ...]:
        """The names and paths of all schemas, the default first."""
        return self.schemas or (self.schema_,)

    @property
    def schema_setting(self) -> str:
        """The setting that names the schemas: ``schema`` or ``schemas``."""
        return "schemas" if self.schemas else "schema"


class Setting(NamedTuple):
    """One setting: the keys that lead to it, and what pydantic knows of it."""

    loc: tuple[str, ...]
    info: FieldInfo

    @property
    def name(self) -> str:
        """``section.key``."""
        return ".".join(self.loc)

    @property
    def is_switch(self) -> bool:
        """Return whether ``true`` or ``false`` in place of its section sets it."""
        return self.loc[-1] == SWITCH

    @property
    def variable(self) -> str:
        """Return the environment variable that sets it."""
        return variable(self.loc)

    def of(self, config: Config) -> Any:
        """Return its value in the notation of the file; for secrets only how many there are."""
        value: Any = config
        for key in self.loc:
            name = "schema_" if key == "schema" else key
            value = value[key] if isinstance(value, Sinks) else getattr(value, name)
        return plain_value(self.info, value)


def plain_settings(config: Config) -> dict[str, Any]:
    """Return all settings by name, in the form of ``Setting.of``. The ledger keeps them, and can
    make the settings of sinks from them again."""
    return {each.name: each.of(config) for each in settings(config.sinks.sections())}


def variable(loc: tuple[str, ...]) -> str:
    """Return the environment variable of a setting, or of a section."""
    return "__".join(["COLLECTOR", *loc]).upper().replace("-", "_")


def settings(sinks: Mapping[str, type[SinkSettings]] | None = None) -> Iterator[Setting]:
    """Yield every setting in order, with the settings of ``sinks``, by default of our own types."""
    return _settings(Config, (), Sinks().sections() if sinks is None else sinks)


def _settings(
    section: type[Section], loc: tuple[str, ...], sinks: Mapping[str, type[SinkSettings]]
) -> Iterator[Setting]:
    for name, info in section.model_fields.items():
        inner = (*loc, info.alias or name)
        if info.annotation is Sinks:
            for sink, within in sinks.items():
                yield from _settings(within, (*inner, sink), sinks)
        elif isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            yield from _settings(info.annotation, inner, sinks)
        else:
            yield Setting(inner, info)
