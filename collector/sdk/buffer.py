"""Records that wait in memory, and the account of everything that came by.

One lock guards both, so that at every moment each admitted record is counted at one place. It is
held for moments only: whoever emits never waits for a sink.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections import Counter, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic, time

from collector.filter.admission import Admission, Counts
from collector.sdk.account import Account, Loss

__all__ = ["Buffer", "Taken"]

_MINUTE = 60
_log = logging.getLogger("collector.sdk")


@dataclass(frozen=True, slots=True, repr=False)
class Taken:
    """Records of one minute that are on their way: their lines, and when they came."""

    received: str
    lines: list[bytes]


class Buffer:
    """At most ``limit`` records. ``take`` gives up to ``batch`` of them, of which the first waited
    for ``interval`` seconds if there are fewer. With ``oldest``, a full buffer drops its oldest
    record for a new one.

    Records are put in by any thread, and taken by one at a time.
    """

    def __init__(self, limit: int, batch: int, interval: float, *, oldest: bool) -> None:
        self.account = Account()
        self._counts = Counts(self.account)
        self._limit, self._batch, self._interval = limit, batch, interval
        self._oldest = oldest
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._entered = 0
        self._held = 0
        self._held_from = 0
        self._received, self._since, self._until = "", 0, 0
        self._urgent = self._closed = self._abandoned = False
        self._lock = threading.Lock()
        self._some = threading.Condition(self._lock)
        self._less = threading.Condition(self._lock)

    def __repr__(self) -> str:
        return f"<Buffer of {self.account.queued}>"

    @property
    def is_abandoned(self) -> bool:
        """Whether what waited was given up."""
        return self._abandoned

    def put(self, admission: Admission) -> bool:
        """Count an event, and take in the records that came of it; whether all had room, and there
        were some."""
        with self._lock:
            self._counts.add(admission)
            payload = admission.encode()
            if not payload:
                return False
            if admission.verdict is not None:  # of a single event
                return self._add(payload)
            lines = payload.splitlines(keepends=True)
            return sum(map(self._add, lines)) == len(lines)

    def take(self) -> Taken | None:
        """The next records, which stay here until they are settled: waits until there are some.

        Without any it returns none after a minute without any. ``None``: it is closed and empty,
        or abandoned.
        """
        with self._lock:
            if not self._waiting and not self._ending():
                self._some.wait_for(lambda: self._waiting or self._ending(), _MINUTE)
            if not self._ending():
                gathered = lambda: len(self._waiting) >= self._batch or self._hurried()  # noqa: E731
                self._some.wait_for(gathered, self._interval if self._waiting else 0)
            if self._abandoned or (self._closed and not self._waiting):
                return None
            return self._taken()

    def settle(self, number: int, *, spooled: bool = False, refused: int = 0) -> None:
        """So many records that were taken are delivered, or spooled; some of them were refused."""
        with self._lock:
            if not self._abandoned:
                self.account.queued -= number
                self.account.spooled += number if spooled else 0
                self.account.delivered += 0 if spooled else number - refused
                self._lose("refused", refused)
            self._held = 0
            self._worked()
            self._less.notify_all()

    def unspool(self, number: int, *, refused: int = 0) -> None:
        """So many records have left the spool for the sink; some of them were refused."""
        with self._lock:
            self.account.spooled -= number
            self.account.delivered += number - refused
            self._lose("refused", refused)
            self._worked()

    def recover(self, number: int) -> None:
        """So many records of an earlier process were found in the spool."""
        with self._lock:
            self.account.recovered += number
            self.account.spooled += number

    def failed(self, why: str) -> None:
        """An attempt to deliver has failed; ``why`` is an error's code or type."""
        with self._lock:
            self.account.failures += 1
            if not self.account.failing:
                self.account.failing = True
                _log.warning("telemetry is not being delivered at present [%s]", why)

    def rest(self, seconds: float) -> bool:
        """Wait before the next attempt, unless somebody is in a hurry; whether to try at all."""
        with self._lock:
            self._urgent = False
            self._some.wait_for(lambda: self._urgent or self._abandoned, seconds)
            return not self._abandoned

    def flush(self, seconds: float) -> bool:
        """Wait until all that is here now has been settled or lost, for so long at most."""
        with self._lock:
            mark, deadline = self._entered, monotonic() + seconds

            def is_done() -> bool:
                first = self._held_from if self._held else self._entered - len(self._waiting)
                return first >= mark

            while not is_done() and (left := deadline - monotonic()) > 0:
                self._urgent = True
                self._some.notify_all()
                self._less.wait_for(is_done, min(left, 1.0))
            return is_done()

    def close(self) -> None:
        """Take nothing more in."""
        with self._lock:
            self._closed = self._urgent = True
            self._some.notify_all()

    def abandon(self) -> None:
        """Give up what still waits."""
        with self._lock:
            self._closed = self._abandoned = True
            self._lose("unsent", self.account.queued)
            self.account.queued = self._held = 0
            self._waiting.clear()
            self._some.notify_all()
            self._less.notify_all()

    def snapshot(self) -> Account:
        """The account at this moment."""
        with self._lock:
            self._counts.settle()
            found = copy.copy(self.account)
            found.rejected, found.lost = Counter(found.rejected), Counter(found.lost)
            found.content = Counter(found.content)
            found.dropped = {name: Counter(why) for name, why in found.dropped.items()}
            return found

    def _add(self, line: bytes) -> bool:
        account, waiting = self.account, self._waiting
        if self._closed:
            self._lose("closed", 1)
            return False
        if account.queued >= self._limit:
            self._lose("queue_full", 1)
            if not (self._oldest and waiting):
                return False
            waiting.popleft()
            account.queued -= 1
        now = int(time())
        if not self._since <= now < self._until:
            self._turn(now)
        waiting.append((self._received, line))
        account.queued += 1
        self._entered += 1
        if len(waiting) == 1 or len(waiting) == self._batch:
            self._some.notify_all()
        return True

    def _turn(self, now: int) -> None:
        """A new minute."""
        self._since = now - now % _MINUTE
        self._until = self._since + _MINUTE
        self._received = datetime.fromtimestamp(self._since, UTC).strftime("%Y-%m-%dT%H:%M:00Z")

    def _taken(self) -> Taken:
        waiting, lines = self._waiting, list[bytes]()
        received = waiting[0][0] if waiting else ""
        self._held_from = self._entered - len(waiting)
        while waiting and len(lines) < self._batch and waiting[0][0] == received:
            lines.append(waiting.popleft()[1])
        self._held = len(lines)
        self._urgent &= bool(waiting)
        return Taken(received, lines)

    def _lose(self, reason: Loss, number: int) -> None:
        if number:
            self.account.lost[reason] += number

    def _worked(self) -> None:
        if self.account.failing:
            self.account.failing = False
            _log.warning("telemetry is being delivered again")

    def _ending(self) -> bool:
        return self._closed or self._abandoned

    def _hurried(self) -> bool:
        return self._urgent or self._ending()
