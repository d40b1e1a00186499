"""The receivers of the sidecar: a contract, a table, and one start and stop for all of them.

A new receiver is a class that satisfies ``Receiver``, a function that opens it, and a line in
``RECEIVERS``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple, Protocol

from collector.config import Address, Config
from collector.ingest.grpc import GrpcServer, library
from collector.ingest.http import EventsHandler
from collector.preferences import PreferencePage
from collector.server import listeners
from collector.server.admin import AdminPages, Readiness, State
from collector.server.components import Components
from collector.server.http_receiver import HttpReceiver
from collector.server.listeners import Location

__all__ = ["RECEIVERS", "HttpReceiver", "Receiver", "ReceiverType", "Receivers"]


class Receiver(Protocol):
    """Listens for senders."""

    @property
    def address(self) -> Location | None:
        """Where it listens; ``None`` while it does not."""

    async def start(self) -> None:
        """Begin to accept. Raises ``ConfigError`` E207 if it cannot listen."""

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more, and finish what is in progress within the grace period."""


class ReceiverType(NamedTuple):
    """A kind of receiver: the setting of its location, and how one is made.

    ``open`` takes sockets at once; they are closed by the stack. ``check`` raises ``ConfigError``
    if a library is missing. One that is ``for_operators`` takes no events, and stops last.
    ``is_every`` says that it listens on every address that a name resolves to, not on one.
    """

    setting: str
    location: Callable[[Config], Location | None]
    open: Callable[[Components, Location, ExitStack, Readiness], Receiver]
    check: Callable[[], object] | None = None
    for_operators: bool = False
    is_every: bool = False


class GrpcReceiver:
    """Runs a gRPC server, which opens its own port."""

    def __init__(self, server: GrpcServer, location: Address) -> None:
        self.address: Location | None = None
        self._server = server
        self._location = location

    def __repr__(self) -> str:
        return "<GrpcReceiver>"

    async def start(self) -> None:
        """Begin to accept calls. Raises ``ConfigError`` E207."""
        self.address = self._location._replace(port=self._server.start())

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more calls, and cancel those that take longer than the grace period."""
        self.address = None
        await asyncio.to_thread(self._server.stop, grace_seconds)


def _http(
    components: Components, location: Location, stack: ExitStack, _readiness: object
) -> HttpReceiver:
    """Open the receiver of ``http.address`` or ``http.unix``. Raises ``ConfigError`` E207.

    The mode of a socket file takes the place of tokens and TLS; it has no host name either.
    """
    chosen, is_file = components.config.http, not isinstance(location, Address)
    certificates = None if is_file else components.certificates
    handler = EventsHandler.of(
        components.pipeline.accept,
        limits=components.limits,
        tokens=None if is_file else components.tokens,
        origins=chosen.origins,
        hops=chosen.trusted_hops,
        page=PreferencePage(components.schema) if chosen.preferences else None,
        hosts=() if is_file else components.hosts(chosen.address, chosen.hosts),
    )
    return HttpReceiver(
        handler,
        location,
        listeners.opened(location, "http.unix" if is_file else "http.address", stack),
        components.limits,
        context=None if certificates is None else certificates.context(),
        observe=partial(components.metrics.request, "http"),
    )


def _grpc(
    components: Components, location: Location, _stack: ExitStack, _readiness: object
) -> GrpcReceiver:
    """Make the receiver of ``grpc.address``. Raises ``ConfigError`` E201 without the library."""
    assert isinstance(location, Address)  # noqa: S101 - of this setting
    server = GrpcServer(
        components.pipeline.accept_now,
        address=str(location),
        limits=components.limits,
        tokens=components.tokens,
        certificates=components.certificates,
        hops=components.config.http.trusted_hops,
        observe=partial(components.metrics.request, "grpc"),
    )
    return GrpcReceiver(server, location)


def _admin(
    components: Components, location: Location, stack: ExitStack, readiness: Readiness
) -> HttpReceiver:
    """Open the receiver of ``admin.address``. Raises ``ConfigError`` E207.

    On loopback it needs neither tokens nor TLS, so that probes work.
    """
    chosen = components.config.admin
    is_public = chosen.address is not None and not chosen.address.is_loopback
    own = () if chosen.address is None else (chosen.address.host,)
    pages = AdminPages(
        readiness,
        components.metrics.text,
        hosts=(*chosen.hosts, *own),
        admits=components.tokens.admits if components.tokens and is_public else None,
    )
    context = components.certificates.context() if components.certificates and is_public else None
    listening = listeners.opened(location, "admin.address", stack)
    return HttpReceiver(pages, location, listening, components.limits, context=context)


RECEIVERS: dict[str, ReceiverType] = {
    "http": ReceiverType("http.address", lambda config: config.http.address, _http),
    "unix": ReceiverType("http.unix", lambda config: config.http.unix, _http),
    "grpc": ReceiverType(
        "grpc.address", lambda config: config.grpc.address, _grpc, library, is_every=True
    ),
    "admin": ReceiverType(
        "admin.address", lambda config: config.admin.address, _admin, for_operators=True
    ),
}
"""Every receiver, by the name that logs and readiness give it."""


class Receivers:
    """The receivers that are configured. Raises ``ConfigError`` E207 if one has no socket."""

    def __init__(self, components: Components, stack: ExitStack) -> None:
        self._components = components
        self._receivers: dict[str, Receiver] = {}
        for name, kind in RECEIVERS.items():
            location = kind.location(components.config)
            if location is not None:
                self._receivers[name] = kind.open(components, location, stack, self._readiness)

    def __repr__(self) -> str:
        return f"<Receivers: {', '.join(self._receivers)}>"

    async def start(self) -> None:
        """Begin to accept on all of them."""
        for receiver in self._receivers.values():
            await receiver.start()

    async def stop(self, grace_seconds: float) -> None:
        """Stop all of them; the operators' ones answer until the others have stopped."""
        for for_operators in (False, True):
            stopping = (
                receiver.stop(grace_seconds)
                for name, receiver in self._receivers.items()
                if RECEIVERS[name].for_operators is for_operators
            )
            await asyncio.gather(*stopping)

    def addresses(self) -> dict[str, Location]:
        """Return where each receiver listens."""
        found = {name: receiver.address for name, receiver in self._receivers.items()}
        return {name: address for name, address in found.items() if address is not None}

    def ports(self) -> dict[str, int]:
        """Return the port of each receiver that listens; 1 for a socket file."""
        return {
            name: address.port if isinstance(address, Address) else 1
            for name, address in self.addresses().items()
        }

    def _readiness(self) -> dict[str, State]:
        """Return the states that readiness is made of."""
        components = self._components
        states: dict[str, State] = {
            "spool": "ok" if components.spool.state().is_ready else "failing"
        }
        for name, delivery in components.pipeline.deliveries().items():
            states[f"sink {name}"] = "late" if delivery.is_late else "ok"
        for name, receiver in self._receivers.items():
            if not RECEIVERS[name].for_operators:
                states[f"receiver {name}"] = "failing" if receiver.address is None else "ok"
        return states
