"""Metrics for Prometheus. Every series exists from the start, and none is added later.

Labels are reasons, categories, fields of the schema, sinks, receivers and classes of status, all of
them closed lists, so that no value and no unlisted key becomes one.
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
from typing import Literal, NamedTuple, TypeVar, get_args

from prometheus_client import (
    CollectorRegistry,
    Gauge,
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

_F = TypeVar("_F", CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LAST = "+Inf"
_OUTCOMES = ("admitted", "rejected")


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
"""What comes of a reload: nothing has changed; workers are as they were, have other terms, or
others have taken their place; the configuration is refused; or it could not be put into force."""
RELOADS: tuple[Reload, ...] = get_args(Reload)


@dataclass(frozen=True, slots=True)
class ReloadReading:
    """How many reloads there were, by what came of them; whether the last one succeeded, and the
    time of the last that did, in seconds since 1970."""

    outcomes: Mapping[Reload, int] = field(default_factory=dict)
    is_successful: bool = True
    last: float = field(default_factory=time)


class Metrics:
    """The counters of the sidecar, in a registry of their own. Safe to use from several threads.

    ``spool``, ``sinks``, ``workers`` and ``reloads`` are called at each scrape; ``sinks`` always
    returns the same names.
    """

    def __init__(
        self,
        layouts: Sequence[Layout],
        spool: Callable[[], SpoolState],
        sinks: Callable[[], Mapping[str, SinkState]],
        workers: Callable[[], WorkerReading] = WorkerReading,
        messages: Callable[[], Mapping[MessageOutcome, int]] = dict,
        *,
        reloads: Callable[[], ReloadReading] | None = None,
        expiries: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry: CollectorRegistry = CollectorRegistry(auto_describe=False)
        self._tallies: dict[str, Tally] = {}
        self._fields: dict[str, dict[str, None]] = {}
        self._lock = Lock()
        _, meaning, labels = METRICS["collector_build_info"]
        self._info = Gauge("collector_build_info", meaning, labels, registry=self.registry)
        self.use(layouts)
        self.registry.register(
            _Readings(
                self._counted,
                spool,
                sinks,
                workers,
                messages,
                reloads=reloads,
                expiries=expiries,
            )
        )
        ProcessCollector(registry=self.registry)

    def __repr__(self) -> str:
        return f"<Metrics of {len(METRICS)}>"

    def use(self, layouts: Sequence[Layout]) -> None:
        """Count under other schemas, too; the series that there are stay."""
        with self._lock:
            for layout in layouts:
                self._tallies.setdefault(layout.table, Tally())
                fields = self._fields.setdefault(layout.table, {})
                fields.update(dict.fromkeys(name for name, _ in layout.columns))
        build = version("data-minimisation-collector")
        self._info.clear()
        for layout in layouts:
            self._info.labels(build, platform.python_version(), layout.schema).set(1)

    def observe(self, schema: str, tally: Tally) -> None:
        """Count the tally of a request under a schema, which is named."""
        with self._lock:
            self._tallies[schema] += tally

    def tallies(self) -> dict[str, Tally]:
        """Return what was counted since the start, by schema."""
        with self._lock:
            return {schema: tally + Tally() for schema, tally in self._tallies.items()}

    def _counted(self) -> Iterator[Metric]:
        """Yield the metrics of what was counted, with every series of every schema."""
        total = {name: _family(CounterMetricFamily, name) for name in _COUNTED}
        events, rejected, dropped, content, bytes_in, bytes_out = total.values()
        with self._lock:
            fields = {schema: [*names] for schema, names in self._fields.items()}
        for schema, tally in self.tallies().items():
            events.add_metric([schema, "admitted"], tally.admitted)
            events.add_metric([schema, "rejected"], tally.received - tally.admitted)
            for reason in REJECTIONS:
                rejected.add_metric([schema, reason], tally.rejected[reason])
            for name in fields[schema]:
                drops = tally.dropped.get(name, Counter())
                for drop in DROPS:
                    dropped.add_metric([schema, name, drop], drops[drop])
            for category in CATEGORIES:
                content.add_metric([schema, category], tally.content[category])
            bytes_in.add_metric([schema], tally.bytes_in)
            bytes_out.add_metric([schema], tally.bytes_out)
        yield from total.values()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


_COUNTED = (
    "collector_events_total",
    "collector_events_rejected_total",
    "collector_fields_dropped_total",
    "collector_content_total",
    "collector_received_bytes_total",
    "collector_admitted_bytes_total",
)
"""The metrics of tallies."""


class _Readings(Collector):
    """The metrics that are read at each scrape."""

    def __init__(
        self,
        counted: Callable[[], Iterable[Metric]],
        spool: Callable[[], SpoolState],
        sinks: Callable[[], Mapping[str, SinkState]],
        workers: Callable[[], WorkerReading],
        messages: Callable[[], Mapping[MessageOutcome, int]],
        *,
        reloads: Callable[[], ReloadReading] | None,
        expiries: Callable[[], Mapping[str, float]],
    ) -> None:
        self._counted = counted
        self._expiries = expiries
        self._spool = spool
        self._sinks = sinks
        self._workers = workers
        self._messages = messages
        self._reloads = reloads or ReloadReading
        self._were_absent: dict[str, int] = {}

    def collect(self) -> Iterator[Metric]:
        yield from self._counted()
        spool, sinks = self._spool(), self._sinks()
        yield _gauge("collector_spool_used_bytes", spool.bytes)
        yield _gauge("collector_spool_limit_bytes", spool.limit)
        yield _gauge("collector_spool_writable", spool.is_writable)
        name = "collector_spool_errors_total"
        yield CounterMetricFamily(name, METRICS[name].meaning, value=spool.errors)
        yield _gauge("collector_spool_damaged_files", spool.damaged)
        yield from self._of_sinks(sinks)
        yield expiry(self._expiries())
        workers = self._workers()
        yield _gauge("collector_workers", workers.ready)
        name = "collector_worker_replacements_total"
        yield CounterMetricFamily(name, METRICS[name].meaning, value=workers.replaced)
        name = "collector_request_duration_seconds"
        durations = _family(HistogramMetricFamily, name)
        for key, buckets, seconds in workers.requests.durations():
            bounds = [(_LAST if bound == inf else str(float(bound)), n) for bound, n in buckets]
            durations.add_metric(key, bounds, seconds)
        yield durations
        name = "collector_requests_refused_total"
        refused = _family(CounterMetricFamily, name)
        for key, times in workers.requests.refused():
            refused.add_metric(key, times)
        yield refused
        yield from _reloaded(self._reloads())
        yield _messages(self._messages())

    def _of_sinks(self, sinks: Mapping[str, SinkState]) -> Iterator[Metric]:
        """Yield the metrics of each sink."""
        named = {name: each for name, each in sinks.items() if not each.is_absent}
        self._were_absent |= dict.fromkeys(sinks.keys() - named.keys(), 0)
        gone = {name: each.backlog for name, each in sinks.items() if each.is_absent}
        absent = {name: each.batches + each.aside.batches for name, each in gone.items()}
        absent = self._were_absent | absent
        for metric, read in _OF_SINKS.items():
            family = _family(GaugeMetricFamily, metric)
            for name, sink in named.items():
                family.add_metric([name], read(sink))
            yield family
        records = _family(CounterMetricFamily, "collector_sink_records_total")
        failures = _family(CounterMetricFamily, "collector_sink_failures_total")
        for name, sink in named.items():
            for outcome in SUMS:
                records.add_metric([name, outcome], getattr(sink.backlog, outcome).records)
            for cause in CAUSES:
                failures.add_metric([name, cause], sink.delivery.causes[cause])
        blocking = _family(GaugeMetricFamily, "collector_spool_blocking")
        waiting = _family(GaugeMetricFamily, "collector_sink_absent_batches")
        for name in (*named, *absent):
            is_blocking = name in sinks and sinks[name].condition == "blocking"
            blocking.add_metric([name], is_blocking)
        for name, batches in absent.items():
            waiting.add_metric([name], batches)
        yield from (records, failures, blocking, waiting)


_OF_SINKS: dict[str, Callable[[SinkState], float]] = {
    "collector_spool_batches": lambda sink: sink.backlog.batches,
    "collector_spool_records": lambda sink: sink.backlog.records,
    "collector_spool_bytes": lambda sink: sink.backlog.bytes,
    "collector_spool_oldest_age_seconds": lambda sink: sink.backlog.oldest,
    "collector_spool_lag_seconds": lambda sink: sink.backlog.lag,
    "collector_sink_set_aside_records": lambda sink: sink.backlog.aside.records,
    "collector_sink_limit_bytes": lambda sink: sink.backlog.limit,
    "collector_sink_full_in_seconds": lambda sink: (
        inf if sink.until_full is None else sink.until_full
    ),
    "collector_sink_skipping": lambda sink: sink.backlog.is_skipping,
    "collector_sink_last_success_timestamp_seconds": lambda sink: (
        time() - monotonic() + sink.delivery.last
    ),
}
"""The gauges of each sink in the configuration."""


def expiry(times: Mapping[str, float]) -> GaugeMetricFamily:
    """Build the metric of certificates by the receivers that have one, in seconds of the epoch."""
    name = "collector_tls_certificate_expiry_timestamp_seconds"
    family = _family(GaugeMetricFamily, name)
    for receiver, at in times.items():
        family.add_metric([receiver], at)
    return family


def _messages(counts: Mapping[MessageOutcome, int]) -> CounterMetricFamily:
    name = "collector_messages_total"
    family = _family(CounterMetricFamily, name)
    for outcome in MESSAGE_OUTCOMES:
        family.add_metric([outcome], counts.get(outcome, 0))
    return family


def _gauge(name: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, METRICS[name].meaning, value=value)


def _family(family: type[_F], name: str) -> _F:
    return family(name, METRICS[name].meaning, labels=METRICS[name].labels)


def _reloaded(reloads: ReloadReading) -> Iterator[Metric]:
    name = "collector_config_reloads_total"
    outcomes = _family(CounterMetricFamily, name)
    for outcome in RELOADS:
        outcomes.add_metric([outcome], reloads.outcomes.get(outcome, 0))
    yield outcomes
    yield _gauge("collector_config_last_reload_successful", reloads.is_successful)
    yield _gauge("collector_config_last_reload_success_timestamp_seconds", reloads.last)
