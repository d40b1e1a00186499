"""The threads of gRPC calls.

Slow senders can hold only half of the threads while others wait. A call takes a thread before its
message has arrived, and keeps it until it ends. So a message has a deadline; and while calls queue
for threads, those that have waited longest for their message are cancelled, the sooner the longer
the queue, until half of the threads are free of them. The message of an honest sender comes with
its call, and is not affected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Lock, Thread
from time import monotonic
from typing import ParamSpec, Protocol, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
_CHECK_SECONDS = 0.5
_QUEUE_WAIT_SECONDS = 1.0
"""How long a call may wait for its message while one other call queues; a tenth while ten do;"""
_LEAST_WAIT_SECONDS = 0.01
"""but at least so long: a message that is there takes some milliseconds through a busy process."""


class Call(Protocol):
    """A call that can be cancelled."""

    def cancel(self) -> object:
        """End the call; its sender may try again."""


class PendingCall:
    """A call that waits for its message on a thread."""

    __slots__ = ("call", "is_cancelled", "since")

    def __init__(self, call: Call) -> None:
        self.call: Call = call
        self.since: float = monotonic()
        self.is_cancelled: bool = False


class CallPool(ThreadPoolExecutor):
    """A pool of ``count`` threads. Messages have ``seconds`` to arrive."""

    def __init__(self, count: int, seconds: float) -> None:
        super().__init__(count, thread_name_prefix="grpc")
        self.count: int = count
        self._seconds = seconds
        self._lock = Lock()
        self.calls: int = 0
        """How many calls run or wait for a thread."""
        self._pending: dict[int, PendingCall] = {}
        self._is_closed = False
        self._wake = Event()
        Thread(target=self._monitor, name="grpc-monitor", daemon=True).start()

    @property
    def queued(self) -> int:
        """The number of calls that wait for a thread."""
        return max(0, self.calls - self.count)

    def submit(
        self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Future[_T]:
        """Submit a call as to any pool; it counts until it is done."""
        with self._lock:
            self.calls += 1
        try:
            future = super().submit(function, *args, **kwargs)
        except RuntimeError:
            self._decrement()
            raise
        future.add_done_callback(self._decrement)
        self._wake_if_short()
        return future

    @contextmanager
    def pending(self, call: Call) -> Iterator[PendingCall]:
        """Let the call be cancelled while it waits for its message.

        A call that is not cancelled when this ends is not cancelled later.
        """
        pending = PendingCall(call)
        with self._lock:
            self._pending[id(pending)] = pending
        self._wake_if_short()
        try:
            yield pending
        finally:
            with self._lock:
                self._pending.pop(id(pending), None)

    def close(self) -> None:
        """Take no more calls; calls in progress end."""
        self._is_closed = True
        self._wake.set()
        self.shutdown(wait=False, cancel_futures=True)

    def _is_short(self) -> bool:
        """Tell whether calls queue while more than half of the threads wait for messages."""
        return self.queued > 0 and len(self._pending) > self.count // 2

    def _wake_if_short(self) -> None:
        if self._is_short():
            self._wake.set()

    def _decrement(self, _: object = None) -> None:
        with self._lock:
            self.calls -= 1

    def _monitor(self) -> None:
        wait = _CHECK_SECONDS
        while not self._is_closed:
            self._wake.wait(wait)
            self._wake.clear()
            wait = self._cancel_overdue()

    def _cancel_overdue(self) -> float:
        """Cancel overdue calls, the oldest first; returns seconds to the next check."""
        with self._lock:
            now = monotonic()
            for key, pending in [*self._pending.items()]:
                allowed = self._seconds
                if self._is_short():
                    queued = max(_LEAST_WAIT_SECONDS, _QUEUE_WAIT_SECONDS / self.queued)
                    allowed = min(allowed, queued)
                left = pending.since + allowed - now
                if left > 0:
                    return min(left, _CHECK_SECONDS)
                del self._pending[key]
                pending.is_cancelled = True
                pending.call.cancel()
        return _CHECK_SECONDS
