"""What every contender does: NDJSON bytes in, nine fields of each event out, as NDJSON bytes."""

from __future__ import annotations

from io import BytesIO
from typing import Any, NamedTuple, Protocol

import orjson

Record = dict[str, object]
"""One flat record: the key ``schema`` and the fields that the event has."""

SCHEMA = "conferencing/1.0.0"
"""What the key ``schema`` says; that the loaded schema says the same, equal records show."""

QOS_SCHEMA = "participants-qos/1.0.0"
"""The same of the vendor's documents."""

FIELDS: tuple[str, ...] = (
    "client.address",
    "device.type",
    "device.manufacturer",
    "device.model.identifier",
    "device.model.name",
    "os.type",
    "os.name",
    "os.version",
    "os.build_id",
)
"""The fields in schema order; dots are levels of an event."""


class Unavailable(Exception):
    """Why a contender cannot run here, although it is there."""


class Outcome(NamedTuple):
    """What came of a run: the records in the order of the events, and, from a contender that
    counts, ``received``, ``admitted``, ``rejected``, ``dropped`` and ``content``."""

    records: list[Record]
    tally: dict[str, Any] | None = None


class Contender(Protocol):
    """One way to do the job. ``prepare`` once per corpus, then ``run`` as often as it is timed.

    ``checks_values`` says whether a value that the schema would refuse is refused. ``does_not`` is
    what is not done of the job; docs/benchmarks.md explains the words.
    """

    name: str
    title: str
    checks_values: bool
    does_not: str

    @property
    def schemas(self) -> tuple[str, ...]:
        """The shipped schemas that it knows."""

    def prepare(self, lines: list[bytes], schema: str) -> None:
        """Take the events, one JSON text each, and make what is made only once."""

    def run(self) -> bytes:
        """Do the whole job once, on a single thread; the output is NDJSON."""

    def check(self, output: bytes) -> Outcome:
        """Return what came of ``run``, in one form: nulls left out, keys compared in any order."""


def joined(lines: list[bytes]) -> bytes:
    """Return the NDJSON payload that every contender is given."""
    return b"\n".join(lines)


def each_line(payload: bytes) -> BytesIO:
    """Return the lines of a payload, one at a time.

    Of the ways to cut a payload that were tried (``split``, slices of 64 and 128 KiB, this), this
    one costs the least, so no contender is slowed down by it.
    """
    return BytesIO(payload)


def parsed(output: bytes) -> list[Any]:
    """Return the values of NDJSON text."""
    return [orjson.loads(line) for line in output.splitlines()]


def known(record: Record) -> Record:
    """Return a record without its nulls, for engines whose rows have every column."""
    return {name: value for name, value in record.items() if value is not None}
