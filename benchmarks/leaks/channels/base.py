"""A channel: a way to say something beside the fields of a record, and what measures share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

from benchmarks.leaks.sidecar import Sidecar, rows
from benchmarks.leaks.spelling import Record

SCHEMA, OTHER_SCHEMA = "conferencing", "web"
"""The schema of every sidecar, and the second one of those that have several."""
JSON, NDJSON = "application/json", "application/x-ndjson"
EVENTS = "log2 of the events of a request (20,000 as it is shipped)"


class Channel(NamedTuple):
    """A way to say something beside the fields; ``measure`` returns bits offered and delivered.
    ``per`` is what it is counted by, ``ceiling`` what bounds it, and ``needs`` the location that
    its sidecar delivers to, besides store and file."""

    name: str
    sentence: str
    per: str
    ceiling: str
    measure: Callable[[Sidecar, Random], tuple[float, float]]
    needs: str = ""


class Measured(NamedTuple):
    """One channel: ``offered`` bits were sent at a time, ``delivered`` of them were read."""

    channel: Channel
    offered: float
    delivered: float | None


def numbered(number: int) -> Record:
    """Return the record of a number: an address."""
    return {"client.address": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"}


def lines(records: Sequence[Any]) -> bytes:
    """Return records as NDJSON."""
    return "\n".join(map(json.dumps, records)).encode()


def send_records(sidecar: Sidecar, records: Sequence[Any]) -> None:
    """Send records as an SDK does."""
    sidecar.post("/v1/records", NDJSON, lines(records))


def stored(sidecar: Sidecar, columns: str) -> list[tuple[Any, ...]]:
    """Return columns of the store, row by row, once everything is delivered."""
    sidecar.delivered()
    return rows(sidecar.store, f"SELECT {columns} FROM {SCHEMA} ORDER BY _rowid_")
