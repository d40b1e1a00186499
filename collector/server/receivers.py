"""The receivers of the sidecar: a contract, and a table of them.

A new receiver is a class that satisfies ``Receiver``, a function that opens it, and a line in
``RECEIVERS``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
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

    def update(self, parts: ReceiverParts) -> Callable[[], None]:
        """Return what has the next requests answered by other parts, also on connections that there
        are; it does no more than that. Limits and certificates stay."""


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

    def update(self, parts: ReceiverParts) -> Callable[[], None]:
        """Return what has the next calls answered by other parts."""
        server, schemas = self._server, parts.schemas
        return partial(server.update, parts.accept_now, parts.tokens, parts.hops, schemas)

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more calls, and cancel those that take longer than the grace period."""
        self.address = None
        await asyncio.to_thread(self._server.stop, grace_seconds)


class _EventsReceiver(HttpReceiver):
    """The receiver of ``http.address`` or ``http.unix``.

    The mode of a socket file takes the place of tokens and TLS; it has no host name either.
    """

    def __init__(self, parts: ReceiverParts, location: Location, listening: socket.socket) -> None:
        self._is_file = isinstance(location, Path)
        self._handler = self._made(parts)
        certificates = None if self._is_file else parts.certificates
        super().__init__(
            self._handler,
            location,
            listening,
            parts.budget.limits,
            context=None if certificates is None else certificates.context(),
            observe=partial(parts.observe, "http"),
            is_shared=parts.is_shared,
        )

    def update(self, parts: ReceiverParts) -> Callable[[], None]:
        """Return what has the next requests answered by other parts."""
        return partial(self._handler.use, self._made(parts))

    def _made(self, parts: ReceiverParts) -> EventsHandler:
        return EventsHandler.of(
            parts.accept,
            budget=parts.budget,
            tokens=None if self._is_file else parts.tokens,
            origins=parts.origins,
            hops=parts.hops,
            page=parts.page,
            schemas=parts.schemas,
            hosts=() if self._is_file else parts.hosts,
        )


def _http(parts: ReceiverParts, location: Location, listening: socket.socket | None) -> Receiver:
    assert listening is not None  # noqa: S101 - of this row
    return _EventsReceiver(parts, location, listening)


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


class _Opened(NamedTuple):
    asked: Location
    location: Location
    listening: socket.socket | None
    stack: ExitStack


class OpenSockets:
    """The sockets on which workers are to receive, by the names of their receivers: those of
    ``before`` whose setting is the same, and new ones. Raises ``ConfigError`` E207."""

    def __init__(self, config: Config, before: OpenSockets | None = None) -> None:
        self.opened: dict[str, _Opened] = {}
        known = {} if before is None else before.opened
        with ExitStack() as undo:
            for name, kind in RECEIVERS.items():
                asked = kind.location(config)
                if asked is None or kind.for_operators:
                    continue
                found = known.get(name)
                if found is None or found.asked != asked:
                    found = _opened(kind, asked, undo)
                self.opened[name] = found
            undo.pop_all()

    def __repr__(self) -> str:
        return f"<OpenSockets of {', '.join(self.opened)}>"

    @property
    def locations(self) -> dict[str, Location]:
        """Where each receiver listens."""
        return {name: each.location for name, each in self.opened.items()}

    @property
    def listening(self) -> dict[str, socket.socket]:
        """The sockets that workers get."""
        found = {name: each.listening for name, each in self.opened.items()}
        return {name: each for name, each in found.items() if each is not None}

    def close(self, besides: OpenSockets | None = None) -> None:
        """Close and remove those that the others do not have."""
        others = () if besides is None else besides.opened.values()
        for each in self.opened.values():
            if not any(each is other for other in others):
                each.stack.close()


def _opened(kind: ReceiverType, asked: Location, undo: ExitStack) -> _Opened:
    stack = undo.enter_context(ExitStack())
    if kind.own_port and isinstance(asked, Address):
        return _Opened(asked, listeners.reserved(asked, kind.setting, stack), None, stack)
    listening, location = listeners.opened(asked, kind.setting, stack), asked
    if isinstance(location, Address):
        location = location._replace(port=listening.getsockname()[1])
    return _Opened(asked, location, listening, stack)
