"""The size of body that a sidecar accepts, and the division of larger batches into parts.

The SDK does not know the limits of a sidecar or of a proxy before it; it learns them from 413
responses. The idempotency key of a part follows from that of its batch and from its place in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from collector.errors import DeliveryError

__all__ = ["BodyLimit", "BodyTooLarge", "part_id", "part_ranges"]

_ID_BYTES = 16
_DEFAULT_BYTES = 4 << 20
"""The default of a sidecar (``limits.wire``). Larger bodies would save nothing."""
_FIRST_INTERVAL, _LONGEST_INTERVAL = 8, 1024
_RECEIVED_BYTES = len(b',"received":"2026-01-01T00:00:00Z"')
"""Bytes that the wire adds to a queued line."""


class BodyTooLarge(DeliveryError):
    """The receiver refused a batch of several records for its size, and stored nothing of it."""

    def __init__(self) -> None:
        super().__init__("E510", "the sidecar accepts smaller bodies only")


class BodyLimit:
    """The largest size in bytes that a body should have.

    A refusal lowers it to the largest body that was accepted lately, or to half the refused one.
    After some accepted bodies near the limit, the next may be twice as large, in case the
    receiver's limit was raised; each refusal of such a trial makes trials rarer.
    """

    def __init__(self) -> None:
        self.bytes: int = _DEFAULT_BYTES
        self._largest = 0
        self._interval = self._until_trial = _FIRST_INTERVAL

    def __repr__(self) -> str:
        return f"<BodyLimit of {self.bytes} bytes>"

    def next(self) -> int:
        """Return the limit for the next body: ``bytes``, or more for a trial."""
        if self._until_trial > 0:
            return self.bytes
        self._until_trial = self._interval
        return min(2 * self.bytes, _DEFAULT_BYTES)

    def accepted(self, size: int) -> None:
        """Note that a body of that size was accepted."""
        self._largest = max(self._largest, size)
        if self.bytes < size:
            if self.bytes <= size * 2 // 3:
                self._interval = _FIRST_INTERVAL
            self.bytes = min(size, _DEFAULT_BYTES)
        if self.bytes // 2 < size:
            self._until_trial -= 1

    def refused(self, size: int) -> None:
        """Note that a body of that size, with several records, was refused."""
        if self.bytes < size <= 2 * self.bytes:
            self._interval = min(2 * self._interval, _LONGEST_INTERVAL)
        if self._largest >= size:
            self._largest = 0  # the receiver's limit was lowered
        self.bytes = max(1, min(self.bytes, max(self._largest, size // 2)))
        self._until_trial = self._interval


def part_ranges(
    lines: Sequence[bytes], max_bytes: int, first_bytes: int | None = None
) -> Iterator[tuple[int, int]]:
    """Yield start and length of each part: as many lines as fit into a body of ``max_bytes``, and
    at least one. The first part may have a limit of its own."""
    start = size = 0
    limit = max_bytes if first_bytes is None else first_bytes
    for at, line in enumerate(lines):
        more = len(line) + _RECEIVED_BYTES
        if at > start and size + more > limit:
            yield start, at - start
            start, size, limit = at, 0, max_bytes
        size += more
    if start < len(lines):
        yield start, len(lines) - start


def part_id(id_: bytes, start: int, length: int) -> bytes:
    """Derive the idempotency key of a part of a batch: ``length`` records from ``start`` on."""
    place = start.to_bytes(8, "big") + length.to_bytes(8, "big")
    return hashlib.sha256(b"part" + id_ + place).digest()[:_ID_BYTES]
