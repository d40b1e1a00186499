"""Batches fit what a sidecar takes; one that a lower limit refuses is lost, and that is said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from collector.sdk import Collector
from collector.sdk.queue import MOST_BODY, RecordQueue
from tests.deadline import WAIT_SECONDS, stays, wait_until
from tests.ledgers import check_ledger
from tests.sdk.accounts import address, adds_up, both_ways, deliver_all, spool_of
from tests.sdk.stores import rows
from tests.sdk.wires import Wire, hung, wire
from tests.sidecar.serving import Sidecar, started

pytestmark = pytest.mark.long

_MOMENT = 0.3
"""Seconds that a record which arrives twice may be late."""


def _emit(telemetry: Collector, numbers: range) -> None:
    device = {"type": "phone", "manufacturer": "Google", "model": {"name": "Pixel 8"}}
    system = {"type": "android", "name": "Android", "version": "14"}
    for number in numbers:
        event: dict[str, Any] = {"ip": address(number), "device": device, "os": system}
        assert telemetry.emit(event)


class _Served(NamedTuple):
    """A sidecar, and a wire to it."""

    sidecar: Sidecar
    between: Wire

    @property
    def to(self) -> str:
        return f"http://127.0.0.1:{self.between.port}"

    @property
    def refusals(self) -> int:
        return bytes(self.between.answered).count(b" 413 ")

    def stored(self, numbers: range) -> None:
        """Wait until the sidecar's store has these records; a moment later each is there once."""
        path = self.sidecar.directory / "collector-data" / "store.db"
        expected = sorted(map(address, numbers))

        def are_there() -> bool:
            return sorted(row["client.address"] for row in rows(path)) == expected

        wait_until(lambda: path.exists() and are_there())
        stays(are_there, _MOMENT)


@contextmanager
def _serving(directory: Path, limit: str | None = None) -> Iterator[_Served]:
    """Start a sidecar that accepts bodies of so many bytes only."""
    environ = {} if limit is None else {"COLLECTOR__LIMITS__WIRE": limit}
    with started(directory, environ=environ) as sidecar, wire(sidecar.ports["http"]) as between:
        yield _Served(sidecar, between)


def test_the_largest_batch_fits_the_default_limits(tmp_path: Path) -> None:
    """20,000 records are more than a body of the SDK holds, which is an eighth of what is taken."""
    with _serving(tmp_path) as served:
        with Collector(to=served.to, batch=20_000, interval=3600) as telemetry:
            _emit(telemetry, range(20_000))
            assert telemetry.flush(WAIT_SECONDS)
        assert len(served.between.sent) > MOST_BODY
        assert served.refusals == 0
        served.stored(range(20_000))
    account = telemetry.tally()
    assert (account.delivered, account.lost) == (20_000, {})


@both_ways
def test_a_refused_batch_is_lost_alone(
    tmp_path: Path, with_spool: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted with its reason, and said once; smaller ones before and after it arrive."""
    spool = spool_of(tmp_path, with_spool)
    with _serving(tmp_path, "8KiB") as served:
        with Collector(to=served.to, batch=500, interval=3600, spool=spool) as telemetry:
            for numbers in (range(10), range(1000, 1500), range(2000, 2500), range(10, 20)):
                _emit(telemetry, numbers)
                deliver_all(telemetry)
                adds_up(telemetry)
        assert served.refusals == 2
        served.stored(range(20))
    account = telemetry.tally()
    assert (account.delivered, account.lost) == (20, {"refused": 1000})
    assert caplog.text.count("set `batch` lower") == 1
    if with_spool:
        check_ledger(tmp_path / "spool" / "0" / "spool.db")


@both_ways
def test_lost_answers_double_nothing(tmp_path: Path, with_spool: bool) -> None:
    """The sidecar has committed, and the connection is cut: each is retried under its key."""
    spool = spool_of(tmp_path, with_spool)
    with _serving(tmp_path) as served:
        with Collector(to=served.to, batch=300, interval=3600, spool=spool, timeout=5) as telemetry:
            _emit(telemetry, range(300))
            for _ in range(4):
                served.between.swallow += 1
                telemetry.flush(0.1)
                adds_up(telemetry)
            deliver_all(telemetry)
        served.stored(range(300))
    assert telemetry.tally().delivered == 300


def test_no_response_is_no_refusal(tmp_path: Path) -> None:
    """The batch is sent again until the end."""
    with hung() as port:
        telemetry = Collector(to=f"http://127.0.0.1:{port}", batch=100, interval=0, timeout=0.2)
        _emit(telemetry, range(100))
        wait_until(lambda: telemetry.tally().failures >= 2)
        telemetry.close(0)
    assert telemetry.tally().lost == {"unsent": 100}


def test_batches_are_capped_by_bytes() -> None:
    """A single line may be longer."""
    lines = [*[b"x" * (MOST_BODY // 3 - 50)] * 4, b"y" * (MOST_BODY + 1), b"z"]
    queue = RecordQueue(100, 100, 0, oldest=False)
    queue._backlog.lines.extend(("2026-11-24T10:20:00Z", None, line) for line in lines)
    sizes: list[int] = []
    while sum(sizes) < len(lines):
        queue.is_urgent = True
        batch = queue.take()
        assert batch is not None
        sizes.append(len(batch.lines))
        queue.acknowledge(len(batch.lines))
    assert sizes == [3, 1, 1, 1]
