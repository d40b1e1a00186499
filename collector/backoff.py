"""Pauses after failures: each twice as long as the one before it, up to the longest.

A random factor between 0.5 and 1.5 spreads the pauses, so that clients that failed together do not
retry together.
"""

from __future__ import annotations

from random import uniform


class Backoff:
    """The pauses after the failures of one thing, in seconds: from ``first`` on, up to
    ``longest``."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self._next = first

    def __repr__(self) -> str:
        return f"<Backoff, next about {self._next:g} s>"

    def pause(self) -> float:
        """Return the pause after a failure."""
        pause, self._next = self._next, min(2 * self._next, self._longest)
        return pause * uniform(0.5, 1.5)  # noqa: S311 - no secret

    def reset(self) -> None:
        """Start again from ``first``, after a success."""
        self._next = self._first
