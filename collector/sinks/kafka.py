"""Apache Kafka as a sink: batches go into a topic, from which drains on other machines take them.

``confluent-kafka`` is imported only when a sink delivers, so that settings can be read without the
extra ``kafka``.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from collector.brokers.kafka import KafkaTopic, kafka_topic
from collector.config.broker_settings import (
    KafkaAccess,
    Servers,
    TopicName,
    servers,
    url_of_servers,
)
from collector.config.sink_settings import SinkSettings
from collector.sinks.broker import BrokerSettings, BrokerSink, BrokerTimeout

_SCHEMES = ("kafka", "kafka+tls")


class KafkaSettings(BrokerSettings, KafkaAccess):
    """A topic of Kafka."""

    in_address: ClassVar[tuple[str, Collection[str], str]] = (
        "topic",
        ("user", "password", "mechanism", "mac"),
        (
            "this must be `kafka+tls://HOST:PORT/TOPIC`, or `kafka://` on this machine; what"
            " else there is follows as `?user=env:NAME&password=env:NAME`"
        ),
    )
    url: Annotated[str, url_of_servers(*_SCHEMES)] = Field(
        description="The servers: `kafka+tls://HOST:9092`, several hosts between commas; `kafka://`"
        " is for this machine only."
    )
    topic: TopicName = Field(
        description="The topic, which is there already and is not made by the sink."
    )
    timeout: BrokerTimeout = 10.0

    @property
    def servers(self) -> Servers:
        """The servers."""
        return servers(self.url, _SCHEMES)

    def place(self, directory: Path) -> str:
        """Name the servers and the topic."""
        return f"Kafka at {self.servers}, topic {self.topic}"

    def publisher(self) -> KafkaTopic:
        """Return a connection to the topic."""
        return kafka_topic(self, self.servers, self.topic, seconds=self.timeout)


class KafkaSink(BrokerSink):
    """A topic of Kafka as a type of sinks."""

    Settings: ClassVar[type[SinkSettings]] = KafkaSettings
