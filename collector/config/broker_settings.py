"""How a message broker is reached: settings that a sink and a drain share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from collector.addresses import Address
from collector.config.sink_settings import Section
from collector.config.values import Location, Reference, SchemaList, matching, resolved
from collector.documents import fault

_URL = re.compile(r"([a-z+]{3,12})://([!-.0-~]{1,4096})", re.ASCII).fullmatch
_SERVER = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?",
    re.ASCII,
).fullmatch
_PORTS = {"nats": 4222, "tls": 4222, "kafka": 9092, "kafka+tls": 9092}
_ENCRYPTED = {"nats": "tls", "kafka": "kafka+tls"}
"""The scheme with encryption for each without."""
_MOST_SERVERS = 16


class Servers(NamedTuple):
    """The servers of a broker, as an address names them."""

    scheme: str
    addresses: tuple[Address, ...]

    @property
    def is_encrypted(self) -> bool:
        """Whether connections are by TLS."""
        return self.scheme not in _ENCRYPTED

    def __str__(self) -> str:
        return ",".join(map(str, self.addresses))


def url_of_servers(*schemes: str) -> BeforeValidator:
    """Return a validator for addresses that ``servers`` can read."""

    def check(value: Any) -> str:
        servers(value, schemes)
        return str(value)

    return BeforeValidator(check)


def servers(value: Any, schemes: tuple[str, ...]) -> Servers:
    """Read ``SCHEME://HOST:PORT``, or several hosts between commas. Raises what pydantic takes."""
    found = _URL(value) if isinstance(value, str) else None
    texts = found[2].split(",") if found and found[1] in schemes else []
    matches = [_SERVER(text) for text in texts]
    addresses = [
        Address(match[1].strip("[]"), int(match[2] or _PORTS[found[1]]))
        for match in matches
        if match and found
    ]
    is_whole = 0 < len(texts) <= _MOST_SERVERS and len(addresses) == len(texts)
    if found is None or not is_whole or not all(0 < one.port < 1 << 16 for one in addresses):
        form = " or ".join(f"`{scheme}://HOST:PORT`" for scheme in schemes)
        raise fault("E107", f"write {form}; put commas between several hosts")
    if found[1] in _ENCRYPTED and not all(one.is_loopback for one in addresses):
        better = _ENCRYPTED[found[1]]
        raise fault(
            "E107",
            f"only a broker on this machine may be reached without encryption; use `{better}://`",
        )
    return Servers(found[1], tuple(addresses))


StreamName = Annotated[
    str,
    *matching("[A-Za-z0-9_-]{1,64}", "write a name of 1 to 64 letters, digits, `_` and `-`"),
]
Subject = Annotated[
    str,
    *matching(
        r"[A-Za-z0-9_-]{1,64}(?:\.[A-Za-z0-9_-]{1,64}){0,15}",
        "write a subject without wildcards, such as `collector.records`",
    ),
]
TopicName = Annotated[
    str,
    *matching(
        r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}",
        "write a topic of 1 to 249 letters, digits, `.`, `_` and `-`",
    ),
]


class BrokerAccess(Section):
    """The login at a broker, and the key that authenticates messages."""

    user: Reference = Field(
        None, description="Where the user name for the broker is: `env:NAME` or `file:PATH`."
    )
    password: Reference = Field(
        None, description="Where the password for the broker is: `env:NAME` or `file:PATH`."
    )
    ca: Location = Field(
        None,
        description="The certificate authority of the broker, a PEM file. Default: the system's"
        " authorities.",
    )
    certificate: Location = Field(
        None, description="The client's certificate, a PEM file, if the broker requires one."
    )
    key: Location = Field(
        None,
        description="The client's private key, a PEM file. Default: in the file of `certificate`.",
    )
    mac: Reference = Field(
        None,
        description="Where the key that authenticates messages is (32 characters or more, the same"
        " for senders and drains). Without it, the broker is trusted.",
    )

    @staticmethod
    def secret(reference: str | None) -> str | None:
        """Return the secret behind a reference. Raises ``ConfigError`` E202."""
        return None if reference is None else resolved(reference)

    def files_of_tls(self) -> tuple[Path | None, Path | None, Path | None]:
        """Return the files of authorities, certificate and key."""
        return self.ca, self.certificate, self.key


class NatsAccess(BrokerAccess):
    """Settings for NATS servers only."""

    auth_token: Reference = Field(
        None,
        description="Where the token is, if the servers require one: `env:NAME` or `file:PATH`.",
    )
    credentials: Location = Field(
        None, description="The credentials file (`.creds`), if the servers require one."
    )


class KafkaAccess(BrokerAccess):
    """Settings for Kafka brokers only."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512",
        description="How the password is sent to Kafka brokers: `PLAIN`, `SCRAM-SHA-256` or"
        " `SCRAM-SHA-512`.",
    )


_SOURCES = ("nats", "tls")


class DrainSection(NatsAccess):
    """Where a drain takes batches from, to deliver them to the sinks."""

    url: Annotated[str | None, url_of_servers(*_SOURCES)] = Field(
        None,
        description="The servers: `tls://HOST:4222`, with commas between several hosts; `nats://`"
        " is for this machine only. If it is set, the process is a drain and receives no events.",
    )
    stream: StreamName | None = Field(
        None, description="The stream, which must exist: the drain does not create it."
    )
    consumer: StreamName = Field(
        "collector",
        description="The durable consumer that drains share; it is created if it is missing.",
    )
    previous_mac: Reference = Field(
        None, description="Where the previous key is; messages with it are also accepted."
    )
    versions: SchemaList = Field(
        (),
        description="Up to 8 earlier versions of the schemas, by name or path, whose records are"
        " also accepted. None of them may admit more than the current version.",
    )

    @property
    def is_on(self) -> bool:
        """Whether the process is a drain, which takes batches from a broker."""
        return self.url is not None

    @property
    def servers(self) -> Servers:
        """The servers. Raises what pydantic takes if there are none."""
        return servers(self.url, _SOURCES)

    @property
    def place(self) -> str:
        """Name the servers and the stream."""
        return f"NATS at {self.servers}, stream {self.stream}"
