"""Whatever a sidecar has done, and wherever it was killed: nothing is found in its directory."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collector.claims.document import load_claims
from collector.claims.promises import promises
from collector.claims.verdicts import record
from collector.contracts import Batch, Subject
from collector.filter.redaction import Rule
from collector.ledger import Note
from collector.schema import load_schema
from collector.sinks.ndjson import NdjsonFile
from collector.sinks.parquet import ParquetSettings, ParquetSink
from collector.sinks.sink import Opening
from collector.sinks.store import Store
from collector.spool import Spool, note, rotate
from collector.sqlite.compaction import compact
from collector.sqlite.connection import connect
from collector.subject.tombstones import Tombstones, remember
from collector.testing.sinks import batch_of
from tests.claims.test_planted import Planted, stored
from tests.support.make_batches import plant_aside
from tests.support.populated import address, minute

_SHIPPED = ("conferencing", "conferencing-strict", "web", "webrtc")


class History(Planted):
    """A directory with the steps that a sidecar takes there."""

    number = 0

    def next(self) -> int:
        """The number of the next batch."""
        self.number += 1
        return self.number

    def lake_sink(self) -> ParquetSink:
        """The sink of the lake."""
        opening = Opening("lake", (self.schema,), self.data)
        return ParquetSink(ParquetSettings(type="parquet", path=self.lake), opening)

    def batch(self, days: float = 0) -> Batch:
        """A batch of one person."""
        return batch_of(self.next(), [self.number % 3], self.schema, age=timedelta(days=days))

    def deliver_all(self) -> None:
        """Records to store, file and spool."""
        self.deliver([self.next() % 3])
        self.spool([self.next() % 3])

    def collect(self) -> None:
        """Records to the lake, some of which wait."""
        with self.lake_sink() as sink:
            sink.deliver(self.batch())
            sink.finish()
            sink.deliver(self.batch())

    def prune(self) -> None:
        """Old records, which are pruned."""
        self.deliver_aged(([self.next()], 400))
        with Store(self.store, self.schema) as store:
            store.deliver()
        with self.lake_sink() as sink:
            sink.deliver(self.batch(400))
            sink.finish()
            sink.prune(datetime.now(UTC))

    def erase(self) -> None:
        """A person from every sink, which a drain remembers."""
        subject = Subject("client.address", address(1), minute(40), minute(-1))
        with self.locations.opened() as sinks:
            for sink in sinks.values():
                sink.rewrite([Rule.removal(subject, None)])
        with closing(Tombstones(self.data)):
            remember(self.data, [(subject, None), (subject, {"os.type"})])

    def compact(self) -> None:
        """Every file anew."""
        for path in (self.store, self.spool_file):
            if path.exists():
                with closing(connect(path)) as db:
                    compact(db, path)

    def set_aside_one(self) -> None:
        """A batch that a sink did not take."""
        plant_aside(self.data / "spool.db", "store", self.batch())

    def other_versions(self) -> None:
        """Records of versions with fewer columns, and in another order."""
        columns = self.schema.layout.columns
        for some in (columns[2:5], columns[::-1]):
            layout = replace(self.schema.layout, columns=some)
            payload = b'{"schema":"%b","os.type":"ios"}\n' % layout.schema.encode()
            batch = Batch(bytes([self.next()]) * 16, minute(), layout=layout, payload=payload)
            with Store(self.store, self.schema) as store, Spool(self.spool_file, sinks=["store"]):
                store.deliver(batch)

    def other_schemas(self) -> None:
        """Tables of all schemas that are shipped, which the ledger knows."""
        for name in _SHIPPED:
            schema = load_schema(name)
            with Spool(self.spool_file):
                pass
            fact = Note.of("schema", document=schema.document, schema=schema.id, change="first")
            note(self.data, fact)
            with Store(self.store, self.schema, schema):
                pass

    def sign(self) -> None:
        """Verdicts, and another key."""
        note(self.data, Note.of("read", command="claims", rows=1))
        rotate(self.data)
        record(self.data, promises(load_claims(), {}), "0" * 64, datetime.now(UTC))

    def kill(self) -> None:
        """All is as a kill left it while records were delivered: with logs, and the files that
        were being written."""
        with (
            Store(self.store, self.schema) as store,
            NdjsonFile(self.lines) as lines,
            self.lake_sink() as sink,
            Spool(self.spool_file, sinks=["store"]),
        ):
            for _ in range(3):
                batch = self.batch()
                store.deliver(batch)
                lines.deliver(batch)
                sink.deliver(batch)
            left = self.directory.with_name("left")
            shutil.copytree(self.directory, left, copy_function=_copied)
        shutil.rmtree(self.directory)
        left.rename(self.directory)
        torn = b'{"schema":"conferencing/1.0.0","client.addr'
        for path in (self.lines, next(self.waiting.glob("*.ndjson"))):
            with path.open("ab") as file:
                file.write(torn)
        half = self.store.read_bytes()[:20_000]
        for name in ("store.db.compact-0123456789abcdef", "ledger.key.part"):
            (self.data / name).write_bytes(half)
        self.lines.with_name(f"{self.lines.name}.new").write_bytes(torn)
        self.lake.mkdir(exist_ok=True)
        (self.lake / ".lake.new").write_bytes(half)


def _copied(source: str, target: str) -> None:
    """Copy a file; one of records stays the same, as its marks tell it by its inode."""
    (os.link if "records.ndjson" in source else shutil.copy2)(source, target)


_STEPS: dict[str, Callable[[History], None]] = {
    each.__name__: each
    for each in (
        History.deliver_all,
        History.collect,
        History.prune,
        History.erase,
        History.compact,
        History.set_aside_one,
        History.other_versions,
        History.other_schemas,
        History.sign,
        History.kill,
    )
}


def _holds_after(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place) / "here"
        directory.mkdir()
        history = History(directory)
        history.begin()
        for step in steps:
            _STEPS[step](history)
        assert stored(history.config_file) == []


@settings(max_examples=1, deadline=None)
@example([*_STEPS])
@example([*reversed(_STEPS)])
@given(st.lists(st.sampled_from([*_STEPS]), min_size=2, max_size=6))
def test_a_history(steps: list[str]) -> None:
    """Any of them, in any order."""
    _holds_after(steps)


@pytest.mark.long
@pytest.mark.parametrize("part", range(4))
@settings(max_examples=50, deadline=None)
@given(steps=st.lists(st.sampled_from([*_STEPS]), min_size=2, max_size=12))
def test_more_histories(part: int, steps: list[str]) -> None:
    """The same, for longer, in parts: a test that takes too long fails."""
    _holds_after(steps)
