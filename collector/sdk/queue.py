"""The queue of records in memory, and the account of every event.

At every moment, each admitted record is counted in exactly one place. The lock is held only
briefly, so ``emit`` never waits for a sink. An event that a signal handler or a destructor emits
while its own thread holds the lock is deferred: the interrupted code enqueues it afterwards.
"""

from __future__ import annotations

import copy
import logging
import secrets
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from time import monotonic, time

from collector.contracts import Granted, Rejection, to_minute
from collector.filter.admission import Admission, TallyAccumulator
from collector.filter.redaction import Rule, redact
from collector.sdk.account import Account, Loss
from collector.sdk.rejections import Rejections

_MINUTE = 60
MOST_BODY = 4 << 20
"""The most bytes of a batch for a sidecar, which by default accepts twice as many."""
_CAPPED_SECONDS = 3600.0
"""How long the queue makes smaller batches after a refusal."""
_RECEIVED_BYTES = len(b',"received":"2026-01-01T00:00:00Z"')
"""Bytes that the wire adds to a queued line."""
_WAKE_SECONDS = 1.0
"""How often ``flush`` wakes the delivery thread again."""
_log = logging.getLogger("collector.sdk")


@dataclass(frozen=True, slots=True, repr=False)
class InFlight:
    """The batch being delivered: lines of one minute (``received``), what they may be used for, and
    the id of the batch, which is the same for each attempt."""

    received: str
    lines: list[bytes]
    granted: Granted
    id: bytes


class Backlog:
    """The records of a queue, without a lock: ``lines`` that wait, each with its minute and what it
    may be used for; and the batch ``in_flight``. ``entered`` counts all lines that ever entered,
    except redacted ones.
    """

    def __init__(self) -> None:
        self.lines: deque[tuple[str, Granted, bytes]] = deque()
        self.in_flight: InFlight = _empty_batch("", None)
        self.entered: int = 0
        self._in_flight_start = 0

    def __repr__(self) -> str:
        return f"<Backlog of {len(self)}>"

    def __len__(self) -> int:
        return len(self.lines) + len(self.in_flight.lines)

    def take(self, most: int, most_bytes: int) -> InFlight:
        """Move lines in flight that share their minute and their granted purposes: at most ``most``
        lines and ``most_bytes`` bytes, but at least one line."""
        lines = self.lines
        received, granted = lines[0][:2] if lines else ("", None)
        self._in_flight_start = self.entered - len(lines)
        self.in_flight = batch = _empty_batch(received, granted)
        while lines and len(batch.lines) < most and lines[0][:2] == (received, granted):
            most_bytes -= _size(lines[0][2])
            if most_bytes < 0 and batch.lines:
                break
            batch.lines.append(lines.popleft()[2])
        return batch

    def put_back(self) -> None:
        """Let the lines of the batch in flight wait again, before all others."""
        whole = self.in_flight
        self.lines.extendleft((whole.received, whole.granted, at) for at in reversed(whole.lines))
        self.remove_in_flight()

    def remove_in_flight(self) -> None:
        """Remove the batch in flight."""
        self.in_flight = _empty_batch("", None)

    def clear(self) -> None:
        """Remove all lines."""
        self.remove_in_flight()
        self.lines.clear()

    def is_past(self, mark: int) -> bool:
        """Return whether every line that entered up to ``mark`` (a value of ``entered``) has
        left."""
        is_in_flight = self.in_flight.lines
        first = self._in_flight_start if is_in_flight else self.entered - len(self.lines)
        return first >= min(mark, self.entered)

    def dated_lines(self) -> list[tuple[str, bytes]]:
        """List every line, waiting or in flight, with its minute."""
        in_flight = ((self.in_flight.received, line) for line in self.in_flight.lines)
        return [*((each[0], each[2]) for each in self.lines), *in_flight]

    def replace(self, replacements: Mapping[tuple[str, int], bytes]) -> None:
        """Replace lines, and remove those whose replacement is empty. The key is a line's minute
        and its ``id()``, so the caller must keep the replaced lines alive."""
        batch = self.in_flight
        left = [replacements.get((batch.received, id(line)), line) for line in batch.lines]
        batch.lines[:] = filter(None, left)
        number = len(self.lines)
        new = [(at, to, replacements.get((at, id(line)), line)) for at, to, line in self.lines]
        self.lines.clear()
        self.lines.extend(each for each in new if each[2])
        self.entered -= number - len(self.lines)


def _size(line: bytes) -> int:
    """Return the bytes that a queued line has on the wire."""
    return len(line) + _RECEIVED_BYTES


def _empty_batch(received: str, granted: Granted) -> InFlight:
    return InFlight(received, [], granted, secrets.token_bytes(16))


class RecordQueue:
    """At most ``limit`` records. ``take`` returns at most ``batch`` records and ``MOST_BODY``
    bytes; while there are fewer, it waits up to ``interval`` seconds. With ``oldest``, a full queue
    drops its oldest record for a new one.

    Any thread may put records in; one thread at a time takes them. The thread that delivers or
    redacts records holds ``delivery_lock``.
    """

    def __init__(self, limit: int, batch: int, interval: float, *, oldest: bool) -> None:
        self.account: Account = Account()
        self.delivery_lock: threading.Lock = threading.Lock()
        self.is_abandoned: bool = False
        self._rejections, self._admitted = Rejections(), 0
        self._counts = TallyAccumulator(self.account)
        self._limit, self._batch, self._interval = limit, batch, interval
        self._oldest = oldest
        self._most_bytes, self._capped_until = MOST_BODY, 0.0
        self._deferred: deque[Admission] = deque()
        self._backlog = Backlog()
        self._received, self._minute_start, self._minute_end = "", 0, 0
        self._is_closed = self._is_locked = False
        self.is_urgent: bool = False
        """Whether ``flush`` or ``close`` waits for the queued records."""
        self._lock = threading.RLock()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._progress = threading.Condition()

    def __repr__(self) -> str:
        return f"<RecordQueue of {len(self._backlog)}>"

    @property
    def in_flight(self) -> InFlight:
        """The batch in flight; without lines when there is none."""
        return self._backlog.in_flight

    def put(self, admission: Admission) -> bool:
        """Count an event and enqueue its records.

        Returns whether there were records and all of them had room.
        """
        with self._lock:
            if self._is_locked:
                self._deferred.append(admission)
                self._wake.put(None)
                return bool(admission.encode())
            self._is_locked = True
            try:
                has_room = self._enqueue(admission)
                if self._deferred:
                    self._enqueue_deferred()
            finally:
                self._is_locked = False
        return has_room

    def take(self) -> InFlight | None:
        """Wait for records, and take the next batch in flight until it is acknowledged or put back.

        Returns a batch without lines after a minute without records, and ``None`` when the queue is
        closed and empty, or abandoned.
        """
        lines = self._backlog.lines
        if self._wait(lambda: lines or self._deferred or self._is_closed, _MINUTE):
            self._wait(lambda: len(lines) >= self._batch or self.is_urgent, self._interval)
        with self._locked():
            if self.is_abandoned or (self._is_closed and not lines):
                return None
            if monotonic() >= self._capped_until:
                self._most_bytes = MOST_BODY
            batch = self._backlog.take(self._batch, self._most_bytes)
            self.is_urgent = self._is_closed or (self.is_urgent and bool(lines))
            return batch

    def rejections(self, *, is_end: bool = False) -> Counter[Rejection]:
        """Return once the reasons why all events are rejected; an empty count otherwise."""
        if self._rejections.is_told:
            return Counter()
        with self._locked():
            return self._rejections.told(self._admitted, is_end=is_end)

    def shrink(self, lines: Iterable[bytes]) -> None:
        """For an hour, make batches of at most half the bytes of these lines, which were refused
        together for their size. After that the receiver may accept more again."""
        with self._locked():
            self._most_bytes = min(self._most_bytes, sum(map(_size, lines)) // 2)
            self._capped_until = monotonic() + _CAPPED_SECONDS

    def put_back(self) -> None:
        """Let the records in flight wait again after the receiver refused the batch for its size.
        They go next, in smaller batches with new ids."""
        with self._locked():
            self.shrink(self._backlog.in_flight.lines)
            self._backlog.put_back()
            self.is_urgent = True

    def acknowledge(self, number: int, *, spooled: bool = False, refused: int = 0) -> None:
        """Count the ``number`` records in flight as delivered or spooled, except those refused, and
        remove them."""
        with self._locked():
            if self.is_abandoned:  # counted as unsent, but they have arrived after all
                self._count_loss("unsent", self._early - number)
            self.account.spooled += number if spooled else 0
            self.account.delivered += 0 if spooled else number - refused
            self._count_loss("refused", refused)
            self._backlog.remove_in_flight()
        self._notify()
        if not spooled:  # a spooled batch says nothing about the sink
            self._count_success()

    def count_spool_delivered(self, number: int, *, refused: int = 0) -> None:
        """Count records that went from the spool to the sink, some of which it refused."""
        with self._locked():
            before = self._early
            self.account.spooled -= number
            if self.is_abandoned:  # as above
                self._count_loss("unsent", before - self._early)
            self.account.delivered += number - refused
            self._count_loss("refused", refused)
        self._count_success()

    def count_spool_lost(self, number: int, why: Loss) -> None:
        """Count records of the spool that are lost."""
        with self._locked():
            self.account.spooled -= number
            self._count_loss(why, number)

    def count_recovered(self, number: int) -> None:
        """Count records of an earlier process that were found in the spool."""
        with self._locked():
            self.account.recovered += number
            self.account.spooled += number

    def count_failure(self, why: str) -> None:
        """Count a failed attempt to deliver; ``why`` is what ``reason_of`` may say about the
        error."""
        with self._locked():
            self.account.failures += 1
            is_new, self.account.failing = not self.account.failing, True
            self.account.why = why
        if is_new:
            _log.warning("telemetry is not being delivered at present [%s]", why)

    def rewrite(self, rule: Rule, why: Loss) -> int:
        """Apply a rule to every record in memory, and count the records that it empties as lost.
        The caller holds ``delivery_lock``; other threads put records in meanwhile.

        Returns how many records were changed or removed.
        """
        with self._locked():
            lines = self._backlog.dated_lines()
        replacements = {}
        for received, line in lines:
            left, (done,) = redact(line, [rule], received)
            if done:
                replacements[received, id(line)] = left
        if replacements:
            with self._locked():
                before = len(self._backlog)
                self._backlog.replace(replacements)
                self._count_loss(why, before - len(self._backlog))
            self._notify()
        return len(replacements)

    def wait_for_retry(self, seconds: float) -> bool:
        """Wait before the next attempt to deliver; ``flush`` and ``close`` end the wait early.

        Returns whether to try again: ``False`` once the queue is abandoned.
        """
        self.is_urgent = False
        self._wait(lambda: self.is_urgent or self.is_abandoned, seconds)
        return not self.is_abandoned

    def flush(self, seconds: float) -> bool:
        """Wait until every record that is queued now is acknowledged or lost.

        Returns whether that happened within ``seconds``.
        """
        with self._locked():
            mark = self._backlog.entered
        deadline = monotonic() + seconds
        is_past = self._backlog.is_past
        with self._progress:
            while not is_past(mark) and (left := deadline - monotonic()) > 0:
                self.is_urgent = True
                self._wake.put(None)
                self._progress.wait_for(lambda: is_past(mark), min(left, _WAKE_SECONDS))
            return is_past(mark)

    def close(self) -> None:
        """Refuse all later records."""
        with self._locked():
            self._is_closed = self.is_urgent = True
        self._wake.put(None)

    def abandon(self) -> None:
        """Refuse all later records, and count the queued ones as lost."""
        with self._locked():
            self._is_closed = self.is_abandoned = True
            self._count_loss("unsent", len(self._backlog) - self._early)
            self._backlog.clear()
        self._wake.put(None)
        self._notify()

    def snapshot(self) -> Account:
        """Copy the account. If the caller has interrupted a change of the counts, the records of
        that change count as queued."""
        with self._locked() as is_nested:
            found = copy.copy(self.account)
            found.rejected, found.lost = Counter(found.rejected), Counter(found.lost)
            found.content = Counter(found.content)
            found.dropped = {name: Counter(why) for name, why in found.dropped.items()}
            self._counts.add_to(found)
            found.queued = max(0, len(self._backlog) - self._early)
            found.spooled = max(0, found.spooled)
            if is_nested:
                placed = found.delivered + found.spooled + sum(found.lost.values())
                found.queued = found.admitted + found.recovered - placed
            return found

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Hold the lock. Meanwhile ``put`` defers the events of code that interrupts this thread.

        Yields whether this call is itself such an interruption: the lock is reentrant.
        """
        with self._lock:
            was_locked, self._is_locked = self._is_locked, True
            try:
                if not was_locked:
                    self._enqueue_deferred()
                yield was_locked
            finally:
                self._is_locked = was_locked

    def _wait(self, is_met: Callable[[], object], seconds: float) -> bool:
        """Wait until a condition is met, and return whether it is. Wake-ups are only hints, because
        they are sent without a lock."""
        deadline = monotonic() + seconds
        while not is_met():
            try:
                self._wake.get(timeout=max(0.0, deadline - monotonic()))
            except Empty:
                return bool(is_met())
        return True

    @property
    def _early(self) -> int:
        """How many records in flight went from the spool to the sink before the spooling thread has
        counted them as spooled. They count as delivered only."""
        return max(0, -self.account.spooled)

    def _notify(self) -> None:
        """Wake the callers of ``flush``."""
        with self._progress:
            self._progress.notify_all()

    def _enqueue_deferred(self) -> None:
        while self._deferred:
            self._enqueue(self._deferred.popleft())

    def _enqueue(self, admission: Admission) -> bool:
        self._counts.add(admission)
        payload = admission.encode()
        if not payload:
            self._rejections.add(admission, self._admitted)
            return False
        self._admitted += 1
        granted = admission.granted
        if admission.verdict is not None:  # of a single event
            return self._add(payload, granted)
        lines = payload.splitlines(keepends=True)
        return sum(self._add(line, granted) for line in lines) == len(lines)

    def _add(self, line: bytes, granted: Granted) -> bool:
        backlog, lines = self._backlog, self._backlog.lines
        if self._is_closed:
            self._count_loss("closed", 1)
            return False
        if len(lines) + len(backlog.in_flight.lines) >= self._limit:  # ``len`` of it costs more
            self._count_loss("queue_full", 1)
            if not (self._oldest and lines):
                return False
            lines.popleft()
        now = int(time())
        if not self._minute_start <= now < self._minute_end:
            self._start_minute(now)
        lines.append((self._received, granted, line))
        backlog.entered += 1
        if len(lines) in (1, self._batch) and self._wake.empty():
            self._wake.put(None)
        return True

    def _start_minute(self, now: int) -> None:
        self._minute_start = now - now % _MINUTE
        self._minute_end = self._minute_start + _MINUTE
        self._received = to_minute(datetime.fromtimestamp(self._minute_start, UTC))

    def _count_loss(self, reason: Loss, number: int) -> None:
        if number:
            self.account.lost[reason] += number
            if not self.account.lost[reason]:
                del self.account.lost[reason]

    def _count_success(self) -> None:
        with self._locked():
            was_failing, self.account.failing, self.account.why = self.account.failing, False, ""
        if was_failing:
            _log.warning("telemetry is being delivered again")
