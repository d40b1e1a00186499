"""How long the oldest batch has been waiting, by a clock that never jumps."""

from __future__ import annotations

from collections import deque
from time import monotonic

__all__ = ["Age"]

_SECONDS = 1.0
_MOST = 256


class Age:
    """Marks of when which batches came, at most one a second, and fewer where very many wait."""

    def __init__(self) -> None:
        self._marks: deque[tuple[int, float]] = deque()

    def mark(self, sequence: int, seconds_ago: float = 0.0) -> None:
        """A batch came now, or so long ago, and those after it no earlier."""
        now, marks = monotonic(), self._marks
        if marks and now - marks[-1][1] < _SECONDS:
            return
        if len(marks) >= _MOST:
            self._marks = marks = deque(list(marks)[::2])
        marks.append((sequence, now - seconds_ago))

    def oldest(self, first: int | None) -> float:
        """Seconds since the batch came that is now the first, to the second while few wait; 0 if
        there is none."""
        if first is None:
            self._marks.clear()
            return 0.0
        while len(self._marks) > 1 and self._marks[1][0] <= first:
            self._marks.popleft()
        return max(0.0, monotonic() - self._marks[0][1]) if self._marks else 0.0
