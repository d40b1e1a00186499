"""What is older than it may be leaves files of records once a day, one file after the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic

from collector.errors import DeliveryError
from collector.sinks.rewriting import Change
from collector.sinks.rotation import files_of

__all__ = ["Rounds"]

_DAY = 24 * 3600.0
_HOUR = 3600.0


class Rounds:
    """Goes round the files at a path: at the start, and then once a day. It never fails; where one
    of them could not be changed, ``is_held`` says so, and the next round is in an hour.

    ``told`` is told of each round in which some lines had something to go, and of how many.
    """

    def __init__(
        self, path: Path, change: Change, told: Callable[[int], None] | None = None
    ) -> None:
        self.is_held: bool = False
        self._path, self._change, self._told = path, change, told
        self._due = monotonic()
        self._done = self._lines = 0
        self._has_failed = False

    def __repr__(self) -> str:
        return "<Rounds>"

    def go_on(self, revise: Callable[[Path, Change], int]) -> None:
        """Have the next file revised, if it is time for that; upwards, as a file that is finished
        meanwhile moves the others up too."""
        if monotonic() < self._due:
            return
        files = list[Path]()
        try:
            files = files_of(self._path)[self._done :]
            if files:  # else somebody has taken them away
                self._lines += revise(files[0], self._change)
        except (DeliveryError, OSError):
            self._has_failed = True
        self._done += 1
        if not files[1:]:
            self._end()

    def _end(self) -> None:
        if self._lines and self._told is not None:
            self._told(self._lines)
        self.is_held, self._has_failed = self._has_failed, False
        self._done = self._lines = 0
        self._due = monotonic() + (_HOUR if self.is_held else _DAY)
