"""Threads for calls: slow senders make way for others, and nobody else is cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from collector.ingest.seats import Seat, Seats


class _Call:
    """A call whose message comes when somebody says so, or never."""

    def __init__(self) -> None:
        self.came = threading.Event()
        self.cancelled = False
        self.seat: Seat | None = None

    def cancel(self) -> bool:
        self.cancelled = True
        self.came.set()
        return True

    def run(self, seats: Seats) -> bool:
        """Whether the message came."""
        with seats.waiting(self) as seat:
            self.seat = seat
            self.came.wait(30)
        return not seat.lost


def _eventually(what: Callable[[], bool], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.fixture
def seats() -> Iterator[Seats]:
    """Four threads, and half a minute for a message."""
    seats = Seats(4, 30)
    yield seats
    seats.close()


def test_messages_have_a_deadline() -> None:
    """Whoever does not send in time is cancelled, though nobody else waits."""
    seats = Seats(4, 0.2)
    late = _Call()
    began = time.monotonic()
    assert not seats.submit(late.run, seats).result(10)
    assert 0.2 <= time.monotonic() - began < 2
    seats.close()


def test_slow_senders_are_left_alone_while_nobody_waits(seats: Seats) -> None:
    """All threads may be theirs then."""
    calls = [_Call() for _ in range(4)]
    futures = [seats.submit(call.run, seats) for call in calls]
    time.sleep(0.4)
    assert not any(call.cancelled for call in calls)
    for call in calls:
        call.came.set()
    assert all(future.result(10) for future in futures)


def test_slow_senders_make_way_when_others_wait(seats: Seats) -> None:
    """The longest wait first, until half of the threads are free; then nobody more."""
    slow = [_Call() for _ in range(4)]
    for call in slow:
        seats.submit(call.run, seats)
        _eventually(lambda call=call: call.seat is not None)  # type: ignore[misc]
    ready = [seats.submit(time.sleep, 0.05) for _ in range(20)]
    for future in ready:
        future.result(10)
    assert [call.cancelled for call in slow] == [True, True, False, False]
    assert seats.queued == 0
    for call in slow:
        call.came.set()


def test_a_crowd_of_slow_senders_is_gone_soon() -> None:
    """A thousand that never send hold up one that does for less than two seconds."""
    seats = Seats(16, 30)
    slow = [_Call() for _ in range(1000)]
    for call in slow:
        seats.submit(call.run, seats)
    began = time.monotonic()
    seats.submit(lambda: None).result(30)
    assert time.monotonic() - began < 2
    for call in slow:
        call.came.set()
    seats.close()


def test_work_does_not_count_as_waiting(seats: Seats) -> None:
    """Calls whose message has come are never cancelled, however many wait for their threads."""
    calls = [_Call() for _ in range(4)]
    release = threading.Event()

    def work(call: _Call) -> bool:
        call.came.set()
        kept = call.run(seats)
        release.wait(30)
        return kept

    futures = [seats.submit(work, call) for call in calls]
    others = [seats.submit(lambda: None) for _ in range(100)]
    _eventually(lambda: seats.queued == 100)
    time.sleep(0.3)
    assert not any(call.cancelled for call in calls)
    release.set()
    assert all(future.result(10) for future in futures)
    for other in others:
        other.result(10)


def test_failures_give_their_threads_back(seats: Seats) -> None:
    """The count of calls is right after exceptions, and after the end."""

    def fail() -> None:
        raise ValueError

    for future in [seats.submit(fail) for _ in range(50)]:
        with pytest.raises(ValueError, match=r"^$"):
            future.result(10)
    _eventually(lambda: seats._calls == 0)
    seats.close()
    with pytest.raises(RuntimeError):
        seats.submit(fail)
    assert seats._calls == 0
