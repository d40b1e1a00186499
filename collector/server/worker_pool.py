"""The workers of a sidecar: start them, have others take their place, and stop them.

The listening sockets are the sidecar's for life. A worker has one plan for its life; with another
configuration, other workers take over. A worker that ends is replaced, the later the more often it
happens.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack, suppress
from functools import partial
from time import monotonic

from collector.backoff import Backoff
from collector.errors import NotNow
from collector.ops.log import EventLog
from collector.sandbox import support
from collector.server.channel import BatchCode, Channel, framed, frames_of_workers
from collector.server.components import Components
from collector.server.listeners import Location
from collector.server.messages import FromWorker, Put, Stop
from collector.server.receivers import OpenSockets, event_locations
from collector.server.worker_process import WorkerLink, WorkerProcess, count
from collector.server.worker_setup import WorkerPlan

_START_SECONDS = 60.0
_END_SECONDS = 1.5
_STABLE_SECONDS = 10.0
_DRAIN_SECONDS = 5.0
"""How long a worker may take for requests in progress when others have taken its place."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0


class WorkerPool(ABC):
    """The listening sockets and the workers. Raises ``ConfigError`` E207 if an address is taken.

    ``processes`` are workers that were started before. ``take`` is asked for memory for what a
    message announces, as by ``Frames``.
    """

    def __init__(
        self,
        components: Components,
        log: EventLog,
        stack: ExitStack,
        processes: list[WorkerProcess],
        *,
        take: Callable[[Put], int],
    ) -> None:
        self._log = log
        self._processes = processes
        self._links: list[WorkerLink] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._drains: set[asyncio.Task[None]] = set()
        self._fails = self._replaced = 0
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._is_stopping = False
        self._take = take
        self.is_confinable: bool = components.config.sandbox != "off" and not support().lacks
        """Whether the kernel can confine workers, and is to."""
        self._sockets = OpenSockets(event_locations(components.config))
        stack.callback(self._sockets.close)
        self._plan = self._planned(components)

    def _planned(self, components: Components) -> WorkerPlan:
        return WorkerPlan(
            components,
            self._sockets.locations,
            self._sockets.listening,
            workers=count(components.config),
            confine=self.is_confinable,
        )

    @abstractmethod
    def on_message(self, link: WorkerLink, message: FromWorker, records: bytearray | None) -> None:
        """Take a message of a worker."""

    @abstractmethod
    def on_key(self, link: WorkerLink) -> None:
        """Answer a worker that asks for the key of a pseudonym."""

    @abstractmethod
    def on_end(self, link: WorkerLink, is_faulty: bool) -> None:
        """Note that a worker has ended, and whether it has broken the rules."""

    # -- state ------------------------------------------------------------------------------------

    def addresses(self) -> dict[str, Location]:
        """Return where each receiver of events listens."""
        return dict(self._sockets.locations)

    @property
    def number(self) -> int:
        """How many workers there are to be."""
        return self._plan.workers

    @property
    def ready(self) -> int:
        """How many workers receive, besides those that only finish requests."""
        return sum(link.is_ready for link in self._links)

    @property
    def confined(self) -> int:
        """How many of them are confined by the kernel."""
        return sum(link.is_ready and link.is_confined for link in self._links)

    @property
    def replaced(self) -> int:
        """How many workers ended and were replaced."""
        return self._replaced

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
        """Start a worker, or take one that was started, and send it all that it needs. Raises
        ``OSError`` if the system refuses; then nothing of the worker is left."""
        process = self._processes.pop() if self._processes else WorkerProcess()
        frames, code = frames_of_workers(self._take), BatchCode(plan.schemas)
        link = WorkerLink(process, frames, plan, code)
        channel = Channel(link.frames, partial(self.on_message, link), partial(self._on_end, link))
        link.channel = channel
        self._links.append(link)
        try:
            process.keys.setblocking(False)
            self._loop.add_reader(process.keys, self.on_key, link)
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
        """Have workers of another configuration take the place of those that run.

        ``commit`` is awaited once all of them receive; until it has returned, nothing is stored by
        the new configuration. If it or anything before it raises, all is as before. Those before
        have ended when this returns, so that nothing is filtered as before any more.
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
                link.release()
            else:
                self._retire(link)
        self._refill()
        await asyncio.gather(*self._drains)

    async def _end(self, link: WorkerLink) -> None:
        """End a worker at once; its sockets are closed when the event loop has let go of them."""
        link.close()
        await asyncio.wait([link.ended])
        await asyncio.to_thread(link.process.end)

    def _retire(self, link: WorkerLink) -> None:
        """Have a worker accept no more, finish its requests, and end."""
        if link.is_ready:
            link.is_ready, link.is_retired = False, True
            self._keep(self._drains, self._drain(link))
        elif not link.is_retired:
            link.close()

    async def _drain(self, link: WorkerLink) -> None:
        link.send(framed(Stop(_DRAIN_SECONDS)))
        await asyncio.wait([link.ended], timeout=_DRAIN_SECONDS + _END_SECONDS)
        await self._end(link)

    def _keep(self, tasks: set[asyncio.Task[None]], work: Coroutine[None, None, None]) -> None:
        """Start a task, and hold it until it is done."""
        task = self._loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more, and let the workers finish requests within the grace period."""
        self._is_stopping = True
        for task in (*self._tasks, *self._drains):
            task.cancel()
        for listening in self._sockets.listening.values():
            listening.close()
        links = [*self._links]
        for link in links:
            link.release()
            if link.is_ready or link.is_retired:
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
        """Note that a worker's channel is closed, and have the worker replaced."""
        if link.ended.done():
            return
        self._loop.remove_reader(link.process.keys)
        self._links.remove(link)
        link.is_ready = False
        self.on_end(link, is_faulty or link.is_distrusted)
        for future in (link.reported, link.ended):
            if future is not None and not future.done():
                future.set_result(None)
        if not link.started.done():
            link.started.set_exception(NotNow("E519", "a worker ended while it started"))
        if link.started.exception():  # it may be that nothing waits for it
            self._keep(self._drains, self._end(link))
        elif not (self._is_stopping or link.is_retired):
            self._fails += 1
            if monotonic() - link.began > _STABLE_SECONDS:
                self._fails = 0
                self._backoff.reset()
            self._keep(self._tasks, self._replace(link))

    async def _replace(self, link: WorkerLink) -> None:
        """Start a worker in place of one that has ended."""
        await asyncio.to_thread(link.process.end)
        await self._fill()

    def _refill(self) -> None:
        """Have workers started for those that are missing."""
        if not self._is_stopping and self._missing:
            self._keep(self._tasks, self._fill())

    @property
    def _missing(self) -> bool:
        """Whether there are fewer workers than there are to be."""
        return sum(link.plan is self._plan for link in self._links) < self._plan.workers

    async def _fill(self) -> None:
        """Start workers, again until there are as many as there are to be."""
        while self._missing:
            await asyncio.sleep(self._backoff.pause() if self._fails > 1 else 0)
            if not self._missing:  # another task was faster
                break
            self._replaced += 1
            self._log.write("worker_replaced", times=self._replaced)
            try:
                link = await self._begin(self._plan)
            except Exception as error:  # noqa: BLE001 - else no worker would ever come again
                self._fails += 1
                if not isinstance(error, OSError):  # no process, descriptor or memory is no news
                    self._log.unexpected(error)
                continue
            await asyncio.wait([link.started], timeout=_START_SECONDS)
            if not link.started.done() or link.started.exception():
                self._fails += 1
                await self._end(link)
            elif link.plan is not self._plan:  # there is another one meanwhile
                self._retire(link)
