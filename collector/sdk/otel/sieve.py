"""What spans and log records have in common: a schema at work on batches, and the sum of counts."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from struct import Struct
from types import MappingProxyType
from typing import Any, TypeVar

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource

from collector.contracts import Record, Tally
from collector.filter import Filter
from collector.filter.otlp.items import Items, Place
from collector.keyring import Keyring
from collector.ops.total import Total
from collector.schema import load_schema
from collector.schema.model import Schema

__all__ = ["Batch", "Minimised", "Sieve", "minute", "plain"]

_MINUTE = 60_000_000_000
_LAST = 1 << 63
_IDS, _IDS_AT_ONCE = Struct("=QQQ"), 64
_ID_DIGITS = {"trace_id": 32, "span_id": 16}

_T = TypeVar("_T")


class Sieve:
    """A schema at work. Safe to use from several threads.

    Raises ``SchemaError``, and ``ConfigError`` E202 for a key that cannot be had.
    """

    def __init__(
        self, schema: str | Path | Schema, keys: Callable[[str, int], bytes] | None
    ) -> None:
        loaded = schema if isinstance(schema, Schema) else load_schema(schema)
        self._filter = Filter(loaded, keys=keys or Keyring())
        self._ids = [name for name in _ID_DIGITS if name in loaded.fields]
        self._total = Total(Tally)

    def __repr__(self) -> str:
        return f"<Sieve {self._filter.schema.id}>"

    def sifted(self, items: Iterable[Any], rebuild: Callable[[Batch, Any], _T | None]) -> list[_T]:
        """What is admitted of items, each rebuilt from empty; ``None`` is none. An item that fails
        is counted as malformed."""
        batch = Batch(self._filter.otlp_items(_resource), self._ids)
        sifted: list[_T] = []
        for item in items:
            try:
                rebuilt = rebuild(batch, item)
            except Exception:  # noqa: BLE001 - a foreign item may raise anything
                batch.items.reject("malformed")
                continue
            if rebuilt is not None:
                sifted.append(rebuilt)
        self._total.add(batch.items.tally())
        return sifted

    def tally(self) -> Tally:
        """The counts so far."""
        return self._total.sum()


class Minimised:
    """The half of a wrapped exporter that does not depend on what it exports."""

    def __init__(self, exporter: Any, sieve: Sieve) -> None:
        self._exporter = exporter
        self._sieve = sieve

    def __repr__(self) -> str:
        return f"<{type(self).__name__} with {self._sieve!r}>"

    def tally(self) -> Tally:
        """The counts so far: what was received, admitted, rejected and dropped."""
        return self._sieve.tally()

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter."""
        flushed: bool = self._exporter.force_flush(timeout_millis)
        return flushed


class Batch:
    """The items of one export, which share resources and scopes. ``listed`` are the ids that the
    schema has a field for."""

    def __init__(self, items: Items[Resource], listed: Sequence[str]) -> None:
        self.items = items
        self.listed = listed
        self._places: dict[tuple[int, int], tuple[Any, Any, Place]] = {}
        self._last: tuple[Any, Any, Place] | None = None
        self.ids: Iterator[tuple[int, int]] = _fresh_ids()

    def with_ids(self, attributes: dict[Any, Any], context: Any) -> dict[Any, Any]:
        """Attributes, and those ids of a context that the schema lists, in hexadecimal."""
        ids = ((name, getattr(context, name)) for name in self.listed)
        texts = {name: f"{id_:0{_ID_DIGITS[name]}x}" for name, id_ in ids if type(id_) is int}
        return {**attributes, **texts}

    def place(self, resource: Any, scope: Any) -> Place:
        """What a resource and a scope give to their items, read once."""
        last = self._last  # most items have those of the one before them
        if last is None or last[0] is not resource or last[1] is not scope:
            last = self._last = self._known(resource, scope)
        return last[2]

    def _known(self, resource: Any, scope: Any) -> tuple[Any, Any, Place]:
        """Both are kept, so that no other object has the same id."""
        known = self._places.get((id(resource), id(scope)))
        if known is None:
            own = getattr(scope, "attributes", None)  # there may be no scope
            place = self.items.place(plain(resource.attributes), plain(own))
            known = self._places[id(resource), id(scope)] = resource, scope, place
        return known


def _fresh_ids() -> Iterator[tuple[int, int]]:
    """Trace ids of 128 bits and span ids of 64, which nobody has ever seen."""
    while True:
        for high, low, span_id in _IDS.iter_unpack(os.urandom(_IDS.size * _IDS_AT_ONCE)):
            yield high << 64 | low, span_id


def _resource(attributes: Record) -> Resource:
    """``Resource.create`` would add what the environment says."""
    return Resource(attributes)


def plain(attributes: Any) -> dict[Any, Any]:
    """Attributes as a dictionary. Raises ``TypeError`` for a foreign kind of mapping."""
    kind = type(attributes)
    if kind is MappingProxyType or kind is BoundedAttributes:
        attributes = attributes.copy()
        kind = type(attributes)
    if kind is dict or kind is OrderedDict:
        return attributes  # type: ignore[no-any-return]
    if attributes is None:
        return {}
    raise TypeError


def minute(time: Any) -> int:
    """A time in nanoseconds since 1970, truncated to its minute; 0, which is OTLP's unknown, for
    what is none."""
    return time - time % _MINUTE if type(time) is int and 0 < time < _LAST else 0
