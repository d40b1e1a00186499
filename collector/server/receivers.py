"""The receivers of the sidecar: a table of them, and the sockets on which they listen.

A new receiver needs a line in ``RECEIVERS``, and a line in ``collector.server.wiring``, which opens
it in a worker.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from collector.addresses import Address
from collector.ingest.grpc import library
from collector.server import listeners
from collector.server.listeners import Location

if TYPE_CHECKING:
    from collector.config import Config


class ReceiverType(NamedTuple):
    """A kind of receiver, and the setting of its location.

    ``check`` raises ``ConfigError`` if a library is missing. A receiver with ``own_port`` opens its
    port itself, on every address that a name resolves to; others get a socket on the first address.
    A receiver ``for_operators`` takes no events: it runs in the keeper, and stops last.
    """

    setting: str
    location: Callable[[Config], Location | None]
    check: Callable[[], object] | None = None
    own_port: bool = False
    for_operators: bool = False


RECEIVERS: dict[str, ReceiverType] = {
    "http": ReceiverType("http.address", lambda config: config.http.address),
    "unix": ReceiverType("http.unix", lambda config: config.http.unix),
    "grpc": ReceiverType("grpc.address", lambda config: config.grpc.address, library, True),
    "admin": ReceiverType("admin.address", lambda config: config.admin.address, for_operators=True),
}
"""Every receiver, by its name in logs and readiness."""


def event_locations(config: Config) -> dict[str, Location]:
    """Return where the receivers of workers should listen."""
    kinds = {name: kind for name, kind in RECEIVERS.items() if not kind.for_operators}
    found = {name: kind.location(config) for name, kind in kinds.items()}
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

    def _open(self, name: str, kind: ReceiverType, asked: Location, stack: ExitStack) -> Location:
        if kind.own_port and isinstance(asked, Address):
            return listeners.reserved(asked, kind.setting, stack)
        listening = self.listening[name] = listeners.opened(asked, kind.setting, stack)
        if isinstance(asked, Address):
            return asked._replace(port=listening.getsockname()[1])
        return asked

    def close(self) -> None:
        """Close the sockets, and remove their files."""
        self._stack.close()
