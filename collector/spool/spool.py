"""The spool: a durable queue of minimised batches between the filter and the sinks.

What ``put`` gives becomes a batch and a receipt in one transaction, together with everything else
that waits at that moment; its future is resolved after the commit. Each sink has a cursor, and a
batch goes, with its salt, once every sink has it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from collector.contracts import Closing, Entry, Layout, Spooled
from collector.ledger import Note
from collector.spool.intake import unwritable
from collector.spool.keys import hashed
from collector.spool.lock import Lock
from collector.spool.recover import is_corrupt
from collector.spool.revision import Outcome, Revision
from collector.spool.writer import Writer

__all__ = ["FILE_NAME", "LIMIT", "Spool", "State"]

FILE_NAME = "spool.db"
"""What the spool is called inside a data directory."""
LIMIT = 1 << 30
"""Bytes of records that may wait for delivery, unless said otherwise."""

_READ_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class State:
    """How the spool does. ``bytes`` are of records, out of ``limit``; ``oldest`` is in seconds.

    ``is_ready`` says that it takes entries; ``errors`` counts how often a write or a sync failed,
    ``damaged`` how many files and batches had to be set aside since the start.
    """

    is_ready: bool
    batches: int
    records: int
    bytes: int
    limit: int
    oldest: float
    errors: int
    damaged: int


class Spool(Closing):
    """The spool of a data directory, which it locks. Safe to use from several threads.

    ``sinks`` are those that batches wait for; one that was there before and is not any more is
    forgotten; without any, batches stay. ``layouts`` helps to save batches from a damaged file.

    Opening succeeds whatever the file holds; ``aside`` has the names of damaged ones that were set
    aside. Where the disk does not let it, it opens later by itself. Raises ``ConfigError`` E203
    when the directory cannot be used, is in use, or its spool is of a newer version.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        limit: int = LIMIT,
        sinks: Iterable[str] = (),
        layouts: Iterable[Layout] = (),
    ) -> None:
        self.path: Path = Path(path)
        self._limit = limit
        self._lock = Lock(self.path.parent)
        try:
            self._writer = Writer(self.path, layouts, tuple(sinks))
        except BaseException:
            self._lock.release()
            raise
        self._writer.start()

    def __repr__(self) -> str:
        return f"<Spool of {self._writer.depth.batches} batches>"

    @property
    def aside(self) -> list[str]:
        """The names of damaged files that were set aside since the start."""
        with self._writer.changed:
            return list(self._writer.aside)

    def put(self, *entries: Entry, key: bytes | None = None) -> Future[bool]:
        """Keep entries, all of them in one commit. The future is resolved when they are on disk, or
        has ``DeliveryError`` E506 when they could not be kept.

        ``key`` is random, and the sender's own for what it sends. If something was kept under the
        same one, the newest million of which are known, nothing is added, and the future says
        ``False``, else ``True``.

        Raises ``DeliveryError`` at once: E505 when the spool is full, E506 while it cannot write.
        """
        given = [entry for entry in entries if entry.tally.received]
        noted = None if key is None else hashed(key)
        writer = self._writer
        with writer.changed:
            if writer.file is None or writer.is_closing:
                raise unwritable()
            if not given:
                return _nothing()
            future = writer.intake.put(given, noted, self._limit - writer.depth.bytes)
            writer.changed.notify_all()
        return future

    def note(self, *notes: Note) -> Future[bool]:
        """Add entries to the ledger. The future is resolved when they are on disk, or has
        ``DeliveryError`` E506 when they could not be kept. Raises E506 while it cannot write."""
        writer = self._writer
        with writer.changed:
            if writer.file is None or writer.is_closing:
                raise unwritable()
            future = writer.intake.note(notes)
            writer.changed.notify_all()
        return future

    def revise(self, revision: Revision) -> Future[Outcome]:
        """Take out what is to go. The future is resolved when it is gone, or has ``DeliveryError``
        E506 when that could not be done. Raises E506 while the file cannot be written."""
        writer, future = self._writer, Future[Outcome]()
        with writer.changed:
            if writer.file is None or writer.is_closing:
                raise unwritable()
            writer.revisions.append((revision, future))
            writer.changed.notify_all()
        return future

    def after(self, sink: str, limit: int = 16) -> list[tuple[int, Spooled]]:
        """The next batches for a sink, with their numbers: at most so many, and a few MB of them.

        They stay the next until ``delivered`` says that the sink has them. Never waits.
        """
        writer, found, size = self._writer, list[tuple[int, Spooled]](), 0
        unreadable, is_spoilt, is_suspect = set[int](), False, False
        try:
            with writer.reading:
                at, last = writer.cursors[sink], writer.last
                while (file := writer.file) and len(found) < limit and size < _READ_BYTES:
                    row = file.next(at) if at < last else None
                    if row is None:
                        if not found and not unreadable:  # receipts without records
                            self.delivered(sink, last)
                        break
                    at, spooled = row
                    if spooled is None:
                        unreadable.add(at)
                    else:
                        found.append((at, spooled))
                        size += len(spooled.payload)
        except (sqlite3.Error, OSError) as error:
            is_spoilt, is_suspect = True, is_corrupt(error)
        if unreadable or is_spoilt:
            with writer.changed:
                writer.unreadable |= unreadable
                writer.is_spoilt |= is_spoilt
                writer.is_suspect |= is_suspect
                writer.changed.notify_all()
        return found

    def delivered(self, sink: str, sequence: int) -> None:
        """A sink has the batch of that number, and all before it. Noted on disk soon after."""
        writer = self._writer
        with writer.changed:
            if sequence > writer.cursors[sink]:
                writer.cursors[sink] = sequence
                writer.moved.add(sink)
                writer.changed.notify_all()

    def wait(self, sink: str, seconds: float) -> bool:
        """Wait until there is something for a sink, for so long at most; whether there is."""
        writer = self._writer

        def has_some() -> bool:
            return writer.file is not None and writer.cursors[sink] < writer.last

        with writer.changed:
            writer.changed.wait_for(lambda: writer.is_closing or has_some(), seconds)
            return has_some()

    @property
    def last(self) -> int:
        """The number of the last receipt."""
        return self._writer.last

    def depth(self) -> int:
        """How many records wait for a sink."""
        return self._writer.depth.records

    def oldest(self) -> float:
        """For how many seconds the oldest batch has been waiting; 0 if there is none."""
        return self.state().oldest

    def state(self) -> State:
        """How it does at this moment."""
        writer = self._writer
        with writer.changed:
            depth = writer.depth
            first = min(writer.cursors.values(), default=0) + 1 if depth.batches else None
            return State(
                writer.file is not None and not writer.is_closing,
                depth.batches,
                depth.records,
                depth.bytes,
                self._limit,
                writer.age.oldest(first),
                writer.errors,
                writer.damaged,
            )

    def close(self) -> None:
        """Commit what waits, fold the log into the file, close it, and let go of the directory."""
        with self._writer.changed:
            self._writer.is_closing = True
            self._writer.changed.notify_all()
        self._writer.join()
        self._lock.release()


def _nothing() -> Future[bool]:
    """An empty request is kept as soon as it is there."""
    future: Future[bool] = Future()
    future.set_result(True)
    return future
