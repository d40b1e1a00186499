"""NATS JetStream as a sink: batches go into a stream, for drains on other machines to take.

``nats-py`` is imported when a sink delivers, and not before: settings are read without the extra
``nats``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, Self
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, ValidationError

from collector.brokers.jetstream import JetStream, StreamLogin
from collector.brokers.message import Outgoing, mac_key, outgoing
from collector.config.broker_settings import BrokerAccess, Servers, StreamName, Subject, servers
from collector.config.extras import install, is_installed
from collector.config.sink_settings import SinkSettings
from collector.config.values import Duration, Location, Reference
from collector.contracts import Batch, Granted, layout_of
from collector.errors import ConfigError, DeliveryError
from collector.http_client import tls
from collector.schema.model import Schema
from collector.sinks.sink import Opening, Sink

__all__ = ["NatsSettings", "NatsSink"]

_SCHEMES = ("nats", "tls")
_OF_ADDRESS = ("subject", "user", "password", "auth_token", "mac")
"""The settings that may follow an SDK's address after a ``?``: references, and the subject."""
_NO_ADDRESS = (
    "this must be `nats+tls://HOST:PORT/STREAM`, or `nats://` on this machine; what else there is"
    " follows as `?subject=NAME&auth_token=env:NAME`"
)


def _url(value: Any) -> str:
    servers(value, _SCHEMES)
    return str(value)


class Publisher(Protocol):
    """A connection to a broker, which is made when it is needed. All methods but ``close`` raise
    ``Unreachable``."""

    def most_bytes(self) -> int:
        """Return the most bytes of a message that the broker takes."""

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish messages; return when the broker has stored all of them."""

    def expiry(self) -> timedelta | None:
        """Return after how long the broker deletes messages; ``None`` where that may not be read,
        ``timedelta.max`` for never."""

    def close(self) -> None:
        """Close the connection."""


class BrokerSettings(SinkSettings, BrokerAccess):
    """The settings of a broker as a sink."""

    @abstractmethod
    def publisher(self) -> Publisher:
        """Return a connection, which is not made yet. Raises ``ConfigError`` E201 without the
        library, E202 for secrets that are not there, E212 for the files of TLS."""


class NatsSettings(BrokerSettings):
    """A stream of NATS JetStream."""

    url: Annotated[str, BeforeValidator(_url)] = Field(
        description="The servers: `tls://HOST:4222`, several hosts between commas; `nats://` is for"
        " this machine only."
    )
    stream: StreamName = Field(
        description="The stream, which is there already and is not made by the sink."
    )
    subject: Subject = Field(
        "collector.records", description="The subject of messages, which the stream takes."
    )
    auth_token: Reference = Field(
        None, description="Where a token is, for servers that want one: `env:NAME`, `file:PATH`."
    )
    credentials: Location = Field(
        None, description="A file of credentials (`.creds`), for servers that want one."
    )
    timeout: Annotated[Duration, Field(ge=0.1, le=60)] = Field(
        10.0, description="How long the broker may take to store what is sent."
    )

    @classmethod
    def at_address(cls, type_: str, url: str) -> Self:
        """Return the settings for ``nats://HOST/STREAM``. Raises ``ConfigError`` E209 for another
        address."""
        with suppress(ValidationError, ValueError):
            parts = urlsplit(url.replace("nats+tls://", "tls://", 1))
            pairs = (part.partition("=") for part in parts.query.split("&") if part)
            chosen = {name: unquote(text) for name, _, text in pairs}
            if chosen.keys() <= set(_OF_ADDRESS):
                address = f"{parts.scheme}://{parts.netloc}"
                values = {"type": type_, "url": address, "stream": parts.path[1:], **chosen}
                return cls(**values)
        raise ConfigError("E209", _NO_ADDRESS)

    @property
    def servers(self) -> Servers:
        """The servers."""
        return servers(self.url, _SCHEMES)

    def place(self, directory: Path) -> str:
        """Name the servers and the stream."""
        return f"NATS at {self.servers}, stream {self.stream}"

    def publisher(self) -> JetStream:
        """Return a connection to the stream."""
        if not is_installed("nats.js"):
            raise ConfigError("E201", f"NATS needs an extra: {install('nats')}")
        if self.credentials is not None and not self.credentials.is_file():
            raise ConfigError("E202", "the file of `credentials` is not there")
        login = StreamLogin(
            self.secret(self.user),
            self.secret(self.password),
            self.secret(self.auth_token),
            self.credentials,
        )
        context = tls(*self.files_of_tls()) if self.servers.is_encrypted else None
        return JetStream(
            self.servers.addresses,
            self.stream,
            login,
            context,
            subject=self.subject,
            seconds=self.timeout,
        )


class BrokerSink(Sink):
    """A broker. Messages of a batch are the same whenever it comes again, and are known by their
    ids to those who take them."""

    is_shared = True

    def __init__(self, settings: BrokerSettings, opening: Opening) -> None:
        self._purposes = settings.purposes
        self._schemas = {schema.name: schema for schema in opening.schemas}
        self._key = mac_key(settings.mac)
        self._publisher = None if opening.is_offline else settings.publisher()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    @classmethod
    def check(cls, settings: BrokerSettings, opening: Opening) -> None:
        """Check what is installed, secrets, files, and how long the broker keeps messages."""
        mac_key(settings.mac)
        expires = cls.read_expiry(settings)
        shortest = min(_retentions(settings.purposes, opening.schemas), default=None)
        if expires is not None and shortest is not None and expires > shortest:
            message = "the broker keeps messages for longer than the schema says; lower that there"
            raise ConfigError("E220", message)

    @classmethod
    def read_expiry(cls, settings: Any) -> timedelta | None:
        """Ask the broker. Raises as ``Publisher``, and ``ConfigError`` as its settings."""
        publisher: Publisher = settings.publisher()
        try:
            return publisher.expiry()
        finally:
            publisher.close()

    def deliver(self, *batches: Batch) -> None:
        """Publish batches; the broker has stored them when this returns."""
        if self._publisher is None:
            raise DeliveryError("E508", "the sink is open for a command, not for delivery")
        most = self._publisher.most_bytes()
        self._publisher.publish(
            [
                message
                for batch in batches
                for message in outgoing(batch, self._granted(batch), most, self._key)
            ]
        )

    def close(self) -> None:
        """Close the connection."""
        if self._publisher is not None:
            self._publisher.close()

    def _granted(self, batch: Batch) -> Granted:
        """Return for what the records may be used that the sink got of a batch."""
        if self._purposes is None:
            return batch.granted
        schema = self._schemas.get(layout_of(batch).table)
        return tuple(
            name
            for name in self._purposes
            if (batch.granted is None or name in batch.granted)
            and (schema is None or name in schema.purposes)
        )


class NatsSink(BrokerSink):
    """A stream of NATS JetStream as a type of sinks."""

    Settings: ClassVar[type[SinkSettings]] = NatsSettings


def _retentions(purposes: Granted, schemas: Sequence[Schema]) -> list[timedelta]:
    """Return the retentions of the fields that reach a sink for some purposes."""
    return [
        field.retention
        for schema in schemas
        for field in schema.fields.values()
        if purposes is None or set(purposes) & set(field.purposes)
    ]
