"""Synthetic events that fit a schema: meetings, the events of its tests and samples, or events made
of examples of its fields."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import orjson

from collector import synthetic
from collector.filter import Filter
from collector.schema import Schema, resources
from collector.schema.kinds.base import utc_now
from collector.schema.scalars import beside, condition_of, keys, levels, path_of

_SEED = 2026
_TRIED = 20
_SENT = '{"ip": "203.0.113.7", "os": {"type": "linux"}, "chat": ["hi"]}'
_Tree = dict[Any, Any]
"""Members by name; elements of a list by number."""


def _no_key(_reference: str, _period: int) -> bytes:
    return bytes(32)


def events(schema: Schema, reference: str) -> Iterator[Any]:
    """Yield endless events of the kind with the most fields; if equal, meetings. ``reference`` is
    the schema's name or the path of its file."""
    filter_ = Filter(schema, keys=_no_key)
    meetings = [*islice(synthetic.events(sys.maxsize, _SEED), _TRIED)]
    others = [
        [each for each in some if _fields(filter_, [each])]
        for some in (_samples(schema, reference), _made(schema))
    ]
    best = max([meetings, *others], key=lambda some: _fields(filter_, some))
    return synthetic.events(sys.maxsize, _SEED) if best is meetings else cycle(best)


def sent(schema: Schema) -> str:
    """Return a short JSON text to send, with an event that fits. A document wraps an event that is
    a list."""
    if Filter(schema, keys=_no_key).admit(_SENT).tally.admitted:
        return _SENT
    event = _made(schema)[0]
    return orjson.dumps([event] if isinstance(event, list) else event).decode()


def _fields(filter_: Filter, some: Sequence[Any]) -> int:
    """Count the fields that occur in any of the events."""
    records = filter_.admit(orjson.dumps(some)).records
    return len({name for record in records for name in record} & filter_.schema.fields.keys())


def _samples(schema: Schema, reference: str) -> list[Any]:
    """Return the events of the schema's own tests, and of the samples beside it that must be
    admitted."""
    own = Path(reference)
    path = own if own.suffix else resources.shipped() / f"{reference}.yaml"
    documents: list[Any] = [test.event for test in schema.tests]
    with suppress(OSError, orjson.JSONDecodeError):  # somebody may be editing them
        documents += [
            orjson.loads(each.read_bytes())
            for each in resources.samples(path)
            if each.name.endswith(".pass.json")
        ]
    return [event for each in documents for event in (each if isinstance(each, list) else [each])]


def _made(schema: Schema) -> list[Any]:
    """Make events from examples of the fields. Fields with contradicting conditions go into
    different events."""
    now, made = utc_now(), list[_Tree]()
    for name, field in schema.fields.items():
        places = field.places(name)
        named = (each for each in places if isinstance(keys(path_of(each))[0], str))
        source = next(named, places[0])
        path = path_of(source)
        members = {keys(path): field.example(now)} | {
            keys(beside(path, member)): listed.written()[0]
            for member, listed in condition_of(source)
        }
        event = next((each for each in made if _has_room(each, members)), None)
        if event is None:
            made.append(event := {})
        for at, value in members.items():
            _put(event, at, value)
    return [_within(schema, each) for each in made]


def _within(schema: Schema, record: _Tree) -> Any:
    """Put a record into an event if the schema reads records; else return the record."""
    if schema.records is None:
        return _plain(record)
    way = schema.records[0]
    for member, listed in condition_of(way):
        _put(record, (member,), listed.written()[0])
    path = path_of(way)
    if path == "*":
        return _plain({"a": record})
    inner: Any = record
    for level in reversed(levels(path) if path != "." else ()):
        of_map = level.endswith(".*")
        outer: _Tree = {}
        _put(outer, keys(level.removesuffix(".*")), {"a": inner} if of_map else {0: inner})
        inner = outer
    return _plain(inner)


def _has_room(event: _Tree, members: dict[tuple[str | int, ...], Any]) -> bool:
    """Return whether members can be put into an event without changing others."""
    for path, value in members.items():
        at: Any = event
        for key in path:
            if not isinstance(at, dict):
                return False
            if key not in at:
                break
            at = at[key]
        else:
            if at != value:
                return False
    return True


def _put(event: _Tree, path: tuple[str | int, ...], value: Any) -> None:
    *way, last = path
    for key in way:
        event = event.setdefault(key, {})
    event[last] = value


def _plain(tree: Any) -> Any:
    """Turn objects with numbered members into lists; gaps become empty texts."""
    if not isinstance(tree, dict):
        return tree
    if tree and all(isinstance(key, int) for key in tree):
        return [_plain(tree.get(index, "")) for index in range(max(tree) + 1)]
    return {key: _plain(value) for key, value in tree.items()}
