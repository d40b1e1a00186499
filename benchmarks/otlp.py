"""OTLP in the filter, against a floor: parsing alone, by the official classes or by orjson."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from time import process_time_ns
from typing import Any

import orjson

from benchmarks import exports
from benchmarks.data import SEED
from benchmarks.results import BenchmarkError, CorpusResult, paired
from collector import Filter, load_schema
from collector.contracts import SIGNALS, Signal

__all__ = ["BARE", "CORPORA", "OURS", "Exports", "measure"]

OURS, BARE = "collector", "parsing alone (floor)"
"""The contenders: ``Filter.admit_otlp(…).encode()``, and a parser whose outcome is thrown away."""

_BODIES = 20


@dataclass(frozen=True, slots=True)
class Exports:
    """A corpus of bodies; see ``benchmarks.exports``."""

    signal: Signal
    protobuf: bool
    shared: bool

    @property
    def name(self) -> str:
        """What it is called in tables."""
        encoding = "protobuf" if self.protobuf else "JSON"
        return f"{self.signal}, {encoding}, {'one resource' if self.shared else 'many clients'}"


CORPORA = tuple(
    Exports(signal, protobuf, shared)
    for shared in (True, False)
    for protobuf in (True, False)
    for signal in SIGNALS
)
"""Every signal, in both encodings, from one client and from many."""


def measure(rounds: int, corpora: Iterable[Exports] = CORPORA) -> list[CorpusResult]:
    """µs of CPU per item, round by round. Raises ``BenchmarkError`` if an item gives no record."""
    filter_ = Filter(load_schema("conferencing"))
    return [_measured(corpus, filter_, rounds) for corpus in corpora]


def _measured(corpus: Exports, filter_: Filter, rounds: int) -> CorpusResult:
    rng = random.Random(SEED)
    made = exports.bodies(corpus.signal, protobuf=corpus.protobuf, shared=corpus.shared, rng=rng)
    bodies = list(islice(made, _BODIES))
    items = _BODIES * exports.ITEMS

    def ours(body: bytes) -> bytes:
        return filter_.admit_otlp(corpus.signal, body, protobuf=corpus.protobuf).encode()

    for body in bodies:
        admission = filter_.admit_otlp(corpus.signal, body, protobuf=corpus.protobuf)
        if admission.tally.admitted != exports.ITEMS or admission.tally.dropped:
            raise BenchmarkError(f"{corpus.name}: not every item is admitted whole")
    contenders = {BARE: _parser(corpus), OURS: ours}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(rounds + 1):  # the first one warms up
        for name in rng.sample(list(contenders), len(contenders)):
            spent = _spent(contenders[name], bodies) / items / 1_000
            if round_:
                times[name].append(spent)
    size = sum(map(len, bodies)) / items
    ratios = {f"{OURS}/{BARE}": paired(times[OURS], times[BARE])}
    return CorpusResult(corpus.name, f"{size:.0f} bytes", items, size, times, ratios)


def _parser(corpus: Exports) -> Callable[[bytes], Any]:
    if not corpus.protobuf:
        return orjson.loads
    parse: Callable[[bytes], Any] = exports.message(corpus.signal).FromString
    return parse


def _spent(job: Callable[[bytes], Any], bodies: Sequence[bytes]) -> int:
    start = process_time_ns()
    for body in bodies:
        job(body)
    return process_time_ns() - start
