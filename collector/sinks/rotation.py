"""Finished files: beside ``NAME`` lie ``NAME.1``, the newest, ``NAME.2`` and so on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

__all__ = ["files_of", "rotate"]

_MOST_KEPT = 1000
"""Higher numbers are none that we gave: somebody's own, a date perhaps."""


def files_of(path: Path) -> list[Path]:
    """The files of records at a path, which are there: the one that is written, and those that are
    finished, the newest first, also such as would not be kept."""
    return [*([path] if path.exists() else []), *(each for _, each in _finished(path))]


def rotate(path: Path, keep: int) -> None:
    """Move a file and those before it up by one. So many finished ones stay; the others go, also
    such as stayed when it were more. Raises ``OSError`` when the file cannot be moved."""
    for number, old in _finished(path):
        if keep <= number <= _MOST_KEPT:
            with suppress(OSError):
                old.unlink()
    for number in range(keep - 1, 0, -1):
        with suppress(FileNotFoundError):
            _numbered(path, number).rename(_numbered(path, number + 1))
    path.rename(_numbered(path, 1))


def _finished(path: Path) -> list[tuple[int, Path]]:
    begin = f"{path.name}."
    names = [found.name for found in path.parent.iterdir()] if path.parent.is_dir() else []
    ends = [name.removeprefix(begin) for name in names if name.startswith(begin)]
    return sorted((int(end), _numbered(path, end)) for end in ends if end.isdecimal())


def _numbered(path: Path, number: int | str) -> Path:
    return path.with_name(f"{path.name}.{number}")
