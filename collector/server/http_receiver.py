"""Serve HTTP/1.1 on an open socket."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from functools import partial

from collector.addresses import Address
from collector.ingest.limits import ConnectionLimiter, IngestLimits
from collector.ingest.protocol import HardenedProtocol
from collector.ingest.request import Handler
from collector.ingest.responses import Observe
from collector.server.listeners import Location

_CANCEL_SECONDS = 0.1
"""How long refusing cancelled requests may take."""
_POLL_SECONDS = 0.05
_MOST_AT_ONCE = 64
"""Connections that are accepted before existing ones have their turn."""
_YIELD_SECONDS, _MOST_YIELDED = 0.001, 8
"""For each connection that it has, up to ``_MOST_YIELDED``, a process waits this much longer before
it accepts new ones."""
_SHARE = 4
"""It then accepts a quarter of the number that it has, so that eight are divided evenly."""


class HttpReceiver:
    """Serves HTTP/1.1 on an open socket. ``context`` encrypts; ``observe`` gets every response.

    If the socket ``is_shared`` with other processes, those with fewer connections accept first. So
    all get equally many, however few or busy the processes are.
    """

    def __init__(
        self,
        handler: Handler,
        location: Location,
        listening: socket.socket,
        limits: IngestLimits,
        *,
        context: ssl.SSLContext | None = None,
        observe: Observe | None = None,
        is_shared: bool = False,
    ) -> None:
        self.address: Location | None = None
        self._location = location
        self._listening = listening
        self._context = context
        self._is_shared = is_shared
        self._limiter = ConnectionLimiter(limits, tls=context is not None)
        self._tasks: set[asyncio.Task[None]] = set()
        self._protocol = partial(HardenedProtocol, handler, self._limiter, self._tasks, observe)
        self._pause: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Start accepting connections."""
        if self.address is None:
            await self.open()

    async def open(self) -> None:
        """Start accepting connections as soon as the event loop goes on."""
        self._listening.setblocking(False)
        self._listen(asyncio.get_running_loop())
        self.address = self._location
        if isinstance(self._location, Address):
            self.address = self._location._replace(port=self._listening.getsockname()[1])

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        self._pause = None
        loop.add_reader(self._listening, self._on_ready, loop)

    def _on_ready(self, loop: asyncio.AbstractEventLoop) -> None:
        """Accept connections, or leave them to others for a moment."""
        number = len(self._limiter.connections())
        if not self._is_shared:
            self._accept(loop, _MOST_AT_ONCE)
        elif not number:
            self._accept(loop, 1)
        else:
            loop.remove_reader(self._listening)
            seconds = _YIELD_SECONDS * min(number, _MOST_YIELDED)
            most = max(1, number // _SHARE)  # few, so that others can catch up
            self._pause = loop.call_later(seconds, self._accept, loop, most)

    def _accept(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        """Accept at most ``most`` connections. An event loop's own server reports encrypted ones
        only after the handshake, but they must count before it."""
        seconds = 0.0
        try:
            for _ in range(most):
                line, _ = self._listening.accept()
                line.setblocking(False)
                self._protocol().take(line, self._context)
        except (BlockingIOError, ConnectionAbortedError):
            pass
        except OSError:  # no file descriptor is left
            loop.remove_reader(self._listening)
            seconds = _POLL_SECONDS
        if seconds:
            self._pause = loop.call_later(seconds, self._listen, loop)
        elif self._pause is not None:
            self._listen(loop)

    def _close(self) -> None:
        """Accept no more connections."""
        if self._pause is not None:
            self._pause.cancel()
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more connections, and finish the requests in progress; refuse them when time is
        up."""
        if self.address is None:
            return
        self._close()
        for connection in self._limiter.connections():
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                while self._limiter.connections() or self._tasks:
                    await asyncio.sleep(_POLL_SECONDS)
        for connection in self._limiter.connections():
            connection.refuse()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CANCEL_SECONDS)
        self.address = None
