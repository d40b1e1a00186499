"""Everything that listens: HTTP, the socket file, gRPC and admin, under one start and one stop."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collector.config import Address
from collector.ingest import http
from collector.ingest.protocol import protocol
from collector.ops.admin import Admin, State
from collector.server import sockets
from collector.server.listener import Listener
from collector.server.parts import Parts

if TYPE_CHECKING:
    from collector.ingest.grpc import Receiver

__all__ = ["Receivers"]


class Receivers:
    """Opens all sockets when it is made; raises ``ConfigError`` E207 if one cannot be had.

    ``grace`` is how many seconds requests that are being answered may still take at the end.
    """

    def __init__(self, parts: Parts, stack: ExitStack, grace: int) -> None:
        self._parts = parts
        self._stack = stack
        self._grace = grace
        self._listeners: dict[str, Listener] = {}
        config = parts.config
        if config.http.address is not None:
            self._listen("http", self._tcp(config.http.address, "http"), self._events(unix=False))
        if config.http.unix is not None:
            self._listen("unix", self._unix(config.http.unix), self._events(unix=True))
        if config.admin.address is not None:
            self._listen("admin", self._tcp(config.admin.address, "admin"), self._admin())
        self._grpc = None if config.grpc.address is None else self._grpc_receiver()
        self._grpc_port = 0

    def __repr__(self) -> str:
        return f"<Receivers: {', '.join(self._listeners)}>"

    async def start(self) -> None:
        """Begin to accept, everywhere."""
        if self._grpc is not None:
            self._grpc_port = self._grpc.start()
        for listener in self._listeners.values():
            await listener.startup()

    async def tick(self) -> None:
        """Once a second: the date in answers."""
        for listener in self._listeners.values():
            await listener.on_tick(0)

    async def stop(self) -> None:
        """Accept nothing more; wait for what is being answered. Health is shown until the end."""
        receiving = [one.stop() for name, one in self._listeners.items() if name != "admin"]
        if self._grpc is not None:
            receiving.append(asyncio.to_thread(self._grpc.stop, self._grace))
            self._grpc_port = 0
        await asyncio.gather(*receiving)
        if "admin" in self._listeners:
            await self._listeners["admin"].stop()

    def ports(self) -> dict[str, int]:
        """The port of each that listens (a socket file: 1)."""
        found = {name: one.port or 1 for name, one in self._listeners.items()}
        return found | ({"grpc": self._grpc_port} if self._grpc_port else {})

    def places(self) -> dict[str, str]:
        """Where each listens, for people."""
        config, ports = self._parts.config, self.ports()
        found = {"unix": str(config.http.unix)} if "unix" in ports else {}
        for name in ("http", "grpc", "admin"):
            address: Address | None = getattr(config, name).address
            if name in ports and address is not None:
                found[name] = str(address._replace(port=ports[name]))
        return found

    def _tcp(self, address: Address, name: str) -> socket.socket:
        opened = sockets.tcp(address, f"{name}.address")
        self._stack.callback(opened.close)
        return opened

    def _unix(self, path: Path) -> socket.socket:
        opened = sockets.unix(path, "http.unix")
        self._stack.callback(path.unlink, missing_ok=True)
        self._stack.callback(opened.close)
        return opened

    def _listen(self, name: str, opened: socket.socket, app: Any) -> None:
        parts = self._parts
        is_plain = opened.family == socket.AF_UNIX or (name == "admin" and not self._is_open())
        context = None if parts.certificates is None or is_plain else parts.certificates.context()
        self._listeners[name] = Listener(
            app,
            opened,
            protocol(parts.limits, None if name == "admin" else parts.metrics.request),
            context=context,
            idle=parts.limits.idle_seconds,
            grace=self._grace,
        )

    def _events(self, *, unix: bool) -> Any:
        """Whoever may open the socket file is known by that; it has no host name either."""
        parts, chosen = self._parts, self._parts.config.http
        return http.app(
            parts.pipeline.accept,
            limits=parts.limits,
            tokens=None if unix else parts.tokens,
            origins=chosen.origins,
            hops=chosen.trusted_hops,
            hosts=() if unix else parts.hosts(chosen.address, chosen.hosts),
            observe=parts.metrics.request,
        )

    def _admin(self) -> Admin:
        parts, chosen = self._parts, self._parts.config.admin
        own = () if chosen.address is None else (chosen.address.host,)
        return Admin(
            self._checks,
            parts.metrics.text,
            hosts=(*chosen.hosts, *own),
            admits=parts.tokens.admits if parts.tokens and self._is_open() else None,
        )

    def _is_open(self) -> bool:
        """Whether others can reach admin. On loopback it is plain, so that probes need nothing."""
        address = self._parts.config.admin.address
        return address is not None and not address.is_loopback

    def _checks(self) -> dict[str, State]:
        """What readiness is made of."""
        parts = self._parts
        states: dict[str, State] = {"spool": "ok" if parts.spool_reading().writable else "failing"}
        for name, delivery in parts.pipeline.deliveries().items():
            states[f"sink {name}"] = "late" if delivery.failing else "ok"
        for name, listener in self._listeners.items():
            if name != "admin":
                states[f"receiver {name}"] = "ok" if listener.started else "failing"
        if self._grpc is not None:
            states["receiver grpc"] = "ok" if self._grpc_port else "failing"
        return states

    def _grpc_receiver(self) -> Receiver:
        from collector.ingest.grpc import Receiver  # noqa: PLC0415 - grpc is that extra

        parts = self._parts
        return Receiver(
            parts.pipeline.accept_now,
            address=str(parts.config.grpc.address),
            limits=parts.limits,
            tokens=parts.tokens,
            certificates=parts.certificates,
            hops=parts.config.http.trusted_hops,
            observe=parts.metrics.request,
        )
