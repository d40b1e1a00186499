"""A directory on disk: that a file in it was made, renamed or removed is there after a crash only
when the directory is synced."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["sync"]


def sync(directory: Path) -> None:
    """Write to disk which files a directory has. Raises ``OSError``."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
