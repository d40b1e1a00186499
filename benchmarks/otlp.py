"""OTLP in the filter, against a floor: a parser whose outcome is thrown away.

JSON is parsed by orjson. Protobuf is parsed by the official classes and walked: the key and the
text of each attribute are read, because Python has none of them before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product
from time import process_time_ns
from typing import Any, NamedTuple

import orjson

from benchmarks import exports
from benchmarks.data import SEED
from benchmarks.figures import BenchmarkError
from collector import Filter, load_schema
from collector.contracts import SIGNALS, Signal

OURS, BARE = "collector", "parsing (floor)"
"""The contenders: ``Filter.admit_otlp(…).encode()``, and a parser whose outcome is thrown away."""

_BODIES = 20


class Exports(NamedTuple):
    """A corpus of bodies; see ``benchmarks.exports``."""

    shared: bool
    protobuf: bool
    signal: Signal

    @property
    def name(self) -> str:
        """What it is called in tables."""
        encoding = "protobuf" if self.protobuf else "JSON"
        return f"{self.signal}, {encoding}, {'one resource' if self.shared else 'many clients'}"


CORPORA = tuple(Exports(*each) for each in product((True, False), (True, False), SIGNALS))
"""Every signal, in both encodings, from one client and from many."""


def measure(corpus: Exports, rounds: int) -> tuple[float, dict[str, list[float]]]:
    """Return the bytes of an item, and µs of CPU per item, by contender, round by round.

    Raises ``BenchmarkError`` if an item gives no record.
    """
    filter_, rng = Filter(load_schema("conferencing")), random.Random(SEED)
    made = exports.bodies(corpus.signal, protobuf=corpus.protobuf, shared=corpus.shared, rng=rng)
    bodies = list(islice(made, _BODIES))
    items = _BODIES * exports.ITEMS
    for body in bodies:
        tally = filter_.admit_otlp(corpus.signal, body, protobuf=corpus.protobuf).tally
        if tally.admitted != exports.ITEMS or tally.dropped:
            raise BenchmarkError(f"{corpus.name}: not every item is admitted whole")
    jobs: dict[str, Callable[[bytes], Any]] = {
        BARE: orjson.loads,
        OURS: lambda body: filter_.admit_otlp(
            corpus.signal, body, protobuf=corpus.protobuf
        ).encode(),
    }
    if corpus.protobuf:
        parse = exports.message(corpus.signal).FromString
        jobs[BARE] = lambda body: _walk(parse(body), corpus.signal)
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for round_ in range(rounds + 1):  # the first one warms up
        for name in rng.sample(list(jobs), len(jobs)):
            spent = _spent(jobs[name], bodies) / items / 1_000
            if round_:
                times[name].append(spent)
    return sum(map(len, bodies)) / items, times


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
