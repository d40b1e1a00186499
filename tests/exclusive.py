"""A lock that orders all test processes of this user on this machine.

Tests run side by side, each of which has the lock shared. One that measures time has it
exclusively: it takes the gate, at which every test starts, then waits until those that run have
ended. Each process writes which test it runs into a file of its own, by which a process that gives
up waiting names the holders.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, flock
from pathlib import Path

from tests.deadline import eventually

_WAIT_SECONDS = 900.0
"""Longer than those that may be in front take: each test has a limit of its own."""


class MachineLock:
    """One process's handle of the lock, for one test at a time.

    The system releases it when the process ends. A child that is forked closes its copies of the
    handles, which would hold the lock for longer; a program that is started has none of them.
    """

    def __init__(self, folder: Path | None = None, wait: float = _WAIT_SECONDS) -> None:
        folder = folder or Path(tempfile.gettempdir(), f"collector-tests-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder, self._wait = folder, wait
        self._gate, self._inside = self._handles = [
            os.open(folder / name, os.O_CREAT | os.O_RDWR, 0o600) for name in ("gate", "inside")
        ]
        os.register_at_fork(after_in_child=self.close)

    def close(self) -> None:
        """Close the handles."""
        while self._handles:
            os.close(self._handles.pop())

    @contextmanager
    def shared(self, test: str) -> Iterator[None]:
        """Run a test beside others. Raises ``TimeoutError``, which names the holders."""
        with ExitStack() as held:
            with self._acquired(self._gate, LOCK_EX):
                held.enter_context(self._acquired(self._inside, LOCK_SH))
            held.enter_context(self._noted(test))
            yield

    @contextmanager
    def exclusive(self, test: str) -> Iterator[None]:
        """Run a test while no other runs. Raises ``TimeoutError``, which names the holders."""
        with (
            self._acquired(self._gate, LOCK_EX),
            self._noted(f"{test} (exclusively)"),
            self._acquired(self._inside, LOCK_EX),
        ):
            yield

    def holders(self) -> list[str]:
        """The other processes that have the lock: their numbers and tests."""
        found = []
        for path in sorted(self._folder.glob("holder-*")):
            process = int(path.name.partition("-")[2])
            if process == os.getpid():
                continue
            with suppress(FileNotFoundError):
                if _is_running(process):
                    found.append(f"process {process}: {path.read_text()}")
                else:
                    path.unlink()
        return found

    @contextmanager
    def _acquired(self, handle: int, operation: int) -> Iterator[None]:
        if not eventually(lambda: _try(handle, operation), self._wait):
            holders = "; ".join(self.holders()) or "a process that left no note"
            raise TimeoutError(f"tests had the lock for {self._wait:g} s: {holders}")
        try:
            yield
        finally:
            flock(handle, LOCK_UN)

    @contextmanager
    def _noted(self, test: str) -> Iterator[None]:
        path = self._folder / f"holder-{os.getpid()}"
        path.write_text(test)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _try(handle: int, operation: int) -> bool:
    try:
        flock(handle, operation | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the number belongs to a process of another user by now
        return False
    return True
