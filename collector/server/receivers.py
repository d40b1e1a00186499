"""The receivers of the sidecar: a contract, and a table of them.

A new receiver is a class that satisfies ``Receiver``, a function that opens it, and a line in
``RECEIVERS``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from collector.addresses import Address
from collector.contracts import Accept, AcceptNow
from collector.ingest.auth import Tokens
from collector.ingest.grpc import GrpcServer, library
from collector.ingest.http import EventsHandler
from collector.ingest.limits import IngestLimits
from collector.ingest.tls import Certificates
from collector.preferences import PreferencePage
from collector.server.http_receiver import HttpReceiver
from collector.server.listeners import Location
from collector.server.openapi import receiver_document

if TYPE_CHECKING:
    from collector.config import Config

__all__ = ["RECEIVERS", "HttpReceiver", "Receiver", "ReceiverParts", "ReceiverType"]


class Receiver(Protocol):
    """Listens for senders."""

    @property
    def address(self) -> Location | None:
        """Where it listens; ``None`` while it does not."""

    async def open(self) -> None:
        """Make all system calls that ``start`` may no longer make; no connection is accepted
        before the event loop goes on. Raises ``ConfigError`` E207 if it cannot listen."""

    async def start(self) -> None:
        """Begin to accept, and ``open`` before if that was not done."""

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more, and finish what is in progress within the grace period."""


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class ReceiverParts:
    """What receivers of a worker are made of. ``observe`` gets every response: receiver, status,
    seconds, and the code of a refusal. ``schemas`` are the names of those that a request may
    ask for."""

    accept: Accept
    accept_now: AcceptNow
    limits: IngestLimits
    tokens: Tokens | None
    certificates: Certificates | None
    origins: tuple[str, ...]
    hosts: tuple[str, ...]
    hops: int
    page: PreferencePage | None
    observe: Callable[[str, int, float, str | None], None]
    schemas: tuple[str, ...]


Open = Callable[[ReceiverParts, Location, socket.socket | None], Receiver]


class ReceiverType(NamedTuple):
    """A kind of receiver: the setting of its location, and how a worker makes one of parts, its
    location and a listening socket; ``None`` where it takes no events, and the keeper has it.

    ``check`` raises ``ConfigError`` if a library is missing. One with ``own_port`` opens its port
    itself, on every address that a name resolves to; the others get a socket of the first.
    """

    setting: str
    location: Callable[[Config], Location | None]
    open: Open | None
    check: Callable[[], object] | None = None
    own_port: bool = False

    @property
    def for_operators(self) -> bool:
        """Whether it takes no events, and stops last."""
        return self.open is None


class GrpcReceiver:
    """Runs a gRPC server, which opens its own port."""

    def __init__(self, server: GrpcServer, location: Address) -> None:
        self.address: Location | None = None
        self._server = server
        self._location = location

    def __repr__(self) -> str:
        return "<GrpcReceiver>"

    async def open(self) -> None:
        """Listen on the port; calls wait. Raises ``ConfigError`` E207."""
        self._server.bind()

    async def start(self) -> None:
        """Begin to accept calls. Raises ``ConfigError`` E207."""
        self.address = self._location._replace(port=self._server.start())

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more calls, and cancel those that take longer than the grace period."""
        self.address = None
        await asyncio.to_thread(self._server.stop, grace_seconds)


def _http(parts: ReceiverParts, location: Location, listening: socket.socket | None) -> Receiver:
    """Make the receiver of ``http.address`` or ``http.unix``.

    The mode of a socket file takes the place of tokens and TLS; it has no host name either.
    """
    assert listening is not None  # noqa: S101 - of this row
    is_file = isinstance(location, Path)
    certificates = None if is_file else parts.certificates
    handler = EventsHandler.of(
        parts.accept,
        limits=parts.limits,
        tokens=None if is_file else parts.tokens,
        origins=parts.origins,
        hops=parts.hops,
        page=parts.page,
        schemas=parts.schemas,
        hosts=() if is_file else parts.hosts,
        document=receiver_document(
            schemas=parts.schemas,
            has_tokens=parts.tokens is not None and not is_file,
            has_preferences=parts.page is not None,
            has_hosts=bool(parts.hosts) and not is_file,
        ),
    )
    return HttpReceiver(
        handler,
        location,
        listening,
        parts.limits,
        context=None if certificates is None else certificates.context(),
        observe=partial(parts.observe, "http"),
    )


def _grpc(parts: ReceiverParts, location: Location, _: socket.socket | None) -> Receiver:
    """Make the receiver of ``grpc.address``. Raises ``ConfigError`` E201 without the library."""
    assert isinstance(location, Address)  # noqa: S101 - of this row
    server = GrpcServer(
        parts.accept_now,
        address=str(location),
        limits=parts.limits,
        tokens=parts.tokens,
        certificates=parts.certificates,
        hops=parts.hops,
        observe=partial(parts.observe, "grpc"),
        is_shared=True,
        schemas=parts.schemas,
    )
    return GrpcReceiver(server, location)


RECEIVERS: dict[str, ReceiverType] = {
    "http": ReceiverType("http.address", lambda config: config.http.address, _http),
    "unix": ReceiverType("http.unix", lambda config: config.http.unix, _http),
    "grpc": ReceiverType(
        "grpc.address", lambda config: config.grpc.address, _grpc, library, own_port=True
    ),
    "admin": ReceiverType("admin.address", lambda config: config.admin.address, None),
}
"""Every receiver, by the name that logs and readiness give it."""
