"""The division of batches into parts that a sidecar accepts.

The idempotency key of a part follows from that of its batch and from its place in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from collector.errors import DeliveryError

_ID_BYTES = 16
_RECEIVED_BYTES = len(b',"received":"2026-01-01T00:00:00Z"')
"""Bytes that the wire adds to a queued line."""


class BodyTooLarge(DeliveryError):
    """The receiver refused a batch of several records for its size, and stored nothing of it."""

    def __init__(self) -> None:
        super().__init__("E514", "the sidecar accepts smaller bodies only")


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
