"""Seeded corpora: the same name, number and seed give the same bytes.

A corpus consists of lines, one JSON text each. A line holds one event, or a document with several.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from benchmarks import meetings
from benchmarks.meetings import Event

SEED = 20261124
"""The default seed of everything drawn here."""

_Draw = Callable[[random.Random], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Corpus:
    """A kind of lines. ``bytes`` is the intended size of a line, ``events`` the number of events in
    it. ``admitted`` says whether each event gives a record, or none does. ``fresh`` says that no
    line may occur twice, even in different rounds."""

    name: str
    bytes: int
    what: str
    draw: _Draw
    schema: str = "conferencing"
    events: int = 1
    admitted: bool = True
    fresh: bool = False

    @property
    def records(self) -> int:
        """The number of records that a line gives."""
        return self.events if self.admitted else 0


def _each(draw: Callable[[random.Random], Event]) -> _Draw:
    """Yield independent lines."""

    def drawn(rng: random.Random) -> Iterator[bytes]:
        while True:
            yield orjson.dumps(draw(rng))

    return drawn


def _written(draw: Callable[[random.Random], Iterator[Event]]) -> _Draw:
    return lambda rng: map(orjson.dumps, draw(rng))


def _hostile(rng: random.Random) -> Iterator[bytes]:
    while True:
        yield meetings.hostile(rng)


CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        Corpus("small", 480, "no content", _each(meetings.small)),
        Corpus("medium", 2_060, "nested, with chat and transcript", _each(meetings.medium)),
        Corpus("large", 50_600, "as medium, with base64 audio", _each(meetings.large)),
        Corpus(
            "non_ascii", 2_040, "chat in Indonesian, German and Chinese", _each(meetings.non_ascii)
        ),
        Corpus(
            "qos",
            10_900,
            "a vendor's document around 20 participants",
            _each(meetings.vendors),
            schema="participants-qos",
            events=meetings.PARTICIPANTS,
        ),
        Corpus("fleet", 540, "heartbeats of 500 clients", _written(meetings.heartbeats)),
        Corpus("strangers", 500, "no two clients alike", _written(meetings.strangers), fresh=True),
        Corpus(
            "hostile",
            2_060,
            "every field invalid or of a wrong type, keys repeated",
            _hostile,
            admitted=False,
        ),
    )
}
"""The corpora by name, in reporting order."""


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested objects by their dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in nested.items():
        inner = f"{prefix}{name}"
        leaves |= flat(value, f"{inner}.") if isinstance(value, Mapping) else {inner: value}
    return leaves


def stream(name: str, number: int, seed: int = SEED) -> Iterator[bytes]:
    """Yield the first ``number`` lines of a corpus, without line ends."""
    return islice(CORPORA[name].draw(random.Random(seed)), number)


def lines(name: str, number: int, seed: int = SEED) -> list[bytes]:
    """Return the first ``number`` lines of a corpus, without line ends."""
    return list(stream(name, number, seed))
