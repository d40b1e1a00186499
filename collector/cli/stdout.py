"""Data on stdout, unbuffered, and whether stderr may be a terminal: without loading the libraries
of the commands."""

from __future__ import annotations

import os
import sys
from typing import IO, Any

from collector.errors import NotNow

_FORCING = ("FORCE_COLOR", "TTY_COMPATIBLE")


class ReaderGoneError(Exception):
    """The reader of stdout has closed it; the command has nothing left to do."""


def may_be_terminal() -> bool:
    """Return whether stderr may be a terminal, which Rich knows for certain."""
    return sys.stderr.isatty() or not os.environ.keys().isdisjoint(_FORCING)


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
    raise NotNow("E203", "the output cannot be written any further; is the disk full?")
