"""Threads for gRPC calls, of which slow senders can hold only half once others wait.

A call takes a thread before its message has arrived, and keeps it until then. So whoever sends
slowly has a deadline; and when calls queue for threads, those that have waited longest for their
message are cancelled, the sooner the longer the queue, until half of the threads are free of them.
An honest sender's message comes with its call, and is not touched by this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Lock, Thread
from time import monotonic
from typing import ParamSpec, Protocol, TypeVar

__all__ = ["Call", "Seat", "Seats"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_TICK = 0.5
_PATIENCE = 1.0
"""Seconds of waiting that are allowed while one call queues; a tenth of it while ten do."""


class Call(Protocol):
    """What can be cancelled."""

    def cancel(self) -> object:
        """End the call; its sender may try again."""


class Seat:
    """A thread that waits for the message of a call. ``lost`` once the call was cancelled."""

    __slots__ = ("call", "lost", "since")

    def __init__(self, call: Call) -> None:
        self.call: Call = call
        self.since: float = monotonic()
        self.lost: bool = False


class Seats(ThreadPoolExecutor):
    """A pool of ``count`` threads. Messages have ``seconds`` to arrive."""

    def __init__(self, count: int, seconds: float) -> None:
        super().__init__(count, thread_name_prefix="grpc")
        self.count: int = count
        self._seconds = seconds
        self._lock = Lock()
        self._calls = 0
        self._waiting: dict[int, Seat] = {}
        self._closed = False
        self._crowded = Event()
        Thread(target=self._watch, name="grpc-seats", daemon=True).start()

    @property
    def queued(self) -> int:
        """How many calls wait for a thread."""
        return max(0, self._calls - self.count)

    def submit(
        self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Future[_T]:
        """As of any pool; the call counts until it is done."""
        with self._lock:
            self._calls += 1
        try:
            future = super().submit(function, *args, **kwargs)
        except RuntimeError:
            self._leave()
            raise
        future.add_done_callback(self._leave)
        self._look()
        return future

    @contextmanager
    def waiting(self, call: Call) -> Iterator[Seat]:
        """For the time in which a call waits for its message. A call that was not ``lost`` by the
        end of it is not cancelled later."""
        seat = Seat(call)
        with self._lock:
            self._waiting[id(seat)] = seat
        self._look()
        try:
            yield seat
        finally:
            with self._lock:
                self._waiting.pop(id(seat), None)

    def close(self) -> None:
        """No more calls. Threads end with what they are doing."""
        self._closed = True
        self._crowded.set()
        self.shutdown(wait=False, cancel_futures=True)

    def _is_crowded(self) -> bool:
        return self.queued > 0 and len(self._waiting) > self.count // 2

    def _look(self) -> None:
        """Have somebody look after the crowd, if there is one."""
        if self._is_crowded():
            self._crowded.set()

    def _leave(self, _: object = None) -> None:
        with self._lock:
            self._calls -= 1

    def _watch(self) -> None:
        wait = _TICK
        while not self._closed:
            self._crowded.wait(wait)
            self._crowded.clear()
            wait = self._relieve()

    def _relieve(self) -> float:
        """Cancel whoever has waited too long, the oldest first; in how many seconds to look again
        if nothing happens."""
        with self._lock:
            now = monotonic()
            for key, seat in [*self._waiting.items()]:
                patience = _PATIENCE / self.queued if self._is_crowded() else self._seconds
                allowed = min(self._seconds, patience)
                left = seat.since + allowed - now
                if left > 0:
                    return min(left, _TICK)
                del self._waiting[key]
                seat.lost = True
                seat.call.cancel()
        return _TICK
