"""A transport that parts in good manners: the other side gets to read what was said last.

To close a socket from which not everything was read resets the connection, and the sender may never
see the answer to a request that was refused half way. So the last word is said, the line is closed
in that direction only, and what still comes is skipped for a moment. What is written in one go is
sent in one go, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["LINGER_SECONDS", "Parting"]

LINGER_SECONDS = 1.0
"""How long what still comes is skipped."""

_MOST_SKIPPED = 16 << 20
"""Bytes that are skipped; a sender of more has to live with a reset."""


class Parting(asyncio.Transport):
    """Around another transport. ``closes`` is asked once, when it is to be closed, whether
    something may be unread."""

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        closes: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []
        self._closes = closes
        self._closing = False
        self._skipped = 0

    def close(self) -> None:
        """Close it, now or a moment later."""
        if self._closing:
            return
        self.flush()
        self._closing = True
        if not self._closes():
            self._transport.close()
        elif self._transport.can_write_eof():
            self._transport.write_eof()

    def skip(self, size: int) -> None:
        """So many bytes came, and nobody wants them."""
        self._skipped += size
        if self._skipped > _MOST_SKIPPED:
            self._transport.abort()

    def is_closing(self) -> bool:
        """Whether the last word is said."""
        return self._closing or self._transport.is_closing()

    def abort(self) -> None:
        """Close it at once."""
        self._closing = True
        self._transport.abort()

    def write(self, data: Any) -> None:
        """Send it, with what else is written before others get their turn."""
        if not self._written:
            self._loop.call_soon(self.flush)
        self._written.append(data)

    def flush(self) -> None:
        """Send now what has been written."""
        if self._written and not self._transport.is_closing():
            self._transport.write(b"".join(self._written))
        self._written.clear()

    def pause_reading(self) -> None:
        """As any transport."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """As any transport."""
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As any transport."""
        return self._transport.get_extra_info(name, default)
