"""The newest batches of a spool whose rows are known: sinks need not read and decode them again."""

from __future__ import annotations

from collections import deque

from collector.contracts import Batch

__all__ = ["RecentBatches"]

_MOST_BYTES = 4 << 20
"""Bytes of records; their rows take three times as many."""
_BATCH_BYTES = 1 << 10
"""What a batch takes besides."""


class RecentBatches:
    """Batches by number, of bounded size: the oldest are forgotten first. One thread changes it,
    others may read."""

    def __init__(self) -> None:
        self._batches: dict[int, Batch] = {}
        self._order: deque[int] = deque()
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<RecentBatches: {len(self._order)}>"

    def get(self, sequence: int) -> Batch | None:
        """Return the batch of a number, if it is known."""
        return self._batches.get(sequence)

    def add(self, sequence: int, batch: Batch) -> None:
        """Add the newest batch, if its rows are known."""
        if batch.rows is None:
            return
        self._batches[sequence] = batch
        self._order.append(sequence)
        self._bytes += _size(batch)
        while self._bytes > _MOST_BYTES:
            self._forget_first()

    def forget(self, last: int) -> None:
        """Forget the batches up to a number."""
        while self._order and self._order[0] <= last:
            self._forget_first()

    def _forget_first(self) -> None:
        self._bytes -= _size(self._batches.pop(self._order.popleft()))


def _size(batch: Batch) -> int:
    return len(batch.payload) + _BATCH_BYTES
