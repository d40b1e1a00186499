"""The lock of a data directory: one process at a time, and none after it has ended."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from collector.errors import ConfigError

__all__ = ["FILE_NAME", "InUse", "Lock"]

FILE_NAME = "collector.lock"


class InUse(ConfigError):
    """E203: the directory belongs to another process."""


class Lock:
    """A data directory, made if it is not there (0700), and held until ``release``.

    The system lets go of it when the process ends, however it ends. Raises ``ConfigError`` E203
    when the directory cannot be used, and ``InUse`` when another process has it.
    """

    def __init__(self, directory: Path) -> None:
        self._handle = _open(directory)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._handle)
        else:
            return
        raise InUse(
            "E203",
            "the data directory is in use by another collector; stop it, or name another directory",
        )

    def release(self) -> None:
        """Let others have the directory."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def _open(directory: Path) -> int:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(directory / FILE_NAME, flags, 0o600)
    except OSError:
        pass
    raise ConfigError("E203", "the data directory cannot be made or written; check its permissions")
