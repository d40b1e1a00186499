"""Delivery through an on-disk spool: records are on disk first, and outlive the process.

A thread for each spool (``Drain``) delivers its batches; the drains share one sink. Processes that
run at the same time (workers, a tool started twice) have their own spools, in the subdirectories
``0``, ``1`` and so on. A process also delivers what earlier ones left in any free subdirectory.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic

from collector.contracts import (
    Batch,
    Layout,
    PendingBatch,
    Removal,
    Subject,
    Tally,
    count_lines,
)
from collector.drain import Drain
from collector.errors import CollectorError, ConfigError, DeliveryError, InUse
from collector.files import make_directories
from collector.filter.redaction import Rule
from collector.filter.stored import read
from collector.ledger import Note
from collector.retention.upkeep import clear, prune
from collector.schema import Schema
from collector.sdk.queue import RecordQueue
from collector.sdk.sender import BodyTooLarge, Sender, reason_of
from collector.sinks.sink import Sink
from collector.spool import FILE_NAME, Spool
from collector.spool.file import SpoolFile
from collector.spool.recover import delete_quarantined
from collector.spool.write_queue import ID_BYTES

_STOP_SECONDS = 0.5
"""How long an exchange may take to notice that its time is up."""
_MOST_SPOOLS = 1_000
_SINK = "target"
"""The name of an application's only sink in its spools, whatever its location. If the settings name
a new target, the waiting records go there."""


class SpooledDelivery:
    """Deliver into the first of ``spools``; drains deliver from all of them to the sink. Expired
    data is removed when the spools are opened, and by ``prune``."""

    def __init__(
        self,
        spools: list[Spool],
        sender: Sender,
        queue: RecordQueue,
        *,
        schema: Schema,
        stack: ExitStack,
    ) -> None:
        self.sender: Sender = sender
        self._spools, self._queue, self._schema = spools, queue, schema
        for spool in spools:
            _prune(spool, schema)
            queue.count_recovered(spool.depth())
        self._parked: list[tuple[Spool, SpoolFile]] = []
        self._shared = _SharedSender(sender, queue, stack)
        self._drains = [
            Drain(_SINK, _SpoolSink(self._shared), spool, lock=self._shared) for spool in spools
        ]
        for drain in self._drains:
            drain.start()

    def deliver(self, batch: Batch) -> None:
        """Write the batch to the spool."""
        number = count_lines(batch.payload)
        tally = Tally(number, number, bytes_out=len(batch.payload))
        layout = self._schema.layout
        pending = PendingBatch(layout, batch.received, batch.payload, tally, batch.granted)
        self._spools[0].put(pending).result()
        self._queue.acknowledge(number, spooled=True)

    def tidy(self) -> None:
        """Do nothing: the drains let the sink do its upkeep."""

    def prune(self) -> None:
        """Remove expired data from the spools, unless a drain is delivering."""
        with suppress(CollectorError), self.paused(0.0) as spools:
            gone = sum(_prune(spool, self._schema) for spool in spools)
            self._queue.count_spool_lost(gone, "expired")

    @contextmanager
    def paused(self, seconds: float) -> Iterator[Sequence[Spool]]:
        """Pause the drains, and yield the spools."""
        if not self._shared.acquire(seconds):
            raise DeliveryError("E514", "records are being delivered all the time; try again later")
        try:
            yield self._spools
        finally:
            self._shared.release()

    def before_fork(self, stack: ExitStack, seconds: float) -> None:
        """Release the sink, and park the threads that write spools between two commits."""
        deadline = monotonic() + seconds
        if self._shared.acquire(seconds if self.sender.is_local else 0.0):
            stack.callback(self._shared.release)
            self.sender.release()
        go_on = threading.Event()
        stack.callback(self._parked.clear)
        stack.callback(go_on.set)
        for spool in self._spools:
            parked: SimpleQueue[SpoolFile] = SimpleQueue()
            with suppress(CollectorError, Empty):
                spool.submit(partial(_park, parked, go_on))
                file = parked.get(timeout=max(0.0, deadline - monotonic()))
                self._parked.append((spool, file))

    def after_fork(self) -> None:
        """Close the handles of the spools, which are the parent's."""
        for spool, file in self._parked:
            file.close()
            spool.lock.release()

    def close(self, seconds: float) -> None:
        """Let the drains finish within ``seconds``, and close spools and sink."""
        deadline = monotonic() + seconds
        for drain in self._drains:
            drain.finish()
        for drain in self._drains:
            drain.join(max(0.0, deadline - monotonic()))
            drain.stop()
        self._shared.stop()  # before the spools close: they note what was counted
        for spool in self._spools:
            spool.close()


def _park(parked: SimpleQueue[SpoolFile], go_on: threading.Event, file: SpoolFile) -> None:
    """Keep the threads that write and read a spool out of its file."""
    parked.put(file)
    go_on.wait()


def claim(root: Path, limit: int, layouts: Iterable[Layout]) -> list[Spool]:
    """Open the spool of the first free subdirectory, and of each other free one that holds records.

    Raises ``ConfigError`` E203 when the directory cannot be used, or none is free.
    """
    found: list[Spool] = []
    with suppress(OSError):  # opening the spool reports why
        make_directories(root, Path(root.anchor))
    try:
        for number in range(_MOST_SPOOLS):
            directory = root / str(number)
            if found and not (directory / FILE_NAME).exists():
                if not directory.exists():
                    break
                continue
            spool = _open_if_free(directory, limit, layouts)
            if spool is None:
                continue
            if found and not spool.depth():
                spool.close()
            else:
                found.append(spool)
    except BaseException:
        for spool in found:
            spool.close()
        raise
    if found:
        return found
    raise ConfigError("E203", "all subdirectories of the spool's directory are in use")


@contextmanager
def open_unclaimed(root: Path, limit: int) -> Iterator[list[Spool]]:
    """Open the spools that no process has open.

    Raises ``ConfigError`` E203 when one cannot be used.
    """
    with ExitStack() as stack:
        directories = [path for path in root.glob("[0-9]*") if (path / FILE_NAME).exists()]
        found = (_open_if_free(path, limit, ()) for path in sorted(directories))
        yield [stack.enter_context(spool) for spool in found if spool is not None]


def _open_if_free(directory: Path, limit: int, layouts: Iterable[Layout]) -> Spool | None:
    try:
        return Spool(directory / FILE_NAME, limit=limit, sinks=[_SINK], layouts=layouts)
    except InUse:
        return None


def rewrite_spool(
    spool: Spool, rule: Rule, subject: Subject, *, rows: int, wait: float, queue: RecordQueue | None
) -> Removal:
    """Remove a person's data from a spool. Note that in its ledger, with the number of ``rows`` of
    the sink that were changed. ``queue`` has the account of the spool's records, if the spool is
    this ``Collector``'s.

    Raises ``DeliveryError`` E506, and ``ConfigError`` E203.
    """
    (cleared,) = clear(spool, [rule], wait=wait)
    since = datetime.fromisoformat(subject.start)
    cleared += Removal(files=delete_quarantined(spool.path, since=since))
    if queue is not None:
        queue.count_spool_lost(cleared.deleted, "withdrawn")
    entry = Note.of(
        "amendment",
        command="sdk withdraw",
        field=subject.field,
        rows=rows,
        batches=cleared.batches + cleared.damaged,
        files=cleared.files,
    )
    spool.note(entry).result()
    return cleared


class _SharedSender:
    """The sink of several spools, for one drain at a time. As a context manager it belongs to one
    drain, from reading batches until noting them as delivered. Counts the records in the queue's
    account."""

    def __init__(self, sender: Sender, queue: RecordQueue, stack: ExitStack) -> None:
        self._sender, self._queue, self._stack = sender, queue, stack
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._is_counted = self._is_stopped = False

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self, seconds: float = -1) -> bool:
        """Wait for the drain that has the sink. Returns whether the caller has it now."""
        return self._lock.acquire(timeout=seconds)

    def release(self) -> None:
        """Let the next drain have the sink. After ``stop``, close it."""
        try:
            with self._counting:
                self._is_counted = False
                is_stopped = self._is_stopped
            if is_stopped:
                self._stack.close()
        finally:
            self._lock.release()

    def stop(self) -> None:
        """Fail all later deliveries, and close the sink.

        A delivery under way has half a second to end. After that it is not counted: the spool
        closes, and the next process delivers the batch again. The sink is closed when that delivery
        ends.
        """
        is_free = self.acquire(_STOP_SECONDS)
        with self._counting:
            self._is_stopped, is_counted = True, self._is_counted
        if is_free or (is_counted and self.acquire()):  # what is counted is noted in a moment
            self.release()

    def deliver(self, batches: Sequence[Batch]) -> None:
        """Send batches of a spool to the sink."""
        try:
            if self._is_stopped:
                raise _too_late()
            number = sum(batch.record_count for batch in batches)
            if self._sender.is_local or not batches:
                refused = self._sender.send(*batches)
            else:
                refused = sum(map(self._send, batches))
        except BaseException as error:
            self._queue.count_failure(reason_of(error))
            raise
        with self._counting:
            if self._is_stopped:
                raise _too_late()
            if batches:
                self._is_counted = True
                self._queue.count_spool_delivered(number, refused=refused)

    def _send(self, batch: Batch) -> int:
        """Send a batch. If it is refused for its size, send its halves, and make smaller batches
        from now on. Return how many of its records are refused for good."""
        try:
            return self._sender.send(batch)
        except BodyTooLarge:
            self._queue.shrink(batch.payload.splitlines())
        return sum(map(self._send, _halves(batch)))


def _too_late() -> DeliveryError:
    return DeliveryError("E514", "the time for delivery is over")


class _SpoolSink(Sink):
    """The sink as the drain of one spool sees it."""

    def __init__(self, shared: _SharedSender) -> None:
        self._shared = shared

    def deliver(self, *batches: Batch) -> None:
        self._shared.deliver(batches)

    def idle(self) -> None:
        self._shared.deliver(())


def _halves(whole: Batch) -> Iterator[Batch]:
    """Yield the halves of a batch. The id of a half is computed from the batch's id, the half's
    place and its records. A half that is sent again keeps its id. If records were erased since, it
    gets another id, because the receiver would otherwise take it for the half that it has."""
    lines = whole.payload.splitlines(keepends=True)
    middle = len(lines) // 2
    for place, half in enumerate((lines[:middle], lines[middle:])):
        payload = b"".join(half)
        id_ = hmac.digest(whole.id + bytes([place]), payload, "sha256")[:ID_BYTES]
        yield read(replace(whole, id=id_, payload=payload))


def _prune(spool: Spool, schema: Schema) -> int:
    """Remove expired data, and return how many records are gone. After an error, the next pass
    removes the rest."""
    cleared = None
    with suppress(CollectorError):
        cleared = prune(spool, [schema])
        if cleared:
            batches, files = cleared.batches + cleared.damaged, cleared.files
            spool.note(Note.of("prune", command="sdk prune", batches=batches, files=files))
    return cleared.deleted if cleared else 0
