"""Threads for calls: calls of slow senders are cancelled for others, and no other call is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from collector.ingest.grpc import CallPool, PendingCall
from tests.support.deadline import WAIT_SECONDS, stays, wait_until
from tests.support.latency import at_most


class _Call:
    """A call whose message comes when the test says so, or never."""

    def __init__(self) -> None:
        self.came = threading.Event()
        self.cancelled = False
        self.pending: PendingCall | None = None

    def cancel(self) -> bool:
        self.cancelled = True
        self.came.set()
        return True

    def run(self, pool: CallPool) -> bool:
        """Whether the message came."""
        with pool.pending(self) as pending:
            self.pending = pending
            self.came.wait(WAIT_SECONDS)
        return not pending.is_cancelled


@pytest.fixture
def pool() -> Iterator[CallPool]:
    """Four threads, and a minute for a message."""
    pool = CallPool(4, WAIT_SECONDS)
    yield pool
    pool.close()


@pytest.mark.timed
def test_messages_have_a_deadline() -> None:
    """A message that is late cancels its call, though no other call waits."""
    pool = CallPool(4, 0.2)
    late = _Call()
    began = time.monotonic()
    assert not pool.submit(late.run, pool).result(WAIT_SECONDS)
    assert 0.2 <= time.monotonic() - began < at_most(2)
    pool.close()


def test_slow_senders_are_left_alone_while_no_call_queues(pool: CallPool) -> None:
    """All threads may be theirs then."""
    calls = [_Call() for _ in range(4)]
    futures = [pool.submit(call.run, pool) for call in calls]
    stays(lambda: not any(call.cancelled for call in calls), 0.4)
    for call in calls:
        call.came.set()
    assert all(future.result(WAIT_SECONDS) for future in futures)


def test_slow_calls_are_cancelled_while_others_queue(pool: CallPool) -> None:
    """The longest wait first, until half of the threads are free; then no more."""
    slow = [_Call() for _ in range(4)]
    for call in slow:
        pool.submit(call.run, pool)
        wait_until(lambda call=call: call.pending is not None)  # type: ignore[misc]
    ready = [pool.submit(time.sleep, 0.05) for _ in range(20)]
    for future in ready:
        future.result(WAIT_SECONDS)
    assert [call.cancelled for call in slow] == [True, True, False, False]
    assert pool.queued == 0
    for call in slow:
        call.came.set()


@pytest.mark.timed
def test_many_slow_senders_are_cancelled_soon() -> None:
    """A thousand that never send hold up one that does for some seconds at most."""
    pool = CallPool(16, WAIT_SECONDS)
    slow = [_Call() for _ in range(1000)]
    for call in slow:
        pool.submit(call.run, pool)
    began = time.monotonic()
    pool.submit(lambda: None).result(WAIT_SECONDS)
    assert time.monotonic() - began < at_most(2)
    for call in slow:
        call.came.set()
    pool.close()


def test_work_does_not_count_as_waiting(pool: CallPool) -> None:
    """Calls whose message has come are never cancelled, however many wait for their threads."""
    calls = [_Call() for _ in range(4)]
    release = threading.Event()

    def work(call: _Call) -> bool:
        call.came.set()
        kept = call.run(pool)
        release.wait(WAIT_SECONDS)
        return kept

    futures = [pool.submit(work, call) for call in calls]
    others = [pool.submit(lambda: None) for _ in range(100)]
    wait_until(lambda: pool.queued == 100)
    stays(lambda: not any(call.cancelled for call in calls), 0.3)
    release.set()
    assert all(future.result(WAIT_SECONDS) for future in futures)
    for other in others:
        other.result(WAIT_SECONDS)


def test_failures_give_their_threads_back(pool: CallPool) -> None:
    """The count of calls is right after exceptions, and after the end."""

    def fail() -> None:
        raise ValueError

    for future in [pool.submit(fail) for _ in range(50)]:
        with pytest.raises(ValueError, match=r"^$"):
            future.result(WAIT_SECONDS)
    wait_until(lambda: pool.calls == 0)
    pool.close()
    with pytest.raises(RuntimeError):
        pool.submit(fail)
    assert pool.calls == 0
