"""The keeper's side of the workers: store what they hand over, and count what they report.

The keeper never sees an event: a worker hands over minimised records and counts, and nothing of
that is believed before it is checked. A worker that breaks the rules is ended.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from typing import NamedTuple, TypeVar

from collector.contracts import Earlier, RequestKey, Tally, Written
from collector.errors import ConfigError, DeliveryError, NotNow, RecheckError, SandboxError
from collector.ops.error_log import LIBRARIES
from collector.ops.log import EventLog
from collector.ops.requests import RequestCounts
from collector.server.channel import answer_of, framed
from collector.server.components import Components
from collector.server.live import LiveExplain
from collector.server.messages import (
    Answers,
    Ask,
    ChannelError,
    ErrorSeen,
    Failed,
    FromWorker,
    LibrarySeen,
    LiveSeen,
    Prepared,
    Put,
    Ready,
    Report,
    Switched,
    error_types,
    modules,
)
from collector.server.worker_pool import WorkerPool
from collector.server.worker_process import WorkerLink, WorkerProcess

_REPORT_SECONDS = 1.0
_KEY_REQUEST_BYTES = 10
_MOST_PLACES = 32
"""Kinds and places of errors of workers that are logged, over the keeper's life: what a worker that
was taken over could write by them stays below some hundred bytes."""
_MOST_UNREAD = 4 << 20
"""Bytes of answers that a worker has not read."""
_LIBRARIES = sorted(LIBRARIES)
_MOST_INLINE, _FEW_BATCHES = 1 << 18, 16
"""Bytes of records, and batches, of a request that is checked on the event loop: about 1 ms."""
_ROWS_BYTES = 8 << 20
"""While so many bytes of records are not stored yet, rows are not kept: they take three times as
many."""
_MOST_UNSTORED = 96 << 20
"""Bytes of records of all workers that are not stored yet; more must be sent again."""
_PUT_BYTES, _BATCH_BYTES, _DROPPED_BYTES, _PURPOSE_BYTES = 1 << 10, 4 << 10, 1 << 9, 1 << 6
"""What a ``Put`` takes besides, each batch, field with dropped values, and number of a purpose."""
_STORED, _DISTRUSTED = 1, -1
_Totals = Mapping[str, Tally]  # of a request, by the name of the schema
_NO_TOTALS: _Totals = {}
_T = TypeVar("_T")


class RecordBudget:
    """The memory for records that all workers have handed over and that are not stored yet."""

    def __init__(self) -> None:
        self.used: int = 0

    def take(self, put: Put) -> int:
        """Return how many bytes are taken for what a message announces; 0 if there is no room."""
        size = _PUT_BYTES
        for each in put.batches:
            size += each.size + _BATCH_BYTES + _DROPPED_BYTES * len(each.tally.dropped)
            size += _PURPOSE_BYTES * len(each.granted or ())
        if self.used + size > _MOST_UNSTORED:
            return 0
        self.used += size
        return size


class _Request(NamedTuple):
    """A request that is to be stored: who handed it over, its number, and the bytes that it takes
    of the budget."""

    link: WorkerLink
    number: int
    size: int


class Keeper(WorkerPool):
    """The workers, and what they hand over. Raises ``ConfigError`` E207 if an address is taken.

    ``processes`` are workers that were started before.
    """

    def __init__(
        self,
        components: Components,
        log: EventLog,
        stack: ExitStack,
        processes: list[WorkerProcess],
    ) -> None:
        self._budget = RecordBudget()
        super().__init__(components, log, stack, processes, take=self._budget.take)
        self._components = components
        self._distrusted = self._unhashed = 0
        self.past: RequestCounts = RequestCounts()
        """The requests of workers that have ended, and of the keeper itself."""
        self.live: LiveExplain = LiveExplain(self._links)
        self._places: set[tuple[str, str]] = set()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="collector-recheck")
        self._finished: deque[tuple[_Request, int | Earlier, _Totals]] = deque()
        self._is_woken = False

    def __repr__(self) -> str:
        return f"<Keeper of {len(self._links)} workers>"

    # -- state ------------------------------------------------------------------------------------

    @property
    def unhashed(self) -> int:
        """How often workers were shown a token that was configured unhashed."""
        return self._unhashed + sum(link.report.unhashed for link in self._links if link.report)

    def requests(self) -> RequestCounts:
        """Return the requests of all workers, as they were reported last."""
        total, past = RequestCounts(), self.past
        total.add(past.counts(), past.seconds(), past.refusals())
        for link in self._links:
            if link.report is not None:
                total.add(link.report.requests, link.report.seconds, link.report.refusals)
        return total

    async def refresh(self) -> None:
        """Have the workers report, and wait a moment for them."""
        loop = asyncio.get_running_loop()
        asked = []
        for link in self._links:
            if link.is_ready:
                if link.reported is None:
                    link.reported = loop.create_future()
                    link.send(framed(Ask()))
                asked.append(link.reported)
        if asked:
            await asyncio.wait(asked, timeout=_REPORT_SECONDS)

    def on_end(self, link: WorkerLink, is_faulty: bool) -> None:
        """Count what a worker has reported, and whether it has broken the rules."""
        self._budget.used -= link.frames.reserved
        self.live.forget(link)
        if link.report is not None:
            self.past.add(link.report.requests, link.report.seconds, link.report.refusals)
            self._unhashed += link.report.unhashed
        if is_faulty:
            self._distrusted += 1
            self._log.write("worker_distrusted", times=self._distrusted)

    def _distrust(self, link: WorkerLink) -> None:
        """End a worker that has said something that cannot be."""
        link.is_distrusted = True
        link.close()

    # -- what workers say -------------------------------------------------------------------------

    def on_message(self, link: WorkerLink, message: FromWorker, records: bytearray | None) -> None:
        """Take a message of a worker, and believe nothing."""
        if link.is_distrusted:
            return
        try:
            if isinstance(message, ErrorSeen):
                self._log.error_at(*self._seen(message))
            elif isinstance(message, LibrarySeen):
                self._log.library(_LIBRARIES[message.library])
            elif isinstance(message, Ready | Failed):
                self._on_start(link, message)
            elif not link.started.done():  # it does nothing before it is ready
                raise ChannelError
            elif isinstance(message, Put):
                self._on_put(link, message, records)
            else:
                self._on_answer(link, message)
        except (ChannelError, RecheckError, ValueError, IndexError):
            self._distrust(link)

    def _on_answer(
        self, link: WorkerLink, message: Report | LiveSeen | Prepared | Switched
    ) -> None:
        """Take what a worker was asked for. Raises ``ChannelError`` where it was not."""
        if isinstance(message, Report):
            self._on_report(link, message)
        elif isinstance(message, LiveSeen):
            self.live.take(link, message)
        elif isinstance(message, Prepared):
            _resolve(link.prepared, message.is_sound)
        else:
            _resolve(link.switched, None)

    def _on_start(self, link: WorkerLink, message: Ready | Failed) -> None:
        """Note that a worker is ready, or cannot start. Raises ``ChannelError`` the second time."""
        if link.started.done():
            raise ChannelError
        if isinstance(message, Failed):
            link.started.set_exception(self._fault(message))
            link.started.exception()  # the first one's fault is told
            return
        link.is_ready, link.is_confined = True, message.is_confined
        link.started.set_result(None)
        if link.plan is not self._plan:  # its plan is not in force yet
            link.hold()

    def _fault(self, failed: Failed) -> ConfigError:
        if not failed.is_confined:
            return SandboxError("E217", "the kernel did not let a worker confine itself")
        address = self._sockets.locations.get("grpc", "its address")
        return NotNow("E207", f"gRPC cannot listen on {address}; is it taken?")

    def _seen(self, seen: ErrorSeen) -> tuple[str, str]:
        """Return type and place of an error; constants once there were many. Raises
        ``IndexError``."""
        place = "elsewhere" if seen.module is None else f"{modules()[seen.module]}:{seen.line}"
        found = error_types()[seen.error], place
        if len(self._places) < _MOST_PLACES:
            self._places.add(found)
        return found if found in self._places else ("Exception", "elsewhere")

    def _on_report(self, link: WorkerLink, report: Report) -> None:
        """Take the counters of a worker, which come when they are asked for, and at the end. Raises
        ``ChannelError``, and ``ValueError`` for another table."""
        RequestCounts().add(report.requests, report.seconds, report.refusals)
        is_asked = link.reported is not None or self._is_stopping or link.is_retired
        if not is_asked or not link.takes(report):
            raise ChannelError
        if link.reported is not None:
            link.reported.set_result(None)
            link.reported = None

    def _on_put(self, link: WorkerLink, put: Put, records: bytearray | None) -> None:
        """Store the batches of a request, once they are checked. Raises ``ChannelError`` for one
        that has neither batches nor a key."""
        if records is not None and not put.batches and put.key is None:
            raise ChannelError
        request = _Request(link, put.number, link.frames.reserved)
        link.frames.reserved = 0
        if records is None:
            self._finish(request, 425)
        elif len(records) > _MOST_INLINE or len(put.batches) > _FEW_BATCHES:
            self._executor.submit(self._store_large, request, put, records)
        else:
            try:
                self._store(request, put, records)
            except BaseException:
                self._budget.used -= request.size
                raise

    def _store_large(self, request: _Request, put: Put, records: bytearray) -> None:
        """Do the same in a thread, while others are served."""
        try:
            self._store(request, put, records)
        except Exception:  # noqa: BLE001 - whatever it is, it came from the worker
            self._finish(request, _DISTRUSTED)

    def _store(self, request: _Request, put: Put, records: bytearray) -> None:
        keep_rows, totals = self._budget.used <= _ROWS_BYTES, dict[str, Tally]()
        rechecks, batches = request.link.rechecks, []
        for batch in request.link.code.batches(put, records):
            if batch.layout.digest not in rechecks:  # of a schema before the last one
                self._finish(request, 425)
                return
            batches.append(rechecks[batch.layout.digest].check(batch, keep_rows=keep_rows))
        for name, tally in ((batch.layout.table, batch.tally) for batch in batches):
            totals[name] = totals[name] + tally if name in totals else tally
        try:
            key = None if put.key is None else RequestKey(*put.key)
            stored = self._components.spool.put(*batches, key=key)
        except DeliveryError as error:
            self._finish(request, int(error.code[1:]))
        else:
            stored.add_done_callback(partial(self._on_stored, request, totals))

    def _on_stored(self, request: _Request, totals: _Totals, stored: Written) -> None:
        if stored.exception() is not None:
            self._finish(request, 506)
        elif (earlier := stored.result()) is not None:
            self._finish(request, earlier)
        else:
            self._finish(request, _STORED, totals)

    def _finish(
        self, request: _Request, outcome: int | Earlier, totals: _Totals = _NO_TOTALS
    ) -> None:
        """Note what became of a request, from any thread."""
        self._finished.append((request, outcome, totals))
        if not self._is_woken:
            self._is_woken = True
            with suppress(RuntimeError):  # the loop has ended, and so have the workers
                self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        """Count what was stored, and answer the workers."""
        self._is_woken = False
        answers: dict[WorkerLink, list[tuple[int, int, list[int]]]] = {}
        while self._finished:
            request, outcome, totals = self._finished.popleft()
            self._budget.used -= request.size
            if outcome == _DISTRUSTED:
                self._distrust(request.link)
                continue
            for name, total in totals.items():
                self._components.metrics.observe(name, total)
            answers.setdefault(request.link, []).append(answer_of(request.number, outcome))
        for link, outcomes in answers.items():
            self._tell(link, outcomes)

    def _tell(self, link: WorkerLink, outcomes: list[tuple[int, int, list[int]]]) -> None:
        """Answer a worker, or end one that reads no answers."""
        if link.channel is not None and link.channel.waiting > _MOST_UNREAD:
            self._distrust(link)
        elif link.channel is not None:
            link.channel.send(framed(Answers(outcomes)))

    def on_key(self, link: WorkerLink) -> None:
        """Answer a worker that asks for the key of a pseudonym."""
        keys = link.process.keys
        with suppress(OSError):  # it has ended: the channel says so
            asked = keys.recv(_KEY_REQUEST_BYTES)
            if not asked:
                self._loop.remove_reader(keys)
                return
            number = int.from_bytes(asked[:2], "big")
            plan = link.plan
            if len(asked) != _KEY_REQUEST_BYTES or number >= len(plan.setup.keys):
                self._distrust(link)
                return
            reference = plan.setup.keys[number]
            period = plan.period(reference, int.from_bytes(asked[2:], "big"))
            try:
                key = self._components.keyring(reference, period)
            except ConfigError as error:  # the secret is gone since the schema was read
                self._log.unexpected(error)
                link.close()  # it would wait for ever
                return
            keys.send(period.to_bytes(8, "big") + key)


def _resolve(asked: asyncio.Future[_T] | None, answer: _T) -> None:
    """Take an answer. Raises ``ChannelError`` if it was not asked for."""
    if asked is None or asked.done():
        raise ChannelError
    asked.set_result(answer)
