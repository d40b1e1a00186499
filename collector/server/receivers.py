"""The receivers of the sidecar: a contract, and a table of them.

A new receiver is a class that satisfies ``Receiver``, a function that opens it, and a line in
``RECEIVERS``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from collector.addresses import Address
from collector.contracts import Accept, AcceptNow
from collector.ingest.auth import Tokens
from collector.ingest.grpc import GrpcServer, library
from collector.ingest.http import EventsHandler
from collector.ingest.memory import MemoryBudget
from collector.ingest.tls import Certificates
from collector.preferences import PreferencePage
from collector.server import listeners
from collector.server.http_receiver import HttpReceiver
from collector.server.listeners import Location

if TYPE_CHECKING:
    from collector.config import Config


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
    """What receivers of a worker are made of. They share one ``budget``. ``observe`` gets every
    response: receiver, status, seconds, and the code of a refusal. ``schemas`` are the names of
    the schemas that a request may ask for. ``is_shared`` tells whether other workers accept from
    the same sockets."""

    accept: Accept
    accept_now: AcceptNow
    budget: MemoryBudget
    tokens: Tokens | None
    certificates: Certificates | None
    origins: tuple[str, ...]
    hosts: tuple[str, ...]
    hops: int
    page: PreferencePage | None
    observe: Callable[[str, int, float, str | None], None]
    schemas: tuple[str, ...]
    is_shared: bool = False


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
    """Make the receiver of ``http.address`` or ``http.unix``. The mode of a socket file takes the
    place of tokens and TLS; it has no host name either."""
    assert listening is not None  # noqa: S101 - of this row
    is_file = isinstance(location, Path)
    certificates = None if is_file else parts.certificates
    return HttpReceiver(
        EventsHandler.of(
            parts.accept,
            budget=parts.budget,
            tokens=None if is_file else parts.tokens,
            origins=parts.origins,
            hops=parts.hops,
            page=parts.page,
            schemas=parts.schemas,
            hosts=() if is_file else parts.hosts,
        ),
        location,
        listening,
        parts.budget.limits,
        context=None if certificates is None else certificates.context(),
        observe=partial(parts.observe, "http"),
        is_shared=parts.is_shared,
    )


def _grpc(parts: ReceiverParts, location: Location, _: socket.socket | None) -> Receiver:
    """Make the receiver of ``grpc.address``. Raises ``ConfigError`` E201 without the library."""
    assert isinstance(location, Address)  # noqa: S101 - of this row
    server = GrpcServer(
        parts.accept_now,
        address=str(location),
        budget=parts.budget,
        tokens=parts.tokens,
        certificates=parts.certificates,
        hops=parts.hops,
        observe=partial(parts.observe, "grpc"),
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


def event_locations(config: Config) -> dict[str, Location]:
    """Return where the receivers of workers are to listen."""
    found = {name: kind.location(config) for name, kind in RECEIVERS.items() if kind.open}
    return {name: location for name, location in found.items() if location is not None}


class OpenSockets:
    """The sockets on which workers receive, by the names of their receivers. Raises ``ConfigError``
    E207."""

    def __init__(self, asked: Mapping[str, Location]) -> None:
        self.listening: dict[str, socket.socket] = {}
        """The sockets that workers get."""
        with ExitStack() as stack:
            self.locations: dict[str, Location] = {
                name: self._open(name, RECEIVERS[name], location, stack)
                for name, location in asked.items()
            }
            """Where each receiver listens."""
            self._stack = stack.pop_all()

    def __repr__(self) -> str:
        return f"<OpenSockets of {', '.join(self.locations)}>"

    def _open(self, name: str, kind: ReceiverType, asked: Location, stack: ExitStack) -> Location:
        if kind.own_port and isinstance(asked, Address):
            return listeners.reserved(asked, kind.setting, stack)
        listening = self.listening[name] = listeners.opened(asked, kind.setting, stack)
        if isinstance(asked, Address):
            return asked._replace(port=listening.getsockname()[1])
        return asked

    def close(self) -> None:
        """Close them, and remove their files."""
        self._stack.close()
