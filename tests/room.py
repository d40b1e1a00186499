"""The room in which tests run: many at a time, or one that has it for itself.

Whoever wants to be alone waits at a gate until those inside have left; nobody enters meanwhile.
Locks of files keep the order, so that it holds for all processes that run tests on this machine.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from fcntl import LOCK_EX, LOCK_SH, LOCK_UN, flock
from pathlib import Path

__all__ = ["Alone", "Room"]

Alone = Callable[[], AbstractContextManager[None]]
"""What a test enters for as long as it measures."""


class Room:
    """A test process's own handle of it; one test at a time."""

    def __init__(self) -> None:
        folder = Path(tempfile.gettempdir(), f"collector-tests-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        self._gate, self._inside = (
            os.open(folder / name, os.O_CREAT | os.O_RDWR, 0o600) for name in ("gate", "inside")
        )

    @contextmanager
    def shared(self) -> Iterator[None]:
        """With others, unless one of them is alone or is about to be."""
        flock(self._gate, LOCK_EX)
        flock(self._inside, LOCK_SH)
        flock(self._gate, LOCK_UN)
        try:
            yield
        finally:
            flock(self._inside, LOCK_UN)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For somebody who is inside: the others end their tests first. Who waits at the gate does
        not count as inside, or two who want to be alone would wait for each other."""
        flock(self._inside, LOCK_UN)
        flock(self._gate, LOCK_EX)
        flock(self._inside, LOCK_EX)
        try:
            yield
        finally:
            flock(self._inside, LOCK_SH)
            flock(self._gate, LOCK_UN)
