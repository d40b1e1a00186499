"""Deliver the batches of a spool to sinks. Each sink has its own thread and pace."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import lru_cache, partial
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Any, TypeVar

from collector.backoff import Backoff
from collector.contracts import Batch, DeliveryState, Granted, layout_of
from collector.errors import (
    CAUSES,
    Cause,
    DeliveryError,
    NoTurn,
    Unacceptable,
    is_answer,
)
from collector.filter.stored import read
from collector.sinks.sink import Sink, close_sink, contained
from collector.spool import Spool
from collector.spool.tables import aside_batches

FieldsFor = Callable[[str, str, Granted], Container[str] | None]
"""Returns the fields of records that reach a sink, from the names of sink and schema and the
granted purposes; ``None`` for all. Raises ``LookupError`` if a schema is no longer in the
configuration."""
_CACHED_FIELDS = 64
_Result = TypeVar("_Result")

_MOST_BATCHES = 256
_GATHER_SECONDS = 0.1
"""How long batches accumulate, because a sink takes many at once with less effort."""
_POLL_SECONDS = 0.25
_IDLE_SECONDS = 3600.0
"""A sink gets time to tidy up at least this often, however much comes in."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0
"""Seconds between a failure and the next try."""
_ENOUGH_BYTES = 1 << 20
"""Bytes of records that are delivered without waiting for more to share their transaction."""
_MOST_FAILURES = 10
"""After more failures of a batch, another batch is tried to find out whether the batch or the sink
is at fault."""


class _NoFields(Exception):
    """A batch of a schema that is no longer in force, for a sink that gets some fields only. It is
    set aside until the schema is in force again."""


def _reason(error: BaseException) -> tuple[Cause, str]:
    """Return the word for why a sink failed, and the code of its server's answer. The exception may
    come from any package."""
    if isinstance(error, Unacceptable):
        return "batch", ""
    with suppress(BaseException):
        if isinstance(error, DeliveryError) and error.cause in CAUSES:
            return error.cause, error.answer if is_answer(error.answer) else ""
    return "failed", ""


def all_fields(_sink: str, _schema: str, _granted: Granted) -> None:
    """Let every field reach every sink."""


def redeliver(name: str, sink: Sink, spool: Spool, fields_for: FieldsFor) -> int:
    """Deliver the batches again that were set aside for a sink; return how many it took. Those are
    no longer set aside. Raises ``DeliveryError`` E506 and E507."""
    taken = 0
    for each in aside_batches(spool.path):
        if each.sink != name:
            continue
        is_taken = False
        with contained():
            batch = each.batch
            fields = fields_for(name, layout_of(batch).table, batch.granted)
            sink.deliver(read(batch, fields))
            is_taken = True
        if is_taken:
            spool.redelivered(name, each.number)
            taken += 1
    return taken


class Drain(threading.Thread):
    """Deliver the batches of a spool to one sink, in order, each until the sink takes it, with the
    fields that reach the sink.

    It holds ``lock`` from reading batches until they are noted as delivered.
    """

    def __init__(
        self,
        sink_name: str,
        sink: Sink | Callable[[], Sink],
        spool: Spool,
        fields_for: FieldsFor = all_fields,
        lock: AbstractContextManager[object] | None = None,
        *,
        sets_aside: bool = False,
    ) -> None:
        super().__init__(name=f"collector-drain-{sink_name}", daemon=True)
        self.sink_name = sink_name
        self.delivery: DeliveryState = DeliveryState(last=monotonic())
        self.left: bool = True
        self._sink: Sink | None = None
        self._make: Callable[[], Sink] | None = None
        if callable(sink):
            self._make = sink
        else:
            self._sink = sink
        self._spool = spool
        self._lock = lock or nullcontext()
        self._sets_aside = sets_aside
        self.route(fields_for)
        self._ending = threading.Event()
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._due = 0.0
        self._limit = _MOST_BATCHES
        self._is_failing = self._is_full = False
        self._failed = self._failures = self._taken_before = 0
        self._stopped = self._has_ended = self._is_retired = False
        self._work: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self._idle_backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._idle_after = 0.0
        self._idled_at = monotonic()

    def route(self, fields_for: FieldsFor) -> None:
        """Use another flow matrix from the next batch on."""
        self._fields = lru_cache(_CACHED_FIELDS)(partial(fields_for, self.sink_name))

    def reopen(self, make: Callable[[], Sink]) -> None:
        """Have the sink closed and reopened between two deliveries. If that fails, it is tried
        again before each delivery."""
        self.submit(partial(self._close, make))

    def _close(self, make: Callable[[], Sink] | None = None) -> None:
        sink, self._sink, self._make = self._sink, None, make
        if sink is not None:
            close_sink(sink)

    @property
    def _opened(self) -> Sink:
        """The sink; makes it first if that is due."""
        if self._sink is None:
            assert self._make is not None  # noqa: S101 - sink or maker exists until the end
            self._sink = self._make()
        return self._sink

    def submit(self, work: Callable[[], _Result]) -> Future[_Result]:
        """Have work on the sink done in this thread, between two deliveries."""
        future: Future[_Result] = Future()
        self._work.put((work, future))
        if self._has_ended:
            self._reject_work()
        return future

    def _do_work(self) -> None:
        """Run the submitted work."""
        while not self._work.empty():
            work, future = self._work.get_nowait()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                with self._lock, self._timed():
                    result = work()
            except BaseException as error:  # noqa: BLE001 - the waiting thread gets it
                future.set_exception(error)
            else:
                future.set_result(result)

    def _reject_work(self) -> None:
        """Reject submitted work that will not run any more."""
        with suppress(Empty):
            while True:
                _, future = self._work.get_nowait()
                if future.set_running_or_notify_cancel():
                    message = f"the delivery to {self.sink_name} has ended"
                    future.set_exception(NoTurn(message))

    def finish(self) -> None:
        """Deliver all pending batches, then end."""
        self._ending.set()

    def stop(self, *, is_retired: bool = False) -> None:
        """End after the current batch; with ``is_retired``, also close the sink."""
        self._is_retired = is_retired
        self._stopped = True
        self._ending.set()

    def run(self) -> None:
        """Deliver until ``finish`` or ``stop``; retry a failing sink with exponential backoff."""
        try:
            while not self._stopped:
                is_last = self._ending.is_set()
                self._do_work()
                if self._deliver() and not self._must_idle:
                    if not self._is_full:
                        self._ending.wait(_GATHER_SECONDS)
                    continue
                self.left = self._is_failing
                if self.left:
                    self._pause(is_last=is_last)
                elif is_last:
                    return
                elif self._spool.wait(self.sink_name, _POLL_SECONDS) and not self._must_idle:
                    self._ending.wait(_GATHER_SECONDS)
                else:
                    self._idle()
        finally:
            self.left = self._is_failing or self._spool.wait(self.sink_name, 0.0)
            self.delivery.failing |= self.left
            self._has_ended = True
            self._reject_work()
            if self._is_retired:
                self._close()

    @property
    def _must_idle(self) -> bool:
        return monotonic() >= self._idled_at + _IDLE_SECONDS

    def _pause(self, *, is_last: bool) -> None:
        """Wait for the next try of a batch that failed."""
        if is_last:
            sleep(_FIRST_PAUSE)
            self._due = 0.0
        else:
            self._ending.wait(min(max(self._due - monotonic(), 0.0), _POLL_SECONDS))

    def _idle(self) -> None:
        """Give the sink time to tidy up; if it fails, try again later."""
        if monotonic() < self._idle_after:
            return
        self._idled_at = monotonic()
        try:
            with self._lock, self._timed():
                self._opened.idle()
        except BaseException as error:  # noqa: BLE001 - as when batches are delivered
            self._count_failure(error)
            self._idle_after = monotonic() + self._idle_backoff.pause()
        else:
            self.delivery.failing = False
            self._idle_backoff.reset()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Note in the state when a call of the sink began."""
        self.delivery.since = monotonic()
        try:
            yield
        finally:
            self.delivery.since = None

    def _count_failure(self, error: BaseException) -> None:
        self.delivery.fail(*_reason(error))

    def _deliver(self) -> bool:
        """Deliver the next batches, if there are some; return whether the sink took them, or one
        was set aside."""
        if monotonic() < self._due or self._stopped:
            return False
        try:
            with self._lock:
                pending = self._spool.after(self.sink_name, self._limit)
                if not pending and self._is_failing and not self._spool.is_open:
                    self._due = monotonic() + _POLL_SECONDS  # the spool cannot be read
                    return False
                if not pending:
                    self._limit, self._is_full = _MOST_BATCHES, False
                    self._succeed()
                    return False
                self.left = True
                size = sum(len(batch.payload) for _, batch in pending)
                self._is_full = len(pending) == self._limit or size >= _ENOUGH_BYTES
                with self._timed():
                    self._hand_over(pending)
                self._spool.delivered(self.sink_name, pending[-1][0])
        except BaseException as error:  # noqa: BLE001 - the batches stay next, whatever the error
            self._fail(error)
            return False
        self._succeed()
        self.delivery.failing = False
        return True

    def _fail(self, error: BaseException) -> None:
        """Retry after a pause, one batch at a time, so that the sink gets all batches before the
        one that it cannot take."""
        self._is_failing, self._limit = True, 1
        self._due = monotonic() + self._backoff.pause()
        self._count_failure(error)

    def _succeed(self) -> None:
        """Clear the failure and its pause."""
        self._is_failing, self._due = False, 0.0
        self._backoff.reset()

    def _hand_over(self, pending: Sequence[tuple[int, Batch]]) -> None:
        """Deliver batches; a single one that the sink will never take is set aside instead."""
        try:
            self._opened.deliver(*(self._read(batch) for _, batch in pending))
        except BaseException as error:
            number, batch = pending[0]
            if not self._sets_aside or len(pending) > 1:
                raise
            if not self._is_unacceptable(number, batch, error):
                raise
            if self._spool.set_aside(self.sink_name, number):
                self.delivery.causes["batch"] += 1
        else:
            self.delivery.delivered += len(pending)
            self.delivery.last = monotonic()

    def _is_unacceptable(self, number: int, batch: Batch, error: BaseException) -> bool:
        """Return whether the batch caused a failure, not the sink: the sink says so, the batch's
        fields are unknown, or the batch failed more than ten times while the sink took another one,
        and fails once more."""
        if isinstance(error, Unacceptable) and error.batch == batch.id:
            return True
        if isinstance(error, _NoFields):
            return True
        if self._failed != number:
            self._failed, self._failures = number, 0
            self._taken_before = self.delivery.delivered
        self._failures += 1
        if self._failures <= _MOST_FAILURES:
            return False
        following = self._spool.after(self.sink_name, 2)
        others = [other for at, other in following if at != number]
        has_taken = self.delivery.delivered > self._taken_before or any(map(self._takes, others))
        return has_taken and not self._takes(batch)

    def _read(self, batch: Batch) -> Batch:
        """Return a batch with the fields that reach the sink."""
        try:
            fields = self._fields(layout_of(batch).table, batch.granted)
        except LookupError:
            raise _NoFields from None
        return read(batch, fields)

    def _takes(self, batch: Batch) -> bool:
        try:
            self._opened.deliver(self._read(batch))
        except BaseException:  # noqa: BLE001 - as when batches are delivered
            return False
        return True
