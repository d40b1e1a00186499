"""``events``: Python mappings around the fields of a schema.

An event is a list of insertions (a path and a value each), put into an empty dictionary one after
another, so that it shrinks to the few that matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from enum import StrEnum
from functools import lru_cache, wraps
from typing import Any, TypeVar

from hypothesis import strategies as st

from collector.schema import Schema
from collector.schema.conditions import ClosedList
from collector.schema.scalars import (
    beside,
    condition_of,
    is_exact,
    keys,
    levels,
    path_of,
)
from collector.testing.values import Values, agents, choices, clock, junk, values, weighted

__all__ = [
    "Event",
    "Path",
    "cached_per_schema",
    "choices_of",
    "compared_paths",
    "events",
    "paths_of",
    "place",
    "reads_lists",
    "ways",
]

Path = tuple[str | int, ...]


def ways(source: str) -> list[Path]:
    """Return a path nested, then as one flat key unless it is exact; a number leads into a list."""
    nested = keys(source)
    if is_exact(source):
        return [nested]
    return list(dict.fromkeys([nested, _flat(nested)]))


def _flat(path: Path) -> Path:
    start = int(type(path[0]) is int)
    return (*path[:start], ".".join(map(str, path[start:]))) if path[start:] else path


def paths_of(schema: Schema, name: str) -> list[Path]:
    """Return the paths of a field: each source nested, then as one flat key; its name last."""
    sources = schema.fields[name].paths(name)
    return list(dict.fromkeys(path for source in sources for path in ways(source)))


def compared_paths(schema: Schema) -> dict[Path, list[ClosedList]]:
    """Return the paths of members that conditions look at, with the values that each must have:
    nested, then as one flat key beside one. Those of records are looked at in each of them."""
    found: dict[Path, list[ClosedList]] = {}
    for way in schema.records or ():
        for member, listed in condition_of(way):
            found.setdefault((member,), []).append(listed)
    for field in schema.fields.values():
        for source in field.sources or ():
            for member, listed in condition_of(source):
                nested = keys(beside(path_of(source), member))
                for path in dict.fromkeys([nested, _flat(nested)]):
                    if path == nested or not is_exact(path_of(source)):
                        found.setdefault(path, []).append(listed)
    return found


def reads_lists(schema: Schema) -> bool:
    """Return whether events may be lists."""
    sources = [source for field in schema.fields.values() for source in field.sources or ()]
    every = [*map(path_of, sources), *schema.ways, *schema.user_agent_paths]
    return any(path.startswith("[") for path in every)


def choices_of(schema: Schema) -> tuple[str, ...]:
    """Return the path of a person's choices, if the schema has one."""
    return () if schema.consent is None else (schema.consent,)


_MOST = 256
_T = TypeVar("_T")
_Make = Callable[[Schema, datetime], _T]


def cached_per_schema(make: _Make[_T]) -> _Make[_T]:
    """Cache the latest results by the digest of the schema, and the time."""
    made: dict[tuple[str, datetime], _T] = {}

    @wraps(make)
    def cached(schema: Schema, now: datetime) -> _T:
        key = (schema.digest, now)
        if key not in made:
            while len(made) >= _MOST:
                del made[next(iter(made))]
            made[key] = make(schema, now)
        return made[key]

    return cached


Event = dict[Any, Any]


def put(event: Event, path: Path, value: Any) -> None:
    """Insert a value, replacing other values on the way by objects."""
    *way, last = path
    for key in way:
        inner = event.get(key)
        if type(inner) is not dict:
            inner = event[key] = {}
        event = inner
    event[last] = value


def unlisted_paths(schema: Schema) -> st.SearchStrategy[Path]:
    """Paths that no field reads but that are close to one, and names of content."""
    every = [path for name in schema.fields for path in paths_of(schema, name)]
    every += compared_paths(schema)
    every += [path for source in choices_of(schema) for path in ways(source)]
    paths = [tuple(str(key) for key in path) for path in every]
    begun = [path[:end] for path in paths for end in range(1, len(path))]
    flat = [(".".join(path[:2]), *path[2:]) for path in paths if len(path) > 2]
    cased = [tuple(key.upper() for key in path) for path in paths]
    near = [(*path[:-1], path[-1] + more) for path in paths[:20] for more in (" ", ".", "\u200b")]
    below = [(*path, "inner") for path in paths[:20]]
    content = [(name,) for name in schema.content_names]
    deep_content = [("unlisted", name) for name in schema.content_names]
    odd = [("schema",), ("count",), ("received",), ("",), ("__class__",), ("𝔘nlisted", "é")]
    listed = set(paths)
    unread = [*begun, *flat, *cased, *near, *below, *deep_content, *odd]
    return st.one_of(
        st.sampled_from(content),
        st.sampled_from([path for path in unread if path not in listed]),
        st.lists(st.text(max_size=6), min_size=1, max_size=3).map(tuple),
    )


def place(schema: Schema, now: datetime, extra: Values | None = None) -> Values:
    """Events of JSON values, with their records where the schema has any.

    ``extra`` are further values, which may stand anywhere. An event is a dictionary, or also a list
    if the schema looks into lists.
    """
    mixed = _mixed(schema, now, extra)
    if not reads_lists(schema):
        return mixed.map(_members)
    return weighted((1, mixed.map(_members)), (1, mixed.map(_elements)))


def _mixed(schema: Schema, now: datetime, extra: Values | None) -> st.SearchStrategy[Event]:
    """Events that are objects and lists at once: elements are members under numbers."""
    other = junk() if extra is None else weighted((1, junk()), (2, extra))
    single = _insertions(schema, now, other, 1 if extra is None else 2).map(_filled)
    if schema.records is None:
        return single
    rooted = single.map(_members)
    if reads_lists(schema):
        rooted = weighted((2, rooted), (1, single.map(_elements)))
    record = weighted((5, rooted), (1, other))
    listed = st.lists(record, max_size=3)
    named = st.dictionaries(
        st.sampled_from(["a", "b", "r", "é", "ua", "1"]),
        weighted((4, single.map(_members)), (1, record)),
        max_size=3,
    )
    some = weighted((4, listed), (4, named), (1, other))
    placed = [_with_lists(single, levels(way), some, other) for way in schema.ways if way != "."]
    if not placed:
        return single
    each = weighted(*((1, one) for one in placed))
    return weighted((2, each), (1, single)) if "." in schema.ways else each


def _with_lists(
    single: st.SearchStrategy[Event], way: tuple[str, ...], records: Values, other: Values
) -> st.SearchStrategy[Event]:
    """Events with records at the end of a way, in elements of lists if it leads through these."""
    first, *rest = way
    if rest:
        element = _with_lists(single, tuple(rest), records, other).map(_members)
        records = st.lists(weighted((6, element), (1, other)), max_size=3)
        records = weighted((6, records), (1, other))
    path = st.sampled_from(ways(first.removesuffix(".*")))
    return st.builds(_with_records, single, path, records)


def _members(event: Event) -> Event:
    return {key: value for key, value in event.items() if type(key) is not int}


def _elements(event: Event) -> list[Any]:
    """Return the elements; gaps are filled with a text."""
    last = max((key for key in event if type(key) is int), default=-1)
    return [event.get(index, "getstats") for index in range(last + 1)]


_Insertions = list[tuple[Path, Any]]


def _insertions(
    schema: Schema, now: datetime, other: Values, share: int
) -> st.SearchStrategy[list[_Insertions]]:
    """Insertions that make an event, or an element of a list of records, in groups.

    ``share`` tenths of the fields' values are ``other``.
    """
    any_field = weighted(*((1, values(field, now)) for field in schema.fields.values()))
    fields = [
        st.tuples(
            st.sampled_from(paths_of(schema, name)),
            weighted((9 - share, values(field, now)), (1, any_field), (share, other)),
        )
        for name, field in schema.fields.items()
    ]
    agent = [path for source in schema.user_agent_paths for path in ways(source)]
    if agent:
        fields.append(st.tuples(st.sampled_from(agent), agents()))
    choice_paths = [path for source in choices_of(schema) for path in ways(source)]
    if choice_paths:
        value = weighted((9 - share, choices(schema.optional)), (share, other))
        fields += 2 * [st.tuples(st.sampled_from(choice_paths), value)]
    for path, lists in compared_paths(schema).items():
        fitting = st.sampled_from([value for listed in lists for value in listed.written()])
        fields += 2 * [st.tuples(st.just(path), weighted((9 - share, fitting), (share, other)))]
    field = weighted(*((1, field) for field in fields))
    unlisted = st.tuples(unlisted_paths(schema), other)
    single = weighted((6, field), (2, unlisted)).map(lambda insertion: [insertion])
    content = _content(tuple(schema.content_names.items()))
    insertion = weighted((8, single), (1, content))
    many = st.lists(insertion, min_size=len(fields) // 2 + 1, max_size=len(fields) + 4)
    return weighted((8, many), (1, st.lists(insertion, max_size=2)))


@lru_cache(maxsize=_MOST)
def _content(content: tuple[tuple[str, str], ...]) -> st.SearchStrategy[_Insertions]:
    """Several names of one category, each with something or nothing behind it."""
    names: dict[str, list[Path]] = {}
    for name, category in content:
        names.setdefault(category, []).append((name,))
    value = st.sampled_from([None, "what was said", 0])
    several = [
        st.lists(st.tuples(st.sampled_from(paths), value), min_size=1, max_size=3)
        for paths in names.values()
    ]
    return weighted(*((1, each) for each in several))


def _filled(groups: Iterable[_Insertions]) -> Event:
    event: Event = {}
    for group in groups:
        for path, value in group:
            put(event, path, value)
    return {key: _with_inner_lists(value) for key, value in event.items()}


def _with_inner_lists(value: Any) -> Any:
    """Make lists of objects whose first member has a number; drop such members of others."""
    if type(value) is not dict:
        return value
    inner = {key: _with_inner_lists(member) for key, member in value.items()}
    return _elements(inner) if type(next(iter(inner), None)) is int else _members(inner)


def _with_records(event: Event, way: Path, listed: Any) -> Event:
    put(event, way, listed)
    return event


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
    return _mixed(schema, now, None).map(_members)


@cached_per_schema
def _foreign(schema: Schema, now: datetime) -> st.SearchStrategy[Event]:
    foreign = st.sampled_from(_FOREIGN).map(lambda make: make())
    first = {str(path[0]) for name in schema.fields for path in paths_of(schema, name)}
    odd_keys = st.sampled_from([*_FOREIGN_KEYS, *map(_Str, sorted(first))])
    each = [values(field, now) for field in schema.fields.values()]
    value = weighted((len(each), foreign), *((1, field) for field in each))
    more = st.dictionaries(odd_keys, value, max_size=2)
    event = _mixed(schema, now, foreign).map(_members)
    return st.builds(_add_foreign_keys, weighted((3, event), (1, event.map(_with_tuples))), more)


def _with_tuples(value: Any) -> Any:
    """Return the value with its lists as tuples."""
    if type(value) is dict:
        return {key: _with_tuples(inner) for key, inner in value.items()}
    return tuple(map(_with_tuples, value)) if type(value) is list else value
