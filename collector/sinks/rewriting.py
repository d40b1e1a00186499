"""A file of lines with less in it: written anew beside it, synced, and put in its place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["Change", "pieces", "remove_unfinished", "rewrite", "unfinished"]

Change = Callable[[bytes], tuple[bytes, int]]
"""Is given whole lines; returns what is left, and how many have less in them or are gone."""

_PIECE = 1 << 20


def unfinished(path: Path) -> Path:
    """Where a rewriting puts the file until it is whole."""
    return path.with_name(f"{path.name}.new")


def remove_unfinished(path: Path) -> None:
    """Remove what was left by a rewriting that was cut short, also of files that are numbered."""
    is_ours = re.compile(re.escape(path.name) + r"(\.[0-9]+)?\.new").fullmatch
    for found in path.parent.iterdir():
        if is_ours(found.name):
            found.unlink(missing_ok=True)


def rewrite(path: Path, change: Change, ready: Callable[[int, int], None] | None = None) -> int:
    """Take out of a file what is to go; how many lines that were. A file of which nothing goes is
    not touched. ``ready`` is told inode and length of the new one before that takes its place.

    Raises ``OSError``: then the file is as it was.
    """
    unfinished(path).unlink(missing_ok=True)
    if not any(change(piece)[1] for piece in pieces(path)):
        return 0
    number, flags = 0, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(unfinished(path), flags, 0o600), "wb") as new:
        for piece in pieces(path):
            left, changed = change(piece)
            new.write(left)
            number += changed
        new.flush()
        os.fsync(new.fileno())
        if ready is not None:
            ready(os.fstat(new.fileno()).st_ino, new.tell())
    unfinished(path).rename(path)
    return number


def pieces(path: Path) -> Iterator[bytes]:
    """The file in pieces of whole lines; the last may have no end."""
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece + file.readline()
