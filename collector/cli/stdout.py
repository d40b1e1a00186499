"""Data to whoever reads our output."""

from __future__ import annotations

import sys

__all__ = ["ReaderGoneError", "write"]


class ReaderGoneError(Exception):
    """Whoever read our output has closed it; there is nothing left to do."""


def write(data: bytes) -> int:
    """Write data to stdout, and say how much. Raises ``ReaderGoneError`` once nobody reads it."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        pass
    else:
        return len(data)
    raise ReaderGoneError
