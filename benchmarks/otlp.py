"""OTLP in the filter, against a floor: a parser whose outcome is thrown away.

JSON is parsed by orjson. Protobuf is parsed by the official classes and walked: the key and the
text of each attribute are read, because Python has none of them before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
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

OURS, BARE = "collector", "parsing (floor)"
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


def named(name: str) -> Exports:
    """Return the corpus of a name."""
    return next(corpus for corpus in CORPORA if corpus.name == name)


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
    parse = exports.message(corpus.signal).FromString
    return lambda body: _walk(parse(body), corpus.signal)


def _walk(request: Any, signal: Signal) -> None:
    """Read the key and the text of every attribute of a message."""
    for each in request.ListFields()[0][1]:
        for attributes in (each.resource.attributes, *_attributes(each, signal)):
            for pair in attributes:
                _ = pair.key, pair.value.string_value


def _attributes(each: Any, signal: Signal) -> Iterator[Any]:
    """Yield the attributes of every item of a resource."""
    if signal == "metrics":
        metrics = (metric for scope in each.scope_metrics for metric in scope.metrics)
        return (point.attributes for metric in metrics for point in metric.gauge.data_points)
    scopes = each.scope_logs if signal == "logs" else each.scope_spans
    member = "log_records" if signal == "logs" else "spans"
    return (item.attributes for scope in scopes for item in getattr(scope, member))


def _spent(job: Callable[[bytes], Any], bodies: Sequence[bytes]) -> int:
    start = process_time_ns()
    for body in bodies:
        job(body)
    return process_time_ns() - start
