"""Data to whoever reads our output."""

from __future__ import annotations

import sys
from typing import IO, Any

from collector.errors import ConfigError

__all__ = ["ReaderGoneError", "write", "write_all"]


class ReaderGoneError(Exception):
    """Whoever read our output has closed it; there is nothing left to do."""


def write(data: bytes) -> int:
    """Write data to stdout, and say how much. Raises ``ReaderGoneError`` once nobody reads it, and
    ``ConfigError`` E203 when it cannot be written."""
    buffer: Any = sys.stdout.buffer  # the raw file itself where Python runs unbuffered
    return write_all(getattr(buffer, "raw", buffer), data)


def write_all(raw: IO[bytes], data: bytes) -> int:
    """The same for any unbuffered file: nothing is left behind that could fail later."""
    left, gone = memoryview(data), False
    try:
        while left:
            left = left[raw.write(left) :]
    except BrokenPipeError:
        gone = True
    except OSError:
        pass
    else:
        return len(data)
    if gone:
        raise ReaderGoneError
    raise ConfigError("E203", "the output cannot be written any further; is the disk full?")
