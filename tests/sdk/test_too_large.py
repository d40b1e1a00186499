"""After a refusal for its size a batch is made smaller, and every record arrives once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from collector import load_schema
from collector.contracts import Batch
from collector.sdk import Collector
from collector.sdk.queue import MOST_BODY, Backlog, RecordQueue
from collector.sdk.spooled_delivery import _halves as halves
from tests.sdk.accounts import (
    SURVEY,
    YESTERDAY,
    address,
    adds_up,
    both_ways,
    deliver_all,
    spool_of,
)
from tests.sdk.stores import rows
from tests.sdk.wires import Wire, hung, wire
from tests.support.deadline import WAIT_SECONDS, stays, wait_until
from tests.support.ledgers import check_ledger
from tests.support.programs import threads
from tests.support.sidecar import Sidecar, started

pytestmark = pytest.mark.long

_MOMENT = 0.3
"""Seconds that a record which arrives twice may be late."""


def _event(number: int, **more: Any) -> dict[str, Any]:
    device = {"type": "phone", "manufacturer": "Google", "model": {"name": "Pixel 8"}}
    system = {"type": "android", "name": "Android", "version": "14"}
    return {"ip_address": address(number), "device": device, "os": system, **more}


def _emit(telemetry: Collector, numbers: range) -> None:
    for number in numbers:
        assert telemetry.emit(_event(number))


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

    def stored(self, numbers: range | set[int], table: str = "conferencing") -> None:
        """Wait until the sidecar's store has these records; a moment later each is there once."""
        path = self.sidecar.directory / "collector-data" / "store.db"
        expected = sorted(map(address, numbers))

        def are_there() -> bool:
            return sorted(row["client.address"] for row in rows(path, table)) == expected

        wait_until(lambda: path.exists() and are_there())
        stays(are_there, _MOMENT)

    def lose_third_answer(self, telemetry: Collector) -> None:
        """Deliver until the third batch is accepted, whose response is lost; then cut the wire."""
        between = self.between
        between.text, between.loses = b" 200 ", 3
        wait_until(lambda: telemetry.flush(0.001) or between.is_cut)
        between.loses = 0


@contextmanager
def _serving(
    directory: Path, limit: str | None = "8KiB", schema: Path | str = "conferencing"
) -> Iterator[_Served]:
    """Start a sidecar that accepts bodies of so many bytes only."""
    environ = {"COLLECTOR__SCHEMA": str(schema)} | (
        {} if limit is None else {"COLLECTOR__LIMITS__WIRE": limit}
    )
    with started(directory, environ=environ) as sidecar, wire(sidecar.ports["http"]) as between:
        yield _Served(sidecar, between)


@contextmanager
def _restarted(served: _Served, limit: str | None) -> Iterator[_Served]:
    """Restart the sidecar behind the wire with another limit."""
    served.sidecar.stop()
    with _serving(served.sidecar.directory, limit) as anew:
        served.between.to = anew.sidecar.ports["http"]
        served.between.is_cut = False
        yield anew


def test_the_largest_batch_fits_the_default_limits(tmp_path: Path) -> None:
    """20,000 records are more than a body of the SDK holds, which is half of ``limits.wire``."""
    with _serving(tmp_path, None) as served:
        with Collector(to=served.to, batch=20_000, interval=3600) as telemetry:
            _emit(telemetry, range(20_000))
            assert telemetry.flush(WAIT_SECONDS)
        assert len(served.between.sent) > MOST_BODY
        assert served.refusals == 0
        served.stored(range(20_000))
    account = telemetry.tally()
    assert (account.delivered, account.lost) == (20_000, {})


def test_a_batch_of_too_many_events_is_made_smaller(tmp_path: Path) -> None:
    environ = {"COLLECTOR__LIMITS__EVENTS": "40"}
    with started(tmp_path, environ=environ) as sidecar, wire(sidecar.ports["http"]) as between:
        served = _Served(sidecar, between)
        with Collector(to=served.to, batch=500, interval=0) as telemetry:
            _emit(telemetry, range(2000))
            deliver_all(telemetry)
        assert 0 < served.refusals < 60
        served.stored(range(2000))
    assert (telemetry.tally().delivered, telemetry.tally().lost) == (2000, {})


@both_ways
def test_a_refused_batch_is_made_smaller(tmp_path: Path, with_spool: bool) -> None:
    """All of it arrives, and later batches are smaller from the start."""
    spool = spool_of(tmp_path, with_spool)
    with _serving(tmp_path) as served:
        with Collector(to=served.to, batch=500, interval=0, spool=spool) as telemetry:
            _emit(telemetry, range(3000))
            deliver_all(telemetry)
            adds_up(telemetry)
            before = served.refusals
            assert 0 < before < (120 if with_spool else 10)
            for start in range(3000, 6000, 500):
                _emit(telemetry, range(start, start + 500))
                deliver_all(telemetry)
            assert served.refusals == before
        served.stored(range(6000))
    account = telemetry.tally()
    assert (account.delivered, account.lost, account.queued) == (6000, {}, 0)
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


def test_a_single_record_that_is_too_large_is_lost_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted with its reason, with a warning; those around it arrive."""
    schema = tmp_path / "sizes.yaml"
    schema.write_text(_SIZES)
    with _serving(tmp_path, "1KiB", schema) as served:
        with Collector(schema, served.to, batch=100, interval=3600) as telemetry:
            for number in range(100):
                event = {"client.address": address(number)}
                if number in (0, 31, 99):
                    event |= {f"wide.{at}": "a" * 60 for at in range(20)}
                assert telemetry.emit(event)
            assert telemetry.flush(WAIT_SECONDS)
            adds_up(telemetry)
        account = telemetry.tally()
        assert (account.delivered, account.lost) == (97, {"refused": 3})
        assert caplog.text.count("a record alone is too large") == 1
        served.stored({*range(100)} - {0, 31, 99}, "sizes")


_SIZES = """
schema: sizes
version: 1.0.0
title: Records of different sizes
owner: tests
purposes:
  service:
    use: essential.service.operations
    basis: contract
    reason: Sizes
fields:
  client.address:
    kind: ip
    category: user.device.ip_address
    purposes: [service]
    retention: 30d
    reason: Sizes
""" + "".join(
    f"""
  wide.{at}:
    kind: enum
    values: ["{"a" * 60}"]
    category: system.operations
    purposes: [service]
    retention: 30d
    reason: Sizes
"""
    for at in range(20)
)


def test_what_arrived_is_not_sent_again_when_the_limit_is_raised(tmp_path: Path) -> None:
    """The sidecar accepts some batches, the last of them without a response; then it restarts, and
    would accept all together."""
    with _serving(tmp_path) as served:
        telemetry = Collector(to=served.to, batch=400, interval=3600, timeout=1)
        _emit(telemetry, range(400))
        served.lose_third_answer(telemetry)
        assert telemetry.tally().delivered < 400
        with _restarted(served, None) as anew:
            deliver_all(telemetry)
            adds_up(telemetry)
            assert telemetry.close(WAIT_SECONDS)
            anew.stored(range(400))
    assert telemetry.tally().delivered == 400


@both_ways
def test_the_limit_is_lowered(tmp_path: Path, with_spool: bool) -> None:
    """Batches of the right size are made smaller again."""
    spool = spool_of(tmp_path, with_spool)
    with (
        _serving(tmp_path) as served,
        Collector(to=served.to, batch=200, interval=0, spool=spool) as telemetry,
    ):
        _emit(telemetry, range(200))
        deliver_all(telemetry)
        served.between.is_cut = True
        _emit(telemetry, range(200, 400))
        with _restarted(served, "1KiB") as anew:
            deliver_all(telemetry)
            anew.stored(range(400))
        assert (telemetry.tally().delivered, telemetry.tally().lost) == (400, {})


def test_consent_is_withdrawn_between_two_batches(tmp_path: Path) -> None:
    """A redaction moves no record to another batch: each of the others arrives once, though some
    had arrived before without a response."""
    schema = tmp_path / "survey.yaml"
    schema.write_text(SURVEY)
    with _serving(tmp_path, "2KiB", schema) as served:
        telemetry = Collector(schema, served.to, batch=400, interval=3600, timeout=1)
        for number in range(400):
            assert telemetry.emit({"client.address": address(number)})
        served.lose_third_answer(telemetry)
        gone = set(range(0, 400, 7))
        for number in gone:
            telemetry.withdraw("client.address", address(number), since=YESTERDAY)
            adds_up(telemetry)
        served.between.is_cut = False
        deliver_all(telemetry)
        assert telemetry.close(WAIT_SECONDS)
        adds_up(telemetry)
        account = telemetry.tally()
        assert account.delivered + account.lost["withdrawn"] == 400
        path = served.sidecar.directory / "collector-data" / "store.db"
        expected = {address(n) for n in range(400) if n not in gone}
        wait_until(lambda: expected <= {row["client.address"] for row in rows(path, "survey")})
        found = [row["client.address"] for row in rows(path, "survey")]
        assert len(found) == len(set(found))


def test_the_queue_keeps_its_bound_after_a_refusal(tmp_path: Path) -> None:
    """What was put back counts as queued, and ``close`` counts unsent ones as lost."""
    with _serving(tmp_path) as served:
        telemetry = Collector(to=served.to, queue=200, batch=200, interval=3600)
        served.between.text, served.between.loses = b" 200 ", 1
        _emit(telemetry, range(200))
        wait_until(lambda: telemetry.flush(0.001) or served.between.is_cut)
        assert served.refusals
        wait_until(lambda: telemetry.tally().failing or telemetry.flush(0.01))
        queued = telemetry.tally().queued
        assert 0 < queued <= 200
        for number in range(300):
            telemetry.emit(_event(number))
        assert telemetry.tally().queued == 200
        adds_up(telemetry)
        assert not telemetry.close(0.2)
    account = telemetry.tally()
    assert account.lost["unsent"] == 200
    assert account.queued == 0
    adds_up(telemetry)


def test_a_batch_stays_whole_without_a_response(tmp_path: Path) -> None:
    """A missing response is not a refusal."""
    with hung() as port:
        telemetry = Collector(to=f"http://127.0.0.1:{port}", batch=100, interval=0, timeout=0.2)
        _emit(telemetry, range(100))
        wait_until(lambda: telemetry.tally().failures >= 2)
        telemetry.close(0)
    assert telemetry.tally().lost == {"unsent": 100}


def test_threads_emit_while_batches_are_made_smaller(tmp_path: Path) -> None:
    """The account adds up at every moment."""
    with (
        _serving(tmp_path) as served,
        Collector(to=served.to, batch=300, interval=0) as telemetry,
    ):
        ranges = [range(start, start + 1000) for start in (0, 1000, 2000)]
        with threads(*(partial(_emit, telemetry, numbers) for numbers in ranges)) as emitting:
            while any(thread.is_alive() for thread in emitting):
                adds_up(telemetry)
        deliver_all(telemetry)
        assert telemetry.tally().delivered == 3000
        served.stored(range(3000))


# -- the cap, and halves ---------------------------------------------------------------------------


def _queue(*lines: bytes) -> RecordQueue:
    queue = RecordQueue(100, 100, 0, oldest=False)
    queue._backlog.lines.extend(("2026-11-24T10:20:00Z", None, line) for line in lines)
    queue.is_urgent = True
    return queue


def test_batches_are_capped_by_bytes() -> None:
    """A single line may be longer."""
    queue = _queue(*[b"x" * (MOST_BODY // 3 - 50)] * 4, b"y" * (MOST_BODY + 1), b"z")
    sizes = []
    while (batch := queue.take()) is not None and batch.lines:
        sizes.append(len(batch.lines))
        queue.acknowledge(len(batch.lines))
        queue.is_urgent = True
        if sum(sizes) == 6:
            break
    assert sizes == [3, 1, 1, 1]


def test_what_is_put_back_goes_first_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """In its order, under other ids; an hour later batches are as large as before."""
    queue = _queue(*(b"%d\n" % number for number in range(8)))
    ids, taken = set[bytes](), []
    whole = queue.take()
    assert whole is not None
    queue.put_back()
    while (batch := queue.take()) is not None and batch.lines:
        ids.add(batch.id)
        taken.append([int(line) for line in batch.lines])
        queue.acknowledge(len(batch.lines))
        if len(taken) == 2:
            break
    assert taken == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(ids | {whole.id}) == 3
    queue._capped_until = 0.0
    queue._backlog.lines.extend(("", None, b"%d\n" % number) for number in range(8))
    batch = queue.take()
    assert batch is not None
    assert len(batch.lines) == 8


def test_a_backlog_that_puts_back_knows_what_has_left() -> None:
    """``flush`` waits for what is put back."""
    backlog = Backlog()
    for number in range(4):
        backlog.lines.append(("", None, b"%d\n" % number))
        backlog.entered += 1
    backlog.take(2, MOST_BODY)
    assert not backlog.is_past(1)
    backlog.put_back()
    assert (len(backlog), backlog.is_past(1)) == (4, False)
    backlog.take(4, MOST_BODY)
    backlog.remove_in_flight()
    assert backlog.is_past(4)


def test_halves_of_a_batch() -> None:
    """They are its records, and have the same ids each time; no two share one, not even where they
    have the same records; one from which a record was erased has another."""
    whole = Batch(b"w" * 16, "2026-11-24T10:20:00Z", layout=_LAYOUT, payload=_LINE * 5)
    first, second = halves(whole)
    assert (first.payload, second.payload) == (_LINE * 2, _LINE * 3)
    assert (len(first.records), len(second.records)) == (2, 3)
    assert [each.id for each in halves(whole)] == [first.id, second.id]
    same = [*halves(replace(whole, payload=_LINE * 4))]
    assert len({whole.id, *(each.id for each in (first, second, *same))}) == 4
    assert same[0].id == first.id, "it has the same records at the same place"
    assert {len(each.id) for each in same} == {16}


_LAYOUT = load_schema("conferencing").layout
_LINE = b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.7"}\n'
