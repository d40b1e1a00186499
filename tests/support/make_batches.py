"""Make entries for a spool, and read what a spool holds."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import orjson
import pytest

from collector.contracts import (
    Batch,
    Layout,
    Part,
    PendingBatch,
    Rejection,
    Tally,
    count_lines,
    layout_of,
)
from collector.filter.redaction import Rule
from collector.filter.stored import read
from collector.ledger.receipt import commit as commitment
from collector.spool import Spool, checkpoints, spool
from collector.spool.tables import (
    NEW_ASIDE,
    NEW_COLUMN,
    NEW_LAYOUT,
    batch_seal,
    encode_granted,
    layout_seal,
)
from tests.support.deadline import WAIT_SECONDS

MINUTE = "2026-11-24T10:20:00Z"
LAYOUT = Layout("numbers/1.0.0", "ab" * 32, "numbers", (("n", "INTEGER"), ("text", "TEXT")))


def entry(
    *numbers: int,
    rejected: dict[Rejection, int] | None = None,
    minute: str = MINUTE,
    layout: Layout = LAYOUT,
    text: str | None = None,
) -> PendingBatch:
    """An entry whose records hold a number each."""
    more = {} if text is None else {"text": text}
    records = [{"schema": layout.schema, "n": number} | more for number in numbers]
    payload = b"".join(orjson.dumps(record) + b"\n" for record in records)
    refused = Counter(rejected or {})
    received = len(numbers) + refused.total()
    return PendingBatch(layout, minute, payload, Tally(received, len(numbers), refused))


def commit(spool: Spool, *batches: PendingBatch) -> None:
    """Put each batch into a spool in its own commit."""
    for batch in batches:
        spool.put(batch).result(WAIT_SECONDS)


def commit_to(path: Path, *batches: PendingBatch) -> None:
    """Open the spool of a sink, commit each batch, and close it."""
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, *batches)


def waiting(spool: Spool, sink: str = "sink", limit: int = 100) -> list[tuple[int, Batch]]:
    """The next batches for a sink."""
    return spool.after(sink, limit)


def drained(spool: Spool, sink: str = "sink", *, acknowledge: bool = True) -> list[int]:
    """The numbers of all records that a sink gets until its queue is empty."""
    found: list[int] = []
    seen: set[int] = set()
    while taken := [pair for pair in waiting(spool, sink, 1000) if pair[0] not in seen]:
        for at, spooled in taken:
            seen.add(at)
            batch = read(spooled)
            assert batch.rows is not None
            found += [int(row[0] or 0) for row in batch.rows()]
            if acknowledge:
                spool.delivered(sink, at)
        if not acknowledge:
            break
    return found


class _Without(Rule):
    """Removes the records with certain numbers."""

    gone: frozenset[int]
    has_people = True

    def fields_to_remove(self, record: Mapping[str, object], minute: str) -> Collection[str]:
        """Return all fields of such a record, or none."""
        number = record["n"]
        assert isinstance(number, msgspec.Raw)
        return record.keys() if int(bytes(number)) in self.gone else ()


def without(*gone: int, expired: bool = False) -> Rule:
    """The rule that removes the records with these numbers, as erased or as ``expired``."""
    rule = _Without(others=[Part()], now=datetime.now(UTC) if expired else None)
    object.__setattr__(rule, "gone", frozenset(gone))
    return rule


@contextmanager
def told_checkpoints() -> Iterator[None]:
    """Keep spools that are opened in the block from checkpointing their log before they close."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "LOOK_SECONDS", 3600.0)
        patch.setattr(spool, "IDLE_SECONDS", 3600.0)
        yield


def plant_aside(path: Path, sink: str, batch: Batch) -> None:
    """Plant a batch among a sink's batches that were set aside."""
    layout, salt, granted = layout_of(batch), bytes(16), encode_granted(batch.granted)
    head = (batch.id, layout.digest, batch.received, count_lines(batch.payload))
    seal = batch_seal(salt, commitment(salt, batch.payload), granted, *head)
    with closing(sqlite3.connect(path, timeout=WAIT_SECONDS)) as db, db:
        names = (layout.digest, layout.schema, layout.table, layout_seal(layout))
        db.execute(NEW_LAYOUT, names)
        columns = [(layout.digest, at, *column) for at, column in enumerate(layout.columns)]
        db.executemany(NEW_COLUMN, columns)
        (number,) = db.execute("SELECT coalesce(max(sequence), 0) + 1 FROM aside").fetchone()
        row = (sink, number, *head, salt, seal, batch.payload, granted, 0)
        db.execute(NEW_ASIDE, row)


def law(spool: Spool) -> None:
    """Compare for each sink what the spool took with what became of it, in batches and records. The
    bytes of a damaged batch that nobody has read yet may differ."""
    state = spool.state()
    for sink, each in {**state.backlogs, **state.absent}.items():
        gone = each.delivered + each.skipped + each.expired + each.erased + each.damaged
        assert each.taken.numbers[:2] == (each.waiting + each.aside + gone).numbers[:2], sink
