"""One uvicorn server on a socket of ours, without its signals, logs and ticks."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import uvicorn

from collector.server.sockets import BACKLOG

__all__ = ["Listener"]


class Listener(uvicorn.Server):
    """Serves an ASGI application on an open socket, in the running event loop.

    ``protocol`` is the class of connections, ``context`` encrypts them. Stopping waits for
    requests that are being answered, ``grace`` seconds at most.
    """

    def __init__(
        self,
        app: Any,
        listening: socket.socket,
        protocol: type[asyncio.Protocol],
        *,
        context: ssl.SSLContext | None,
        idle: float,
        grace: int,
    ) -> None:
        self.started: bool = False
        self._listening = listening
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            loop="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            forwarded_allow_ips="",
            workers=1,
            timeout_keep_alive=int(idle),
            timeout_graceful_shutdown=grace,
            ssl_context_factory=None if context is None else (lambda _config, _default: context),
        )
        config.load()
        super().__init__(config)
        self.lifespan: Any = config.lifespan_class(config)

    def __repr__(self) -> str:
        return "<Listener>"

    @property
    def port(self) -> int:
        """The port that it listens on; 0 for a socket file."""
        name = self._listening.getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        loop = asyncio.get_running_loop()
        await self.on_tick(0)
        if self._listening.family == socket.AF_UNIX:
            made: Any = await loop.create_unix_server(
                self._connection, sock=self._listening, backlog=BACKLOG
            )
        else:
            made = await loop.create_server(
                self._connection, sock=self._listening, ssl=self.config.ssl, backlog=BACKLOG
            )
        self.servers: list[asyncio.Server] = [made]
        self.started = True

    async def stop(self) -> None:
        """Accept nothing more, and wait for what is being answered."""
        if self.started:
            await self.shutdown()
            self.started = False

    def _connection(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        made: asyncio.Protocol = kind(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made
