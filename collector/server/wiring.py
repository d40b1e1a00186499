"""The wiring of a worker. A request goes through it from top to bottom: request → consent → filter
→ commit → response.

1. *Request.* ``ingest.protocol`` gives the head of an HTTP request to ``ingest.http``, which checks
   it, reads and decompresses the body, and makes a ``contracts.Request``; ``ingest.grpc`` makes one
   from a call.
2. *Consent.* ``intake`` removes what the sender refuses from the filter of its schema,
3. *Filter.* filters the request, at once or in its turn,
4. *Commit.* and passes batches, counts and retry key to ``server.channel``. The keeper answers when
   they are on disk.
5. *Response.* ``intake`` calls back ``ingest.http`` or ``ingest.grpc``, which write the counts.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from collector.addresses import Address
from collector.contracts import BatchQueue
from collector.filter import Filter
from collector.ingest.auth import Tokens
from collector.ingest.grpc import GrpcServer
from collector.ingest.http import EventsHandler
from collector.ingest.memory import MemoryBudget
from collector.ingest.tls import Certificates
from collector.intake import Acceptor
from collector.ops.requests import RequestCounts
from collector.preferences import PreferencePage
from collector.server.http_receiver import HttpReceiver
from collector.server.listeners import Location
from collector.server.messages import ReceiverSetup, Setup


class Receiver(Protocol):
    """Listens for senders."""

    @property
    def address(self) -> Location | None:
        """Where the receiver listens; ``None`` while it does not."""

    async def open(self) -> None:
        """Make all system calls that ``start`` may no longer make. No connection is accepted before
        the event loop goes on. Raises ``ConfigError`` E207 if it cannot listen."""

    async def start(self) -> None:
        """Start accepting; ``open`` first if that was not done."""

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more, and finish requests in progress within the grace period."""


class GrpcReceiver:
    """Runs a gRPC server, which opens its own port."""

    def __init__(self, server: GrpcServer, location: Address) -> None:
        self.address: Location | None = None
        self._server = server
        self._location = location

    async def open(self) -> None:
        """Listen on the port; calls wait. Raises ``ConfigError`` E207."""
        # It may block on a host name: the loop serves nobody until it is confined.
        self._server.bind()

    async def start(self) -> None:
        """Start accepting calls. Raises ``ConfigError`` E207."""
        self.address = self._location._replace(port=self._server.start())

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more calls, and cancel those that take longer than the grace period."""
        self.address = None
        await asyncio.to_thread(self._server.stop, grace_seconds)


class Wiring:
    """The parts of a worker between its sockets and its channel. ``sockets`` are in the order of
    the receivers that get one. All receivers share one ``budget``."""

    def __init__(
        self,
        setup: Setup,
        sockets: Sequence[socket.socket],
        filters: Sequence[Filter],
        queue: BatchQueue,
        budget: MemoryBudget,
    ) -> None:
        self.tokens: Tokens | None = None if setup.tokens is None else Tokens(setup.tokens)
        self.requests: RequestCounts = RequestCounts()
        self.acceptor: Acceptor = Acceptor(filters, queue, most_events=setup.events)
        self._setup, self._budget = setup, budget
        self._schemas = [each.schema for each in filters]
        self._certificates = None if setup.pem is None else Certificates.of(setup.pem)
        given = iter(sockets)
        self.receivers: list[Receiver] = [
            self._http(each, next(given)) if each.has_socket else self._grpc(each)
            for each in setup.receivers
        ]

    def _http(self, of: ReceiverSetup, listening: socket.socket) -> Receiver:
        """Receive on ``http.address`` or ``http.unix``. The mode of a socket file replaces tokens
        and TLS; it has no host name either."""
        setup, is_file = self._setup, of.unix is not None
        certificates = None if is_file else self._certificates
        handler = EventsHandler(
            self.acceptor.accept,
            budget=self._budget,
            tokens=None if is_file else self.tokens,
            origins=setup.origins,
            hops=setup.hops,
            page=PreferencePage(*self._schemas) if setup.preferences else None,
            schemas=[schema.name for schema in self._schemas],
            hosts=() if is_file else setup.hosts,
        )
        return HttpReceiver(
            handler,
            Path(of.unix) if of.unix is not None else Address(of.host, of.port),
            listening,
            self._budget.limits,
            context=None if certificates is None else certificates.context(),
            observe=partial(self.requests.observe, "http"),
            is_shared=setup.workers > 1,
        )

    def _grpc(self, of: ReceiverSetup) -> Receiver:
        """Receive on ``grpc.address``. Raises ``ConfigError`` E201 without the library."""
        location = Address(of.host, of.port)
        server = GrpcServer(
            self.acceptor.accept_now,
            address=str(location),
            budget=self._budget,
            tokens=self.tokens,
            certificates=self._certificates,
            hops=self._setup.hops,
            observe=partial(self.requests.observe, "grpc"),
            schemas=[schema.name for schema in self._schemas],
        )
        return GrpcReceiver(server, location)
