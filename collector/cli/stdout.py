"""Data on stdout, unbuffered, without loading the libraries of the commands."""

from __future__ import annotations

import sys
from typing import IO, Any

from collector.errors import ConfigError

__all__ = ["ReaderGoneError", "write", "write_all"]


class ReaderGoneError(Exception):
    """The reader of stdout has closed it; the command has nothing left to do."""


def write(data: bytes) -> int:
    """Write data to stdout, and return its length. Raises ``ReaderGoneError`` once the reader has
    closed it, and ``ConfigError`` E203 when it cannot be written."""
    buffer: Any = sys.stdout.buffer  # the raw file itself where Python runs unbuffered
    return write_all(getattr(buffer, "raw", buffer), data)


def write_all(raw: IO[bytes], data: bytes) -> int:
    """Write all data to an unbuffered file, so that nothing is left that could fail later."""
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
