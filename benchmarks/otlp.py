"""OTLP in the filter, compared with a floor: a parser whose result is discarded.

orjson parses JSON. The official classes parse protobuf; then a walk reads the key and the text of
each attribute, because Python objects for them do not exist before.

A body has 200 log records, spans or data points, with the values of the corpus ``small`` under the
names of the semantic conventions. Log records also have a body of chat. In a ``shared`` body, as
from an SDK, device and system are in the resource, and each item has an address and five more
attributes. In other bodies, as from a gateway with many clients, each item has everything: 17 to 20
attributes. No two items are alike.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice, product
from typing import Any, NamedTuple

import orjson

from benchmarks import conditions
from benchmarks.data import SEED, flat
from benchmarks.figures import BenchmarkError
from benchmarks.leaks.events import any_value, export, key_values, message
from benchmarks.meetings import report
from benchmarks.talk import ENGLISH
from collector import Filter, load_schema
from collector.contracts import SIGNALS, Signal

OURS, BARE = "collector", "parsing (floor)"
"""The contenders: ``Filter.admit_otlp(…).encode()``, and a parser whose result is discarded."""

ITEMS, _BODIES = 200, 20
"""The items of a body, and the number of bodies."""
_NANO = 1_000_000
_SHARED = ("device", "os")
_RESOURCE = {
    "service.name": "meeting-edge",
    "service.version": "5.17.2",
    "host.name": "edge-17.example.org",
    "telemetry.sdk.language": "cpp",
}


class Exports(NamedTuple):
    """A corpus of bodies."""

    shared: bool
    protobuf: bool
    signal: Signal

    @property
    def name(self) -> str:
        """The corpus's name in tables."""
        encoding = "protobuf" if self.protobuf else "JSON"
        return f"{self.signal}, {encoding}, {'one resource' if self.shared else 'many clients'}"


CORPORA = tuple(Exports(*each) for each in product((True, False), (True, False), SIGNALS))
"""Every signal, in both encodings, from one client and from many."""


def _log(rng: random.Random, at: str, attributes: list[Any]) -> dict[str, Any]:
    said = any_value(rng.choice(ENGLISH.sentences))
    item = {"timeUnixNano": at, "severityNumber": 9, "severityText": "INFO", "body": said}
    return item | {"attributes": attributes}


def _span(rng: random.Random, at: str, attributes: list[Any]) -> dict[str, Any]:
    ids = {"traceId": rng.randbytes(16).hex(), "spanId": rng.randbytes(8).hex()}
    times = {"startTimeUnixNano": at, "endTimeUnixNano": at}
    return ids | {"name": "participant.stats"} | times | {"attributes": attributes}


def _point(rng: random.Random, at: str, attributes: list[Any]) -> dict[str, Any]:
    item = {"timeUnixNano": at, "asDouble": rng.uniform(8, 240)}
    return item | {"attributes": attributes}


def _metrics(points: list[Any]) -> dict[str, Any]:
    metric = {"name": "meeting.rtt", "unit": "ms", "gauge": {"dataPoints": points}}
    return {"metrics": [metric]}


_SIGNALS: dict[Signal, tuple[str, str, Any, Any]] = {
    "logs": ("resourceLogs", "scopeLogs", _log, lambda items: {"logRecords": items}),
    "traces": ("resourceSpans", "scopeSpans", _span, lambda items: {"spans": items}),
    "metrics": ("resourceMetrics", "scopeMetrics", _point, _metrics),
}
"""For each signal: where resources and scopes are, and what makes an item, and a scope of items."""


def bodies(corpus: Exports, rng: random.Random) -> Iterator[bytes]:
    """Yield an endless sequence of bodies."""
    resources, scopes, make, scope = _SIGNALS[corpus.signal]
    while True:
        about = dict(_RESOURCE)
        if corpus.shared:
            about |= flat({key: report(rng, ENGLISH)[key] for key in _SHARED})
        items = []
        for _ in range(ITEMS):
            event = report(rng, ENGLISH)
            at = str(event.pop("timestamp") * _NANO)
            if corpus.shared:
                event = {key: event[key] for key in event if key not in (*_SHARED, "participant")}
            items.append(make(rng, at, key_values(flat(event))))
        resource = {"resource": {"attributes": key_values(about)}, scopes: [scope(items)]}
        document = {resources: [resource]}
        yield export(document) if corpus.protobuf else orjson.dumps(document)


def measure(corpus: Exports, rounds: int) -> tuple[float, dict[str, list[float]]]:
    """Return the bytes of an item, and µs of CPU per item, by contender, round by round.

    Raises ``BenchmarkError`` if an item gives no record.
    """
    filter_, rng = Filter(load_schema("conferencing")), random.Random(SEED)
    drawn = list(islice(bodies(corpus, rng), _BODIES))
    items = _BODIES * ITEMS
    for body in drawn:
        tally = filter_.admit_otlp(corpus.signal, body, protobuf=corpus.protobuf).tally
        if tally.admitted != ITEMS or tally.dropped:
            raise BenchmarkError(f"{corpus.name}: not every item is admitted whole")
    jobs: dict[str, Callable[[bytes], Any]] = {
        BARE: orjson.loads,
        OURS: lambda body: filter_.admit_otlp(
            corpus.signal, body, protobuf=corpus.protobuf
        ).encode(),
    }
    if corpus.protobuf:
        parse = message(_SIGNALS[corpus.signal][0]).FromString
        jobs[BARE] = lambda body: _walk(parse(body), corpus.signal)
    works = {name: partial(_each, job, drawn) for name, job in jobs.items()}
    times = conditions.in_rounds(works, rounds, SEED)
    per_item = {name: [spent / items for spent in of] for name, of in times.items()}
    return sum(map(len, drawn)) / items, per_item


def _walk(request: Any, signal: Signal) -> None:
    """Read the key and the text of every attribute in a message."""
    for each in request.ListFields()[0][1]:
        for attributes in (each.resource.attributes, *_attributes(each, signal)):
            for pair in attributes:
                _ = pair.key, pair.value.string_value


def _attributes(each: Any, signal: Signal) -> Iterator[Any]:
    """Yield the attributes of every item in a resource."""
    if signal == "metrics":
        metrics = (metric for scope in each.scope_metrics for metric in scope.metrics)
        return (point.attributes for metric in metrics for point in metric.gauge.data_points)
    scopes = each.scope_logs if signal == "logs" else each.scope_spans
    member = "log_records" if signal == "logs" else "spans"
    return (item.attributes for scope in scopes for item in getattr(scope, member))


def _each(job: Callable[[bytes], Any], bodies_: Sequence[bytes]) -> None:
    for body in bodies_:
        job(body)
