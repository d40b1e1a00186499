"""The queue of writes for the next commit, and how batches that share a commit are merged.

Batches of the same layout and minute, with the same granted purposes, share a batch and a receipt.
So a receipt does not reveal a single request when several arrive at once. All batches of a request
are in one commit.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from time import monotonic
from typing import NamedTuple

from collector.contracts import (
    MOST_BYTES,
    MOST_EVENTS,
    Batch,
    Granted,
    PendingBatch,
    RequestKey,
    Tally,
    Written,
)
from collector.errors import DeliveryError, Overloaded, SpoolFull
from collector.ledger.entry import Note
from collector.spool.tables import MOST_SHARED_BYTES

ID_BYTES = 16
"""The length of a batch's id."""

_MOST_RECENT_BYTES = 4 << 20
"""Bytes of records in batches whose rows are kept (the rows take three times as many),"""
_BATCH_BYTES = 1 << 10
"""and the overhead of a batch."""

HourlySums = Counter[tuple[str, str, str, str]]
"""Counts of an hour: by hour, by what is counted (``dropped``, ``content``, ``bytes``), by field,
category or direction, and by reason."""


def merge(batches: Sequence[PendingBatch]) -> Sequence[PendingBatch]:
    """Merge the batches of one request that have the same layout, minute and granted purposes."""
    if len(batches) < 2:
        return batches
    return [
        _joined(same, sum((batch.tally for batch in same), Tally())) for same in _alike(batches)
    ]


def merge_for_commit(batches: Iterable[PendingBatch]) -> list[PendingBatch]:
    """Merge the batches of one commit likewise. Merged tallies have only the counts of a
    receipt."""
    return [_joined(same, _receipt_counts(same)) for same in _alike(batches)]


def _alike(batches: Iterable[PendingBatch]) -> Collection[Sequence[PendingBatch]]:
    """Divide batches into those that may be merged."""
    found: dict[tuple[str, str, Granted, bytes | None], list[PendingBatch]] = {}
    for batch in batches:
        key = batch.layout.digest, batch.received, batch.granted, batch.id
        found.setdefault(key, []).append(batch)
    return found.values()


def _receipt_counts(batches: Sequence[PendingBatch]) -> Tally:
    total = Tally()
    for batch in batches:
        total.received += batch.tally.received
        total.admitted += batch.tally.admitted
        if batch.tally.rejected:
            total.rejected.update(batch.tally.rejected)
    return total


def _joined(batches: Sequence[PendingBatch], tally: Tally) -> PendingBatch:
    """Join batches into one; return a single one unchanged."""
    if len(batches) == 1:
        return batches[0]
    payload = b"".join(batch.payload for batch in batches)
    decoded = [batch.rows for batch in batches if batch.rows is not None]
    rows = [*chain.from_iterable(decoded)] if len(decoded) == len(batches) else None
    return replace(batches[0], payload=payload, tally=tally, rows=rows, stored=None)


def add_to_sums(sums: HourlySums, batch: PendingBatch) -> None:
    """Add dropped fields, content and bytes of a batch to the sums of its hour."""
    hour, tally = f"{batch.received[:13]}:00:00Z", batch.tally
    for name, reasons in tally.dropped.items():
        for reason, times in reasons.items():
            sums[hour, "dropped", name, reason] += times
    for category, times in tally.content.items():
        sums[hour, "content", category, ""] += times
    sums[hour, "bytes", "in", ""] += tally.bytes_in
    sums[hour, "bytes", "out", ""] += tally.bytes_out


_MOST_QUEUED_BYTES = 64 << 20
_MOST_WRITES = 10_000
_MOST_BEFORE = 8
"""A large request waits for at most this many commits of small ones."""
_RESERVE, _NOTHING = 10, 100
"""Divisors of a spool's limit. The spool is full when less than a hundredth is left, or when a
request finds no room. It stays full until there is room for that request and a tenth of the
limit."""
_MARK_SECONDS = 1.0
_MOST_MARKS = 256
_NEWLINE = ord("\n")


class PendingWrite(NamedTuple):
    """What one request adds to a commit: batches and its key, or notes for the ledger. The future
    is resolved after the commit, as in ``Spool.put``."""

    batches: tuple[PendingBatch, ...]
    key: RequestKey | None
    future: Written
    notes: tuple[Note, ...] = ()

    @property
    def keyed(self) -> tuple[RequestKey | None, Tally]:
        """The key, and the summed tally of all batches."""
        return self.key, sum((batch.tally for batch in self.batches), Tally())


class WriteQueue:
    """Pending writes: one FIFO queue of small ones and one of large ones. A large write has its
    turn when no small one is left, or after some commits of small ones. The owner must hold a
    lock."""

    def __init__(self) -> None:
        self._small, self._large = deque[PendingWrite](), deque[PendingWrite]()
        self._commits_before = 0
        self._bytes = 0
        self.taken_bytes: int = 0
        """Bytes of records that were taken and are not counted as stored yet."""

    def __len__(self) -> int:
        return len(self._small) + len(self._large)

    @property
    def bytes(self) -> int:
        """Bytes of records that are not counted as stored yet."""
        return self._bytes + self.taken_bytes

    def put(self, batches: Sequence[PendingBatch], key: RequestKey | None, room: int) -> Written:
        """Add batches. Raises ``DeliveryError`` E505 if all batches that are queued or taken, but
        not counted as stored, would have more than ``room`` bytes, and E425 if the queue is
        full."""
        size = self._bytes + size_of(batches)
        if size + self.taken_bytes > room:
            raise SpoolFull
        if self and (size > _MOST_QUEUED_BYTES or len(self) >= _MOST_WRITES):
            raise busy()
        future: Written = Future()
        queue = self._large if is_large(batches) else self._small
        queue.append(PendingWrite(tuple(batches), key, future))
        self._bytes = size
        return future

    def note(self, notes: Sequence[Note]) -> Written:
        """Add notes for the ledger; there is always room for them."""
        future: Written = Future()
        self._small.append(PendingWrite((), None, future, tuple(notes)))
        return future

    def take(self) -> list[PendingWrite]:
        """Remove the writes of the next commit; return them without cancelled ones."""
        if self._large and (not self._small or self._commits_before >= _MOST_BEFORE):
            self._commits_before = 0
            taken = [self._large.popleft()]
        else:
            self._commits_before += bool(self._large)
            taken = self._take_small()
        self._bytes -= sum(size_of(write.batches) for write in taken)
        taken = [write for write in taken if write.future.set_running_or_notify_cancel()]
        self.taken_bytes = sum(size_of(write.batches) for write in taken)
        return taken

    def _take_small(self) -> list[PendingWrite]:
        taken, size, rows = list[PendingWrite](), 0, 0
        while self._small:
            batches = self._small[0].batches
            size, rows = size + size_of(batches), rows + _rows(batches)
            if taken and (size > MOST_SHARED_BYTES or rows > MOST_EVENTS):
                break
            taken.append(self._small.popleft())
        return taken

    def count_taken(self) -> None:
        """Stop counting taken writes: the caller counts them as stored."""
        self.taken_bytes = 0

    def take_all(self) -> list[PendingWrite]:
        """Remove and return all writes, because none can be committed."""
        taken = []
        while self:
            taken += self.take()
        return taken


class Room:
    """Tells whether a spool or a sink's share of ``limit`` bytes is full. It stays full until a
    reserve is free: then a sink has really taken something, and the next requests fit, too."""

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self._wanted: int | None = None

    def refused(self, size: int) -> None:
        """Note that ``size`` bytes found no room. A request that does not fit into a nearly empty
        spool says nothing about sinks, and is not noted."""
        if size <= self.limit - self.limit // _RESERVE:
            self._wanted = max(size, self._wanted or 0)

    def is_full(self, waiting: int) -> bool:
        """Return whether the spool is full while ``waiting`` bytes wait for sinks."""
        room = self.limit - waiting
        if self._wanted is None and room < self.limit // _NOTHING:
            self._wanted = 0
        if self._wanted is not None and room >= self._wanted + self.limit // _RESERVE:
            self._wanted = None
        return self._wanted is not None


class Arrivals:
    """Times at which batches arrived: at most one a second, and fewer while very many wait."""

    def __init__(self) -> None:
        self._marks: deque[tuple[int, float]] = deque()

    def mark(self, sequence: int, seconds_ago: float = 0.0) -> None:
        """Note that a batch arrived ``seconds_ago``, and later batches no earlier."""
        now, marks = monotonic(), self._marks
        if marks and now - marks[-1][1] < _MARK_SECONDS:
            return
        if len(marks) >= _MOST_MARKS:
            self._marks = marks = deque(list(marks)[::2])
        marks.append((sequence, now - seconds_ago))

    def age(self, first: int | None) -> float:
        """Return the age in seconds of the first remaining batch; 0 if there is none."""
        if first is None:
            self._marks.clear()
            return 0.0
        while len(self._marks) > 1 and self._marks[1][0] <= first:
            self._marks.popleft()
        return self.age_of(first)

    def age_of(self, sequence: int) -> float:
        """Return the age in seconds of a batch that is no older than the first remaining one; 0 if
        it is unknown."""
        marks = self._marks
        found = next((at for number, at in reversed(marks) if number <= sequence), None)
        if found is None:
            return max(0.0, monotonic() - marks[0][1]) if marks else 0.0
        return max(0.0, monotonic() - found)

    def restore(self, sequence: int, minute: str) -> None:
        """Mark a batch from an earlier process by its minute."""
        with suppress(ValueError):
            age = datetime.now(UTC) - datetime.fromisoformat(minute)
            self.mark(sequence, max(0.0, age.total_seconds()))


class RecentBatches:
    """The newest batches whose rows are known, by number: sinks need not read and decode them.

    Its size is bounded: the oldest are forgotten first. One thread changes it, others may read.
    """

    def __init__(self) -> None:
        self.known: dict[int, Batch] = {}
        """Read only."""
        self._order: deque[int] = deque()
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<RecentBatches: {len(self._order)}>"

    def add(self, sequence: int, batch: Batch) -> None:
        """Add the newest batch, if its rows are known."""
        if batch.rows is None:
            return
        self.known[sequence] = batch
        self._order.append(sequence)
        self._bytes += _batch_size(batch)
        while self._bytes > _MOST_RECENT_BYTES:
            self._forget_first()

    def forget(self, last: int) -> None:
        """Forget the batches up to a number."""
        while self._order and self._order[0] <= last:
            self._forget_first()

    def _forget_first(self) -> None:
        self._bytes -= _batch_size(self.known.pop(self._order.popleft()))


def unwritable() -> DeliveryError:
    """Return the error for writes while the file cannot be written."""
    message = "the disk of the data directory takes nothing: make room on it, or see what the"
    return DeliveryError("E506", f"{message} system says of it; the spool then goes on by itself")


def busy() -> DeliveryError:
    """Return the error for a request while too many others are being stored."""
    return Overloaded("too much is being stored at once; send again later")


def size_of(batches: Sequence[PendingBatch]) -> int:
    """Return the bytes of records."""
    return sum(len(batch.payload) for batch in batches)


def is_large(batches: Sequence[PendingBatch]) -> bool:
    """Return whether a request has a commit of its own."""
    return size_of(batches) > MOST_SHARED_BYTES


def _rows(batches: Sequence[PendingBatch]) -> int:
    return sum(batch.record_count for batch in batches)


def check(batches: Sequence[PendingBatch]) -> None:
    """Raise ``ValueError`` for a tally that does not add up, for a payload that does not match it,
    and for more records or bytes than a request may become."""
    for batch in batches:
        tally, payload = batch.tally, batch.payload
        if tally.received != tally.admitted + sum(tally.rejected.values()):
            raise ValueError("a tally must add up")
        if bool(payload) != bool(tally.admitted) or (payload and payload[-1] != _NEWLINE):
            raise ValueError("a payload must be lines, and there if something was admitted")
    if size_of(batches) > MOST_BYTES or _rows(batches) > MOST_EVENTS:
        raise ValueError("a request must not become more than a batch may be")


def _batch_size(batch: Batch) -> int:
    return len(batch.payload) + _BATCH_BYTES
