"""The delivery of queued records: a thread, and the ways from the queue to the sink.

``DeliveryWorker`` takes batches out of the queue and retries each until it is delivered. A
``RecordDelivery`` hands them to a ``Sender`` directly, or by way of a spool on disk, and counts the
outcome in the queue's account.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from collector.contracts import Batch
from collector.errors import CollectorError
from collector.filter.redaction import Rule
from collector.filter.stored import read
from collector.schema import Schema
from collector.sdk.queue import RecordQueue
from collector.sdk.sender import BodyTooLarge, Sender, open_sender, reason_of
from collector.sdk.settings import Settings

if TYPE_CHECKING:
    from collector.spool import Spool

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 30.0
_PRUNE_SECONDS = 3600.0


class RecordDelivery(Protocol):
    """A way from the queue to a sink. One thread at a time may use it, except for
    ``sender.end_by``."""

    @property
    def sender(self) -> Sender:
        """The sink at the end."""

    def deliver(self, batch: Batch) -> None:
        """Deliver the batch in flight, and acknowledge it in the queue, or put it back.

        Raises ``DeliveryError`` when it must be tried again.
        """

    def tidy(self) -> None:
        """Do the sink's upkeep; called when no records have come for a while. Raises what the sink
        raises."""

    def prune(self) -> None:
        """Remove expired data from the spool, unless a delivery is under way."""

    def paused(self, seconds: float) -> AbstractContextManager[Sequence[Spool]]:
        """Pause the delivery from the spools, and yield them.

        Raises ``DeliveryError`` E514 when that takes longer than ``seconds``.
        """

    def before_fork(self, stack: ExitStack, seconds: float) -> None:
        """Until ``stack`` is closed, keep threads out of SQLite and release what a child process
        must not inherit. Waits at most ``seconds``."""

    def after_fork(self) -> None:
        """In a child process, close what it inherited nevertheless."""

    def close(self, seconds: float) -> None:
        """Finish within ``seconds``."""


class DirectDelivery:
    """Deliver from memory straight to the sink."""

    def __init__(self, sender: Sender, queue: RecordQueue, stack: ExitStack) -> None:
        self.sender: Sender = sender
        self._queue, self._stack = queue, stack

    def deliver(self, batch: Batch) -> None:
        """Send the batch. If it is refused for its size, put its records back for smaller
        batches."""
        records, refused = read(batch), 0
        try:
            if records.records:
                refused = self.sender.send(records)
        except BodyTooLarge:
            self._queue.put_back()
            return
        self._queue.acknowledge(len(records.records), refused=refused)

    def tidy(self) -> None:
        """Let the sink do its upkeep."""
        self.sender.send()

    def prune(self) -> None:
        """Do nothing: the sink prunes itself."""

    def paused(self, seconds: float) -> AbstractContextManager[Sequence[Spool]]:
        """Yield no spools."""
        return nullcontext(())

    def before_fork(self, stack: ExitStack, seconds: float) -> None:
        """Release the sink. The caller holds the queue's ``delivery_lock``."""
        self.sender.release()

    def after_fork(self) -> None:
        """Do nothing: ``before_fork`` has released the sink."""

    def close(self, seconds: float) -> None:
        """Close the sink."""
        self._stack.close()


def open_delivery(settings: Settings, schema: Schema, queue: RecordQueue) -> RecordDelivery:
    """Open the sink of the settings, and the spool if there is one.

    Raises ``ConfigError`` and ``DeliveryError`` when one cannot be used.
    """
    with ExitStack() as stack:
        sender = open_sender(settings, schema, stack)
        if settings.spool is None:
            return DirectDelivery(sender, queue, stack.pop_all())
        from collector.sdk.spooled_delivery import (  # noqa: PLC0415 - large, and rarely used
            SpooledDelivery,
            claim,
        )

        spools = claim(settings.spool, settings.spool_limit, [schema.layout])
        return SpooledDelivery(spools, sender, queue, schema=schema, stack=stack.pop_all())


class DeliveryWorker(threading.Thread):
    """The thread that delivers until the queue is closed and empty, or abandoned.

    A failed batch is retried after longer and longer pauses. If no delivery is given, ``opener``
    opens it, and is retried as well. Once an hour, expired fields are removed from waiting records.
    """

    def __init__(
        self,
        queue: RecordQueue,
        schema: Schema,
        opener: Callable[[], RecordDelivery],
        delivery: RecordDelivery | None = None,
    ) -> None:
        super().__init__(name="collector-sdk", daemon=True)
        self.delivery = delivery
        self._queue, self._schema, self._opener = queue, schema, opener
        self._next_prune = monotonic() + _PRUNE_SECONDS
        self._end = math.inf
        self._closing = threading.Lock()
        self._has_ended = False

    @property
    def has_ended(self) -> bool:
        """Whether the thread no longer uses the delivery."""
        return self._has_ended or not self.is_alive()

    def end_by(self, moment: float) -> None:
        """Limit exchanges with the receiver to this moment of ``time.monotonic``. Another thread
        calls it."""
        self._end = moment
        delivery = self.delivery
        if delivery is not None:
            delivery.sender.end_by(moment)

    def run(self) -> None:
        """Deliver. Once the queue is abandoned, close the delivery as soon as it returns."""
        try:
            while (in_flight := self._queue.take()) is not None:
                if in_flight.lines:
                    self._deliver_with_retries()
                elif self.delivery is not None:
                    self._tidy(self.delivery)
                self._prune()
        finally:
            # Set before asking the queue, so that exactly one of two threads closes the delivery.
            self._has_ended = True
        if self._queue.is_abandoned:
            self.close(0)

    def run_once(self) -> None:
        """Deliver in the calling thread, without a retry. The queue must be closed."""
        while self._queue.take() is not None:
            if not self._attempt():
                return

    def close(self, seconds: float) -> None:
        """Close the delivery. The thread must have ended."""
        with self._closing:
            delivery, self.delivery = self.delivery, None
        if delivery is not None:
            with suppress(CollectorError):
                delivery.close(seconds)

    def _deliver_with_retries(self) -> None:
        pause = _FIRST_PAUSE
        while not self._attempt():
            # Many processes that lost the same sidecar should not return at the same moment.
            if not self._queue.wait_for_retry(pause * random.uniform(0.5, 1.0)):  # noqa: S311
                return
            self._prune()
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _attempt(self) -> bool:
        """Try to deliver the batch in flight, and return whether that worked."""
        why = ""
        try:
            with self._queue.delivery_lock:
                if self.delivery is None:
                    self.delivery = self._opener()
                    self.delivery.sender.end_by(self._end)
                self.delivery.deliver(self._batch())
        except BaseException as error:  # the application must go on, whatever a sink raises
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is not self:
                raise  # from the application, which is closing
            why = reason_of(error)
        if why:
            self._queue.count_failure(why)
        return not why

    def _batch(self) -> Batch:
        in_flight = self._queue.in_flight
        payload = b"".join(in_flight.lines)
        layout = self._schema.layout
        return Batch(
            in_flight.id,
            in_flight.received,
            layout=layout,
            payload=payload,
            granted=in_flight.granted,
        )

    def _tidy(self, delivery: RecordDelivery) -> None:
        with self._queue.delivery_lock, suppress(BaseException):  # a sink may raise anything
            delivery.tidy()

    def _prune(self) -> None:
        if monotonic() < self._next_prune:
            return
        self._next_prune = monotonic() + _PRUNE_SECONDS
        expiry = Rule.expiry([self._schema], datetime.now(UTC))
        with self._queue.delivery_lock:
            self._queue.rewrite(expiry, "expired")
            if self.delivery is not None:
                self.delivery.prune()
