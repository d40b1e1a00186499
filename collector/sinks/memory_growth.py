"""Bound the memory that a server's answer takes, where a library reads it without a limit.

No library says how much it has read, so the memory of the whole process is looked at: if it grows
too much while a server is waited for, the connection is cut, and the batches come again later.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["LOOK_SECONDS", "MemoryGrowth"]

LOOK_SECONDS = 0.005
"""Between two looks: a server of this machine sends some 20 MB meanwhile."""
_MOST_BYTES = 48 << 20
_SIDECAR_BYTES = 136 << 20
"""A sidecar that is smaller than this may grow to it: it has 256 MB."""
_STATUS = Path("/proc/self/statm")


class MemoryGrowth:
    """The growth of this process's resident memory since now. ``more`` is what a request, or an
    answer, takes that is known to be large. Where the system does not tell, there is none."""

    def __init__(self, more: int = 0) -> None:
        self._most = max(_resident() + _MOST_BYTES, _SIDECAR_BYTES) + more

    def __repr__(self) -> str:
        return "<MemoryGrowth>"

    @property
    def is_too_much(self) -> bool:
        """Whether it is more than an answer may take."""
        return _resident() > self._most


def _resident() -> int:
    try:
        return int(_STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
