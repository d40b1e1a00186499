"""How records get to where they go by way of a spool: they are on disk first."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from time import monotonic

from collector.backlog import Cleared, clear, prune
from collector.contracts import Batch, Entry, Spooled, Subject, Tally
from collector.errors import CollectorError, DeliveryError
from collector.filter.revision import Reason
from collector.ledger import Note
from collector.pipeline import Drain
from collector.schema import Schema
from collector.sdk.buffer import Buffer
from collector.sdk.delivery import Send
from collector.spool import Spool

__all__ = ["Detour", "amend"]


class Detour:
    """A delivery whose records go into a spool; from there threads take them to the sink, one for
    each spool. What is too old is taken out when the spools are opened, and by ``prune``."""

    def __init__(
        self,
        name: str,
        spools: list[Spool],
        send: Send,
        buffer: Buffer,
        *,
        schema: Schema,
        stack: ExitStack,
    ) -> None:
        self._spools, self._buffer, self._schema, self._stack = spools, buffer, schema, stack
        for spool in spools:
            _prune(spool, schema)
            buffer.recover(spool.depth())
        self._out = _Out(send, buffer)
        self._drains = [Drain(name, self._out, spool, turn=self._out.turn) for spool in spools]
        for drain in self._drains:
            drain.start()

    def keep(self, parcel: Spooled) -> None:
        number = parcel.payload.count(b"\n")
        tally = Tally(number, number, bytes_out=len(parcel.payload))
        entry = Entry(parcel.layout, parcel.received, parcel.payload, tally, parcel.granted)
        self._spools[0].put(entry).result()
        self._buffer.settle(number, spooled=True)

    def tidy(self) -> None:
        """The drains do."""

    def prune(self) -> None:
        with suppress(CollectorError), self.still(0.0) as spools:
            gone = sum(_prune(spool, self._schema) for spool in spools)
            self._buffer.forgo(gone, "expired")

    @contextmanager
    def still(self, seconds: float) -> Iterator[Sequence[Spool]]:
        turn = self._out.turn
        if not turn.acquire(timeout=seconds):
            raise DeliveryError("E510", "records are being delivered all the time; try again later")
        try:
            yield self._spools
        finally:
            turn.release()

    def close(self, seconds: float) -> None:
        deadline = monotonic() + seconds
        for drain in self._drains:
            drain.finish()
        for drain in self._drains:
            drain.join(max(0.0, deadline - monotonic()))
            drain.stop()
        for spool in self._spools:
            spool.close()
        if self._out.end():  # else a drain is still using the sink
            self._stack.close()


def amend(
    spool: Spool, reason: Reason, subject: Subject, *, rows: int, wait: float, buffer: Buffer | None
) -> Cleared:
    """Take out of a spool what somebody withdraws, and note in its ledger that this was done, and
    to so many rows of the sink. ``buffer`` has the account of its records, if that is ours.

    Raises ``DeliveryError`` E506, and ``ConfigError`` E203.
    """
    cleared = clear(spool, reason, since=datetime.fromisoformat(subject.start), wait=wait)
    if buffer is not None:
        buffer.forgo(cleared.outcome.gone, "withdrawn")
    entry = Note.of(
        "amendment",
        command="sdk withdraw",
        field=subject.field,
        rows=rows,
        batches=cleared.batches,
        files=cleared.files,
    )
    spool.note(entry).result()
    return cleared


class _Out:
    """The sink behind spools, for one drain at a time, which has the ``turn``; and counted."""

    def __init__(self, send: Send, buffer: Buffer) -> None:
        self.turn: threading.Lock = threading.Lock()
        self._send, self._buffer = send, buffer
        self._is_over = False

    def end(self) -> bool:
        """Deliver nothing more; whether nobody is delivering now."""
        is_free = self.turn.acquire(blocking=False)
        self._is_over = True
        if is_free:
            self.turn.release()
        return is_free

    def deliver(self, *batches: Batch) -> None:
        try:
            if self._is_over:
                raise DeliveryError("E510", "the time for delivery is over")
            refused = self._send(*batches)
        except DeliveryError as error:
            self._buffer.failed(error.code)
            raise
        if batches:
            self._buffer.unspool(sum(len(batch.records) for batch in batches), refused=refused)


def _prune(spool: Spool, schema: Schema) -> int:
    """As far as the disk lets us: what is left goes the next time. How many records are gone."""
    cleared = None
    with suppress(CollectorError):
        cleared = prune(spool, schema)
        if cleared:
            batches, files = cleared.batches, cleared.files
            spool.note(Note.of("prune", command="sdk prune", batches=batches, files=files))
    return cleared.outcome.gone if cleared else 0
