"""A batch as lines of NDJSON, each record with when it was received: for files and for the wire."""

from __future__ import annotations

from collector.contracts import Batch
from collector.errors import DeliveryError

__all__ = ["BEGIN", "lines"]

BEGIN = b'{"schema":"'
"""How each of them begins."""


def lines(batch: Batch) -> list[bytes]:
    """The records, one a line, with ``received`` at the end: they are flat objects that are not
    empty.

    Raises ``DeliveryError`` E508 for a batch without a payload, which did not come out of a spool.
    """
    if batch.payload is None:
        raise DeliveryError("E508", "only batches with a payload can be written as lines")
    end = b',"received":"' + batch.received.encode() + b'"}\n'
    return [line[:-1] + end for line in batch.payload.split(b"\n")[:-1]]
