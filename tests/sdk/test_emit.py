"""``emit`` never waits: not for a sink that hangs, and not when the queue is full."""

from __future__ import annotations

import gc
import json
import time
from pathlib import Path
from statistics import quantiles

import pytest

from benchmarks.data import lines
from collector.sdk import Collector
from tests.deadline import WAIT_SECONDS, wait_until
from tests.latency import at_most
from tests.sdk.program import run_module
from tests.sdk.stores import addresses
from tests.sdk.wires import hung, wire
from tests.sidecar.serving import started

_RATE = 10_000
_SECONDS = 1.5
_MOST = 50e-6


@pytest.mark.timed
@pytest.mark.alone
def test_a_hung_sink_delays_no_call() -> None:
    """At 10,000 medium events per second, 99 % of calls take less than 50 microseconds on an idle
    machine; in a process without coverage, which takes longer."""
    done = run_module("tests.sdk.test_emit")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < at_most(_MOST)


def _best() -> float:
    """Return the 99th percentile of the best of three attempts, on a machine that does other things
    too; the queue is bounded, and drops are counted."""
    events = [json.loads(line) for line in lines("medium", 500)]
    best = 1.0
    with hung() as port:
        for _ in range(3):
            with Collector(to=f"http://127.0.0.1:{port}", queue=5_000, exit_timeout=0) as telemetry:
                telemetry.emit(events[0])
                times = _paced(telemetry, events)
            account = telemetry.tally()
            assert account.admitted == len(times) + 1
            assert account.lost["queue_full"] == account.admitted - 5_000
            assert account.lost["unsent"] == 5_000
            best = min(best, quantiles(times, n=100)[-1])
            if best < _MOST:
                break
    return best


def _paced(telemetry: Collector, events: list[dict[str, object]]) -> list[float]:
    """Emit at a fixed rate, and return how long each call took."""
    times, number = [], int(_RATE * _SECONDS)
    clock = time.perf_counter
    gc.collect()
    began = clock()
    for at in range(number):
        while clock() < began + at / _RATE:
            pass
        event = events[at % len(events)]
        before = clock()
        telemetry.emit(event)
        times.append(clock() - before)
    return times


def test_the_queue_is_bounded_and_delivered_later(tmp_path: Path) -> None:
    """While the sink is away, the queue fills up and drops are counted; afterwards the rest
    arrives."""
    with started(tmp_path) as sidecar, wire(sidecar.ports["http"]) as between:
        between.is_cut = True
        with Collector(to=f"http://127.0.0.1:{between.port}", queue=50) as telemetry:
            kept = [telemetry.emit({"ip": f"10.0.0.{number}"}) for number in range(80)]
            assert kept == [True] * 50 + [False] * 30
            assert telemetry.tally().lost == {"queue_full": 30}
            assert telemetry.tally().queued == 50
            between.is_cut = False
            assert telemetry.flush(WAIT_SECONDS)
            assert telemetry.emit({"ip": "10.0.0.99"})
            assert telemetry.flush(WAIT_SECONDS)
        assert telemetry.tally().delivered == 51
        store = tmp_path / "collector-data" / "store.db"
        wait_until(lambda: len(addresses(store)) == 51)
        assert sidecar.stop()[0] == 0
    assert len(addresses(store)) == 51


def test_the_oldest_are_dropped_instead(tmp_path: Path) -> None:
    """With ``when_full="oldest"`` the newest are delivered."""
    path = tmp_path / "t.ndjson"
    with Collector(
        to=f"ndjson:///{path}", queue=10, when_full="oldest", interval=3600, batch=1000
    ) as telemetry:
        for number in range(100):
            assert telemetry.emit({"ip": f"10.0.0.{number}"})
        assert telemetry.tally().lost == {"queue_full": 90}
    assert addresses(path) == sorted(f"10.0.0.{number}" for number in range(90, 100))


if __name__ == "__main__":
    print(_best())
