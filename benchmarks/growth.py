"""How the filter's time grows with one number: the size of an event, its members, the fields of a
schema, or the events of a call. All inputs are seeded or enumerated.

The filter takes turns with bare msgspec, whose types are generated from the names of the fields,
because the schema changes along a curve too. The exponent is the slope in log-log over the upper
half of a curve: 1 for a straight line through zero, 0 for a flat one.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial, reduce
from io import BytesIO
from itertools import cycle, islice
from math import log
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import thread_time_ns
from typing import Any, NamedTuple

import msgspec
import orjson

from benchmarks import conditions
from benchmarks.data import SEED, flat, stream
from benchmarks.figures import BenchmarkError, Figures, say, slope
from benchmarks.talk import ENGLISH, TONGUES, Tongue
from collector import Filter, Schema, load_schema

_PAYLOAD, _MOST_EVENTS, _MESSAGES, _COMPARED = 400_000, 500, 1_000, 1_000
_HEAD = """\
schema: generated
version: 1.0.0
title: Generated to be measured
owner: benchmarks
purposes:
  service: {use: essential.service.operations, basis: contract, reason: "To be measured only"}
fields:
"""
_FIELD = (
    "  %s: {kind: enum, values: [first, second, third], from: [%s], category: system,"
    ' purposes: [service], retention: 1d, reason: "To be measured only"}\n'
)


@dataclass(frozen=True, slots=True)
class Case:
    """Events under a schema, as one payload: NDJSON ``lines``, or one JSON ``list``."""

    schema: Schema
    events: Sequence[bytes]
    form: str = "lines"

    def payload(self) -> bytes:
        """Return the input of one call."""
        if self.form == "lines":
            return b"\n".join(self.events)
        return b"[" + b",".join(self.events) + b"]"


# -- cases -----------------------------------------------------------------------------------------


def _number(size: int) -> int:
    """Return how many events of about ``size`` bytes make a call so long that its fixed cost is
    negligible."""
    return min(_MOST_EVENTS, max(1, _PAYLOAD // size))


@cache
def _reports(count: int) -> Sequence[bytes]:
    return tuple(stream("small", count))


def _calls(form: str, events: int) -> Case:
    """Return reports of half a kilobyte without content, for the shipped schema."""
    return Case(load_schema("conferencing"), _reports(events), form)


def _extended(members: Callable[[int], Iterable[bytes]], count: int) -> Case:
    """Return reports with additional members, each a JSON key, a colon and a value."""
    more = b"".join(b"," + member for member in members(count)) + b"}"
    base = _calls("lines", _number(500 + len(more)))
    return Case(base.schema, [event[:-1] + more for event in base.events])


def _unlisted(count: int) -> Iterable[bytes]:
    return [b'"member%d":%d' % (index, index) for index in range(count)]


def _deep(depth: int) -> Iterable[bytes]:
    return [b'"below":' + b'{"a":' * depth + b"1" + b"}" * depth]


def _content(count: int) -> Iterable[bytes]:
    names = list(load_schema("conferencing").content_names)[:count]
    return [b'"%s":"here"' % name.encode() for name in names]


@cache
def _messages(tongues: Sequence[Tongue]) -> Sequence[bytes]:
    rng = random.Random(SEED)
    return [
        orjson.dumps({"from": rng.choice(tongue.names), "text": rng.choice(tongue.sentences)})
        for tongue in rng.choices(tongues, k=_MESSAGES)
    ]


def _talk(tongues: Sequence[Tongue], room: int) -> bytes:
    """Return as many messages as fit, and a text of dots that fills the rest."""
    messages: list[bytes] = []
    left = room - len(b'[""]')
    for message in cycle(_messages(tongues)):
        if len(message) >= left:
            break
        messages.append(message)
        left -= len(message) + 1
    return b"[" + b",".join([*messages, b'"' + b"." * left + b'"']) + b"]"


def _sound(room: int) -> bytes:
    return b'"' + base64.b64encode(random.Random(SEED).randbytes(room))[: room - 2] + b'"'


def _filled(name: str, content: Callable[[int], bytes], size: int) -> Case:
    """Return reports whose content fills them up to ``size`` bytes; smaller ones have no
    content."""
    base = _calls("lines", _number(size))
    events = []
    for event in base.events:
        room = size - len(event) - len(f',"{name}":')
        more = b',"%s":%s}' % (name.encode(), content(room)) if room > 4 else b"}"
        events.append(event[:-1] + more)
    return Case(base.schema, events)


def _fields(present: Callable[[int], Sequence[int]], fields: int, paths: int = 1) -> Case:
    """Return events with the fields ``present``, in that order, for a schema with this many fields.
    Each field has this many paths, and is at the last one."""
    names = [f"part.field{index}" for index in range(fields)]
    text = _HEAD
    for name in names:
        text += _FIELD % (name, ", ".join([*(f"{name}_{at}" for at in range(1, paths)), name]))
    with TemporaryDirectory(prefix="collector-benchmarks-") as folder:
        path = Path(folder) / "generated.yaml"
        path.write_text(text)
        schema = load_schema(path)
    values = ("first", "second", "third")
    event = orjson.dumps({"part": {f"field{at}": values[at % 3] for at in present(fields)}})
    return Case(schema, [event] * _number(len(event) + 20 * fields))


def _refused(fields: int) -> Case:
    """Return events with all fields, the first with a wrong type."""
    case = _fields(range, fields)
    events = [event.replace(b':"first"', b':["first"]', 1) for event in case.events]
    return Case(case.schema, events)


# -- who is timed ----------------------------------------------------------------------------------

_Job = Callable[[], bytes]


def _ours(case: Case) -> _Job:
    payload, filter_ = case.payload(), Filter(case.schema)
    admit = filter_.admit_lines if case.form == "lines" else filter_.admit
    return lambda: admit(payload).encode()


def _bare(case: Case) -> _Job:
    """Decode and encode only the canonical fields, nested, without any check: the floor."""
    root: dict[str, Any] = {}
    for name in case.schema.fields:
        *parents, leaf = name.split(".")
        reduce(lambda node, key: node.setdefault(key, {}), parents, root)[leaf] = None
    event, payload, encode = _struct(root), case.payload(), msgspec.json.Encoder().encode_lines
    if case.form == "lines":
        line = msgspec.json.Decoder(event).decode
        return lambda: encode([line(each) for each in BytesIO(payload)])
    listed: Any = msgspec.json.Decoder(list[event]).decode  # type: ignore[valid-type]
    return lambda: encode(listed(payload))


def _struct(tree: Mapping[str, Any]) -> Any:
    members = [
        (f"m{number}", (_struct(below) if below else str) | None, None)
        for number, below in enumerate(tree.values())
    ]
    rename = {f"m{number}": name for number, name in enumerate(tree)}
    return msgspec.defstruct("Event", members, rename=rename, gc=False, omit_defaults=True)


_JOBS: Mapping[str, tuple[Callable[[Case], _Job], str]] = {
    "ours": (_ours, "collector"),
    "bare": (_bare, "bare msgspec (floor)"),
}
"""For each job, the function that makes it from a case, and its title."""


# -- curves ----------------------------------------------------------------------------------------


class Axis(NamedTuple):
    """A number that is varied, its values (``places``) in rising order, and the case for each.
    ``jobs`` are the jobs that can do it. ``per_call`` says that the number is the events in a call:
    then the time per event must not grow."""

    name: str
    title: str
    unit: str
    places: Sequence[int]
    case: Callable[[int], Case]
    jobs: Sequence[str] = tuple(_JOBS)
    per_call: bool = False


_SIZES = tuple(512 << power for power in range(12))
_COUNTS = (0, 1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)
_WIDTHS = (3, 6, 12, 25, 50, 100, 200, 300)
_CALLS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
_ITEMS = _CALLS[:-1]  # a document may hold 50,000 events
_DEPTHS = (1, 2, 5, 10, 20, 50, 100, 200, 400, 600, 900)
_CONTENTS = (0, 1, 2, 4, 6, 9, 13, 18, 24)
_ENGLISH, _OTHERS = partial(_talk, (ENGLISH,)), partial(_talk, TONGUES)

AXES = (
    *(
        Axis(
            f"size-{name}", f"Size of an event: {what}", "bytes", _SIZES, partial(_filled, name, of)
        )
        for name, what, of in (
            ("chat", "chat of short messages", _ENGLISH),
            ("transcript", "transcript outside ASCII", _OTHERS),
            ("audio", "audio in base64", _sound),
        )
    ),
    *(
        Axis(name, title, unit, places, partial(_extended, members))
        for name, title, unit, places, members in (
            ("unlisted", "Unlisted members of an event", "members", _COUNTS, _unlisted),
            ("depth", "Depth of an unlisted member", "levels", _DEPTHS, _deep),
            ("content", "Content members of an event", "members", _CONTENTS, _content),
        )
    ),
    *(
        Axis(f"fields{name}", title, "fields", _WIDTHS, partial(_fields, present))
        for name, title, present in (
            ("", "Fields of the schema, all present in its order", range),
            ("-reversed", "Fields present in reverse order", lambda fields: range(fields)[::-1]),
            ("-one", "Fields of the schema, one present", lambda fields: [fields // 2]),
        )
    ),
    Axis(
        "fields-refused",
        "Fields present, one of a wrong type",
        "fields",
        _WIDTHS,
        _refused,
        ["ours"],
    ),
    Axis(
        "paths",
        "Paths of each of ten fields, the last leads to it",
        "paths",
        (1, 2, 3, 5, 8, 12, 20, 30),
        lambda paths: _fields(range, 10, paths),
    ),
    *(
        Axis(name, title, unit, places, partial(_calls, form), per_call=True)
        for name, title, unit, places, form in (
            ("lines", "Lines in a call", "events", _CALLS, "lines"),
            ("documents", "Events in a JSON list", "events", _ITEMS, "list"),
        )
    ),
)
"""In display order."""


def measure(figures: Figures) -> None:
    """Time every curve, and add the table.

    Raises ``BenchmarkError`` if the records of two jobs differ.
    """
    rows = []
    rounds, least_ms, step = (3, 2, 2) if figures.quick else (5, 3, 1)
    for axis in AXES:
        say(f"measuring growth: {axis.name}")
        places = axis.places[::-step][::-1]  # counted from the end: the last place matters most
        times: dict[str, list[float]] = {name: [] for name in axis.jobs}
        for place in places:
            for name, found in _timed(axis, place, rounds, least_ms).items():
                times[name].append(median(found))
        rows.append(_row(axis, places, times))
        figures.values.setdefault("growth", {})[axis.name] = {"places": places, "times": times}
    title = (
        "growth of CPU time per event: exponent (slope in log-log) over the upper half of a curve"
    )
    titles = (title for _, title in _JOBS.values())
    last = ("collector, first → last µs", "collector, ns per unit")
    figures.table(title, ("varied", "from – to", *titles, *last), rows)


def _timed(axis: Axis, place: int, rounds: int, least_ms: float) -> dict[str, list[float]]:
    """Return µs per event by job and round. Short jobs are repeated within a round."""
    case = axis.case(place)
    jobs = {name: _JOBS[name][0](case) for name in axis.jobs}
    expected: object = None
    for name, job in jobs.items():
        lines = job().splitlines()
        records = [
            {"schema": case.schema.id} | flat(orjson.loads(line))
            for line in islice(lines, _COMPARED)
        ]
        if len(lines) != len(case.events) or expected not in (None, records):
            raise BenchmarkError(f"{name} gives other records, {axis.name} at {place}")
        expected = records
    works = {}
    for name, job in jobs.items():
        begun = thread_time_ns()
        job()
        times = 1 + int(least_ms * 1e6 / max(1, thread_time_ns() - begun))
        works[name] = (partial(_repeated, job, times), times * len(case.events))
    spent = {name: work for name, (work, _) in works.items()}
    found = conditions.in_rounds(spent, rounds, SEED, thread_time_ns)
    return {name: [us / works[name][1] for us in of] for name, of in found.items()}


def _repeated(job: _Job, times: int) -> None:
    for _ in range(times):
        job()


def _row(
    axis: Axis, places: Sequence[int], times: Mapping[str, Sequence[float]]
) -> tuple[str, ...]:
    """Return a curve as a row of the table."""
    upper = slice(-max(3, (len(places) + 1) // 2), None)
    half = [place for place in places[upper] if place > 0]
    xs, ours = list(map(log, half)), times["ours"]
    exponents = {
        name: f"{round(slope(xs, list(map(log, of[-len(half) :]))), 2) + 0:.2f}"  # avoids -0.00
        for name, of in times.items()
    }
    per_unit = f"{float(format(slope(places[upper], ours[upper]) * 1_000, '.3g')):,.10g}"
    return (
        axis.title,
        f"{places[0]:,} – {places[-1]:,} {axis.unit}",
        *(exponents.get(name, "–") for name in _JOBS),
        f"{ours[0]:,.1f} → {ours[-1]:,.1f}",
        "flat is linear" if axis.per_call else per_unit,
    )
