"""The keeper's side of the workers: start them, store what they hand over, replace and stop them.

The keeper has the listening sockets for life. It never sees an event: a worker hands over minimised
records and counts, and nothing of that is believed before it is checked. A worker that breaks the
rules is ended; one that ends is replaced, the later the more often it happens.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import NamedTuple

from collector.config import Address
from collector.contracts import Tally
from collector.errors import ConfigError, DeliveryError, RecheckError, SandboxError
from collector.filter.recheck import Recheck
from collector.ops.error_log import LIBRARIES
from collector.ops.log import EventLog
from collector.ops.requests import RequestCounts
from collector.sandbox import support
from collector.server import listeners
from collector.server.channel import BatchCode, Channel, RecordBudget, framed, frames_of_workers
from collector.server.components import Components
from collector.server.listeners import Location
from collector.server.messages import (
    Answers,
    Ask,
    ChannelError,
    ErrorSeen,
    Failed,
    FromWorker,
    LibrarySeen,
    Put,
    Ready,
    Report,
    Stop,
    error_types,
    modules,
)
from collector.server.receivers import RECEIVERS
from collector.server.worker_process import WorkerLink, WorkerProcess, count
from collector.server.worker_setup import pseudonyms, worker_setup

__all__ = ["Keeper"]

_START_SECONDS = 60.0
_REPORT_SECONDS = 1.0
_END_SECONDS = 1.5
_STABLE_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
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
_DISTRUSTED = -1
_Totals = Mapping[str, Tally]  # of a request, by the name of the schema
_NO_TOTALS: _Totals = {}


class _Request(NamedTuple):
    """A request that is to be stored: who handed it over, its number, and the bytes that it takes
    of the budget."""

    link: WorkerLink
    number: int
    size: int


class Keeper:
    """The listening sockets and the workers. Raises ``ConfigError`` E207 if an address is taken.

    ``processes`` are workers that were started before.
    """

    def __init__(
        self,
        components: Components,
        log: EventLog,
        stack: ExitStack,
        processes: list[WorkerProcess],
    ) -> None:
        self._components = components
        self._log = log
        self._processes = processes
        self._number = count(components.config)
        self._sockets: dict[str, socket.socket] = {}
        self._locations: dict[str, Location] = {}
        self._links: list[WorkerLink] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._fails = 0
        self._replaced = self._distrusted = 0
        self._unhashed = 0
        self.past: RequestCounts = RequestCounts()
        """The requests of workers that have ended, and of the keeper itself."""
        self._places: set[tuple[str, str]] = set()
        self._is_stopping = False
        self._budget = RecordBudget()
        self._code = BatchCode(components.schemas)
        self._rechecks = {each.layout.digest: Recheck(each) for each in components.schemas}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="collector-recheck")
        self._finished: deque[tuple[_Request, int, _Totals]] = deque()
        self._is_woken = False
        self.is_confinable: bool = components.config.sandbox != "off" and not support().lacks
        """Whether the kernel can confine workers, and is to."""
        self._open_sockets(stack)
        self._setup = worker_setup(
            components.config,
            components.schemas,
            limits=components.limits,
            certificates=components.certificates,
            locations=self._locations,
            listening=self._sockets,
            workers=self._number,
            confine=self.is_confinable,
        )
        self._pseudonyms = pseudonyms(components.schemas)

    def __repr__(self) -> str:
        return f"<Keeper of {len(self._links)} workers>"

    def _open_sockets(self, stack: ExitStack) -> None:
        for name, kind in RECEIVERS.items():
            location = kind.location(self._components.config)
            if location is None or kind.for_operators:
                continue
            if kind.own_port and isinstance(location, Address):
                self._locations[name] = listeners.reserved(location, kind.setting, stack)
                continue
            listening = listeners.opened(location, kind.setting, stack)
            self._sockets[name] = listening
            if isinstance(location, Address):
                location = location._replace(port=listening.getsockname()[1])
            self._locations[name] = location

    # -- state ------------------------------------------------------------------------------------

    def addresses(self) -> dict[str, Location]:
        """Return where each receiver of events listens."""
        return dict(self._locations)

    @property
    def number(self) -> int:
        """How many workers there are to be."""
        return self._number

    @property
    def ready(self) -> int:
        """How many workers receive."""
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

    # -- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the workers, and wait until all of them receive.

        Raises ``ConfigError``: E207 if gRPC cannot listen, E218 if workers do not start.
        """
        self._loop = asyncio.get_running_loop()
        links = [await self._begin() for _ in range(self._number)]
        await asyncio.wait([link.started for link in links], timeout=_START_SECONDS)
        for link in links:
            if not link.started.done():
                raise ConfigError("E218", "a worker does not start; is the machine overloaded?")
            link.started.result()

    async def _begin(self) -> WorkerLink:
        """Start a worker, or take one that was started, and send it all that it needs."""
        process = self._processes.pop() if self._processes else WorkerProcess()
        link = WorkerLink(process, frames_of_workers(self._budget))
        self._links.append(link)
        channel = Channel(link.frames, partial(self._on_message, link), partial(self._on_end, link))
        process.keys.setblocking(False)
        process.channel.setblocking(True)
        with suppress(OSError):  # it has ended: the channel says so
            numbers = [each.fileno() for each in self._sockets.values()]
            socket.send_fds(process.channel, [b"\0"], numbers)
        process.channel.setblocking(False)
        self._loop.add_reader(process.keys, self._hand_out_key, link)
        await self._loop.create_unix_connection(lambda: channel, sock=process.channel)
        link.channel = channel
        channel.send(framed(self._setup))
        return link

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more, and let the workers finish requests within the grace period."""
        self._is_stopping = True
        for task in self._tasks:
            task.cancel()
        for listening in self._sockets.values():
            listening.close()
        links = [link for link in self._links if link.channel is not None]
        for link in links:
            if link.is_ready:
                link.send(framed(Stop(grace_seconds)))
            else:
                link.close()
        ends = [link.ended for link in links]
        if ends:
            await asyncio.wait(ends, timeout=grace_seconds + _END_SECONDS)
            for link in links:
                link.close()
            await asyncio.wait(ends)
        for link in links:
            await asyncio.to_thread(link.process.end)

    def _on_end(self, link: WorkerLink, is_faulty: bool) -> None:
        """Note that a worker's channel is closed; end the process, and have it replaced."""
        self._loop.remove_reader(link.process.keys)
        self._links.remove(link)
        self._budget.used -= link.frames.reserved
        link.is_ready = False
        if link.report is not None:
            self.past.add(link.report.requests, link.report.seconds, link.report.refusals)
            self._unhashed += link.report.unhashed
        for future in (link.reported, link.ended):
            if future is not None and not future.done():
                future.set_result(None)
        if is_faulty or link.is_distrusted:
            self._distrusted += 1
            self._log.write("worker_distrusted", times=self._distrusted)
        if not link.started.done():
            link.started.set_exception(ConfigError("E218", "a worker ended while it started"))
            link.started.exception()  # it may be that nothing waits for it
        elif not self._is_stopping and not link.started.exception():
            self._fails = 0 if monotonic() - link.began > _STABLE_SECONDS else self._fails + 1
            task = self._loop.create_task(self._replace(link))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _replace(self, link: WorkerLink) -> None:
        """Start a worker in place of one that has ended, again until one receives."""
        await asyncio.to_thread(link.process.end)
        while True:
            self._replaced += 1
            self._log.write("worker_replaced", times=self._replaced)
            pause = min(_FIRST_PAUSE * 2 ** min(self._fails, 10), _LONGEST_PAUSE)
            await asyncio.sleep(pause if self._fails > 1 else 0)
            try:
                link = await self._begin()
            except OSError:  # no process, descriptor or memory: there may be one later
                self._fails += 1
                continue
            await asyncio.wait([link.started], timeout=_START_SECONDS)
            if link.started.done() and not link.started.exception():
                return
            self._fails += 1
            link.close()
            await asyncio.to_thread(link.process.end)

    def _distrust(self, link: WorkerLink) -> None:
        """End a worker that has said something that cannot be."""
        link.is_distrusted = True
        link.close()

    # -- what workers say -------------------------------------------------------------------------

    def _on_message(self, link: WorkerLink, message: FromWorker, records: bytearray | None) -> None:
        if link.is_distrusted:
            return
        try:
            if isinstance(message, ErrorSeen):
                self._log.error_at(*self._seen(message))
            elif isinstance(message, LibrarySeen):
                self._log.library(_LIBRARIES[message.library])
            elif link.started.done() != isinstance(message, Put | Report):
                self._distrust(link)  # it is ready once, and does nothing before
            elif isinstance(message, Put):
                self._on_put(link, message, records)
            elif isinstance(message, Report):
                self._on_report(link, message)
            elif isinstance(message, Ready):
                link.is_ready, link.is_confined = True, message.is_confined
                link.started.set_result(None)
            else:
                link.started.set_exception(self._fault(message))
        except (ChannelError, RecheckError, ValueError, IndexError):
            self._distrust(link)

    def _fault(self, failed: Failed) -> ConfigError:
        if not failed.is_confined:
            return SandboxError("E217", "the kernel did not let a worker confine itself")
        address = self._locations.get("grpc", "its address")
        return ConfigError("E207", f"gRPC cannot listen on {address}; is it taken?")

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
        if (link.reported is None and not self._is_stopping) or not link.takes(report):
            raise ChannelError
        if link.reported is not None:
            link.reported.set_result(None)
            link.reported = None

    def _on_put(self, link: WorkerLink, put: Put, records: bytearray | None) -> None:
        """Store the batches of a request, once they are checked."""
        request = _Request(link, put.number, link.frames.reserved)
        link.frames.reserved = 0
        if records is None:
            self._finish(request, 505)
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
        batches = [
            self._rechecks[batch.layout.digest].check(batch, keep_rows=keep_rows)
            for batch in self._code.batches(put, records)
        ]
        for name, tally in ((batch.layout.table, batch.tally) for batch in batches):
            totals[name] = totals[name] + tally if name in totals else tally
        try:
            stored = self._components.spool.put(*batches, key_hash=put.key_hash)
        except DeliveryError as error:
            self._finish(request, int(error.code[1:]))
        else:
            stored.add_done_callback(partial(self._on_stored, request, totals))

    def _on_stored(self, request: _Request, totals: _Totals, stored: Future[bool]) -> None:
        self._finish(request, 506 if stored.exception() is not None else stored.result(), totals)

    def _finish(self, request: _Request, outcome: int, totals: _Totals = _NO_TOTALS) -> None:
        """Note what became of a request, from any thread."""
        self._finished.append((request, outcome, totals))
        if not self._is_woken:
            self._is_woken = True
            with suppress(RuntimeError):  # the loop has ended, and so have the workers
                self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        """Count what was stored, and answer the workers."""
        self._is_woken = False
        answers: dict[WorkerLink, list[tuple[int, int]]] = {}
        while self._finished:
            request, outcome, totals = self._finished.popleft()
            self._budget.used -= request.size
            if outcome == _DISTRUSTED:
                self._distrust(request.link)
                continue
            for name, total in totals.items() if outcome == 1 else ():
                self._components.metrics.observe(name, total)
            answers.setdefault(request.link, []).append((request.number, int(outcome)))
        for link, outcomes in answers.items():
            self._tell(link, outcomes)

    def _tell(self, link: WorkerLink, outcomes: list[tuple[int, int]]) -> None:
        """Answer a worker, or end one that reads no answers."""
        if link.channel is not None and link.channel.waiting > _MOST_UNREAD:
            self._distrust(link)
        elif link.channel is not None:
            link.channel.send(framed(Answers(outcomes)))

    def _hand_out_key(self, link: WorkerLink) -> None:
        """Answer a worker that asks for the key of a pseudonym."""
        keys = link.process.keys
        with suppress(OSError):  # it has ended: the channel says so
            asked = keys.recv(_KEY_REQUEST_BYTES)
            if not asked:
                self._loop.remove_reader(keys)
                return
            number = int.from_bytes(asked[:2], "big")
            if len(asked) != _KEY_REQUEST_BYTES or number >= len(self._setup.keys):
                self._distrust(link)
                return
            reference = self._setup.keys[number]
            period = self._period(reference, int.from_bytes(asked[2:], "big"))
            key = self._components.keyring(reference, period)
            keys.send(period.to_bytes(8, "big") + key)

    def _period(self, reference: str, claimed: int) -> int:
        """Return a present period of a key: the claimed one, or the nearest."""
        now = datetime.now(UTC)
        present = [field.period(now) for field in self._pseudonyms if field.key == reference]
        return min(present, key=lambda period: abs(period - claimed))
