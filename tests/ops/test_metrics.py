"""Metrics: closed series, counted right, and to the liking of Prometheus' own checker."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic, time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from collector.contracts import (
    CATEGORIES,
    DROPS,
    REJECTIONS,
    SUMS,
    Backlog,
    DeliveryState,
    Depth,
    SpoolState,
    Tally,
)
from collector.errors import CAUSES, Cause
from collector.ops.metrics import METRICS, Metrics, WorkerReading
from collector.ops.requests import RECEIVERS, REFUSAL_CODES, REFUSING, STATUSES
from collector.ops.sink_state import Growth, SinkState, sink_states
from collector.schema import load_schema
from tests.conftest import required
from tests.support.rows import for_each

_ROOT = Path(__file__).parent.parent.parent
_LAYOUT = load_schema("conferencing").layout
_NAMED = ("schema", "conferencing")
_FIELDS = [name for name, _ in _LAYOUT.columns]
_WORKERS = WorkerReading(2, 1)
_SUMS: dict[str, Any] = {each: Depth(1, at, 5) for at, each in enumerate(SUMS)}
_STORE = Backlog(3, 40, 5000, 2.5, 0.5, 9000, is_skipping=True, aside=Depth(1, 8, 9), **_SUMS)
_SPOOL = SpoolState(
    *(True, 4, 50, 6000, 1 << 30, 2.5, 6, 1),
    backlogs={"store": _STORE},
    absent={"lake": Backlog(4, 9, 900)},
)


def _states(spool: SpoolState, **deliveries: DeliveryState) -> Mapping[str, SinkState]:
    return sink_states(spool, deliveries, Growth())


def _metrics() -> Metrics:
    last = monotonic() - 100
    state = DeliveryState(7, Counter[Cause]({"denied": 2}), last=last)
    metrics = Metrics([_LAYOUT], lambda: _SPOOL, lambda: _states(_SPOOL, store=state))
    metrics.workers = lambda: _WORKERS
    metrics.expiries = lambda: {"http": 1_800_000_000.0}
    return metrics


def test_what_waits_for_absent_sinks() -> None:
    """A series of a sink stays, at zero, once nothing waits for it any more."""
    absent = {"lake": Backlog(4, 9, _SPOOL.bytes)}
    spool = replace(_SPOOL, is_full=True, absent=absent)
    metrics = Metrics([_LAYOUT], lambda: spool, lambda: _states(spool))
    batches, blocking = (
        (f"collector_{name}", (("sink", "lake"),))
        for name in ("sink_absent_batches", "spool_blocking")
    )
    found = _samples(metrics)
    assert (found[batches], found[blocking]) == (4, 1)
    absent.clear()
    found = _samples(metrics)
    assert (found[batches], found[blocking]) == (0, 0)


def _samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def _ours(metrics: Metrics) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    return [key for key in _samples(metrics) if key[0].startswith("collector_")]


def test_what_is_counted() -> None:
    """Every count of a tally is found under its name and labels."""
    metrics = _metrics()
    tally = Tally(10, 7, Counter({"malformed": 2, "too_deep": 1}), bytes_in=100, bytes_out=30)
    tally.dropped = {"os.type": Counter({"invalid_value": 4})}
    tally.content = Counter({"chat": 5})
    metrics.observe("conferencing", tally)
    metrics.observe("conferencing", tally)
    _WORKERS.requests.observe("http", 200, 0.004)
    _WORKERS.requests.observe("grpc", 503, 0.2, "E506")
    _WORKERS.requests.observe("admin", 404, 0.2, "E413")
    found = _samples(metrics)
    assert found["collector_events_total", (("outcome", "admitted"), _NAMED)] == 14
    assert found["collector_events_total", (("outcome", "rejected"), _NAMED)] == 6
    assert found["collector_events_rejected_total", (("reason", "malformed"), _NAMED)] == 4
    dropped = (("field", "os.type"), ("reason", "invalid_value"), _NAMED)
    assert found["collector_fields_dropped_total", dropped] == 8
    assert found["collector_content_total", (("category", "chat"), _NAMED)] == 10
    assert found["collector_received_bytes_total", (_NAMED,)] == 200
    assert found["collector_admitted_bytes_total", (_NAMED,)] == 60
    name = "collector_request_duration_seconds_count"
    assert found["collector_workers", ()] == 2
    assert found["collector_worker_replacements_total", ()] == 1
    assert found[name, (("receiver", "http"), ("status", "2xx"))] == 1
    assert found[name, (("receiver", "grpc"), ("status", "5xx"))] == 1
    refused = {
        labels: times
        for (name, labels), times in found.items()
        if name == "collector_requests_refused_total" and times
    }
    assert refused == {
        (("code", "E413"), ("receiver", "admin")): 1,
        (("code", "E506"), ("receiver", "grpc")): 1,
    }


def test_what_is_asked_at_each_scrape() -> None:
    """The spool and the sinks, as they are."""
    began = time()
    found = _samples(_metrics())
    store = (("sink", "store"),)
    assert found["collector_spool_batches", store] == 3
    assert found["collector_spool_records", store] == 40
    assert found["collector_spool_bytes", store] == 5000
    assert found["collector_spool_oldest_age_seconds", store] == 2.5
    assert found["collector_spool_lag_seconds", store] == 0.5
    assert found["collector_spool_blocking", store] == 0
    assert found["collector_spool_used_bytes", ()] == 6000
    assert found["collector_spool_limit_bytes", ()] == 1 << 30
    assert found["collector_spool_writable", ()] == 1
    assert found["collector_spool_errors_total", ()] == 6
    assert found["collector_spool_damaged_files", ()] == 1
    assert found["collector_sink_set_aside_records", store] == 8
    assert found["collector_sink_limit_bytes", store] == 9000
    assert found["collector_sink_full_in_seconds", store] == 0
    assert found["collector_sink_skipping", store] == 1
    for at, outcome in enumerate(SUMS):
        name = "collector_sink_records_total"
        assert found[name, (("outcome", outcome), *store)] == at
    assert found["collector_sink_failures_total", (("cause", "denied"), *store)] == 2
    assert found["collector_sink_failures_total", (("cause", "busy"), *store)] == 0
    last = found["collector_sink_last_success_timestamp_seconds", store]
    assert began - 102 < last < time() - 98


@for_each("state", [{"is_ready": False}, {"is_full": True}])
def test_a_spool_that_takes_nothing(state: dict[str, bool]) -> None:
    """It is not writable, whether its disk is full or it is."""
    spool = replace(_SPOOL, **state)  # type: ignore[arg-type]
    late = DeliveryState(failing=True)
    metrics = Metrics([_LAYOUT], lambda: spool, lambda: _states(spool, store=late))
    found, is_full = _samples(metrics), state.get("is_full", False)
    assert found["collector_spool_writable", ()] == 0
    assert found["collector_spool_blocking", (("sink", "store"),)] == is_full


def test_every_series_is_there_from_the_start() -> None:
    """All combinations of the closed lists, at zero."""
    metrics = _metrics()
    number = Counter(name for name, _ in _ours(metrics))
    assert number["collector_events_total"] == 2
    assert number["collector_events_rejected_total"] == len(REJECTIONS)
    assert number["collector_content_total"] == len(CATEGORIES)
    assert number["collector_fields_dropped_total"] == len(_FIELDS) * len(DROPS)
    pairs = len(RECEIVERS) * len(STATUSES)
    assert number["collector_request_duration_seconds_count"] == pairs
    assert number["collector_requests_refused_total"] == len(REFUSING) * len(REFUSAL_CODES)
    assert number["collector_sink_failures_total"] == len(CAUSES)
    assert number["collector_build_info"] == 1


_TALLIES = st.builds(
    Tally,
    received=st.just(1 << 20),
    admitted=st.integers(0, 1 << 20),
    rejected=st.dictionaries(st.sampled_from(REJECTIONS), st.integers(0, 99)).map(Counter),
    dropped=st.dictionaries(
        st.sampled_from(_FIELDS),
        st.dictionaries(st.sampled_from(DROPS), st.integers(0, 99)).map(Counter),
    ),
    content=st.dictionaries(st.sampled_from(CATEGORIES), st.integers(0, 99)).map(Counter),
    bytes_in=st.integers(0, 1 << 40),
    bytes_out=st.integers(0, 1 << 40),
)
_REQUESTS = st.tuples(
    st.sampled_from(REFUSING),
    st.integers(0, 999),
    st.floats(0, 1e6),
    st.sampled_from([None, *REFUSAL_CODES]),
)
_SHARED = _metrics()
_BEFORE = _ours(_SHARED)


@given(st.lists(_TALLIES, max_size=5), st.lists(_REQUESTS, max_size=5))
def test_no_traffic_adds_a_series(
    tallies: list[Tally], requests: list[tuple[str, int, float, str | None]]
) -> None:
    """The series stay the same, in the same order, for any input."""
    for tally in tallies:
        _SHARED.observe("conferencing", tally)
    for request in requests:
        _WORKERS.requests.observe(*request)
    assert _ours(_SHARED) == _BEFORE


def test_the_table_is_true() -> None:
    """Every metric of the table is shown, with its type and labels, and no other of ours."""
    shown = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(_metrics().text().decode())
        if family.name.startswith("collector_")
    }
    assert set(shown) == set(METRICS)
    for name, described in METRICS.items():
        assert (shown[name].type, shown[name].documentation) == (described.type, described.meaning)
        labels = {label for sample in shown[name].samples for label in sample.labels} - {"le"}
        assert labels == set(described.labels)


def test_promtool_likes_them() -> None:
    """Names, types, units and help texts are as Prometheus wants them."""
    if shutil.which("promtool") is None:
        required("promtool (Debian: apt install prometheus)")
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=_metrics().text(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
