"""Closing while records are on their way: what is counted delivered is not recovered later, and
what is spooled is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from collector.drain import Drain
from collector.sdk import Collector, client
from collector.sdk.delivery import DeliveryWorker
from collector.sdk.spooled_delivery import SpooledDelivery
from collector.sinks.ndjson import NdjsonFile
from collector.spool.file import SpoolFile
from tests.sdk.accounts import adds_up, ends
from tests.sdk.stores import addresses
from tests.support.deadline import WAIT_SECONDS, wait_until

_EVENT = {"ip": "203.0.113.7"}
_LATE = 0.8
"""Seconds: longer than ``close`` waits for a delivery under way."""


class _Gate:
    """Holds calls of a method up: ``reached`` is set by the first, and all wait for ``go_on``."""

    def __init__(self) -> None:
        self.reached, self.go_on = Event(), Event()
        self.calls = 0

    def wait(self) -> None:
        self.calls += 1
        self.reached.set()
        assert self.go_on.wait(WAIT_SECONDS)


@contextmanager
def _held_up(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, *, after: bool = False
) -> Iterator[_Gate]:
    """Hold a method up before or after it does its work; let all go on at the end."""
    gate, method = _Gate(), getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if after:
            found = method(*args, **kwargs)
            gate.wait()
            return found
        gate.wait()
        return method(*args, **kwargs)

    monkeypatch.setattr(owner, name, wrapped)
    try:
        yield gate
    finally:
        gate.go_on.set()


def _later(gate: _Gate, seconds: float) -> None:
    """Let the calls at a gate go on in so many seconds."""

    def open_gate() -> None:
        Event().wait(seconds)
        gate.go_on.set()

    Thread(target=open_gate, daemon=True).start()


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Collector]:
    """Return a function that opens a collector on a file, by way of a spool unless told."""

    def open_(*, spooled: bool = True) -> Collector:
        to, spool = f"ndjson:///{tmp_path / 't.ndjson'}", tmp_path / "spool" if spooled else None
        return Collector(to=to, spool=spool, interval=0)

    return open_


def _spooled_delivery(telemetry: Collector) -> SpooledDelivery:
    assert telemetry._worker is not None
    delivery = telemetry._worker.delivery
    assert isinstance(delivery, SpooledDelivery)
    return delivery


@pytest.mark.parametrize("seconds", [0.1, _LATE])
@pytest.mark.parametrize(
    ("owner", "name", "after", "delivered"),
    [(Drain, "_hand_over", True, {1}), (NdjsonFile, "deliver", True, {0, 1})],
    ids=["noting", "sink"],
)
def test_what_was_delivered_is_not_recovered(
    monkeypatch: pytest.MonkeyPatch,
    opened: Callable[..., Collector],
    owner: type,
    name: str,
    after: bool,
    delivered: set[int],
    seconds: float,
) -> None:
    """Either the spool notes what the sink has and the account counts it, or neither does, however
    slow the sink and the noting are."""
    with _held_up(monkeypatch, owner, name, after=after) as gate:
        telemetry = opened()
        assert telemetry.emit(_EVENT)
        assert gate.reached.wait(WAIT_SECONDS)
        _later(gate, seconds)
        telemetry.close(0.01)
        gate.go_on.wait(WAIT_SECONDS)
    ends(telemetry)
    account = telemetry.tally()
    assert account.delivered in delivered
    assert account.delivered + account.spooled == 1
    with opened() as later:
        assert later.tally().recovered == account.spooled


def test_a_sink_that_closing_did_not_wait_for_is_closed(
    monkeypatch: pytest.MonkeyPatch, opened: Callable[..., Collector]
) -> None:
    """Its own thread closes it when it is done, and counts nothing any more."""
    closed, close = Event(), NdjsonFile.close

    def close_and_tell(file: NdjsonFile) -> None:
        close(file)
        closed.set()

    monkeypatch.setattr(NdjsonFile, "close", close_and_tell)
    with _held_up(monkeypatch, NdjsonFile, "deliver") as gate:
        telemetry = opened()
        assert telemetry.emit(_EVENT)
        assert gate.reached.wait(WAIT_SECONDS)
        delivery = _spooled_delivery(telemetry)
        telemetry.close(0)
        # A busy machine may leave the closing of the delivery to its own thread.
        wait_until(lambda: delivery._shared._is_stopped)
        assert not closed.is_set()
    assert closed.wait(WAIT_SECONDS)
    assert (telemetry.tally().delivered, telemetry.tally().spooled) == (0, 1)


@pytest.mark.parametrize("seconds", [0.1, _LATE])
def test_a_record_that_is_being_spooled(
    monkeypatch: pytest.MonkeyPatch, opened: Callable[..., Collector], seconds: float
) -> None:
    """It is not lost in the end if the disk is slower than ``close``: the next process has it."""
    with _held_up(monkeypatch, SpoolFile, "write") as gate:
        telemetry = opened()
        assert telemetry.emit(_EVENT)
        assert gate.reached.wait(WAIT_SECONDS)
        _later(gate, seconds)
        is_closed, lost = telemetry.close(0.01), telemetry.tally().lost
        assert is_closed is not bool(lost) or gate.go_on.is_set()
        adds_up(telemetry)
    ends(telemetry)
    account = telemetry.tally()
    assert (account.delivered + account.spooled, account.lost) == (1, {})
    adds_up(telemetry)
    with opened() as later:
        assert later.tally().recovered == account.spooled


def test_a_record_that_arrives_late(
    monkeypatch: pytest.MonkeyPatch, opened: Callable[..., Collector], tmp_path: Path
) -> None:
    with _held_up(monkeypatch, NdjsonFile, "deliver") as gate:
        telemetry = opened(spooled=False)
        assert telemetry.emit(_EVENT)
        assert gate.reached.wait(WAIT_SECONDS)
        assert not telemetry.close(0.01)
        assert telemetry.tally().lost == {"unsent": 1}
    ends(telemetry)
    assert (telemetry.tally().delivered, telemetry.tally().lost) == (1, {})
    assert len(addresses(tmp_path / "t.ndjson")) == 1


def test_the_delivery_is_closed_whoever_ends_last(
    monkeypatch: pytest.MonkeyPatch, opened: Callable[..., Collector]
) -> None:
    """The delivery thread is about to end when the time for closing is over."""
    with _held_up(monkeypatch, DeliveryWorker, "run", after=True):
        telemetry = opened()
        assert telemetry.emit(_EVENT)
        assert telemetry.flush(WAIT_SECONDS)
        assert telemetry.close(0.2)
        worker = telemetry._worker
        assert worker is not None
        wait_until(lambda: worker.delivery is None)


def test_closing_while_the_first_event_starts_the_thread(
    monkeypatch: pytest.MonkeyPatch, opened: Callable[..., Collector]
) -> None:
    """One thread delivers: closing waits for one that is starting, and none starts after it."""
    monkeypatch.setattr(client, "_START_SECONDS", WAIT_SECONDS)
    with _held_up(monkeypatch, Collector, "_new_worker") as gate:
        telemetry = opened(spooled=False)
        emitting = Thread(target=telemetry.emit, args=(_EVENT,))
        emitting.start()
        assert gate.reached.wait(WAIT_SECONDS)
        _later(gate, 0.1)
        assert telemetry.close(WAIT_SECONDS)
        emitting.join(WAIT_SECONDS)
    assert gate.calls == 1
    assert (telemetry.tally().delivered, telemetry.tally().lost) == (1, {})
