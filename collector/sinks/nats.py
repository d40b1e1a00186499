"""NATS JetStream as a sink: batches go into a stream, from which drains on other machines take
them.

``nats-py`` is imported only when a sink delivers, so that settings can be read without the extra
``nats``.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field

from collector.brokers.jetstream import JetStream, jetstream
from collector.config.broker_settings import (
    NatsAccess,
    Servers,
    StreamName,
    Subject,
    servers,
    url_of_servers,
)
from collector.config.sink_settings import SinkSettings
from collector.sinks.broker import BrokerSettings, BrokerSink, BrokerTimeout

_SCHEMES = ("nats", "tls")


class NatsSettings(BrokerSettings, NatsAccess):
    """A stream of NATS JetStream."""

    in_address: ClassVar[tuple[str, Collection[str], str]] = (
        "stream",
        ("subject", "user", "password", "auth_token", "mac"),
        (
            "this must be `nats+tls://HOST:PORT/STREAM`, or `nats://` on this machine; what"
            " else there is follows as `?subject=NAME&auth_token=env:NAME`"
        ),
    )
    url: Annotated[str, url_of_servers(*_SCHEMES)] = Field(
        description="The servers: `tls://HOST:4222`, several hosts between commas; `nats://` is for"
        " this machine only."
    )
    stream: StreamName = Field(
        description="The stream, which is there already and is not made by the sink."
    )
    subject: Subject = Field(
        "collector.records", description="The subject of messages, which the stream takes."
    )
    timeout: BrokerTimeout = 10.0

    @classmethod
    def at_address(cls, type_: str, url: str) -> Self:
        """Return the settings for ``nats://HOST/STREAM``, or ``nats+tls://``."""
        return super().at_address(type_, url.replace("nats+tls://", "tls://", 1))

    @property
    def servers(self) -> Servers:
        """The servers."""
        return servers(self.url, _SCHEMES)

    def place(self, directory: Path) -> str:
        """Name the servers and the stream."""
        return f"NATS at {self.servers}, stream {self.stream}"

    def publisher(self) -> JetStream:
        """Return a connection to the stream."""
        return jetstream(
            self, self.servers, self.stream, subject=self.subject, seconds=self.timeout
        )


class NatsSink(BrokerSink):
    """A stream of NATS JetStream as a type of sinks."""

    Settings: ClassVar[type[SinkSettings]] = NatsSettings
