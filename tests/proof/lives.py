"""A data directory with records of many people, everywhere where records can be: in the store, in
the spool, in files of records, damaged, and set aside."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from collector.config import load
from collector.contracts import Entry, Record, Tally
from collector.filter.stored import read
from collector.proof.rights import Holdings
from collector.schema import Schema, load_schema
from collector.sinks.files import NdjsonFile
from collector.sinks.store import Store
from collector.spool import Spool

__all__ = ["Lives", "address", "minute"]

_NOW = datetime.now(UTC)


def minute(days: float = 0) -> str:
    """The minute so many days ago."""
    return (_NOW - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:00Z")


def address(number: int) -> str:
    """The address of a person; none begins with another's."""
    return f"10.{100 + number // 10_000}.{100 + number // 100 % 100}.{100 + number % 100}"


def _record(number: int, schema: Schema) -> Record:
    model = {"device.model.name": "Pixel 8"} if number % 3 else {}
    return {
        "schema": schema.id,
        "client.address": address(number),
        "device.type": "phone",
        **model,
        "os.type": "android",
    }


@dataclass
class Lives:
    """The directory, and ways to put records of people there, by their numbers."""

    directory: Path

    def __post_init__(self) -> None:
        self.data = self.directory / "data"
        self.lines = self.directory / "records.ndjson"
        self.schema = load_schema("conferencing")
        settings = {"data": str(self.data), "sinks": {"ndjson": {"path": str(self.lines)}}}
        self.config_file = self.directory / "collector.json"
        self.config_file.write_bytes(orjson.dumps(settings))
        self.data.mkdir(mode=0o700, exist_ok=True)

    @property
    def holdings(self) -> Holdings:
        """What commands make of the configuration."""
        return Holdings.of(load(self.config_file))

    def spool(self, *groups: Iterable[int], days: float = 0) -> None:
        """One batch for each group, that waits."""
        with Spool(self.data / "spool.db", sinks=["store"]) as spool:
            for group in groups:
                spool.put(self.entry(group, days)).result(10)

    def deliver(self, *groups: Iterable[int], days: float = 0) -> None:
        """One batch for each group, that is in the store, in files, and gone from the spool."""
        self.deliver_aged(*((group, days) for group in groups))

    def deliver_aged(self, *groups: tuple[Iterable[int], float]) -> None:
        """The same of groups with their age in days; nothing of it is pruned by that."""
        with (
            Spool(self.data / "spool.db", sinks=["store"]) as spool,
            Store(self.data / "store.db", self.schema) as store,
            NdjsonFile(self.lines, rotate=20_000) as file,
        ):
            while store.pruning.is_due:
                store.deliver()
            for group, days in groups:
                spool.put(self.entry(group, days)).result(10)
                for number, spooled in spool.after("store"):
                    store.deliver(read(spooled))
                    file.deliver(read(spooled))
                    spool.delivered("store", number)

    def damage(self, *numbers: int, days: float = 0) -> None:
        """A batch of these is not what was written, and one like it was set aside as such."""
        self.spool(numbers, numbers, days=days)
        with closing(sqlite3.connect(self.data / "spool.db")) as db, db:
            newest = db.execute("SELECT max(sequence) FROM batches").fetchone()[0]
            db.execute("UPDATE batches SET salt = x'00' WHERE sequence >= ?", (newest - 1,))
            db.execute("INSERT INTO damaged SELECT * FROM batches WHERE sequence = ?", (newest,))
            db.execute("DELETE FROM batches WHERE sequence = ?", (newest,))

    def set_aside(self, *numbers: int, days: float = 0) -> Path:
        """A file that was set aside so many days ago."""
        stamp = (_NOW - timedelta(days=days)).strftime("%Y%m%dT%H%M%SZ")
        path = self.data / f"spool.db.damaged-{stamp}"
        path.write_bytes(b"\0" * 100 + " ".join(map(address, numbers)).encode())
        return path

    def bytes(self) -> bytes:
        """All that all files hold."""
        paths = [path for path in self.directory.rglob("*") if path.is_file()]
        return b"\n".join(path.read_bytes() for path in paths)

    def left(self, numbers: Iterable[int]) -> set[int]:
        """Those of some people of whom some byte is there."""
        found = self.bytes()
        return {number for number in numbers if address(number).encode() in found}

    def entry(self, group: Iterable[int], days: float) -> Entry:
        """What a request of these people gives."""
        lines = [orjson.dumps(_record(number, self.schema)) + b"\n" for number in group]
        tally = Tally(len(lines), len(lines))
        return Entry(self.schema.layout, minute(days), b"".join(lines), tally)
