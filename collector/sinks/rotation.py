"""Finished files: beside ``NAME`` lie ``NAME.1``, the newest, ``NAME.2`` and so on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

__all__ = ["finished", "rotate"]

_MOST_KEPT = 1000
"""Higher numbers are none that we gave: somebody's own, a date perhaps."""


def finished(path: Path) -> list[Path]:
    """The finished files of a path that are there, by number; also such as would not be kept."""
    begin = f"{path.name}."
    names = [found.name for found in path.parent.iterdir()] if path.parent.is_dir() else []
    ends = [name.removeprefix(begin) for name in names if name.startswith(begin)]
    return [_numbered(path, end) for end in sorted(filter(str.isdecimal, ends), key=int)]


def rotate(path: Path, keep: int) -> None:
    """Move a file and those before it up by one. So many finished ones stay; the others go, also
    such as stayed when it were more. Raises ``OSError`` when the file cannot be moved."""
    for old in finished(path):
        if keep <= int(old.name.removeprefix(f"{path.name}.")) <= _MOST_KEPT:
            with suppress(OSError):
                old.unlink()
    for number in range(keep - 1, 0, -1):
        with suppress(FileNotFoundError):
            _numbered(path, number).rename(_numbered(path, number + 1))
    path.rename(_numbered(path, 1))


def _numbered(path: Path, number: int | str) -> Path:
    return path.with_name(f"{path.name}.{number}")
