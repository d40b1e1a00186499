"""The memory of a process for request bodies: one budget for all its receivers.

Three eighths of it are for bodies as they are sent. Each part of a body is reserved when it is
read. Where there is no room for it, its sender is asked to come again. Large bodies leave an eighth
of this to bodies of up to ``SMALL_BODY`` bytes, so that these find room however slow the large ones
are.

The rest is for decompression. All that a body needs for it, decompressor included, is reserved
before its first byte is decompressed. When that is done, only the bytes of the body stay reserved,
until the request has its response. Requests that wait for this memory hold only what was sent. They
get it in the order in which they asked, within seconds. A request that would wait for longer, to
judge by the turns before it, is refused at once. Small, medium and large bodies have queues and
memory of their own, so that none of them holds up the smaller ones, or is held up by them for ever.

Threads and event loops may use a budget at the same time.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, wait
from threading import Lock
from time import monotonic
from typing import Self

from collector.ingest.decompression import Compressed, most_memory
from collector.ingest.limits import MIB, SMALL_BODY, IngestLimits
from collector.ingest.refusals import BUSY, RequestRefused

WAIT_SECONDS = 5.0
"""How long a request may wait for its turn: a sender is to have an answer within ten seconds."""
_EIGHTH = 8
_MEDIUM_BODY = MIB
_SMOOTHED = 16
"""Turns over which the pace of a queue is smoothed."""


class Turns:
    """An amount that requests share. Those that wait for a part of it get it in the order in which
    they asked."""

    def __init__(self, amount: int) -> None:
        self.amount: int = amount
        self.used: int = 0
        self._lock = Lock()
        self._waiting: OrderedDict[Future[None], int] = OrderedDict()
        self._pace = 0.0  # seconds from one turn to the next
        self._since = 0.0  # when the last turn came, or the first request that waits

    def take(self, size: int, *, left: int = 0) -> None:
        """Take a part at once that leaves so much. Raises ``RequestRefused``: BUSY if there is not
        so much."""
        with self._lock:
            fits = self.used + size + left <= self.amount
            self.used += size if fits else 0
        if not fits:
            raise RequestRefused(BUSY)

    async def awaited(self, size: int, seconds: float | None = WAIT_SECONDS) -> None:
        """Wait for a part. Raises ``RequestRefused``: BUSY if that takes longer than ``seconds``,
        or would, to judge by the turns before it."""
        turn = self._ask(size, seconds)
        if turn.done():
            return
        is_there = False
        try:
            async with asyncio.timeout(seconds):
                await asyncio.wrap_future(turn)
            is_there = True
        except TimeoutError:
            pass
        finally:
            if not is_there:
                self._leave(turn, size)
        if not is_there:
            raise RequestRefused(BUSY)

    def blocking(self, size: int, seconds: float | None = WAIT_SECONDS) -> None:
        """Do the same in a thread, which blocks."""
        turn = self._ask(size, seconds)
        if wait([turn], seconds).not_done:
            self._leave(turn, size)
            raise RequestRefused(BUSY)

    def give_back(self, size: int) -> None:
        """Give back a part, and let those that wait have their turns."""
        with self._lock:
            self.used -= size
            following = [*self._following()]
        for turn in following:
            turn.set_result(None)

    def _ask(self, size: int, seconds: float | None) -> Future[None]:
        """Return a turn, which is done when it has come: now, or after those before it."""
        turn: Future[None] = Future()
        with self._lock:
            is_late = seconds is not None and self._expected_seconds() > seconds
            if not is_late:
                if not self._waiting:
                    self._since = monotonic()
                self._waiting[turn] = size
            following = [*self._following()]
        if is_late:
            raise RequestRefused(BUSY)
        for each in following:
            each.set_result(None)
        return turn

    def _leave(self, turn: Future[None], size: int) -> None:
        """Wait for a turn no longer; give back what it has brought meanwhile."""
        is_waiting = turn.cancel()
        with self._lock:
            self._waiting.pop(turn, None)
        self.give_back(0 if is_waiting else size)  # and those behind it may have their turns

    def _following(self) -> Iterator[Future[None]]:
        """Yield those whose turn has come."""
        while self._waiting:
            turn, size = next(iter(self._waiting.items()))
            if self.used + size > self.amount:
                return
            self._waiting.popitem(last=False)
            now = monotonic()
            self._pace += (now - self._since - self._pace) / _SMOOTHED
            self._since = now
            if turn.set_running_or_notify_cancel():
                self.used += size
                yield turn

    def _expected_seconds(self) -> float:
        """Return how long a request would wait that comes now."""
        if not self._waiting:
            return 0.0
        return monotonic() - self._since + self._pace * len(self._waiting)


class MemoryBudget:
    """The memory of a process for bodies: ``wire`` as they are sent; ``small``, ``medium`` and
    ``large`` for what they become. Each has room for the largest of its bodies."""

    def __init__(self, limits: IngestLimits) -> None:
        self.limits: IngestLimits = limits
        eighth = limits.memory // _EIGHTH
        self._for_small = max(3 * eighth // _EIGHTH, SMALL_BODY)
        self.wire: Turns = Turns(max(3 * eighth, limits.wire + self._for_small))
        self.small: Turns = Turns(max(eighth, most_memory(min(SMALL_BODY, limits.body))))
        self.medium: Turns = Turns(max(eighth, most_memory(min(_MEDIUM_BODY, limits.body))))
        self.large: Turns = Turns(max(3 * eighth, most_memory(limits.body)))

    @property
    def used(self) -> int:
        """Bytes that are reserved."""
        return sum(each.used for each in (self.wire, self.small, self.medium, self.large))

    def take(self, size: int, body: int) -> None:
        """Take memory for so many bytes of a body of ``body`` bytes, as it is sent, at once.
        Raises ``RequestRefused``: BUSY."""
        self.wire.take(size, left=0 if body <= SMALL_BODY else self._for_small)

    def turns(self, body: Compressed) -> Turns:
        """Return the turns of a body that is to be decompressed."""
        if body.most <= SMALL_BODY:
            return self.small
        return self.medium if body.most <= _MEDIUM_BODY else self.large


class Reservation:
    """What one request has of a budget. Leave it as a context manager to give all of it back.

    ``announced`` are the bytes of its body, as the sender says.
    """

    __slots__ = ("_announced", "_budget", "_turns", "_wire", "_work")

    def __init__(self, budget: MemoryBudget, announced: int = 0) -> None:
        self._budget, self._announced = budget, announced
        self._turns = budget.large
        self._wire = self._work = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.keep(0)

    def add(self, size: int) -> None:
        """Reserve so many bytes more of the body as it is sent. Raises ``RequestRefused``: BUSY."""
        self._budget.take(size, max(self._wire + size, self._announced))
        self._wire += size

    async def turn(self, body: Compressed) -> None:
        """Wait until there is memory to decompress a body; what an earlier turn brought is given
        back before. Raises ``RequestRefused``: BUSY."""
        turns = self._following(body)
        await turns.awaited(body.memory)
        self._work = body.memory

    def turn_now(self, body: Compressed, seconds: float = WAIT_SECONDS) -> None:
        """Do the same in a thread, which blocks for so many seconds at most."""
        turns = self._following(body)
        turns.blocking(body.memory, seconds)
        self._work = body.memory

    def _following(self, body: Compressed) -> Turns:
        work, self._work = self._work, 0
        if work:
            self._turns.give_back(work)
        self._turns = self._budget.turns(body)
        return self._turns

    def keep(self, size: int) -> None:
        """Give back all but so many bytes, which a body that was decompressed has."""
        wire, work = self._wire, self._work - size
        self._wire, self._work = 0, size
        if wire:
            self._budget.wire.give_back(wire)
        if work:
            self._turns.give_back(work)
