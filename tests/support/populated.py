"""A data directory with records of many people everywhere records can be: in the store, in the
spool, in files of records, in damaged batches and in quarantined files."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import orjson

from collector.config import load
from collector.contracts import PendingBatch, Record, Tally
from collector.filter.stored import read
from collector.retention.locations import Locations
from collector.schema import Schema, load_schema
from collector.sinks.ndjson import NdjsonFile
from collector.sinks.store import Store
from collector.spool import Spool
from tests.support.make_batches import commit, waiting

_NOW = datetime.now(UTC)
_SCHEMA = load_schema("conferencing")


def minute(days: float = 0) -> str:
    """Return the minute ``days`` ago."""
    return (_NOW - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:00Z")


def address(number: int) -> str:
    """Return a person's address. No address is a prefix of another."""
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
class PopulatedDirectory:
    """The directory, and methods that add records of people by number."""

    directory: Path

    def __post_init__(self) -> None:
        self.data = self.directory / "data"
        self.lines = self.directory / "records.ndjson"
        self.schema = _SCHEMA
        settings = {"data": str(self.data), "sinks": {"ndjson": {"path": str(self.lines)}}}
        self.config_file = self.directory / "collector.json"
        self.config_file.write_bytes(orjson.dumps(settings))
        self.data.mkdir(mode=0o700, exist_ok=True)

    @property
    def locations(self) -> Locations:
        """The locations in its configuration."""
        return Locations.of(load(self.config_file), (self.schema,))

    def spool(self, *groups: Iterable[int], days: float = 0) -> None:
        """Add a pending batch for each group."""
        with Spool(self.data / "spool.db", sinks=["store"]) as spool:
            commit(spool, *(self.entry(group, days) for group in groups))

    def deliver(self, *groups: Iterable[int], days: float = 0) -> None:
        """Deliver a batch for each group to the store and to files."""
        self.deliver_aged(*((group, days) for group in groups))

    def deliver_aged(self, *groups: tuple[Iterable[int], float]) -> None:
        """Deliver groups with their age in days, without pruning them."""
        with (
            Spool(self.data / "spool.db", sinks=["store"]) as spool,
            Store(self.data / "store.db", self.schema) as store,
            NdjsonFile(self.lines, rotate=20_000) as file,
        ):
            while monotonic() >= store.prune_at:
                store.deliver()
            for group, days in groups:
                commit(spool, self.entry(group, days))
                while batches := waiting(spool, "store"):
                    for number, spooled in batches:
                        store.deliver(read(spooled))
                        file.deliver(read(spooled))
                        spool.delivered("store", number)

    def damage(self, *numbers: int, days: float = 0) -> None:
        """Add a damaged pending batch, and a batch that is already quarantined."""
        self.spool(numbers, numbers, days=days)
        with closing(sqlite3.connect(self.data / "spool.db")) as db, db:
            newest = db.execute("SELECT max(sequence) FROM batches").fetchone()[0]
            db.execute("UPDATE batches SET salt = x'00' WHERE sequence >= ?", (newest - 1,))
            db.execute("INSERT INTO damaged SELECT * FROM batches WHERE sequence = ?", (newest,))
            db.execute("DELETE FROM batches WHERE sequence = ?", (newest,))

    def set_aside(self, *numbers: int, days: float = 0) -> Path:
        """Add a file that was quarantined ``days`` ago."""
        stamp = (_NOW - timedelta(days=days)).strftime("%Y%m%dT%H%M%SZ")
        path = self.data / f"spool.db.damaged-{stamp}"
        path.write_bytes(b"\0" * 100 + " ".join(map(address, numbers)).encode())
        return path

    def bytes(self) -> bytes:
        """Return the bytes of all files, except files that a sidecar deletes meanwhile."""
        found = []
        for path in self.directory.rglob("*"):
            with suppress(FileNotFoundError, IsADirectoryError):
                if not path.is_socket():
                    found.append(path.read_bytes())
        return b"\n".join(found)

    def left(self, numbers: Iterable[int]) -> set[int]:
        """Return the people of whom bytes are left."""
        found = self.bytes()
        return {number for number in numbers if address(number).encode() in found}

    def entry(self, group: Iterable[int], days: float) -> PendingBatch:
        """Build the pending batch of a request with these people."""
        lines = [orjson.dumps(_record(number, self.schema)) + b"\n" for number in group]
        tally = Tally(len(lines), len(lines))
        return PendingBatch(self.schema.layout, minute(days), b"".join(lines), tally)
