"""The spool: a durable queue of minimised batches between the filter and the sinks.

One thread writes the file. It stores all pending writes as batches and receipts in one transaction,
and resolves their futures after the commit. Each sink has a cursor. A batch and its salt are
deleted once every sink that needs it has it, also a sink that is not named at present. Each sink
also has a share of the spool: when it is full, senders are refused, or the sink skips new batches.

A failed write or sync makes the connection unusable, and pages that it leaves in the page cache may
look written although they are not on disk. So before the spool acknowledges anything else, it
refuses all pending writes, reopens and checks the file, and writes the log into the file again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from collector.backoff import Backoff
from collector.contracts import (
    FIRST,
    LAST,
    SUMS,
    Backlog,
    Batch,
    Closing,
    Depth,
    Layout,
    PendingBatch,
    Removal,
    RequestKey,
    Share,
    SpoolState,
    Written,
)
from collector.errors import CollectorError, ConfigError, ConfigFaults, SpoolFull
from collector.filter.redaction import Rule
from collector.ledger import Ledger, Note
from collector.ledger.journal import append_all
from collector.spool.accounts import Seen
from collector.spool.checkpoints import IDLE_SECONDS, Checkpoints
from collector.spool.file import (
    Selection,
    SpoolFile,
    rewrite,
)
from collector.spool.lock import Lock
from collector.spool.recover import try_open
from collector.spool.tables import MOST_SHARED_BYTES, Account, stored
from collector.spool.write_queue import (
    Arrivals,
    HourlySums,
    PendingWrite,
    Room,
    WriteQueue,
    add_to_sums,
    check,
    is_large,
    merge,
    size_of,
    unwritable,
)
from collector.sqlite.connection import is_corrupt

FILE_NAME = "spool.db"
"""The name of the spool's file in a data directory."""
LIMIT = 1 << 30
"""The default limit of bytes of records that may be pending for sinks."""

_GATHER_SECONDS = 0.005
"""How long the writer waits for more requests if the last commit held several."""
_CURSOR_SECONDS = 0.05
"""How long moved cursors wait for batches to share a commit."""
_SUMS_SECONDS = 60.0
"""The least time between writes of hourly sums, so that they reveal nothing about single
requests."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_Result = TypeVar("_Result")


class Spool(Closing):
    """The spool of a data directory, which it locks. Safe to use from several threads. Batches wait
    for the ``sinks``, perhaps within their shares. Batches of a sink that is no longer named stay
    until it is named again or dropped; without sinks, all batches stay. ``layouts`` helps to
    recover batches from a damaged file. ``admit`` is called once with the file's ledger, before the
    file serves anyone. If it raises ``ConfigFaults``, the file is not used.

    Opening succeeds whatever the file holds. If the disk does not permit it now, the spool retries.
    Raises ``ConfigError`` E203 when the directory cannot be used, is in use, or its spool has
    another format, and what ``admit`` raises. ``refusal`` has the ``ConfigFaults`` of a later
    attempt.
    """

    # ``_changed`` guards all state, and ``_reading`` the file's reader. The order of locks is: the
    # one of ``_checkpoints``, then ``_reading``, then ``_changed``.

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        limit: int = LIMIT,
        sinks: Iterable[str] | Mapping[str, Share] = (),
        layouts: Iterable[Layout] = (),
        admit: Callable[[Ledger], None] | None = None,
    ) -> None:
        self.path: Path = Path(path)
        self.refusal: ConfigFaults | None = None
        self._admit = admit
        self.layouts: dict[str, Layout] = {layout.digest: layout for layout in layouts}
        self._limit = limit
        self._shares = self._shares_of(sinks)
        self._rooms = self._limited(self._shares)
        lock = threading.RLock()
        self._changed, self._arrived = threading.Condition(lock), threading.Condition(lock)
        self._gathered = 0  # requests of the last commit
        self._wanted = 0  # the number of requests that ends the writer's wait
        self._reading = threading.Lock()
        self._queue = WriteQueue()
        self._jobs: deque[tuple[Callable[[SpoolFile], Any], Future[Any]]] = deque()
        self._file: SpoolFile | None = None
        self._depth = Depth()
        self._seen = Seen()
        self._lags: dict[str, float] = {}
        self._last = 0
        self._cursors = dict.fromkeys(self._shares, 0)
        self._moved: set[str] = set()
        self._unreadable: set[int] = set()
        self._is_damaged = self._must_reopen = self._is_closing = False
        self._quarantined: list[str] = []
        self._errors = self._damaged = self._due_jobs = 0
        self._arrivals, self._summed = Arrivals(), monotonic()
        self._sums: HourlySums = Counter()
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._checkpoints = Checkpoints(self._reading, self._fail)
        self._thread = threading.Thread(target=self._run, name="collector-spool", daemon=True)
        self.lock: Lock = Lock(self.path.parent)
        try:
            self._open()
        except BaseException:
            self.lock.release()
            raise
        self._checkpoints.start()
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Spool of {self._depth.batches} batches>"

    @property
    def quarantined(self) -> list[str]:
        """The names of damaged files that were renamed since the start."""
        with self._changed:
            return list(self._quarantined)

    @property
    def is_open(self) -> bool:
        """Whether the file can be read at present."""
        return self._file is not None

    @property
    def last(self) -> int:
        """The number of the last receipt."""
        return self._last

    @property
    def delivered_up_to(self) -> int:
        """The number up to which all sinks, except those that may skip, have all batches."""
        with self._changed:
            found = self._cursors.items()
            must = (at for sink, at in found if not self._shares[sink].skips)
            return min(must, default=self._last if found else 0)

    # -- writing ----------------------------------------------------------------------------------

    def put(self, *batches: PendingBatch, key: RequestKey | None = None) -> Written:
        """Store the batches of one request in one commit. The future is resolved when they are on
        disk, or has ``DeliveryError`` E506 when they could not be stored. If one of the newest
        million requests had the same ``key``, nothing is added, and the result is what that request
        stored; else it is ``None``. A request without batches still stores its key. Raises at once:
        ``DeliveryError`` E505 when the spool is full, E506 while it cannot write, E425 while too
        much is being stored; ``ValueError`` for more than a request may become.
        """
        merged = [batch for batch in merge(batches) if batch.tally.received]
        check(merged)
        if is_large(merged):  # never merged with others, so they do not wait for the compression
            merged = [replace(batch, stored=stored(batch.payload)) for batch in merged]
        with self._changed:
            self._check_writable()
            if merged or key is not None:
                future = self._put(merged, key)
                if len(self._queue) >= self._wanted:
                    self._changed.notify_all()
            else:
                (future := Written()).set_result(None)
        return future

    def _put(self, batches: Sequence[PendingBatch], key: RequestKey | None) -> Written:
        """Add batches to the queue. If there is no room, note in which shares it is missing."""
        left = {name: room.limit - self._used(name) for name, room in self._rooms.items()}
        try:
            return self._queue.put(batches, key, min(left.values()))
        except SpoolFull:
            size = size_of(batches)
            for name, room in self._rooms.items():
                if self._queue.bytes + size > left[name]:
                    room.refused(size)
                    room.is_full(self._used(name))
            raise

    def _used(self, name: str) -> int:
        """Return how many bytes wait for a sink, or for an empty name in the whole spool."""
        return (self._seen.waiting.get(name, Depth()) if name else self._depth).bytes

    def _shares_of(self, sinks: Iterable[str] | Mapping[str, Share]) -> dict[str, Share]:
        """Return the share of each sink, limited to the size of the spool."""
        given = sinks if isinstance(sinks, Mapping) else dict.fromkeys(sinks, Share())
        return {
            name: Share(min(share.limit or self._limit, self._limit), share.skips)
            for name, share in given.items()
        }

    def _limited(self, shares: Mapping[str, Share]) -> dict[str, Room]:
        """Return the rooms that a request must fit into: the spool, and each share that is smaller
        than the spool and whose sink does not skip."""
        rooms = {"": Room(self._limit)}
        for name, share in shares.items():
            if not share.skips and share.limit is not None and share.limit < self._limit:
                rooms[name] = Room(share.limit)
        return rooms

    def note(self, *notes: Note) -> Written:
        """Add entries to the ledger. Resolved when they are on disk. Raises E506, also later."""
        with self._changed:
            self._check_writable()
            future = self._queue.note(notes)
            self._changed.notify_all()
        return future

    def rewrite(
        self, rules: Sequence[Rule], *, damaged: str = LAST, hours: str = FIRST
    ) -> Future[list[Removal]]:
        """Carry out rules, as ``collector.spool.file`` does. Resolved when the data are deleted.
        Raises E506, also later."""
        work = partial(rewrite, path=self.path, rules=rules, damaged=damaged, hours=hours)
        return self.submit(work)

    def drop(self, sink: str, note_of: Callable[[Depth], Note]) -> Future[Depth]:
        """Drop all that waits for a sink, and add an entry about it to the ledger, in one commit.
        The next commits, or ``delete_delivered``, delete what no other sink needs. The future
        returns how much waited. Raises E506, also later."""

        def work(file: SpoolFile) -> Depth:
            waited = file.accounts.waiting.get(sink, Depth())
            with file.transaction():
                file.drop(sink)
                append_all(file.db, self.path, [note_of(waited)])
            file.load()
            return waited

        return self.submit(work)

    def name(self, sinks: Iterable[str] | Mapping[str, Share]) -> Future[None]:
        """Take batches for other sinks, or with other shares, as if the file were opened for them.
        The drain of a sink that is no longer named must have stopped. Raises E506, also later: then
        the spool reopens the file for the new sinks."""
        shares = self._shares_of(sinks)
        with self._changed:
            known = {} if self._file is None else self._file.accounts.cursors
            moved = self._take_moved()
            self._shares, self._rooms = shares, self._limited(shares)
            self._cursors = {name: self._cursors.get(name, known.get(name, 0)) for name in shares}

        def work(file: SpoolFile) -> None:
            file.write([], moved, None, ())
            file.prepare((), shares)

        return self.submit(work)

    def set_aside(self, sink: str, sequence: int) -> bool:
        """Set aside the next batch of a sink in its present state; return whether it was still
        there. The change is on disk on return. Raises E506."""
        is_there = self.submit(lambda file: file.set_aside(sink, sequence)).result()
        self._advance(sink, sequence)
        return is_there

    def redelivered(self, sink: str, sequence: int) -> None:
        """Note on disk that a sink has a batch that was set aside. Raises E506."""
        self.submit(lambda file: file.redelivered(sink, sequence)).result()

    def waiting(self, sink: str) -> Future[Depth | None]:
        """Count what waits for a sink, absent or not; ``None`` for a sink that was never named.
        Raises E506, also later."""
        return self.submit(lambda file: file.accounts.waiting.get(sink))

    def delete_delivered(self) -> None:
        """Delete all batches that no sink needs. Raises E506."""
        while self.submit(lambda file: file.delete_delivered()).result():
            pass

    def submit(self, work: Callable[[SpoolFile], _Result]) -> Future[_Result]:
        """Run work on the file between two commits. Raises E506 while it cannot write."""
        future: Future[_Result] = Future()
        with self._changed:
            self._check_writable()
            self._jobs.append((work, future))
            self._changed.notify_all()
        return future

    def paused(self) -> AbstractContextManager[object]:
        """Pause commits for a block. All that the same thread writes in it shares the next
        commit."""
        return self._changed

    def close(self) -> None:
        """Commit pending writes, checkpoint and close the file, and unlock the directory."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
            self._arrived.notify_all()
        self._thread.join()
        self._checkpoints.close()
        self.lock.release()

    def _check_writable(self) -> None:
        if self._file is None or self._is_closing:
            raise unwritable()

    # -- reading ----------------------------------------------------------------------------------

    def after(self, sink: str, limit: int = 16) -> list[tuple[int, Batch]]:
        """Return the next batches for a sink, with their numbers: at most ``limit``, and no more
        after the first few MB.

        A sink that is not named has no next batches. Batches stay the next ones until ``delivered``
        is called. Their records are not decoded (``collector.filter.stored.read`` does that).
        Damaged batches are skipped, and the next commit quarantines them. Never blocks.
        """
        selected = Selection()
        try:
            with self._reading:
                at, last = self._cursors.get(sink), self._last
                if (file := self._file) is not None and at is not None:
                    selected = file.select(sink, at, last, limit)
                    if selected == Selection():  # receipts without records
                        self._advance(sink, last)
        except (sqlite3.Error, OSError) as error:
            self._fail(error)
        if selected.unreadable:
            with self._changed:
                self._unreadable |= selected.unreadable
                self._changed.notify_all()
        return selected.batches

    def delivered(self, sink: str, sequence: int) -> None:
        """Note that a sink has the batch with a number and all before it. The next commit stores
        this."""
        with self._changed:
            if sink in self._cursors:
                self._lags[sink] = self._arrivals.age_of(sequence)
        self._advance(sink, sequence)

    def _advance(self, sink: str, sequence: int) -> None:
        with self._changed:
            if sequence > self._cursors.get(sink, sequence):
                self._cursors[sink] = sequence
                self._moved.add(sink)
                self._changed.notify_all()

    def wait(self, sink: str, seconds: float) -> bool:
        """Wait up to ``seconds`` until a batch is pending for a sink; return whether one is."""

        def is_pending() -> bool:
            return self._file is not None and self._cursors.get(sink, self._last) < self._last

        with self._arrived:
            self._arrived.wait_for(lambda: self._is_closing or is_pending(), seconds)
            return is_pending()

    def depth(self) -> int:
        """Return the number of records that are pending for a sink."""
        return self._depth.records

    def absent(self) -> Mapping[str, Depth]:
        """Return how much waits for each unnamed sink for which something waits or is set aside."""
        return self._seen.absent

    def state(self) -> SpoolState:
        """Return the state at this moment."""
        with self._changed:
            is_ready, depth = self._file is not None and not self._is_closing, self._depth
            firsts = [self._first(sink) for sink in self._cursors]
            firsts += [] if self._seen.oldest is None else [self._seen.oldest]
            oldest = self._arrivals.age(min(firsts, default=1) if depth.batches else None)
            damaged = self._damaged + len(self._unreadable)
            return SpoolState(
                is_ready,
                depth.batches,
                depth.records,
                depth.bytes,
                self._limit,
                oldest,
                self._errors,
                damaged,
                is_full=self._rooms[""].is_full(depth.bytes),
                backlogs={sink: self._backlog(sink) for sink in self._cursors},
                absent={sink: self._backlog(sink) for sink in self._seen.absent},
            )

    def _first(self, sink: str) -> int:
        """Return a number before which nothing waits for a sink."""
        account = self._seen.rows.get(sink, Account())
        at = self._cursors.get(sink, account.cursor)
        return at + 1 if self._file is None else self._file.accounts.first_for(sink, at)

    def _backlog(self, sink: str) -> Backlog:
        """Return what waits for a sink, and the sums of its account."""
        depth, account = self._seen.waiting.get(sink, Depth()), self._seen.rows.get(sink, Account())
        room = self._rooms.get(sink) if sink else None
        share = self._shares.get(sink, Share(self._limit))
        return Backlog(
            depth.batches,
            depth.records,
            depth.bytes,
            self._arrivals.age_of(self._first(sink)) if depth.batches else 0.0,
            self._lags.get(sink, 0.0),
            share.limit or self._limit,
            is_full=room is not None and room.is_full(depth.bytes),
            is_skipping=account.since > 0,
            aside=self._seen.aside.get(sink, Depth()),
            **{name: getattr(account, name) for name in SUMS},
        )

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        """Commit until the spool is closed and nothing is pending."""
        if self._file is None:
            self._reopen()
        while (file := self._file) is not None and self._has_work():
            if not (self._commit(file) and self._do_job(file)):
                if self._is_closing:
                    break
                self._reopen()
        with self._changed:
            self._is_closing = True
            for _, future in self._jobs:
                future.set_exception(unwritable())
        self._close_file()

    def _has_work(self) -> bool:
        """Wait for work, including checkpoints of the log; return ``False`` at the end."""

        def is_woken() -> bool:
            must_end = self._is_damaged or self._must_reopen or self._is_closing
            return bool(self._queue or self._jobs or must_end)

        with self._changed:
            has_log = self._checkpoints.has_log.is_set
            if not (has_log() or self._sums):  # no work is due later
                self._changed.wait_for(lambda: is_woken() or self._moved)
            self._changed.wait_for(is_woken, _CURSOR_SECONDS if self._moved else IDLE_SECONDS)
            left = self._queue or self._jobs or self._moved or self._sums or has_log()
            return not self._is_closing or bool(left)

    def _commit(self, file: SpoolFile) -> bool:
        """Commit pending writes, and finish a checkpoint that is due. Return ``False`` if the file
        must be reopened."""
        with self._changed:
            self._gather()
            if self._is_damaged or self._must_reopen:
                return False
            writes, self._due_jobs = self._queue.take(), len(self._jobs)  # earlier jobs
            cursors = self._take_moved()
            unreadable = set(self._unreadable)
            self._gathered = len(writes)
        is_due = self._is_closing or monotonic() - self._summed >= _SUMS_SECONDS
        sums = self._sums if is_due else None
        has_log = self._checkpoints.has_log
        try:
            size = self._queue.taken_bytes
            if size > MOST_SHARED_BYTES and not file.has_room(size):  # then it is a single request
                self._refuse(writes)
                writes = []
            has_work = bool(writes or cursors or unreadable or sums or file.has_delivered)
            if not has_work or self._checkpoints.is_due:
                self._checkpoints.finish(is_idle=not has_work, is_last=self._is_closing)
            found = file.write(writes, cursors, sums, unreadable) if has_work else []
            if has_work:
                has_log.set()
        except Exception as error:  # noqa: BLE001 - after any error nothing may be acknowledged
            self._is_damaged = is_corrupt(error)
            self._refuse(writes)
            return False
        if sums:
            self._sums, self._summed = Counter(), monotonic()
        done = list(zip(writes, found, strict=True))
        self._update(file, unreadable, [write for write, earlier in done if earlier is None])
        for write, earlier in done:
            write.future.set_result(earlier)
        return True

    def _take_moved(self) -> dict[str, int]:
        """Return the cursors that the next commit must store, because they moved."""
        moved = {sink: self._cursors[sink] for sink in self._moved}
        self._moved.clear()
        return moved

    def _gather(self) -> None:
        """Wait a moment for more requests to share the commit, if the last one held several."""
        if self._gathered < 2 or not self._queue or self._is_closing:
            return
        self._wanted = self._gathered + 1
        self._changed.wait_for(
            lambda: self._is_closing or len(self._queue) >= self._wanted, _GATHER_SECONDS
        )
        self._wanted = 0

    def _do_job(self, file: SpoolFile) -> bool:
        """Do the next job, if there is one. Return ``False`` if the file must be reopened."""
        with self._changed:
            if not self._due_jobs or self._is_damaged or self._must_reopen:
                return True
            self._due_jobs -= 1
            work, future = self._jobs.popleft()
        try:
            with self._checkpoints.paused(), self._reading:
                result = work(file)
        except Exception as error:  # noqa: BLE001 - as in a commit
            self._is_damaged = is_corrupt(error)
            future.set_exception(unwritable())
            return False
        self._checkpoints.has_log.set()
        self._update(file, set(), [])
        future.set_result(result)
        return True

    def _fail(self, error: Exception) -> None:
        """Have the writer reopen the file, after another thread failed to use it."""
        with self._changed:
            self._must_reopen = True
            self._is_damaged |= is_corrupt(error)
            self._changed.notify_all()

    def _update(self, file: SpoolFile, unreadable: set[int], new: Sequence[PendingWrite]) -> None:
        """Update the state after a commit that added the writes ``new``."""
        with self._changed:
            self._copy(file)
            self._queue.count_taken()
            self._moved |= self._cursors.keys() if file.has_delivered else set()
            if any(write.batches for write in new):
                self._arrivals.mark(file.last)
                self._backoff.reset()
            self._unreadable -= unreadable
            self._damaged += len(unreadable)
            self._arrived.notify_all()
        for batch in chain.from_iterable(write.batches for write in new):
            add_to_sums(self._sums, batch)

    def _copy(self, file: SpoolFile) -> None:
        """Copy the present sizes and accounts of the file."""
        self._depth, self._last, self._seen = file.depth, file.last, file.accounts.seen()
        for name, room in self._rooms.items():
            room.is_full(self._used(name))

    def _refuse(self, writes: list[PendingWrite]) -> None:
        for write in writes:
            write.future.set_exception(unwritable())

    def _reopen(self) -> None:
        """Close the file, and retry opening it until that succeeds or the spool is closed."""
        with self._changed:
            self._errors += 1
        self._close_file()
        while not self._open():
            with self._changed:
                if self._changed.wait_for(lambda: self._is_closing, self._backoff.pause()):
                    return

    def _close_file(self) -> None:
        self._checkpoints.drop()
        with self._reading, self._changed:
            file, self._file = self._file, None
            self._refuse(self._queue.take_all())  # no more writes are added
            if file is not None:
                file.close()

    def _open(self) -> bool:
        """Open the file; return ``False`` if the system does not permit that now. Raises
        ``ConfigError`` E203, before the thread runs, when the file cannot be used at all."""
        opened, layouts, shares = None, self.layouts.values(), self._shares
        try:
            opened = try_open(
                self.path,
                layouts,
                shares,
                is_damaged=self._is_damaged,
                floor=self._last,
                admit=self._try_admit,
            )
        except ConfigError as error:
            if not self._thread.is_alive():
                raise
            self.refusal = error if isinstance(error, ConfigFaults) else None
        if opened is None:
            return False
        with self._reading, self._changed:
            self._quarantined += [path.name for path in opened.quarantined]
            self._damaged += len(opened.quarantined) + opened.has_new_chain
            self._is_damaged = self._must_reopen = False
            if shares is not self._shares:  # ``name`` changed the sinks meanwhile
                opened.file.close()
                return False
            file = self._file = opened.file
            found = {sink: file.accounts.rows[sink].cursor for sink in self._cursors}
            is_new = file.last < self._last  # the file was lost, so numbers start again
            known = found if is_new else self._cursors
            self._cursors = {sink: max(known[sink], at) for sink, at in found.items()}
            self._copy(file)
            moved = {sink for sink, at in found.items() if at != self._cursors[sink]}
            self._moved = set(found) if file.has_delivered else moved
            if (first := file.first()) is not None:
                self._arrivals.restore(*first)
            self._arrived.notify_all()
        self._checkpoints.take(file)
        return True

    def _try_admit(self, ledger: Ledger) -> None:
        """Call ``admit`` unless it has succeeded before. Raises its ``CollectorError``, and
        ``sqlite3.Error`` when the ledger cannot be read."""
        if self._admit is None:
            return
        try:
            self._admit(ledger)
        except CollectorError:
            raise
        except Exception as error:
            self._is_damaged = is_corrupt(error)
            raise sqlite3.OperationalError from error
        self._admit = None
