"""Bodies on their way in: read and decompressed within the limits, never looked into.

Memory is one for all: a ``Room`` counts the bytes of every body that is held, so that many senders
together cannot cost more than is allowed. Whoever finds it full is told to come again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from collector.ingest.bodies import Encoding, pieces
from collector.ingest.limits import MIB, Limits
from collector.ingest.refusals import BUSY, TOO_LARGE, Refused

__all__ = ["Body", "Receive", "Room"]

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

_QUICK = MIB
"""Bytes that a body may grow to without waiting for its turn."""
_TURNS = 2
"""How many bodies grow beyond that at the same time."""


class Room:
    """What all bodies together may hold."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held: int = 0
        self.turns: asyncio.Semaphore = asyncio.Semaphore(_TURNS)

    def take(self, size: int) -> None:
        """Hold so many bytes more. Raises ``Refused``: BUSY."""
        if self.held + size > self.limits.room:
            raise Refused(BUSY)
        self.held += size


class Body:
    """The body of one request. ``release`` it when its bytes are no longer needed.

    ``begun`` and ``whole`` say how much of it has been read: nothing, something, everything.
    """

    def __init__(self, room: Room, receive: Receive, state: Mapping[str, Any]) -> None:
        self._room = room
        self._limits = room.limits
        self._receive = receive
        self._state = state
        self._taken = 0
        self.begun: bool = False
        self.whole: bool = False

    async def read(self) -> bytes | None:
        """All of it, as it was sent; ``None`` if the sender is gone.

        Raises ``Refused``: TOO_LARGE, BUSY, or whatever ``fault`` the request's state has got.
        """
        self.begun = True
        parts = []
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                return None
            if (fault := self._state.get("fault")) is not None:
                raise Refused(fault)
            part = message.get("body", b"")
            if self._taken + len(part) > self._limits.wire:
                raise Refused(TOO_LARGE)
            self._take(part)
            parts.append(part)
            if not message.get("more_body"):
                self.whole = True
                return b"".join(parts)

    async def decompressed(self, encoding: Encoding | None, wire: bytes) -> bytes:
        """What was read, decompressed. Others get their turns in between.

        Raises ``Refused``: TOO_LARGE, INFLATED, DAMAGED, ENCODING, BUSY.
        """
        if encoding is None:
            if len(wire) > self._limits.body:
                raise Refused(TOO_LARGE)
            return wire
        more, parts = pieces(encoding, wire, self._limits), list[bytes]()
        if not await self._grow(more, parts, _QUICK):
            async with self._room.turns:
                await self._grow(more, parts, self._limits.body)
        return b"".join(parts)

    async def _grow(self, more: Iterator[bytes], parts: list[bytes], most: int) -> bool:
        """Add pieces until there are no more, or more than so many bytes."""
        size = 0
        while (piece := await self._next(more, beside=bool(parts))) is not None:
            self._take(piece)
            parts.append(piece)
            size += len(piece)
            if size > most:
                return False
        return True

    @staticmethod
    async def _next(more: Iterator[bytes], *, beside: bool) -> bytes | None:
        """The next piece, if there is one. Most bodies have one only; more are made in a thread, as
        the many pieces of many bodies would hold up the loop."""
        if not beside:
            return next(more, None)
        return await asyncio.get_running_loop().run_in_executor(None, next, more, None)

    def _take(self, part: bytes) -> None:
        self._room.take(len(part))
        self._taken += len(part)

    def release(self) -> None:
        """Make room for others."""
        self._room.held -= self._taken
        self._taken = 0
