"""``emit`` never waits: not for a sink that hangs, and not when the queue is full."""

from __future__ import annotations

from pathlib import Path

from collector.sdk import Collector
from tests.deadline import WAIT_SECONDS, wait_until
from tests.sdk.stores import addresses
from tests.sdk.wires import wire
from tests.sidecar.serving import started


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
