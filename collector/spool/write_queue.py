"""The queue of writes for the next commit, and their grouping into batches of bounded size.

Batches of the same layout and minute, with the same granted purposes, share a batch and a receipt.
So a receipt is no trace of a single request where several arrive at once. A request that is too
large for one batch becomes parts, which share nothing with other requests, and yield to them on
their way to the disk and to the sinks.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from time import monotonic
from typing import NamedTuple

from collector.contracts import (
    COUNTED_AT_ONCE,
    Batch,
    Granted,
    PendingBatch,
    RequestKey,
    Tally,
    Written,
    count_lines,
)
from collector.errors import DeliveryError, Overloaded, SpoolFull
from collector.ledger.entry import Note

ID_BYTES = 16
"""The length of a batch's id."""
MOST_ROWS = 10_000
MOST_BYTES = 4 << 20
"""The most records of a batch, and their bytes: as much as a sink takes in one transaction while
other batches wait. A single record may be larger."""
MOST_PART_BYTES = 1 << 19
"""The most bytes of a part, and of the writes of a commit: as much as is written while other
requests wait for their commit (on a disk that writes 100 MiB a second, 7 ms)."""
MOST_TOGETHER = 100
"""The most parts that are written, or deleted, in one transaction: 3 ms of work."""

_MOST_RECENT_BYTES = 4 << 20
"""Bytes of records of batches whose rows are kept, which take three times as many;"""
_BATCH_BYTES = 1 << 10
"""and what a batch takes besides."""

HourlySums = Counter[tuple[str, str, str, str]]
"""Counts of an hour: by hour, by what is counted (``dropped``, ``content``, ``bytes``), by field,
category or direction, and by reason."""
_Key = tuple[str, str, Granted, bytes | None]


def merge(batches: Sequence[PendingBatch]) -> Sequence[PendingBatch]:
    """Merge the batches of one request that have the same layout, minute and granted purposes, up
    to the bounds of a batch."""
    if len(batches) == 1:
        return batches
    joined = JoinedBatches()
    for batch in batches:
        joined.add(batch)
    return joined.close()


class JoinedBatches:
    """The batches of one request, joined as they come, so that their records are in memory once."""

    def __init__(self) -> None:
        self._open: dict[_Key, _OpenGroup] = {}
        self._done: list[PendingBatch] = []

    def add(self, batch: PendingBatch) -> None:
        """Add a batch, or a piece of one."""
        key, rows = _key(batch), batch.record_count
        open_group = self._open.setdefault(key, _OpenGroup())
        if not open_group.has_room(batch, rows):
            self._done.append(open_group.close(whole=True))
            open_group = self._open[key] = _OpenGroup()
        open_group.add(batch, rows)

    def close(self) -> list[PendingBatch]:
        """Return all batches."""
        return self._done + [open_group.close(whole=True) for open_group in self._open.values()]


def group(requests: Iterable[Sequence[PendingBatch]]) -> Iterator[PendingBatch]:
    """Group the batches of several requests into batches of bounded size, one at a time.

    The tallies of the result have only the counts that a receipt holds.
    """
    open_groups: dict[_Key, _OpenGroup] = {}
    for batch in chain.from_iterable(requests):
        key, rows = _key(batch), batch.record_count
        open_group = open_groups.setdefault(key, _OpenGroup())
        if not open_group.has_room(batch, rows):
            yield open_group.close()
            open_group = open_groups[key] = _OpenGroup()
        open_group.add(batch, rows)
    for open_group in open_groups.values():
        yield open_group.close()


def is_large(batches: Sequence[PendingBatch]) -> bool:
    """Return whether a request is too large for one commit, and becomes parts."""
    most = min(MOST_PART_BYTES, MOST_BYTES)
    return _size(batches) > most or sum(each.record_count for each in batches) > MOST_ROWS


def parts_before(batches: Iterable[PendingBatch]) -> Iterator[list[PendingBatch]]:
    """Yield the parts of a large request but for the last of each batch, as many as share a
    transaction. They count nothing, as a record may stand for several events."""
    most = min(MOST_PART_BYTES, MOST_BYTES)
    together, size, rows = list[PendingBatch](), 0, 0
    for batch in batches:
        for payload in split(batch.payload, most, _last_line(batch)):
            part = replace(batch, payload=payload, tally=Tally(), rows=None)
            size, rows = size + len(payload), rows + part.record_count
            if together and (size > most or rows > MOST_ROWS or len(together) >= MOST_TOGETHER):
                yield together
                together, size, rows = [], len(payload), part.record_count
            together.append(part)
    if together:
        yield together


def last_parts(batches: Iterable[PendingBatch]) -> Iterator[PendingBatch]:
    """Yield the last part of each batch: its last record, with the whole tally."""
    return (
        replace(batch, payload=batch.payload[_last_line(batch) :], rows=None) for batch in batches
    )


def _last_line(batch: PendingBatch) -> int:
    return batch.payload.rfind(b"\n", 0, -1) + 1


def split(payload: bytes, most: int | None = None, to: int | None = None) -> Iterator[bytes]:
    """Split NDJSON into pieces of whole lines that fit into a batch, or into ``most`` bytes; only a
    piece of a single line may be larger. The lines end at ``to``."""
    start, most = 0, MOST_BYTES if most is None else most
    to = len(payload) if to is None else to
    while start < to:
        end = payload.rfind(b"\n", start, min(start + most, to)) + 1
        if not end:
            end = payload.index(b"\n", start) + 1
        end = _end_of_rows(payload, start, end)
        yield payload[start:end]
        start = end


def _end_of_rows(payload: bytes, start: int, end: int) -> int:
    """Return the end of the most rows that a batch may have, or ``end`` if there are fewer. Each
    byte is counted once: senders wait meanwhile."""
    left = MOST_ROWS
    for at in range(start, end, COUNTED_AT_ONCE):
        rows = count_lines(payload[at : min(at + COUNTED_AT_ONCE, end)])
        if rows >= left:
            last = at - 1
            for _ in range(left):
                last = payload.index(b"\n", last + 1)
            return last + 1
        left -= rows
    return end


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


class _OpenGroup:
    """Batches with the same key, as many as fit into one batch."""

    def __init__(self) -> None:
        self._batches: list[PendingBatch] = []
        self._rows = self._bytes = 0

    def has_room(self, batch: PendingBatch, rows: int) -> bool:
        fits = self._bytes + len(batch.payload) <= MOST_BYTES
        return not self._batches or (fits and self._rows + rows <= MOST_ROWS)

    def add(self, batch: PendingBatch, rows: int) -> None:
        self._batches.append(batch)
        self._rows += rows
        self._bytes += len(batch.payload)

    def close(self, *, whole: bool = False) -> PendingBatch:
        """Join the batches, with their whole tallies or only the counts that a receipt holds."""
        total = Tally()
        for batch in self._batches:
            if whole:
                total += batch.tally
                continue
            total.received += batch.tally.received
            total.admitted += batch.tally.admitted
            if batch.tally.rejected:
                total.rejected.update(batch.tally.rejected)
        return _join(self._batches, total)


def _key(batch: PendingBatch) -> _Key:
    return batch.layout.digest, batch.received, batch.granted, batch.id


def _join(batches: Sequence[PendingBatch], tally: Tally) -> PendingBatch:
    """Join batches with the same key into one; a single one stays as it is."""
    if len(batches) == 1:
        return batches[0]
    payload = b"".join(batch.payload for batch in batches)
    decoded = [batch.rows for batch in batches if batch.rows is not None]
    rows = [*chain.from_iterable(decoded)] if len(decoded) == len(batches) else None
    return replace(batches[0], payload=payload, tally=tally, rows=rows)


_MOST_BYTES = 64 << 20
_MOST_WRITES = 10_000
_RESERVE, _NOTHING = 10, 100
"""Parts of a spool's limit: it is full with less than a hundredth left, or when a request finds no
room, and then until there is room for that request and a tenth."""
_MARK_SECONDS = 1.0
_MOST_MARKS = 256
_NEWLINE = ord("\n")


class PendingWrite(NamedTuple):
    """What one request adds to one commit: batches and its key, or notes for the ledger. The future
    is resolved after the commit, as ``Spool.put`` says."""

    batches: tuple[PendingBatch, ...]
    key: RequestKey | None
    future: Written
    notes: tuple[Note, ...] = ()

    @property
    def keyed(self) -> tuple[RequestKey | None, Tally]:
        """The key, and the counts of all batches."""
        return self.key, sum((batch.tally for batch in self.batches), Tally())


class WriteQueue:
    """Pending writes, first in, first out. It is not locked: its owner holds a lock.

    ``large`` are the large requests among those that were taken. The first of them is written now,
    part by part; others with its key wait behind it.
    """

    def __init__(self) -> None:
        self.large: deque[PendingWrite] = deque()
        self._queue: deque[PendingWrite] = deque()
        self._bytes = self._large_bytes = self._taken_bytes = 0

    def __len__(self) -> int:
        return len(self._queue) + len(self.large)

    def put(self, batches: Sequence[PendingBatch], key: RequestKey | None, room: int) -> Written:
        """Add batches, if they and those before them, also those that were taken and not counted
        since, have at most ``room`` bytes. Raises ``DeliveryError`` E505 otherwise, E425 if too
        much is in the queue, and ``ValueError`` for a tally that does not add up."""
        for batch in batches:
            _check(batch)
        size = self._bytes + _size(batches)
        is_full = size > _MOST_BYTES or self._large_bytes > 2 * _MOST_BYTES
        is_full = is_full or len(self) >= _MOST_WRITES
        before = self._large_bytes + self._taken_bytes
        if size + before > room:
            raise SpoolFull
        if len(self) and is_full:
            raise busy()
        future: Written = Future()
        self._queue.append(PendingWrite(tuple(batches), key, future))
        self._bytes = size
        return future

    def note(self, notes: Sequence[Note]) -> Written:
        """Add notes for the ledger; there is always room for them."""
        future: Written = Future()
        self._queue.append(PendingWrite((), None, future, tuple(notes)))
        return future

    def take(self) -> list[PendingWrite]:
        """Remove and return the writes of the next commit, without those that were cancelled, and
        those that are ``large``."""
        taken, size = list[PendingWrite](), 0
        while self._queue:
            write = self._queue[0]
            written = _size(write.batches)
            if taken and size + written > MOST_PART_BYTES:
                break
            self._queue.popleft()
            self._bytes -= written
            if not write.future.set_running_or_notify_cancel():
                continue
            if is_large(write.batches) or self._is_copy(write.key):
                self.large.append(write)
                self._large_bytes += written
            else:
                taken.append(write)
                size += written
        self._taken_bytes = size
        return taken

    def count_taken(self) -> None:
        """Count what was taken no more: it is counted as stored."""
        self._taken_bytes = 0

    def take_large(self) -> PendingWrite:
        """Remove and return the first of the large requests."""
        write = self.large.popleft()
        self._taken_bytes = _size(write.batches)
        self._large_bytes -= self._taken_bytes
        return write

    def take_all(self) -> list[PendingWrite]:
        """Remove and return all writes, when none of them can be committed."""
        taken = []
        while self._queue:
            taken += self.take()
        while self.large:
            taken.append(self.take_large())
        return taken

    def _is_copy(self, key: RequestKey | None) -> bool:
        """Return whether a large request that is not written yet has the same key."""
        if key is None:
            return False
        return any(each.key is not None and each.key.key == key.key for each in self.large)


class Room:
    """Whether a spool with a ``limit`` of bytes is full, and remains so until there is a reserve:
    then a sink has really taken something, and the next requests fit, too."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._wanted: int | None = None

    def refused(self, size: int) -> None:
        """Note that so many bytes found no room. A request that would not fit into a spool that is
        nearly empty says nothing about sinks."""
        if size <= self._limit - self._limit // _RESERVE:
            self._wanted = max(size, self._wanted or 0)

    def is_full(self, waiting: int) -> bool:
        """Return whether the spool is full while so many bytes wait for sinks."""
        room = self._limit - waiting
        if self._wanted is None and room < self._limit // _NOTHING:
            self._wanted = 0
        if self._wanted is not None and room >= self._wanted + self._limit // _RESERVE:
            self._wanted = None
        return self._wanted is not None


class Arrivals:
    """Times at which batches arrived: at most one a second, and fewer while very many wait."""

    def __init__(self) -> None:
        self._marks: deque[tuple[int, float]] = deque()

    def mark(self, sequence: int, seconds_ago: float = 0.0) -> None:
        """Note that a batch arrived so long ago, and those after it no earlier."""
        now, marks = monotonic(), self._marks
        if marks and now - marks[-1][1] < _MARK_SECONDS:
            return
        if len(marks) >= _MOST_MARKS:
            self._marks = marks = deque(list(marks)[::2])
        marks.append((sequence, now - seconds_ago))

    def age(self, first: int | None) -> float:
        """Return the age in seconds of the first batch that is left; 0 if there is none."""
        if first is None:
            self._marks.clear()
            return 0.0
        while len(self._marks) > 1 and self._marks[1][0] <= first:
            self._marks.popleft()
        return self.age_of(first)

    def age_of(self, sequence: int) -> float:
        """Return the age in seconds of a batch that is no older than the first that is left; 0 if
        it is not known."""
        marks = self._marks
        found = next((at for number, at in reversed(marks) if number <= sequence), None)
        if found is None:
            return max(0.0, monotonic() - marks[0][1]) if marks else 0.0
        return max(0.0, monotonic() - found)

    def restore(self, sequence: int, minute: str) -> None:
        """Mark the first batch of an earlier process by its minute."""
        with suppress(ValueError):
            age = datetime.now(UTC) - datetime.fromisoformat(minute)
            self.mark(sequence, max(0.0, age.total_seconds()))


class RecentBatches:
    """The newest batches whose rows are known, by number: sinks need not read and decode them.

    Of bounded size: the oldest are forgotten first. One thread changes it, others may read.
    """

    def __init__(self) -> None:
        self.known: dict[int, Batch] = {}
        """Only to be read."""
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


def _size(batches: Sequence[PendingBatch]) -> int:
    return sum(len(batch.payload) for batch in batches)


def _check(batch: PendingBatch) -> None:
    tally, payload = batch.tally, batch.payload
    if tally.received != tally.admitted + sum(tally.rejected.values()):
        raise ValueError("a tally must add up")
    if bool(payload) != bool(tally.admitted) or (payload and payload[-1] != _NEWLINE):
        raise ValueError("a payload must be lines, and there if something was admitted")


def _batch_size(batch: Batch) -> int:
    return len(batch.payload) + _BATCH_BYTES
