"""The recorder's metrics: the table of all, and their values at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from collector.ops.metrics import MetricType, expiry
from collector.recording.recorder import RecorderState
from collector.recording.refusals import REFUSALS

METRICS: dict[str, MetricType] = {
    "collector_recorder_recordings": MetricType("gauge", "Recordings, by state.", ("state",)),
    "collector_recorder_chunks_total": MetricType("counter", "Chunks, by outcome.", ("outcome",)),
    "collector_recorder_refusals_total": MetricType("counter", "Refused requests.", ("code",)),
    "collector_recorder_accesses_total": MetricType(
        "counter", "Reads; the ledger has one entry for each token and track.", ("what",)
    ),
    "collector_recorder_errors_total": MetricType(
        "counter", "Failed writes to disk or bucket, which are repeated."
    ),
    "collector_recorder_queue_bytes": MetricType("gauge", "Sealed bytes that wait for the bucket."),
    "collector_recorder_queue_files": MetricType("gauge", "Chunks that wait for the bucket."),
    "collector_recorder_bucket_failing": MetricType("gauge", "1 while uploads to the bucket fail."),
    "collector_recorder_bucket_errors_total": MetricType(
        "counter", "Failed requests to the bucket."
    ),
}
"""Every metric; the documentation's table is checked against this one."""
LABELS: dict[str, tuple[str, ...]] = {
    "state": ("announced", "open", "paused", "closed", "erased"),
    "outcome": ("accepted", "repeated", "refused"),
    "code": tuple(REFUSALS),
    "what": ("notice", "track", "manifest"),
}
"""The values of each label."""


class RecorderMetrics(Collector):
    """Reads the state of a recorder, and the counts of refusals, at each scrape. If the recorder
    has a certificate, it expires at ``expires``, in seconds since the epoch."""

    def __init__(
        self,
        state: Callable[[], RecorderState],
        refusals: Callable[[], Mapping[str, int]],
        expires: float | None = None,
    ) -> None:
        self._state, self._refusals = state, refusals
        self._expiries = {} if expires is None else {"recorder": expires}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def __repr__(self) -> str:
        return f"<RecorderMetrics of {len(METRICS)}>"

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def describe(self) -> Iterator[Metric]:
        """Describe nothing: the registry would read the state for that."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as it is now."""
        state = self._state()
        yield _counts("collector_recorder_recordings", state.recordings)
        yield _counts("collector_recorder_chunks_total", state.chunks)
        yield _counts("collector_recorder_refusals_total", self._refusals())
        yield _counts("collector_recorder_accesses_total", state.accesses)
        yield _counts("collector_recorder_errors_total", {"": state.errors})
        yield _counts("collector_recorder_queue_bytes", {"": state.queued_bytes})
        yield _counts("collector_recorder_queue_files", {"": state.queued_files})
        yield _counts("collector_recorder_bucket_failing", {"": state.is_failing})
        yield _counts("collector_recorder_bucket_errors_total", {"": state.bucket_errors})
        yield expiry(self._expiries)


def _counts(name: str, counts: Mapping[str, int]) -> Metric:
    """Build a metric with a sample for each value of its label."""
    kind, meaning, labels = METRICS[name]
    family: CounterMetricFamily | GaugeMetricFamily
    if kind == "counter":
        family = CounterMetricFamily(name, meaning, labels=labels)
    else:
        family = GaugeMetricFamily(name, meaning, labels=labels)
    for value in LABELS[labels[0]] if labels else ("",):
        family.add_metric([value] if labels else [], counts.get(value, 0))
    return family
