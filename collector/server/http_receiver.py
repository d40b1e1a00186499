"""Serve HTTP/1.1 on a socket that is open already."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from collector.addresses import Address
from collector.ingest.limits import ConnectionLimiter, IngestLimits
from collector.ingest.protocol import HardenedProtocol
from collector.ingest.request import Handler
from collector.ingest.responses import Observe
from collector.server import listeners
from collector.server.listeners import Location

_CANCEL_SECONDS = 0.1
"""How long cancelled requests may take to be refused."""
_POLL_SECONDS = 0.05


class HttpReceiver:
    """Serves HTTP/1.1 on an open socket. ``context`` encrypts; ``observe`` gets every response."""

    def __init__(
        self,
        handler: Handler,
        location: Location,
        listening: socket.socket,
        limits: IngestLimits,
        *,
        context: ssl.SSLContext | None = None,
        observe: Observe | None = None,
    ) -> None:
        self.address: Location | None = None
        self._location = location
        self._listening = listening
        self._context = context
        self._limiter = ConnectionLimiter(limits, tls=context is not None)
        self._tasks: set[asyncio.Task[None]] = set()
        self._protocol = partial(HardenedProtocol, handler, self._limiter, self._tasks, observe)
        self._stop_accepting: Callable[[], object] | None = None  # once it accepts
        self._pause: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return "<HttpReceiver>"

    async def start(self) -> None:
        """Begin to accept connections."""
        if self._stop_accepting is None:
            await self.open()

    async def open(self) -> None:
        """Begin to accept connections as soon as the event loop goes on."""
        loop = asyncio.get_running_loop()
        if self._context is not None:
            self._listening.setblocking(False)
            loop.add_reader(self._listening, self._accept, self._context)
            self._stop_accepting = self._close
        elif self._listening.family == socket.AF_UNIX:
            server = await loop.create_unix_server(
                self._protocol,
                sock=self._listening,
                backlog=listeners.BACKLOG,
                **listeners.KEEP_FILE,
            )
            self._stop_accepting = server.close
        else:
            server = await loop.create_server(
                self._protocol, sock=self._listening, backlog=listeners.BACKLOG
            )
            self._stop_accepting = server.close
        self.address = self._location
        if isinstance(self._location, Address):
            self.address = self._location._replace(port=self._listening.getsockname()[1])

    def _accept(self, context: ssl.SSLContext) -> None:
        """Accept connections that are to be encrypted. An event loop's own server tells of them
        only after the handshake, and they have to count before it."""
        try:
            for _ in range(listeners.BACKLOG):
                line, _ = self._listening.accept()
                line.setblocking(False)
                self._protocol().encrypt(line, context)
        except (BlockingIOError, ConnectionAbortedError):
            pass
        except OSError:  # no file descriptor is left
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listening)
            again = partial(loop.add_reader, self._listening, self._accept, context)
            self._pause = loop.call_later(_POLL_SECONDS, again)

    def _close(self) -> None:
        """Accept no more connections that are to be encrypted."""
        if self._pause is not None:
            self._pause.cancel()
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more, and finish the requests in progress; refuse them once time is up."""
        if self._stop_accepting is None:
            return
        self._stop_accepting()
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
        self._stop_accepting = self.address = None
