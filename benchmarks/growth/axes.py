"""What is varied: one axis for each curve, with the places at which it is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.growth.cases import Case, conferencing, extended, filled, generated, refused
from benchmarks.growth.jobs import JOBS
from collector import load_schema


@dataclass(frozen=True, slots=True)
class Axis:
    """A number that is varied, the places in rising order, and the case at each of them.

    ``jobs`` are those that can do it. ``per_call`` says that it is the number of events in a call.
    """

    name: str
    title: str
    unit: str
    places: Sequence[int]
    case: Callable[[int], Case]
    jobs: Sequence[str] = tuple(JOBS)
    per_call: bool = False


_SIZES = tuple(512 << power for power in range(12))
_COUNTS = (0, 1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)
_FIELDS = (3, 6, 12, 25, 50, 100, 200, 300)
_CALLS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
_ITEMS = tuple(place for place in _CALLS if place <= 50_000)
"""A document may hold 50,000 events."""
_DEPTHS = (1, 2, 5, 10, 20, 50, 100, 200, 400, 600, 900)
_CONTENT = (0, 1, 2, 4, 6, 9, 13, 18, 24)
_US = ("ours",)
_PATHS = (1, 2, 3, 5, 8, 12, 20, 30)


def _unlisted(count: int) -> Case:
    return extended([b'"member%d":%d' % (index, index) for index in range(count)])


def _deep(depth: int) -> Case:
    return extended([b'"below":' + b'{"a":' * depth + b"1" + b"}" * depth])


def _content(count: int) -> Case:
    names = list(load_schema("conferencing").content_names)[:count]
    return extended([b'"%s":"here"' % name.encode() for name in names])


def _present(fields: int) -> Case:
    return generated(fields, range(fields))


def _reversed(fields: int) -> Case:
    return generated(fields, range(fields)[::-1])


def _one_present(fields: int) -> Case:
    return generated(fields, [fields // 2])


def _paths(paths: int) -> Case:
    return generated(10, range(10), paths)


def _listed(events: int) -> Case:
    return conferencing(events, "list")


def _records(events: int) -> Case:
    return conferencing(events, "records")


def _size(name: str, what: str) -> Axis:
    return Axis(f"size-{name}", f"Size of an event: {what}", "bytes", _SIZES, partial(filled, name))


AXES: tuple[Axis, ...] = (
    _size("chat", "chat of short messages"),
    _size("transcript", "transcript outside ASCII"),
    _size("audio", "audio in base64"),
    Axis("unlisted", "Unlisted members of an event", "members", _COUNTS, _unlisted),
    Axis("depth", "Depth of an unlisted member", "levels", _DEPTHS, _deep),
    Axis("content", "Content members of an event", "members", _CONTENT, _content),
    Axis("fields", "Fields of the schema, all present in its order", "fields", _FIELDS, _present),
    Axis("fields-reversed", "Fields present in reverse order", "fields", _FIELDS, _reversed),
    Axis("fields-one", "Fields of the schema, one present", "fields", _FIELDS, _one_present),
    Axis("fields-refused", "Fields present, one of a wrong type", "fields", _FIELDS, refused, _US),
    Axis("paths", "Paths of each of ten fields, the last leads to it", "paths", _PATHS, _paths),
    Axis("lines", "Lines in a call", "events", _CALLS, conferencing, per_call=True),
    Axis("documents", "Events in a JSON list", "events", _ITEMS, _listed, per_call=True),
    Axis("records", "Records in a document", "records", _ITEMS, _records, per_call=True),
)
"""In the order in which they are shown."""
