"""Counts of requests: how long they took and why they were refused, as closed tables of numbers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, product
from threading import Lock

RECEIVERS = ("http", "grpc")
"""The receivers of events; a socket file counts as ``http``."""
REFUSING = (*RECEIVERS, "admin")
"""The receivers that refuse requests."""
STATUSES = ("2xx", "4xx", "5xx")
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Upper bounds in seconds; one more bucket is unbounded."""
REFUSAL_CODES = tuple("E410 E411 E412 E413 E416 E422 E425 E428 E429 E435 E505 E506".split())
"""The codes of all refusals of requests."""

_SERIES = list(product(RECEIVERS, STATUSES))
_NUMBERS = {key: number for number, key in enumerate(_SERIES)}
_WIDTH = len(BUCKETS) + 1
_REFUSALS = list(product(REFUSING, REFUSAL_CODES))
_REFUSAL_NUMBERS = {key: number for number, key in enumerate(_REFUSALS)}


class RequestCounts:
    """The counts of one or more processes. Safe to use from several threads."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_SERIES) * _WIDTH)
        self._seconds = [0.0] * len(_SERIES)
        self._refusals = [0] * len(_REFUSALS)
        self._lock = Lock()

    def observe(self, receiver: str, status: int, seconds: float, code: str | None = None) -> None:
        """Count a receiver's request by its HTTP status, and by the code if it was refused. For a
        receiver that is not in ``RECEIVERS``, only refusals are counted."""
        if code is not None:
            with self._lock:
                self._refusals[_REFUSAL_NUMBERS[receiver, code]] += 1
        if receiver not in RECEIVERS:
            return
        status_class = f"{status // 100}xx"
        key = (receiver, status_class if status_class in STATUSES else STATUSES[-1])
        number = _NUMBERS[key]
        with self._lock:
            self._counts[number * _WIDTH + bisect_left(BUCKETS, seconds)] += 1
            self._seconds[number] += seconds

    def tables(self) -> tuple[list[int], list[float], list[int]]:
        """Return the bucket counts of all series, their sums, and the refusals by receiver and
        code."""
        with self._lock:
            return [*self._counts], [*self._seconds], [*self._refusals]

    def add(self, counts: Sequence[int], seconds: Sequence[float], refusals: Sequence[int]) -> None:
        """Add the counts of another process. Raises ``ValueError`` for tables of another shape."""
        with self._lock:
            self._counts = [a + b for a, b in zip(self._counts, counts, strict=True)]
            self._seconds = [a + b for a, b in zip(self._seconds, seconds, strict=True)]
            self._refusals = [a + b for a, b in zip(self._refusals, refusals, strict=True)]

    def durations(self) -> Iterator[tuple[tuple[str, str], list[tuple[float, int]], float]]:
        """Yield for each receiver and status the cumulative counts by upper bound, and the sum."""
        counts, seconds, _ = self.tables()
        for number, key in enumerate(_SERIES):
            row = counts[number * _WIDTH : (number + 1) * _WIDTH]
            bounds = (*BUCKETS, float("inf"))
            yield key, list(zip(bounds, accumulate(row), strict=True)), seconds[number]

    def refused(self) -> Iterator[tuple[tuple[str, str], int]]:
        """Yield for each receiver and code how many requests were refused."""
        yield from zip(_REFUSALS, self.tables()[2], strict=True)
