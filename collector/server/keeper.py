"""The keeper's side of the workers: it starts, replaces and stops them, stores their batches, and
counts their reports.

The keeper owns the listening sockets for its whole life. A worker has one plan for its whole life;
for another configuration, other workers take over. A worker that ends is replaced, after a pause
that grows with each failure.

The keeper never sees an event: a worker sends minimised records and counts, and the keeper checks
them before it believes them. It ends a worker that breaks the rules.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from time import monotonic
from typing import NamedTuple

from collector.backoff import Backoff
from collector.contracts import Earlier, RequestKey, Tally, Written
from collector.errors import ConfigError, DeliveryError, NotNow, RecheckError, SandboxError
from collector.ops.error_log import LIBRARIES
from collector.ops.log import EventLog
from collector.ops.requests import RequestCounts
from collector.sandbox import support
from collector.server.channel import (
    BatchCode,
    Channel,
    answer_of,
    framed,
    frames_of_workers,
)
from collector.server.components import Components
from collector.server.listeners import Location
from collector.server.live_explain import LiveExplain
from collector.server.messages import (
    Answers,
    Ask,
    ChannelError,
    ErrorSeen,
    Failed,
    FromWorker,
    LibrarySeen,
    LiveSeen,
    Put,
    Ready,
    Report,
    Stop,
    error_types,
    modules,
)
from collector.server.receivers import OpenSockets, event_locations
from collector.server.worker_link import WorkerLink
from collector.server.worker_process import WorkerProcess, count
from collector.server.worker_setup import WorkerPlan

_START_SECONDS = 60.0
_END_SECONDS = 1.5
_STABLE_SECONDS = 10.0
_DRAIN_SECONDS = 5.0
"""How long a replaced worker may take for requests in progress."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_REPORT_SECONDS = 1.0
_KEY_REQUEST_BYTES = 10
_MOST_PLACES = 32
"""The most kinds and places of workers' errors that are logged over the keeper's life. So a
compromised worker can write only some hundred bytes by them."""
_MOST_UNREAD = 4 << 20
"""The most bytes of answers that a worker may leave unread."""
_LIBRARIES = sorted(LIBRARIES)
_MOST_INLINE, _FEW_BATCHES = 1 << 18, 16
"""The most bytes of records, and batches, of a request that is checked on the event loop: about 1
ms."""
_ROWS_BYTES = 8 << 20
"""While more bytes of records than this are not stored yet, rows are not kept: they take three
times as much."""
_MOST_UNSTORED = 96 << 20
"""The most bytes of records of all workers that are not stored yet. Senders must retry with
more."""
_PUT_BYTES, _BATCH_BYTES, _DROPPED_BYTES, _PURPOSE_BYTES = 1 << 10, 4 << 10, 1 << 9, 1 << 6
"""Further bytes for a ``Put``, each batch, each field with dropped values, and each purpose."""
_STORED, _DISTRUSTED = 1, -1
_Totals = Mapping[str, Tally]  # of a request, by the name of the schema
_NO_TOTALS: _Totals = {}


class RecordBudget:
    """The memory for records that workers have sent and that are not stored yet."""

    def __init__(self) -> None:
        self.used: int = 0

    def take(self, put: Put) -> int:
        """Reserve memory for the records that a message announces; return the bytes, or 0 if there
        is no room."""
        size = _PUT_BYTES
        for each in put.batches:
            size += each.size + _BATCH_BYTES + _DROPPED_BYTES * len(each.tally.dropped)
            size += _PURPOSE_BYTES * len(each.granted or ())
        if self.used + size > _MOST_UNSTORED:
            return 0
        self.used += size
        return size


class _Request(NamedTuple):
    """A request to store: the worker that sent it, its number, and the bytes that it takes of the
    budget."""

    link: WorkerLink
    number: int
    size: int


class Keeper:
    """The workers, and what they send. Raises ``ConfigError`` E207 if an address is taken.

    ``processes`` are workers that are already started.
    """

    def __init__(
        self,
        components: Components,
        log: EventLog,
        stack: ExitStack,
        processes: list[WorkerProcess],
    ) -> None:
        self._budget = RecordBudget()
        self._components, self._log = components, log
        self._processes = processes
        self._links: list[WorkerLink] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._drains: set[asyncio.Task[None]] = set()
        self._fails = self._replaced = 0
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._is_stopping = False
        self.is_confinable: bool = components.config.sandbox != "off" and not support().lacks
        """Whether the kernel can and should confine workers."""
        self._sockets = OpenSockets(event_locations(components.config))
        stack.callback(self._sockets.close)
        self._plan = self._planned(components)
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

    def addresses(self) -> dict[str, Location]:
        """Return where each receiver of events listens."""
        return dict(self._sockets.locations)

    @property
    def number(self) -> int:
        """How many workers there should be."""
        return self._plan.workers

    @property
    def ready(self) -> int:
        """How many workers receive, not counting those that only finish requests."""
        return sum(link.is_ready for link in self._links)

    @property
    def confined(self) -> int:
        """How many of them are confined by the kernel."""
        return sum(link.is_ready and link.is_confined for link in self._links)

    @property
    def replaced(self) -> int:
        """How many workers ended and were replaced."""
        return self._replaced

    @property
    def unhashed(self) -> int:
        """How often workers were shown a token that was configured unhashed."""
        return self._unhashed + sum(link.report.unhashed for link in self._links if link.report)

    def requests(self) -> RequestCounts:
        """Return the requests of all workers, as last reported."""
        total, past = RequestCounts(), self.past
        total.add(*past.tables())
        for link in self._links:
            if link.report is not None:
                total.add(link.report.requests, link.report.seconds, link.report.refusals)
        return total

    async def refresh(self) -> None:
        """Ask the workers for reports, and wait a moment for them."""
        loop = asyncio.get_running_loop()
        asked = []
        for link in self._links:
            if link.is_ready:
                if link.reported is None:
                    link.reported = loop.create_future()
                    link.channel.send(framed(Ask()))
                asked.append(link.reported)
        if asked:
            await asyncio.wait(asked, timeout=_REPORT_SECONDS)

    def _planned(self, components: Components) -> WorkerPlan:
        return WorkerPlan(
            components, self._sockets, workers=count(components.config), confine=self.is_confinable
        )

    # -- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the workers, and wait until all of them receive.

        Raises ``ConfigError`` E207 if gRPC cannot listen, ``NotNow`` E519 if workers do not start.
        """
        self._loop = asyncio.get_running_loop()
        await self._started(self._plan)

    async def _started(self, plan: WorkerPlan) -> None:
        """Start the workers of a plan, and wait until all of them receive. Raises as ``start``."""
        links: list[WorkerLink] = []
        with suppress(OSError):
            links += [await self._begin(plan) for _ in range(plan.workers)]
        if len(links) < plan.workers:
            message = "the system lets no worker start; are there too many processes or open files?"
            raise NotNow("E519", message)
        await asyncio.wait([link.started for link in links], timeout=_START_SECONDS)
        for link in links:
            if not link.started.done():
                raise NotNow("E519", "a worker does not start; is the machine overloaded?")
            link.started.result()

    async def _begin(self, plan: WorkerPlan) -> WorkerLink:
        """Start a worker, or take one that is started, and send it all that it needs. Raises
        ``OSError`` if the system refuses; then nothing of the worker is left."""
        process = self._processes.pop() if self._processes else WorkerProcess()
        frames, code = frames_of_workers(self._budget.take), BatchCode(plan.schemas)
        link = WorkerLink(process, frames, plan, code)
        channel = Channel(frames, partial(self._on_message, link), partial(self._on_end, link))
        link.channel = channel
        self._links.append(link)
        try:
            process.keys.setblocking(False)
            self._loop.add_reader(process.keys, self._on_key, link)
            process.channel.setblocking(True)
            with suppress(ConnectionError):  # it has ended: the channel says so
                numbers = [each.fileno() for each in plan.sockets]
                socket.send_fds(process.channel, [b"\0"], numbers)
            process.channel.setblocking(False)
            await self._loop.create_unix_connection(lambda: channel, sock=process.channel)
        except BaseException:
            channel.close()
            self._on_end(link, is_faulty=False)
            await asyncio.to_thread(process.end)
            raise
        channel.send(framed(plan.setup))
        return link

    async def change(self, components: Components, commit: Callable[[], Awaitable[None]]) -> None:
        """Replace the running workers by workers of another configuration.

        ``commit`` is awaited once all new workers receive. Until it returns, nothing is stored
        under the new configuration. If it or anything before it raises, nothing changes. When this
        method returns, the old workers have ended, so nothing is filtered by the old configuration
        any more.
        """
        plan = self._planned(components)
        try:
            await self._started(plan)
            await commit()
        except BaseException:
            for link in [*self._links]:
                if link.plan is plan:
                    self._keep(self._drains, self._end(link))
            raise
        self._plan = plan
        for link in [*self._links]:
            if link.plan is plan:
                link.channel.release()
            else:
                self._retire(link)
        self._keep(self._tasks, self._fill())
        if self._drains:
            await asyncio.wait([*self._drains])

    async def _end(self, link: WorkerLink) -> None:
        """End a worker at once; its sockets are closed when the event loop has released them."""
        link.channel.close()
        await asyncio.wait([link.ended])
        await asyncio.to_thread(link.process.end)

    def _retire(self, link: WorkerLink) -> None:
        """Have a worker stop accepting, finish its requests, and end."""
        if link.is_ready:
            link.is_ready, link.is_retired = False, True
            self._keep(self._drains, self._drain(link))
        elif not link.is_retired:
            link.channel.close()

    async def _drain(self, link: WorkerLink) -> None:
        link.channel.send(framed(Stop(_DRAIN_SECONDS)))
        await asyncio.wait([link.ended], timeout=_DRAIN_SECONDS + _END_SECONDS)
        await self._end(link)

    def _keep(self, tasks: set[asyncio.Task[None]], work: Coroutine[None, None, None]) -> None:
        """Start a task, and hold it until it is done."""
        task = self._loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def stop(self, grace_seconds: float) -> None:
        """Stop accepting, and let the workers finish requests within the grace period."""
        self._is_stopping = True
        for task in (*self._tasks, *self._drains):
            task.cancel()
        for listening in self._sockets.listening.values():
            listening.close()
        links = [*self._links]
        for link in links:
            link.channel.release()
            if link.is_ready or link.is_retired:
                link.channel.send(framed(Stop(grace_seconds)))
            else:
                link.channel.close()
        ends = [link.ended for link in links]
        if ends:
            await asyncio.wait(ends, timeout=grace_seconds + _END_SECONDS)
            for link in links:
                link.channel.close()
            await asyncio.wait(ends)
        for link in links:
            await asyncio.to_thread(link.process.end)

    def _on_end(self, link: WorkerLink, is_faulty: bool) -> None:
        """Note that a worker's channel is closed, and have the worker replaced."""
        if link.ended.done():
            return
        self._loop.remove_reader(link.process.keys)
        self._links.remove(link)
        link.is_ready = False
        self._count_end(link, is_faulty or link.is_distrusted)
        for future in (link.reported, link.ended):
            if future is not None and not future.done():
                future.set_result(None)
        if not link.started.done():
            link.started.set_exception(NotNow("E519", "a worker ended while it started"))
        if link.started.exception():  # perhaps nothing waits for it
            self._keep(self._drains, self._end(link))
        elif not (self._is_stopping or link.is_retired):
            self._fails += 1
            if monotonic() - link.began > _STABLE_SECONDS:
                self._fails = 0
                self._backoff.reset()
            self._keep(self._tasks, self._fill(link.process))

    @property
    def _missing(self) -> bool:
        """Whether there are fewer workers than there should be."""
        present = sum(link.plan is self._plan for link in self._links)
        return not self._is_stopping and present < self._plan.workers

    async def _fill(self, ended: WorkerProcess | None = None) -> None:
        """Start workers, after one has ended, until there are enough."""
        if ended is not None:
            await asyncio.to_thread(ended.end)
        while self._missing:
            await asyncio.sleep(self._backoff.pause() if self._fails > 1 else 0)
            if not self._missing:  # another task was faster
                break
            self._replaced += 1
            self._log.write("worker_replaced", times=self._replaced)
            try:
                link = await self._begin(self._plan)
            except Exception as error:  # noqa: BLE001 - otherwise no worker would start again
                self._fails += 1
                if not isinstance(error, OSError):  # the system may lack resources
                    self._log.unexpected(error)
                continue
            await asyncio.wait([link.started], timeout=_START_SECONDS)
            if not link.started.done() or link.started.exception():
                self._fails += 1
                await self._end(link)
            elif link.plan is not self._plan:  # another plan is in force meanwhile
                self._retire(link)

    def _count_end(self, link: WorkerLink, is_faulty: bool) -> None:
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
        """End a worker that has sent something impossible."""
        link.is_distrusted = True
        link.channel.close()

    # -- what workers say -------------------------------------------------------------------------

    def _on_message(self, link: WorkerLink, message: FromWorker, records: bytearray | None) -> None:
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
            elif not link.started.done():  # a worker sends nothing before it is ready
                raise ChannelError
            elif isinstance(message, Put):
                self._on_put(link, message, records)
            elif isinstance(message, LiveSeen):
                self.live.take(link, message)
            else:
                self._on_report(link, message)
        except (ChannelError, RecheckError, ValueError, IndexError):
            self._distrust(link)

    def _on_start(self, link: WorkerLink, message: Ready | Failed) -> None:
        """Note that a worker is ready, or cannot start. Raises ``ChannelError`` the second time."""
        if link.started.done():
            raise ChannelError
        if isinstance(message, Failed):
            link.started.set_exception(self._fault(message))
            link.started.exception()  # the first worker's fault is reported
            return
        link.is_ready, link.is_confined = True, message.is_confined
        link.started.set_result(None)
        if link.plan is not self._plan:  # its plan is not in force yet
            link.channel.hold()

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
        """Take the counters of a worker, which it sends when asked and when it ends. Raises
        ``ChannelError``, and ``ValueError`` for another table."""
        RequestCounts().add(report.requests, report.seconds, report.refusals)
        is_asked = link.reported is not None or self._is_stopping or link.is_retired
        if not is_asked or not link.takes(report):
            raise ChannelError
        if link.reported is not None:
            link.reported.set_result(None)
            link.reported = None

    def _on_put(self, link: WorkerLink, put: Put, records: bytearray | None) -> None:
        """Check and store the batches of a request. Raises ``ChannelError`` for a request that has
        neither batches nor a key."""
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
        """Do the same in a thread, while the event loop serves others."""
        try:
            self._store(request, put, records)
        except Exception:  # noqa: BLE001 - any error here comes from the worker's data
            self._finish(request, _DISTRUSTED)

    def _store(self, request: _Request, put: Put, records: bytearray) -> None:
        keep_rows, totals = self._budget.used <= _ROWS_BYTES, dict[str, Tally]()
        rechecks = request.link.plan.rechecks
        batches = [
            rechecks[batch.layout.digest].check(batch, keep_rows=keep_rows)
            for batch in request.link.code.batches(put, records)
        ]
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
        """Answer a worker, or end it if it reads no answers."""
        if link.channel.waiting > _MOST_UNREAD:
            self._distrust(link)
        else:
            link.channel.send(framed(Answers(outcomes)))

    def _on_key(self, link: WorkerLink) -> None:
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
            except ConfigError as error:  # the secret has gone since the schema was read
                self._log.unexpected(error)
                link.channel.close()  # the worker would wait for ever
                return
            keys.send(period.to_bytes(8, "big") + key)
