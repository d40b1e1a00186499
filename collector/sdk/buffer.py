"""Records that wait in memory, and the account of everything that came by.

Every admitted record is counted at one place at every moment, under a lock that is held for moments
only: whoever emits never waits for a sink. What a signal handler or a destructor emits in the
middle of that is left for the thread that it has interrupted.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from time import monotonic, time

from collector.contracts import Granted, to_minute
from collector.filter.admission import Admission, Counts
from collector.filter.revision import Change
from collector.sdk.account import Account, Loss
from collector.sdk.waiting import Taken, Waiting

__all__ = ["Buffer"]

_MINUTE = 60
_HURRY_SECONDS = 1.0
_log = logging.getLogger("collector.sdk")


class Buffer:
    """At most ``limit`` records. ``take`` gives up to ``batch`` of them, of which the first waited
    for ``interval`` seconds if there are fewer. With ``oldest``, a full buffer drops its oldest
    record for a new one.

    Records are put in by any thread, and taken by one at a time; ``taken`` are those that are not
    settled. Whoever delivers them, or takes something out of them, has the ``turn``.
    """

    def __init__(self, limit: int, batch: int, interval: float, *, oldest: bool) -> None:
        self.account: Account = Account()
        self.turn: threading.Lock = threading.Lock()
        self.is_abandoned: bool = False
        self._counts = Counts(self.account)
        self._limit, self._batch, self._interval = limit, batch, interval
        self._oldest = oldest
        self._arrived: deque[Admission] = deque()
        self._waiting = Waiting()
        self._received, self._since, self._until = "", 0, 0
        self._urgent = self._closed = self._busy = False
        self._lock = threading.RLock()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._less = threading.Condition()

    def __repr__(self) -> str:
        return f"<Buffer of {len(self._waiting)}>"

    @property
    def taken(self) -> Taken:
        """What was taken last, as long as it is not settled."""
        return self._waiting.taken

    def put(self, admission: Admission) -> bool:
        """Count an event, and take in the records that came of it; whether all had room, and there
        were some."""
        with self._lock:
            if self._busy:
                self._arrived.append(admission)
                self._wake.put(None)
                return bool(admission.encode())
            self._busy = True
            try:
                is_kept = self._take_in(admission)
                if self._arrived:
                    self._take_in_all()
            finally:
                self._busy = False
        return is_kept

    def take(self) -> Taken | None:
        """The next records, which stay here until they are settled: waits until there are some.

        It returns none at all after a minute without any. ``None``: it is closed and empty, or
        abandoned.
        """
        waiting = self._waiting.lines
        if self._wait(lambda: waiting or self._arrived or self._closed, _MINUTE):
            self._wait(lambda: len(waiting) >= self._batch or self._urgent, self._interval)
        with self._alone():
            if self.is_abandoned or (self._closed and not waiting):
                return None
            taken = self._waiting.take(self._batch)
            self._urgent = self._closed or (self._urgent and bool(waiting))
            return taken

    def settle(self, number: int, *, spooled: bool = False, refused: int = 0) -> None:
        """So many records that were taken are delivered, or spooled; some of them were refused."""
        with self._alone():
            if not self.is_abandoned:
                self.account.spooled += number if spooled else 0
                self.account.delivered += 0 if spooled else number - refused
                self._lose("refused", refused)
            self._waiting.let_go()
        self._tell()
        self._worked()

    def unspool(self, number: int, *, refused: int = 0) -> None:
        """So many records have left the spool for the sink; some of them were refused."""
        with self._alone():
            self.account.spooled -= number
            self.account.delivered += number - refused
            self._lose("refused", refused)
        self._worked()

    def forgo(self, number: int, why: Loss) -> None:
        """So many records that were in the spool are lost."""
        with self._alone():
            self.account.spooled -= number
            self._lose(why, number)

    def revise(self, change: Change, why: Loss) -> int:
        """Take out of what is here what is to go: how many records have less in them, or are lost.
        It is for who has the turn; others put in and take meanwhile."""
        with self._alone():
            here = self._waiting.here()
        less = {}
        for received, line in here:
            left, number = change(line, received)
            if number:
                less[received, id(line)] = left
        if less:
            with self._alone():
                before = len(self._waiting)
                self._waiting.shorten(less)
                self._lose(why, before - len(self._waiting))
            self._tell()
        return len(less)

    def recover(self, number: int) -> None:
        """So many records of an earlier process were found in the spool."""
        with self._alone():
            self.account.recovered += number
            self.account.spooled += number

    def failed(self, why: str) -> None:
        """An attempt to deliver has failed; ``why`` is an error's code or type."""
        with self._alone():
            self.account.failures += 1
            is_new, self.account.failing = not self.account.failing, True
        if is_new:
            _log.warning("telemetry is not being delivered at present [%s]", why)

    def rest(self, seconds: float) -> bool:
        """Wait before the next attempt, unless somebody is in a hurry; whether to try at all."""
        self._urgent = False
        self._wait(lambda: self._urgent or self.is_abandoned, seconds)
        return not self.is_abandoned

    def flush(self, seconds: float) -> bool:
        """Wait until all that is here now has been settled or lost, for so long at most."""
        with self._alone():
            mark = self._waiting.entered
        deadline = monotonic() + seconds
        is_past = self._waiting.is_past
        with self._less:
            while not is_past(mark) and (left := deadline - monotonic()) > 0:
                self._urgent = True
                self._wake.put(None)
                self._less.wait_for(lambda: is_past(mark), min(left, _HURRY_SECONDS))
            return is_past(mark)

    def close(self) -> None:
        """Take nothing more in."""
        with self._alone():
            self._closed = self._urgent = True
        self._wake.put(None)

    def abandon(self) -> None:
        """Give up what still waits."""
        with self._alone():
            self._closed = self.is_abandoned = True
            self._lose("unsent", len(self._waiting))
            self._waiting.clear()
        self._wake.put(None)
        self._tell()

    def snapshot(self) -> Account:
        """The account at this moment. What whoever asks has interrupted in the middle counts as
        queued."""
        with self._alone() as is_nested:
            found = copy.copy(self.account)
            found.rejected, found.lost = Counter(found.rejected), Counter(found.lost)
            found.content = Counter(found.content)
            found.dropped = {name: Counter(why) for name, why in found.dropped.items()}
            self._counts.add_to(found)
            found.queued = len(self._waiting)
            if is_nested:
                settled = found.delivered + found.spooled + sum(found.lost.values())
                found.queued = found.admitted + found.recovered - settled
            return found

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Nobody else counts, not even whoever interrupts this thread. Says whether this is such an
        interruption itself."""
        with self._lock:
            was_busy, self._busy = self._busy, True
            try:
                if not was_busy:
                    self._take_in_all()
                yield was_busy
            finally:
                self._busy = was_busy

    def _wait(self, is_time: Callable[[], object], seconds: float) -> bool:
        """Wait for something, for so long at most; whether it has come. What wakes it up is only a
        hint, and is put there without any lock."""
        deadline = monotonic() + seconds
        while not is_time():
            try:
                self._wake.get(timeout=max(0.0, deadline - monotonic()))
            except Empty:
                return bool(is_time())
        return True

    def _tell(self) -> None:
        """Tell those that wait in ``flush``."""
        with self._less:
            self._less.notify_all()

    def _take_in_all(self) -> None:
        while self._arrived:
            self._take_in(self._arrived.popleft())

    def _take_in(self, admission: Admission) -> bool:
        self._counts.add(admission)
        payload = admission.encode()
        if not payload:
            return False
        granted = admission.granted
        if admission.verdict is not None:  # of a single event
            return self._add(payload, granted)
        lines = payload.splitlines(keepends=True)
        return sum(self._add(line, granted) for line in lines) == len(lines)

    def _add(self, line: bytes, granted: Granted) -> bool:
        waiting, lines = self._waiting, self._waiting.lines
        if self._closed:
            self._lose("closed", 1)
            return False
        if len(lines) + len(waiting.taken.lines) >= self._limit:
            self._lose("queue_full", 1)
            if not (self._oldest and lines):
                return False
            lines.popleft()
        now = int(time())
        if not self._since <= now < self._until:
            self._turn(now)
        lines.append((self._received, granted, line))
        waiting.entered += 1
        if len(lines) in (1, self._batch) and self._wake.empty():
            self._wake.put(None)
        return True

    def _turn(self, now: int) -> None:
        """A new minute."""
        self._since = now - now % _MINUTE
        self._until = self._since + _MINUTE
        self._received = to_minute(datetime.fromtimestamp(self._since, UTC))

    def _lose(self, reason: Loss, number: int) -> None:
        if number:
            self.account.lost[reason] += number

    def _worked(self) -> None:
        with self._alone():
            was_failing, self.account.failing = self.account.failing, False
        if was_failing:
            _log.warning("telemetry is being delivered again")
