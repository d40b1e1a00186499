"""Metrics for Prometheus. Every series exists from the start; none is added later.

Labels are reasons, categories, fields of the schema, sinks, receivers and status classes. All are
closed lists, so no value and no unlisted key becomes a label.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from math import inf
from threading import Lock
from time import monotonic, time
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from prometheus_client import (
    CollectorRegistry,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from collector.contracts import (
    CATEGORIES,
    DROPS,
    MESSAGE_OUTCOMES,
    REJECTIONS,
    SUMS,
    Layout,
    MessageOutcome,
    SpoolState,
    Tally,
)
from collector.errors import CAUSES
from collector.ops.requests import RequestCounts
from collector.ops.sink_state import SinkState

_K = TypeVar("_K", bound=str)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LAST = "+Inf"


class MetricType(NamedTuple):
    """A metric: its type, its meaning, and its labels."""

    type: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()


METRICS: dict[str, MetricType] = {
    "collector_events_total": MetricType(
        "counter", "Events received, by outcome.", ("schema", "outcome")
    ),
    "collector_events_rejected_total": MetricType(
        "counter", "Events of which nothing was kept, by reason.", ("schema", "reason")
    ),
    "collector_fields_dropped_total": MetricType(
        "counter",
        "Fields of the schema left out of a record, by reason.",
        ("schema", "field", "reason"),
    ),
    "collector_content_total": MetricType(
        "counter",
        "Events that had content, by category; it is never decoded.",
        ("schema", "category"),
    ),
    "collector_received_bytes_total": MetricType(
        "counter", "Bytes of events, decompressed.", ("schema",)
    ),
    "collector_admitted_bytes_total": MetricType(
        "counter", "Bytes of the records that these events became.", ("schema",)
    ),
    "collector_request_duration_seconds": MetricType(
        "histogram", "How long requests took, by class of status.", ("receiver", "status")
    ),
    "collector_requests_refused_total": MetricType(
        "counter", "Requests that were refused, by the code of the error.", ("receiver", "code")
    ),
    "collector_spool_batches": MetricType("gauge", "Batches that wait for a sink.", ("sink",)),
    "collector_spool_records": MetricType("gauge", "Records that wait for a sink.", ("sink",)),
    "collector_spool_bytes": MetricType(
        "gauge", "Bytes of records that wait for a sink.", ("sink",)
    ),
    "collector_spool_oldest_age_seconds": MetricType(
        "gauge", "How long the oldest batch has waited for a sink; 0 if none does.", ("sink",)
    ),
    "collector_spool_lag_seconds": MetricType(
        "gauge", "How long the batch that a sink took most recently had waited.", ("sink",)
    ),
    "collector_spool_blocking": MetricType(
        "gauge", "1 if senders are refused because of what waits for this sink, else 0.", ("sink",)
    ),
    "collector_spool_used_bytes": MetricType(
        "gauge", "Bytes of records in the spool, where a batch for several sinks counts once."
    ),
    "collector_spool_limit_bytes": MetricType("gauge", "Bytes of records that the spool may hold."),
    "collector_spool_writable": MetricType(
        "gauge", "1 if the spool takes batches; 0 if it is full, or its disk takes nothing."
    ),
    "collector_spool_errors_total": MetricType("counter", "Writes or syncs that failed."),
    "collector_spool_damaged_files": MetricType(
        "gauge", "Damaged files and batches that were set aside since the start."
    ),
    "collector_sink_records_total": MetricType(
        "counter",
        "Records for a sink, by what became of them. Those taken are all others together, with what"
        " waits or is set aside.",
        ("sink", "outcome"),
    ),
    "collector_sink_set_aside_records": MetricType(
        "gauge", "Records that are set aside because a sink refused their batch.", ("sink",)
    ),
    "collector_sink_limit_bytes": MetricType(
        "gauge", "Bytes of records that may wait for a sink.", ("sink",)
    ),
    "collector_sink_full_in_seconds": MetricType(
        "gauge",
        "Until as much waits for a sink as may, at the rate of the last hour; `+Inf` if not in"
        " sight.",
        ("sink",),
    ),
    "collector_sink_skipping": MetricType(
        "gauge", "1 while a sink skips what comes, as its share is full, else 0.", ("sink",)
    ),
    "collector_sink_failures_total": MetricType(
        "counter",
        "Failures of a sink, by cause.",
        ("sink", "cause"),
    ),
    "collector_sink_last_success_timestamp_seconds": MetricType(
        "gauge", "When a sink last took a batch, or was opened.", ("sink",)
    ),
    "collector_sink_absent_batches": MetricType(
        "gauge",
        "Batches that wait, or were set aside, for a sink that the configuration does not have.",
        ("sink",),
    ),
    "collector_tls_certificate_expiry_timestamp_seconds": MetricType(
        "gauge", "When the TLS certificate of a receiver expires.", ("receiver",)
    ),
    "collector_workers": MetricType("gauge", "Workers that receive."),
    "collector_worker_replacements_total": MetricType(
        "counter", "Workers that ended and were replaced."
    ),
    "collector_messages_total": MetricType(
        "counter", "Messages that a drain received from a broker, by outcome.", ("outcome",)
    ),
    "collector_config_reloads_total": MetricType(
        "counter", "Reloads of the configuration, by outcome.", ("outcome",)
    ),
    "collector_config_last_reload_successful": MetricType(
        "gauge", "0 if the last reload was refused or failed, else 1."
    ),
    "collector_config_last_reload_success_timestamp_seconds": MetricType(
        "gauge", "When the configuration in force was read."
    ),
    "collector_build_info": MetricType(
        "gauge",
        "Always 1, one series for each schema; the labels say what runs.",
        ("version", "python", "schema"),
    ),
}
"""Every metric; the documentation's table is checked against this one."""


@dataclass(frozen=True, slots=True)
class WorkerReading:
    """The state of the workers: how many receive, how many were replaced, and their requests."""

    ready: int = 0
    replaced: int = 0
    requests: RequestCounts = field(default_factory=RequestCounts)


Reload = Literal["unchanged", "reloaded", "refused", "failed"]
"""The result of a reload: nothing has changed; the new configuration is in force; it was refused;
or it could not be put into force."""
RELOADS: tuple[Reload, ...] = get_args(Reload)


@dataclass(frozen=True, slots=True)
class ReloadReading:
    """The number of reloads by result; whether the last one succeeded; and the time of the last
    successful one, in seconds since 1970."""

    outcomes: Mapping[Reload, int] = field(default_factory=dict)
    is_successful: bool = True
    last: float = field(default_factory=time)


class Metrics(Collector):
    """The counters of the sidecar, in a registry of their own. Safe to use from several threads.

    ``spool``, ``sinks`` and the public attributes are called at each scrape; ``sinks`` always
    returns the same names. The owner of the workers, messages, reloads or certificates sets the
    attribute.
    """

    def __init__(
        self,
        layouts: Sequence[Layout],
        spool: Callable[[], SpoolState],
        sinks: Callable[[], Mapping[str, SinkState]],
    ) -> None:
        self.workers: Callable[[], WorkerReading] = WorkerReading
        self.messages: Callable[[], Mapping[MessageOutcome, int]] = dict
        self.reloads: Callable[[], ReloadReading] = ReloadReading
        self.expiries: Callable[[], Mapping[str, float]] = dict
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry: CollectorRegistry = CollectorRegistry(auto_describe=False)
        self._spool, self._sinks = spool, sinks
        self._tallies: dict[str, Tally] = {}
        self._fields: dict[str, dict[str, None]] = {}
        self._were_absent: dict[str, int] = {}
        self._lock = Lock()
        self.use(layouts)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def use(self, layouts: Sequence[Layout]) -> None:
        """Count under other schemas too; existing series stay."""
        with self._lock:
            self._schemas = [layout.schema for layout in layouts]
            for layout in layouts:
                self._tallies.setdefault(layout.table, Tally())
                fields = self._fields.setdefault(layout.table, {})
                fields.update(dict.fromkeys(name for name, _ in layout.columns))

    def observe(self, schema: str, tally: Tally) -> None:
        """Count the tally of a request under the schema of this name."""
        with self._lock:
            self._tallies[schema] += tally

    def tallies(self) -> dict[str, Tally]:
        """Return what was counted since the start, by schema."""
        with self._lock:
            return {schema: tally + Tally() for schema, tally in self._tallies.items()}

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def describe(self) -> Iterator[Metric]:
        """Describe nothing: the registry would read everything for that."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as it is now."""
        spool, workers, reloads = self._spool(), self.workers(), self.reloads()
        build, python = version("data-minimisation-collector"), platform.python_version()
        yield _metric("build_info", {(build, python, schema): 1 for schema in self._schemas})
        yield from self._counted()
        yield _metric("spool_used_bytes", {(): spool.bytes})
        yield _metric("spool_limit_bytes", {(): spool.limit})
        yield _metric("spool_writable", {(): spool.is_writable})
        yield _metric("spool_errors_total", {(): spool.errors})
        yield _metric("spool_damaged_files", {(): spool.damaged})
        yield from self._of_sinks(self._sinks())
        yield expiry(self.expiries())
        yield _metric("workers", {(): workers.ready})
        yield _metric("worker_replacements_total", {(): workers.replaced})
        yield _durations(workers.requests)
        yield _metric("requests_refused_total", dict(workers.requests.refused()))
        yield _metric("messages_total", _by_name(MESSAGE_OUTCOMES, self.messages()))
        yield _metric("config_reloads_total", _by_name(RELOADS, reloads.outcomes))
        yield _metric("config_last_reload_successful", {(): reloads.is_successful})
        yield _metric("config_last_reload_success_timestamp_seconds", {(): reloads.last})

    def _counted(self) -> Iterator[Metric]:
        """Yield the metrics of what was counted, with every series of every schema."""
        with self._lock:
            fields = {schema: [*names] for schema, names in self._fields.items()}
        of = self.tallies().items()
        events = {(schema, "admitted"): tally.admitted for schema, tally in of}
        events |= {(schema, "rejected"): tally.received - tally.admitted for schema, tally in of}
        yield _metric("events_total", events)
        for name, attribute, members in (
            ("events_rejected_total", "rejected", REJECTIONS),
            ("content_total", "content", CATEGORIES),
        ):
            counts = {schema: getattr(tally, attribute) for schema, tally in of}
            yield _metric(name, _by_two(counts, members))
        dropped = {
            (schema, name, drop): tally.dropped.get(name, Counter())[drop]
            for schema, tally in of
            for name in fields[schema]
            for drop in DROPS
        }
        yield _metric("fields_dropped_total", dropped)
        yield _metric("received_bytes_total", {(schema,): tally.bytes_in for schema, tally in of})
        yield _metric("admitted_bytes_total", {(schema,): tally.bytes_out for schema, tally in of})

    def _of_sinks(self, sinks: Mapping[str, SinkState]) -> Iterator[Metric]:
        """Yield the metrics of each sink."""
        named = {name: each for name, each in sinks.items() if not each.is_absent}
        gone = {name: each.backlog for name, each in sinks.items() if each.is_absent}
        self._were_absent |= dict.fromkeys(gone, 0)
        absent = {name: each.batches + each.aside.batches for name, each in gone.items()}
        absent = self._were_absent | absent
        for metric, read in _OF_SINKS.items():
            yield _metric(metric, {(name,): read(sink) for name, sink in named.items()})
        records = {
            (name, outcome): getattr(sink.backlog, outcome).records
            for name, sink in named.items()
            for outcome in SUMS
        }
        yield _metric("sink_records_total", records)
        causes = {name: sink.delivery.causes for name, sink in named.items()}
        yield _metric("sink_failures_total", _by_two(causes, CAUSES))
        blocking = {name for name, each in sinks.items() if each.condition == "blocking"}
        shown = dict.fromkeys((*named, *absent))
        yield _metric("spool_blocking", {(name,): name in blocking for name in shown})
        yield _metric("sink_absent_batches", {(name,): n for name, n in absent.items()})


_OF_SINKS: dict[str, Callable[[SinkState], float]] = {
    "spool_batches": lambda sink: sink.backlog.batches,
    "spool_records": lambda sink: sink.backlog.records,
    "spool_bytes": lambda sink: sink.backlog.bytes,
    "spool_oldest_age_seconds": lambda sink: sink.backlog.oldest,
    "spool_lag_seconds": lambda sink: sink.backlog.lag,
    "sink_set_aside_records": lambda sink: sink.backlog.aside.records,
    "sink_limit_bytes": lambda sink: sink.backlog.limit,
    "sink_full_in_seconds": lambda sink: inf if sink.until_full is None else sink.until_full,
    "sink_skipping": lambda sink: sink.backlog.is_skipping,
    "sink_last_success_timestamp_seconds": lambda sink: time() - monotonic() + sink.delivery.last,
}
"""The gauges of each sink in the configuration."""


def expiry(times: Mapping[str, float]) -> Metric:
    """Build the metric of when each receiver's certificate expires, in seconds since the epoch."""
    at = {(receiver,): seconds for receiver, seconds in times.items()}
    return _metric("tls_certificate_expiry_timestamp_seconds", at)


def _by_name(names: Iterable[_K], counts: Mapping[_K, int]) -> dict[tuple[_K], int]:
    return {(name,): counts.get(name, 0) for name in names}


def _by_two(
    counts: Mapping[str, Mapping[Any, int]], members: Iterable[str]
) -> dict[tuple[str, str], int]:
    return {
        (name, member): found.get(member, 0) for name, found in counts.items() for member in members
    }


def _metric(name: str, samples: Mapping[Any, float]) -> Metric:
    """Build a counter or a gauge from its name without the prefix, with a sample for each tuple of
    labels."""
    name = f"collector_{name}"
    kind, meaning, labels = METRICS[name]
    made = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    family = made(name, meaning, labels=labels)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family


def _durations(requests: RequestCounts) -> HistogramMetricFamily:
    name = "collector_request_duration_seconds"
    _, meaning, labels = METRICS[name]
    family = HistogramMetricFamily(name, meaning, labels=labels)
    for key, buckets, seconds in requests.durations():
        bounds = [(_LAST if bound == inf else str(float(bound)), n) for bound, n in buckets]
        family.add_metric(key, bounds, seconds)
    return family
