"""A message broker as a sink: what the types have in common.

Batches go to a broker as messages. Readers on other machines take them: drains, or programs of
others.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, ValidationError

from collector.brokers.message import mac_key, outgoing
from collector.brokers.source import Publisher
from collector.config.broker_settings import BrokerAccess
from collector.config.sink_settings import SinkSettings
from collector.config.values import Duration
from collector.contracts import Batch, Granted, layout_of
from collector.errors import ConfigError, DeliveryError
from collector.schema.model import Schema
from collector.sinks.sink import Opening, Sink

BrokerTimeout = Annotated[
    Duration,
    Field(ge=0.1, le=60, description="How long the broker may take to store what is sent."),
]


class BrokerSettings(SinkSettings, BrokerAccess):
    """The settings of a broker as a sink."""

    in_address: ClassVar[tuple[str, Collection[str], str]]
    """The setting that an SDK's address names, the settings that may follow it, and the form of the
    address in words."""

    @classmethod
    def at_address(cls, type_: str, url: str) -> Self:
        """Return the settings for ``SCHEME://HOST/NAME?OTHER=…``. The name and the references to
        secrets are settings. Raises ``ConfigError`` E107 for another address."""
        named, others, form = cls.in_address
        with suppress(ValidationError, ValueError):
            parts = urlsplit(url)
            pairs = (part.partition("=") for part in parts.query.split("&") if part)
            chosen = {name: unquote(text) for name, _, text in pairs}
            if chosen.keys() <= set(others):
                address = f"{parts.scheme}://{parts.netloc}"
                values: dict[str, Any] = {"type": type_, "url": address, named: parts.path[1:]}
                return cls(**values, **chosen)
        raise ConfigError("E107", form)

    @property
    def known_at(self) -> str:
        """The stream or the topic, because drains recognise batches by their ids too."""
        return self.place(Path())

    @abstractmethod
    def publisher(self) -> Publisher:
        """Return a connection that is not yet open. Raises ``ConfigError`` E201 without the
        library, E202 for missing secrets, and E212 for unusable TLS files."""


class BrokerSink(Sink):
    """A broker. A batch that is delivered again gives the same messages, and readers recognise them
    by their ids."""

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
        """Check installed modules, secrets, files, and how long the broker keeps messages."""
        mac_key(settings.mac)
        expires, drops = _ask(settings)
        shortest = min(_retentions(settings.purposes, opening.schemas), default=None)
        if expires is not None and shortest is not None and expires > shortest:
            message = "the broker keeps messages for longer than the schema says; lower that there"
            raise ConfigError("E219", message)
        if drops:
            message = (
                "the broker deletes messages that nobody has taken: to make room, by key, or"
                " where there is no consumer; change that there"
            )
            raise ConfigError("E219", message)

    @classmethod
    def read_expiry(cls, settings: Any) -> timedelta | None:
        """Ask the broker. Raises as ``Publisher``, and ``ConfigError`` as its settings."""
        return _ask(settings)[0]

    def deliver(self, *batches: Batch) -> None:
        """Publish batches. The broker has stored them when this returns."""
        if self._publisher is None:
            raise DeliveryError("E503", "the sink is open for a command, not for delivery")
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
        """Return the purposes for which the records of a batch may be used after this sink."""
        if self._purposes is None:
            return batch.granted
        schema = self._schemas.get(layout_of(batch).table)
        return tuple(
            name
            for name in self._purposes
            if (batch.granted is None or name in batch.granted)
            and (schema is None or name in schema.purposes)
        )


def _ask(settings: BrokerSettings) -> tuple[timedelta | None, bool]:
    """Ask the broker when it deletes messages, and whether it deletes some before that."""
    publisher = settings.publisher()
    try:
        return publisher.expiry(), publisher.drops()
    finally:
        publisher.close()


def _retentions(purposes: Granted, schemas: Sequence[Schema]) -> list[timedelta]:
    """Return the retentions of the fields that reach a sink for some purposes."""
    return [
        field.retention
        for schema in schemas
        for field in schema.fields.values()
        if purposes is None or set(purposes) & set(field.purposes)
    ]
