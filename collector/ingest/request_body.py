"""The body of a request as it was sent: read within a limit, counted before it is held."""

from __future__ import annotations

from collections.abc import Callable

from collector.ingest.refusals import TOO_LARGE, RequestRefused
from collector.ingest.request import HttpRequest

Reserve = Callable[[int], None]
"""Reserves so many bytes more for a body. Raises ``RequestRefused``: BUSY."""


async def read_body(request: HttpRequest, limit: int, reserve: Reserve) -> bytes | None:
    """Read a body of at most ``limit`` bytes; ``None`` if the sender is gone.

    Raises ``RequestRefused``: TOO_LARGE, BUSY, or the fault of the connection.
    """
    size, parts = 0, list[bytes]()
    if request.length() > limit:
        raise RequestRefused(TOO_LARGE)
    while (part := await request.receive()) is not None:
        size += len(part)
        if size > limit:
            raise RequestRefused(TOO_LARGE)
        reserve(len(part))
        parts.append(part)
        if request.is_complete:
            request.is_read = True
            return b"".join(parts)
    return None


def must_close(request: HttpRequest, limit: int) -> bool:
    """Tell whether the connection must close, as the rest of the body cannot be skipped.

    It broke off, is longer than ``limit``, or may never come, as the sender waits for
    ``100 Continue``.
    """
    if request.is_read:
        return False
    is_too_long = request.length() > limit
    return request.is_started or is_too_long or b"expect" in request.headers
