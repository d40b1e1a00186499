"""The way from the queue to the sink: from memory directly, or by way of a spool on disk."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING

from collector.contracts import Batch
from collector.filter.stored import read
from collector.sdk.queue import RecordQueue
from collector.sdk.sender import Sender

if TYPE_CHECKING:
    from collector.spool import Spool


class RecordDelivery:
    """Deliver from memory straight to the sink, and count the outcome in the queue's account. For
    one thread at a time, except ``sender.end_by``. ``stack`` closes the sink."""

    def __init__(self, sender: Sender, queue: RecordQueue, stack: ExitStack) -> None:
        self.sender: Sender = sender
        self._queue, self._stack = queue, stack

    def deliver(self, batch: Batch) -> None:
        """Deliver the batch in flight, and acknowledge it in the queue.

        Raises ``DeliveryError`` when it must be tried again.
        """
        records = read(batch)
        refused = self.sender.send(records) if records.records else 0
        self._queue.acknowledge(len(records.records), refused=refused)

    def tidy(self) -> None:
        """Do the sink's upkeep; called when no records have come for a while. Raises what the sink
        raises."""
        self.sender.send()

    def prune(self) -> None:
        """Remove what is over its retention from the spool, unless a delivery is under way. A sink
        prunes itself."""

    def paused(self, seconds: float) -> AbstractContextManager[Sequence[Spool]]:
        """Pause the delivery from the spools, and yield them.

        Raises ``DeliveryError`` E514 when that takes longer than so many seconds.
        """
        return nullcontext(())

    def before_fork(self, stack: ExitStack, seconds: float) -> None:
        """Keep threads out of SQLite, and let go of what a child process must not inherit, until
        the stack is closed. Waits so many seconds at most; the caller holds the queue's
        ``delivery_lock``."""
        self.sender.release()

    def after_fork(self) -> None:
        """Close in a child process what it inherited nevertheless."""

    def close(self, seconds: float) -> None:
        """Finish within so many seconds, and close the sink."""
        self._stack.close()
