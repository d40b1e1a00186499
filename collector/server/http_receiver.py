"""Serve HTTP/1.1 on a socket that is open already."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from functools import partial

from collector.addresses import Address
from collector.ingest.limits import ConnectionLimiter, IngestLimits
from collector.ingest.protocol import Handler, HardenedProtocol
from collector.ingest.responses import Observe
from collector.server import listeners
from collector.server.listeners import Location

__all__ = ["HttpReceiver"]

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
        self._server: asyncio.Server | asyncio.Task[None] | None = None
        self._handshakes: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return "<HttpReceiver>"

    async def start(self) -> None:
        """Begin to accept connections."""
        if self._server is None:
            await self.open()

    async def open(self) -> None:
        """Begin to accept connections as soon as the event loop goes on."""
        loop = asyncio.get_running_loop()
        if self._context is not None:
            self._listening.setblocking(False)
            self._server = loop.create_task(self._accept(self._context))
        elif self._listening.family == socket.AF_UNIX:
            self._server = await loop.create_unix_server(
                self._protocol,
                sock=self._listening,
                backlog=listeners.BACKLOG,
                **listeners.KEEP_FILE,
            )
        else:
            self._server = await loop.create_server(
                self._protocol, sock=self._listening, backlog=listeners.BACKLOG
            )
        self.address = self._location
        if isinstance(self._location, Address):
            self.address = self._location._replace(port=self._listening.getsockname()[1])

    async def _accept(self, context: ssl.SSLContext) -> None:
        """Accept connections that are encrypted, each of which counts before its handshake: the
        event loop's own servers tell of it when the handshake has ended."""
        loop = asyncio.get_running_loop()
        with self._listening:
            while True:
                try:
                    line, _ = await loop.sock_accept(self._listening)
                except OSError:  # no file descriptor is left, or the sender is gone
                    await asyncio.sleep(_POLL_SECONDS)
                    continue
                task = loop.create_task(self._protocol().shake_hands(line, context))
                self._handshakes.add(task)
                task.add_done_callback(self._handshakes.discard)

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more, and finish the requests in progress; refuse them once time is up."""
        if self._server is None:
            return
        if isinstance(self._server, asyncio.Task):
            self._server.cancel()
            await asyncio.wait([self._server])
        else:
            self._server.close()
        for connection in self._limiter.connections():
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                while self._limiter.connections() or self._tasks:
                    await asyncio.sleep(_POLL_SECONDS)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CANCEL_SECONDS)
        self._server = self.address = None
