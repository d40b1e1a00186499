"""``events``: Python mappings around the fields of a schema, as a program might hand them over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any

from hypothesis import strategies as st

from collector.schema import Schema
from collector.testing._events import Event, cached_per_schema, members, mixed, paths_of
from collector.testing._values import clock, values, weighted


class _Str(str):
    __slots__ = ()


class _Int(int):
    __slots__ = ()


class _Dict(dict[Any, Any]):
    __slots__ = ()


class _Choice(StrEnum):
    LINUX = "linux"


_FOREIGN: tuple[Callable[[], Any], ...] = (
    lambda: float("nan"),
    lambda: float("inf"),
    lambda: float("-inf"),
    lambda: b"linux",
    lambda: bytearray(b"linux"),
    lambda: "\ud800",
    lambda: ("linux", {"os": "linux", "ip": "203.0.113.7", "device": "Windows"}),
    tuple,
    lambda: {"linux"},
    lambda: _Str("linux"),
    lambda: _Int(1),
    lambda: _Dict(a=1),
    lambda: _Choice.LINUX,
    lambda: 1j,
    object,
    lambda: datetime(2026, 1, 1),  # noqa: DTZ001 - a naive one is what a caller may hand over
)
_FOREIGN_KEYS: tuple[Any, ...] = (0, 1.5, None, True, b"ip", ("a", "b"), "\udc80", _Str("unlisted"))


def _add_foreign_keys(event: Event, more: Event) -> Event:
    """Foreign keys first, unless one equals a key of the event."""
    return {key: value for key, value in more.items() if key not in event} | event


def events(
    schema: Schema, *, plain: bool = False, now: datetime | None = None
) -> st.SearchStrategy[Event]:
    """Mappings as a program might hand them over, around the fields of the schema.

    Valid, nearly valid and wrong values; nested and flat paths; null; aliases; unlisted, content
    and look-alike members; lists of records with elements that are none; where the schema has a
    ``consent`` path, a person's choices, and what cannot be read as such. With ``plain``, only what
    JSON can say; without, also NaN, foreign types and keys that are no text. ``now`` is the present
    for fields of kind ``time``.
    """
    return _plain(schema, now or clock()) if plain else _foreign(schema, now or clock())


@cached_per_schema
def _plain(schema: Schema, now: datetime) -> st.SearchStrategy[Event]:
    return mixed(schema, now, None).map(members)


@cached_per_schema
def _foreign(schema: Schema, now: datetime) -> st.SearchStrategy[Event]:
    foreign = st.sampled_from(_FOREIGN).map(lambda make: make())
    first = {str(path[0]) for name in schema.fields for path in paths_of(schema, name)}
    odd_keys = st.sampled_from([*_FOREIGN_KEYS, *map(_Str, sorted(first))])
    each = [values(field, now) for field in schema.fields.values()]
    value = weighted((len(each), foreign), *((1, field) for field in each))
    more = st.dictionaries(odd_keys, value, max_size=2)
    event = mixed(schema, now, foreign).map(members)
    return st.builds(_add_foreign_keys, weighted((3, event), (1, event.map(_with_tuples))), more)


def _with_tuples(value: Any) -> Any:
    """Return the value with its lists as tuples."""
    if type(value) is dict:
        return {key: _with_tuples(inner) for key, inner in value.items()}
    return tuple(map(_with_tuples, value)) if type(value) is list else value
