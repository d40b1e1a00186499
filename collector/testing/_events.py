"""Events of JSON values around the fields of a schema.

An event is a list of insertions (a path and a value each) into an empty dictionary, so that it
shrinks to the few that matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
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
from collector.testing._values import Values, agents, choices, junk, values, weighted

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
    """Return the paths of members that conditions compare, with the values that each must have:
    nested, then as one flat key beside one. Conditions on records are checked in each record."""
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
    """Cache the latest results by the schema's digest and the time."""
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
    """Insert a value; replace other values on the way with objects."""
    *way, last = path
    for key in way:
        inner = event.get(key)
        if type(inner) is not dict:
            inner = event[key] = {}
        event = inner
    event[last] = value


def unlisted_paths(schema: Schema) -> st.SearchStrategy[Path]:
    """Paths that no field reads but that are close to a field's, and names of content."""
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
    both = mixed(schema, now, extra)
    if not reads_lists(schema):
        return both.map(members)
    return weighted((1, both.map(members)), (1, both.map(_elements)))


def mixed(schema: Schema, now: datetime, extra: Values | None) -> st.SearchStrategy[Event]:
    """Events that are objects and lists at once: elements are members under numbers."""
    other = junk() if extra is None else weighted((1, junk()), (2, extra))
    single = _insertions(schema, now, other, 1 if extra is None else 2).map(_filled)
    if schema.records is None:
        return single
    rooted = single.map(members)
    if reads_lists(schema):
        rooted = weighted((2, rooted), (1, single.map(_elements)))
    record = weighted((5, rooted), (1, other))
    listed = st.lists(record, max_size=3)
    named = st.dictionaries(
        st.sampled_from(["a", "b", "r", "é", "ua", "1"]),
        weighted((4, single.map(members)), (1, record)),
        max_size=3,
    )
    some = weighted((4, listed), (4, named), (1, other))
    if "*" in schema.ways:
        return named
    placed = [_with_lists(single, levels(way), some, other) for way in schema.ways if way != "."]
    if not placed:
        return single
    each = weighted(*((1, one) for one in placed))
    return weighted((2, each), (1, single)) if "." in schema.ways else each


def _with_lists(
    single: st.SearchStrategy[Event], way: tuple[str, ...], records: Values, other: Values
) -> st.SearchStrategy[Event]:
    """Events with records at the end of a way, inside list elements if the way leads through
    lists."""
    first, *rest = way
    if rest:
        element = _with_lists(single, tuple(rest), records, other).map(members)
        records = st.lists(weighted((6, element), (1, other)), max_size=3)
        records = weighted((6, records), (1, other))
    path = st.sampled_from(ways(first.removesuffix(".*")))
    return st.builds(_with_records, single, path, records)


def members(event: Event) -> Event:
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
    """Several names of one category, each with or without something after it."""
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
    """Turn objects whose first member is numbered into lists; drop numbered members of others."""
    if type(value) is not dict:
        return value
    inner = {key: _with_inner_lists(member) for key, member in value.items()}
    return _elements(inner) if type(next(iter(inner), None)) is int else members(inner)


def _with_records(event: Event, way: Path, listed: Any) -> Event:
    put(event, way, listed)
    return event
