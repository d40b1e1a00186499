"""Whose turn it is to write into a file that several processes may share."""

from __future__ import annotations

import fcntl
import os
from time import monotonic, sleep
from types import TracebackType

__all__ = ["Turn"]

_MOST_SECONDS = 5.0
_PAUSE = 0.01


class Turn:
    """The lock of an open file, which it closes at the end.

    As a context it says whether the turn is ours. Shared, it is given back after each block, and
    waited for up to five seconds; otherwise it is kept from the first time on, and not waited for.
    """

    def __init__(self, handle: int, *, shared: bool) -> None:
        self.handle: int = handle
        self.shared = shared

    def __repr__(self) -> str:
        return f"<Turn, {'shared' if self.shared else 'kept'}>"

    def __enter__(self) -> bool:
        deadline = monotonic() + (_MOST_SECONDS if self.shared else 0)
        while not self._taken():
            if monotonic() >= deadline:
                return False
            sleep(_PAUSE)
        return True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.shared:
            fcntl.flock(self.handle, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the turn back for good."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1

    def _taken(self) -> bool:
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
