"""The open connections of a server: how many, which of them keep us waiting, and until when.

One glance now and then over all of them costs less than a timer for each, and there is nothing to
arm, move or forget for a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from collector.ingest.limits import Limits

__all__ = ["GLANCE_SECONDS", "Crowd", "Member"]

GLANCE_SECONDS = 0.25
"""How late a deadline may be noticed."""

_PATIENCE_SECONDS = 0.5
"""A connection that has kept us waiting for less is not sent away to make place."""


class Member(Protocol):
    """A connection, as the crowd sees it."""

    since: float
    """Loop time since when it has kept us waiting."""
    known: bool
    """Whether it has ever sent a whole request."""

    def glance(self, now: float) -> None:
        """Act on a deadline that has passed."""

    def dismiss(self) -> None:
        """Make way for others."""


class Crowd:
    """All connections of one server, on one event loop.

    ``observe`` gets receiver, status and seconds of what is refused before it is a request.
    """

    def __init__(self, limits: Limits, observe: Callable[[str, int, float], None] | None) -> None:
        self.limits = limits
        self.observe = observe
        self.members: set[Member] = set()
        self._strangers: dict[Member, None] = {}
        self._known: dict[Member, None] = {}
        self._glances: asyncio.TimerHandle | None = None

    def enter(self, member: Member, loop: asyncio.AbstractEventLoop) -> bool:
        """Let a connection in, if need be for one that has kept us waiting longest; or not.

        Those that have never sent anything whole go first, so that no number of them drives out
        one that has.
        """
        if len(self.members) >= self.limits.connections:
            oldest = next(iter(self._strangers or self._known), None)
            if oldest is None or loop.time() - oldest.since < _PATIENCE_SECONDS:
                return False
            self.leave(oldest)
            oldest.dismiss()
        self.members.add(member)
        if self._glances is None:
            self._glances = loop.call_later(GLANCE_SECONDS, self._glance, loop)
        return True

    def leave(self, member: Member) -> None:
        """A connection is closed."""
        self.members.discard(member)
        self.stop_waiting(member)

    def wait(self, member: Member, now: float) -> None:
        """We wait for this one, from now on."""
        self.stop_waiting(member)
        member.since = now
        (self._known if member.known else self._strangers)[member] = None

    def stop_waiting(self, member: Member) -> None:
        """Now it is our turn."""
        self._strangers.pop(member, None)
        self._known.pop(member, None)

    def _glance(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for member in tuple(self.members):
            member.glance(now)
        again = loop.call_later(GLANCE_SECONDS, self._glance, loop) if self.members else None
        self._glances = again
