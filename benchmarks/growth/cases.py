"""The events and the schema of one place on a curve. All of it is seeded or counted out."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import orjson

from benchmarks.data import SEED, stream
from benchmarks.talk import ENGLISH, TONGUES, Tongue
from collector import Schema, load_schema

Form = Literal["lines", "list", "records"]

_PAYLOAD = 400_000
_MOST_EVENTS = 500
_MESSAGES = 1_000
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
    """Events under a schema, as one payload: NDJSON ``lines``, one JSON ``list``, or one document
    with the ``records`` below ``participants``."""

    schema: Schema
    events: Sequence[bytes]
    form: Form = "lines"

    def payload(self) -> bytes:
        """Return what one call is given."""
        if self.form == "lines":
            return b"\n".join(self.events)
        listed = b"[" + b",".join(self.events) + b"]"
        return listed if self.form == "list" else b'{"participants":' + listed + b"}"


def number(size: int) -> int:
    """How many events of about ``size`` bytes make a call so long that its fixed cost is lost."""
    return min(_MOST_EVENTS, max(1, _PAYLOAD // size))


@cache
def _reports(count: int) -> Sequence[bytes]:
    return tuple(stream("small", count))


def conferencing(events: int, form: Form = "lines") -> Case:
    """Return reports of half a kilobyte without content, under the shipped schema.

    Where they are records of a document, the schema is told so.
    """
    schema = load_schema("conferencing")
    if form == "records":
        schema = schema.model_copy(update={"records": ("participants",)})
    return Case(schema, _reports(events), form)


def extended(members: Sequence[bytes]) -> Case:
    """Return reports with further members, each the JSON text of a key, a colon and a value."""
    more = b"".join(b"," + member for member in members) + b"}"
    base = conferencing(number(500 + len(more)))
    return Case(base.schema, [event[:-1] + more for event in base.events])


def _sound(room: int) -> bytes:
    return b'"' + base64.b64encode(random.Random(SEED).randbytes(room))[: room - 2] + b'"'


@cache
def _messages(tongues: Sequence[Tongue]) -> Sequence[bytes]:
    rng = random.Random(SEED)
    return [
        orjson.dumps({"from": rng.choice(tongue.names), "text": rng.choice(tongue.sentences)})
        for tongue in rng.choices(tongues, k=_MESSAGES)
    ]


def _talk(tongues: Sequence[Tongue], room: int) -> bytes:
    """As many messages as fit, and a text of dots that fills up what is left."""
    messages: list[bytes] = []
    left = room - len(b'[""]')
    for message in cycle(_messages(tongues)):
        if len(message) >= left:
            break
        messages.append(message)
        left -= len(message) + 1
    return b"[" + b",".join([*messages, b'"' + b"." * left + b'"']) + b"]"


CONTENT: dict[str, Callable[[int], bytes]] = {
    "chat": partial(_talk, (ENGLISH,)),
    "transcript": partial(_talk, TONGUES),
    "audio": _sound,
}
"""By member: the JSON text of content that is so many bytes long. Chat is English and of ASCII,
the transcript Indonesian, German and Chinese, and audio one text in base64."""


def filled(name: str, size: int) -> Case:
    """Return reports that content fills up to ``size`` bytes; smaller ones have none."""
    base = conferencing(number(size))
    events = []
    for event in base.events:
        room = size - len(event) - len(f',"{name}":')
        more = b',"%s":%s}' % (name.encode(), CONTENT[name](room)) if room > 4 else b"}"
        events.append(event[:-1] + more)
    return Case(base.schema, events)


def generated(fields: int, present: Sequence[int], paths: int = 1) -> Case:
    """Return events with the fields ``present``, in that order, under a schema of so many fields.

    Each field may be found at so many paths, and is at the last.
    """
    names = [f"part.field{index}" for index in range(fields)]
    with TemporaryDirectory(prefix="collector-benchmarks-") as folder:
        path = Path(folder) / "generated.yaml"
        path.write_text(_HEAD + "".join(_FIELD % (name, _paths(name, paths)) for name in names))
        schema = load_schema(path)
    values = [("first", "second", "third")[index % 3] for index in present]
    members = {f"field{index}": value for index, value in zip(present, values, strict=True)}
    event = orjson.dumps({"part": members})
    return Case(schema, [event] * number(len(event) + 20 * fields))


def refused(fields: int) -> Case:
    """Return all fields present, of which the first has a wrong type."""
    case = generated(fields, range(fields))
    events = [event.replace(b':"first"', b':["first"]', 1) for event in case.events]
    return Case(case.schema, events)


def _paths(name: str, paths: int) -> str:
    return ", ".join([*(f"{name}_{other}" for other in range(1, paths)), name])
