"""What waits in memory for the next commit. Not locked: whoever uses it holds a lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple

from collector.contracts import Entry
from collector.errors import DeliveryError
from collector.ledger.entry import Note

__all__ = ["Intake", "Waiting", "unwritable"]

_MOST_BYTES = 64 << 20
_MOST_ENTRIES = 10_000
_GROUP_BYTES = 1 << 20
"""A commit takes nothing further once it has so many bytes of records."""
_NEWLINE = ord("\n")


class Waiting(NamedTuple):
    """What one request gives: entries that go into one commit, the hash of its key if it has one,
    and the future that is told whether they are new once they are kept. Or notes for the ledger,
    alone."""

    entries: tuple[Entry, ...]
    key: bytes | None
    future: Future[bool]
    notes: tuple[Note, ...] = ()


class Intake:
    """What requests give, in order."""

    def __init__(self) -> None:
        self._queue: deque[Waiting] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, entries: Sequence[Entry], key: bytes | None, room: int) -> Future[bool]:
        """Take entries in, if there is room for so many bytes. Raises ``DeliveryError`` E505."""
        for entry in entries:
            _check(entry)
        waits = self._bytes + _size(entries)
        is_crowded = waits > _MOST_BYTES or len(self._queue) >= _MOST_ENTRIES
        if waits > room or (self._queue and is_crowded):
            raise DeliveryError("E505", "the spool is full; send again later")
        future: Future[bool] = Future()
        self._queue.append(Waiting(tuple(entries), key, future))
        self._bytes = waits
        return future

    def note(self, notes: Sequence[Note]) -> Future[bool]:
        """Take in what the ledger is to note; there is always room for that."""
        future: Future[bool] = Future()
        self._queue.append(Waiting((), None, future, tuple(notes)))
        return future

    def take(self) -> list[Waiting]:
        """What goes into the next commit; whoever gave up meanwhile is left out."""
        taken, size = [], 0
        while self._queue and size < _GROUP_BYTES:
            waiting = self._queue.popleft()
            size += _size(waiting.entries)
            if waiting.future.set_running_or_notify_cancel():
                taken.append(waiting)
        self._bytes -= size
        return taken

    def take_all(self) -> list[Waiting]:
        """Everything, for nothing of it will be kept."""
        taken = []
        while self._queue:
            taken += self.take()
        return taken


def unwritable() -> DeliveryError:
    """What the sender gets while the file is of no use."""
    return DeliveryError("E506", "the spool cannot write at present; send again later")


def _size(entries: Sequence[Entry]) -> int:
    return sum(len(entry.payload) for entry in entries)


def _check(entry: Entry) -> None:
    tally, payload = entry.tally, entry.payload
    if tally.received != tally.admitted + sum(tally.rejected.values()):
        raise ValueError("a tally must add up")
    if bool(payload) != bool(tally.admitted) or (payload and payload[-1] != _NEWLINE):
        raise ValueError("a payload must be lines, and there if something was admitted")
