"""The memory of a process for request bodies: one budget for all its receivers.

Three eighths of it are for bodies on the wire. Each part of a body is reserved when it is read. If
there is no room, the sender is asked to retry. Large bodies leave an eighth of the budget to bodies
of up to ``SMALL_BODY`` bytes, so that these find room however slow the large ones are.

The rest is for decompression. All memory that a body needs, including the decompressor, is reserved
before its first byte is decompressed. Afterwards only the bytes of the body stay reserved, until
the request has its response. Requests that wait for this memory hold only their compressed bytes.
They get it in the order in which they asked, within seconds. If the pace of earlier turns shows
that a request would wait longer, it is refused at once. Small, medium and large bodies have
separate queues and memory, so that no body holds up smaller ones, or waits for them for ever.

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
"""How long a request may wait for its turn: a sender should have an answer within ten seconds."""
_EIGHTH = 8
_MEDIUM_BODY = MIB
_SMOOTHED = 16
"""The number of turns over which the pace of a queue is smoothed."""


class Turns:
    """An amount that requests share. Waiting requests get their parts in the order in which they
    asked."""

    def __init__(self, amount: int) -> None:
        self.amount: int = amount
        self.used: int = 0
        self._lock = Lock()
        self._waiting: OrderedDict[Future[None], int] = OrderedDict()
        self._pace = 0.0  # seconds from one turn to the next
        self._since = 0.0  # time of the last turn, or of the first waiting request

    def take(self, size: int, *, left: int = 0) -> None:
        """Take a part at once, so that at least ``left`` remains. Raises ``RequestRefused``: BUSY
        if there is too little."""
        with self._lock:
            fits = self.used + size + left <= self.amount
            self.used += size if fits else 0
        if not fits:
            raise RequestRefused(BUSY)

    async def awaited(self, size: int, seconds: float | None = WAIT_SECONDS) -> None:
        """Wait for a part. Raises ``RequestRefused``: BUSY after ``seconds``, or at once if the
        pace of earlier turns shows that it would take longer."""
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
        """Do the same, but block the calling thread."""
        turn = self._ask(size, seconds)
        if wait([turn], seconds).not_done:
            self._leave(turn, size)
            raise RequestRefused(BUSY)

    def give_back(self, size: int) -> None:
        """Give back a part, and let waiting requests have their turns."""
        with self._lock:
            self.used -= size
            following = [*self._following()]
        for turn in following:
            turn.set_result(None)

    def _ask(self, size: int, seconds: float | None) -> Future[None]:
        """Return a future that is done when the turn comes: now, or after earlier ones."""
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
        """Stop waiting for a turn; give back the part if it came meanwhile."""
        is_waiting = turn.cancel()
        with self._lock:
            self._waiting.pop(turn, None)
        self.give_back(0 if is_waiting else size)  # requests behind it may have their turns now

    def _following(self) -> Iterator[Future[None]]:
        """Yield the requests whose turn has come."""
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
        """Return how long a new request would wait."""
        if not self._waiting:
            return 0.0
        return monotonic() - self._since + self._pace * len(self._waiting)


class MemoryBudget:
    """The memory of a process for bodies: ``wire`` is for bytes on the wire; ``small``, ``medium``
    and ``large`` are for decompression. Each has room for the largest of its bodies."""

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
        """Take memory at once for ``size`` bytes on the wire, of a body of ``body`` bytes. Raises
        ``RequestRefused``: BUSY."""
        self.wire.take(size, left=0 if body <= SMALL_BODY else self._for_small)

    def turns(self, body: Compressed) -> Turns:
        """Return the turns for the decompression of a body."""
        if body.most <= SMALL_BODY:
            return self.small
        return self.medium if body.most <= _MEDIUM_BODY else self.large


class Reservation:
    """The part of a budget that one request has. Leaving its ``with`` block gives all of it back.

    ``announced`` is the length of the body that the sender states.
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
        """Reserve ``size`` more bytes on the wire. Raises ``RequestRefused``: BUSY."""
        self._budget.take(size, max(self._wire + size, self._announced))
        self._wire += size

    async def turn(self, body: Compressed) -> None:
        """Wait until there is memory to decompress a body; first give back the memory of an earlier
        turn. Raises ``RequestRefused``: BUSY."""
        turns = self._following(body)
        await turns.awaited(body.memory)
        self._work = body.memory

    def turn_now(self, body: Compressed, seconds: float = WAIT_SECONDS) -> None:
        """Do the same, but block the calling thread for at most ``seconds``."""
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
        """Give back all but the ``size`` bytes of the decompressed body."""
        wire, work = self._wire, self._work - size
        self._wire, self._work = 0, size
        if wire:
            self._budget.wire.give_back(wire)
        if work:
            self._turns.give_back(work)
