"""Whose turn it is: large bodies one after the other, so that small ones are not held up by them.

Filtering is work for one core. Many large bodies at once would only slow each other down, and take
memory and threads that small ones need.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import BoundedSemaphore

from collector.ingest.limits import MIB
from collector.ingest.refusals import BUSY, Refused

__all__ = ["Turns"]

_SMALL = 64 << 10
_MEDIUM_AT_ONCE = 4
_LARGE_AT_ONCE = 1


class Turns:
    """Bodies of up to 64 KiB are always on; up to 1 MiB four at a time; larger ones one at a time,
    and only ``standing`` of these may be there or wait at all."""

    def __init__(self, standing: int) -> None:
        self._medium = BoundedSemaphore(_MEDIUM_AT_ONCE)
        self._large = BoundedSemaphore(_LARGE_AT_ONCE)
        self._standing = BoundedSemaphore(standing)

    def of(self, size: int) -> AbstractContextManager[object]:
        """The turn of a body of so many bytes. Entering it may wait; raises ``Refused``: BUSY."""
        if size <= _SMALL:
            return nullcontext()
        return self._medium if size <= MIB else self._turn_of_large()

    @contextmanager
    def _turn_of_large(self) -> Iterator[None]:
        if not self._standing.acquire(blocking=False):
            raise Refused(BUSY)
        try:
            with self._large:
                yield
        finally:
            self._standing.release()
