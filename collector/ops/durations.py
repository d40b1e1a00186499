"""How long requests took, by receiver and class of status: a closed table of numbers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, product
from threading import Lock

__all__ = ["BUCKETS", "RECEIVERS", "STATUSES", "Durations"]

RECEIVERS = ("http", "grpc")
STATUSES = ("2xx", "4xx", "5xx")
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Upper bounds in seconds; one more bucket has none."""

_SERIES = list(product(RECEIVERS, STATUSES))
_NUMBERS = {key: number for number, key in enumerate(_SERIES)}
_WIDTH = len(BUCKETS) + 1


class Durations:
    """Requests of some processes. Safe to use from several threads."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_SERIES) * _WIDTH)
        self._seconds = [0.0] * len(_SERIES)
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"<Durations of {sum(self._counts)} requests>"

    def observe(self, receiver: str, status: int, seconds: float) -> None:
        """Count a request of a receiver (one of ``RECEIVERS``), with its HTTP status."""
        status_class = f"{status // 100}xx"
        key = (receiver, status_class if status_class in STATUSES else STATUSES[-1])
        number = _NUMBERS[key]
        with self._lock:
            self._counts[number * _WIDTH + bisect_left(BUCKETS, seconds)] += 1
            self._seconds[number] += seconds

    def counts(self) -> list[int]:
        """Return the counts of all buckets of all series."""
        with self._lock:
            return list(self._counts)

    def seconds(self) -> list[float]:
        """Return the sums of all series."""
        with self._lock:
            return list(self._seconds)

    def add(self, counts: Sequence[int], seconds: Sequence[float]) -> None:
        """Add what another process has counted. Raises ``ValueError`` for a table of another
        form."""
        with self._lock:
            self._counts = [a + b for a, b in zip(self._counts, counts, strict=True)]
            self._seconds = [a + b for a, b in zip(self._seconds, seconds, strict=True)]

    def series(self) -> Iterator[tuple[tuple[str, str], list[tuple[float, int]], float]]:
        """Yield receiver and status, the cumulative counts by upper bound, and the sum."""
        counts, seconds = self.counts(), self.seconds()
        for number, key in enumerate(_SERIES):
            row = counts[number * _WIDTH : (number + 1) * _WIDTH]
            bounds = (*BUCKETS, float("inf"))
            yield key, list(zip(bounds, accumulate(row), strict=True)), seconds[number]
