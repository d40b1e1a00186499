"""The queue of writes for the next commit, and their grouping into batches of bounded size.

Batches of the same layout and minute, with the same granted purposes, share a batch and a receipt.
So a receipt is no trace of a single request where several arrive at once. A request that is too
large for one batch becomes parts, which share nothing with other requests and yield to them on
their way to the sinks.
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

from collector.contracts import Granted, PendingBatch, Tally
from collector.errors import DeliveryError
from collector.ledger.entry import Note

__all__ = [
    "MOST_BYTES",
    "MOST_ROWS",
    "Arrivals",
    "HourlySums",
    "JoinedBatches",
    "PendingWrite",
    "WriteQueue",
    "add_to_sums",
    "group",
    "merge",
    "split",
    "unwritable",
]

MOST_ROWS = 10_000
MOST_BYTES = 4 << 20
"""The most records of a batch, and their bytes: as much as a sink takes in one transaction while
other batches wait. A single record may be larger."""

_COUNTED_AT_ONCE = 1 << 16

HourlySums = Counter[tuple[str, str, str, str]]
"""Counts of an hour: by hour, by what is counted (``dropped``, ``content``, ``bytes``), by field,
category or direction, and by reason."""
_Key = tuple[str, str, Granted]


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
    for batches in requests:
        rows = [batch.record_count for batch in batches]
        if sum(rows) > MOST_ROWS or sum(len(batch.payload) for batch in batches) > MOST_BYTES:
            for batch in batches:
                yield from _parts(batch)
            continue
        for batch, number in zip(batches, rows, strict=True):
            key = _key(batch)
            open_group = open_groups.setdefault(key, _OpenGroup())
            if not open_group.has_room(batch, number):
                yield open_group.close()
                open_group = open_groups[key] = _OpenGroup()
            open_group.add(batch, number)
    for open_group in open_groups.values():
        yield open_group.close()


def split(payload: bytes) -> Iterator[bytes]:
    """Split NDJSON into pieces of whole lines that fit into a batch; only a piece of a single line
    may be larger."""
    start = 0
    while start < len(payload):
        end = payload.rfind(b"\n", start, start + MOST_BYTES) + 1
        if not end:
            end = payload.index(b"\n", start) + 1
        end = _end_of_rows(payload, start, end)
        yield payload[start:end]
        start = end


def _end_of_rows(payload: bytes, start: int, end: int) -> int:
    """Return the end of the most rows that a batch may have, or ``end`` if there are fewer. Each
    byte is counted once: senders wait meanwhile."""
    left = MOST_ROWS
    for at in range(start, end, _COUNTED_AT_ONCE):
        rows = payload.count(b"\n", at, min(at + _COUNTED_AT_ONCE, end))
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
    return batch.layout.digest, batch.received, batch.granted


def _join(batches: Sequence[PendingBatch], tally: Tally) -> PendingBatch:
    """Join batches with the same key into one; a single one stays as it is."""
    if len(batches) == 1:
        return batches[0]
    payload = b"".join(batch.payload for batch in batches)
    decoded = [batch.rows for batch in batches if batch.rows is not None]
    rows = [*chain.from_iterable(decoded)] if len(decoded) == len(batches) else None
    return replace(batches[0], payload=payload, tally=tally, rows=rows)


def _parts(batch: PendingBatch) -> Iterator[PendingBatch]:
    """Split a batch of a large request. The first part carries the whole tally, as a record may
    stand for several events; the others count nothing."""
    tally = batch.tally
    for payload in split(batch.payload) if batch.payload else (b"",):
        yield replace(batch, payload=payload, tally=tally, is_part=True, rows=None)
        tally = Tally()


_MOST_BYTES = 64 << 20
_MOST_WRITES = 10_000
_MARK_SECONDS = 1.0
_MOST_MARKS = 256
_COMMIT_BYTES = 1 << 20
"""A commit takes no further write once it has so many bytes of records."""
_NEWLINE = ord("\n")


class PendingWrite(NamedTuple):
    """What one request adds to one commit: batches and the hash of its key, or notes for the
    ledger. The future's result is whether the batches are new; it is set after the commit."""

    batches: tuple[PendingBatch, ...]
    key: bytes | None
    future: Future[bool]
    notes: tuple[Note, ...] = ()


class WriteQueue:
    """Pending writes, first in, first out. It is not locked: its owner holds a lock."""

    def __init__(self) -> None:
        self._queue: deque[PendingWrite] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, batches: Sequence[PendingBatch], key: bytes | None, room: int) -> Future[bool]:
        """Add batches, if they and those before them have at most ``room`` bytes. Raises
        ``DeliveryError`` E505 otherwise, and ``ValueError`` for a tally that does not add up."""
        for batch in batches:
            _check(batch)
        size = self._bytes + _size(batches)
        is_full = size > _MOST_BYTES or len(self._queue) >= _MOST_WRITES
        if size > room or (self._queue and is_full):
            raise DeliveryError("E505", "the spool is full; send again later")
        future: Future[bool] = Future()
        self._queue.append(PendingWrite(tuple(batches), key, future))
        self._bytes = size
        return future

    def note(self, notes: Sequence[Note]) -> Future[bool]:
        """Add notes for the ledger; there is always room for them."""
        future: Future[bool] = Future()
        self._queue.append(PendingWrite((), None, future, tuple(notes)))
        return future

    def take(self) -> list[PendingWrite]:
        """Remove and return the writes of the next commit, without those that were cancelled."""
        taken, size = [], 0
        while self._queue and size < _COMMIT_BYTES:
            write = self._queue.popleft()
            size += _size(write.batches)
            if write.future.set_running_or_notify_cancel():
                taken.append(write)
        self._bytes -= size
        return taken

    def take_all(self) -> list[PendingWrite]:
        """Remove and return all writes, when none of them can be committed."""
        taken = []
        while self._queue:
            taken += self.take()
        return taken


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
        return max(0.0, monotonic() - self._marks[0][1]) if self._marks else 0.0

    def restore(self, sequence: int, minute: str) -> None:
        """Mark the first batch of an earlier process by its minute."""
        with suppress(ValueError):
            age = datetime.now(UTC) - datetime.fromisoformat(minute)
            self.mark(sequence, max(0.0, age.total_seconds()))


def unwritable() -> DeliveryError:
    """Build the error that a sender gets while the file cannot be written."""
    return DeliveryError("E506", "the spool cannot write at present; send again later")


def _size(batches: Sequence[PendingBatch]) -> int:
    return sum(len(batch.payload) for batch in batches)


def _check(batch: PendingBatch) -> None:
    tally, payload = batch.tally, batch.payload
    if tally.received != tally.admitted + sum(tally.rejected.values()):
        raise ValueError("a tally must add up")
    if bool(payload) != bool(tally.admitted) or (payload and payload[-1] != _NEWLINE):
        raise ValueError("a payload must be lines, and there if something was admitted")
