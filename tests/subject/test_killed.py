"""Erasing and pruning that are killed at any step: the same command does the rest, no byte of
anybody erased is left in any file, everybody else is there once, and nothing that lies there in the
meantime looks as if others had made it."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from mmap import mmap
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from collector import Collector
from collector.claims.own_files import clear_unfinished, count_altered, count_entries
from collector.contracts import Batch, Removal, Subject
from collector.filter.redaction import EVERYTHING
from collector.filter.stored import read
from collector.retention import upkeep
from collector.retention.locations import Locations
from collector.schema import load_schema
from collector.sdk import Withdrawal
from collector.sinks.sink import Opening, open_sink
from collector.spool import FILE_NAME
from collector.spool.tables import DEFINITION as SPOOL_DEFINITION
from collector.sqlite.foreign import foreign_parts
from collector.subject.rights import Removing, SchemaSubject, remove_all
from tests.support.make_batches import plant_aside
from tests.support.populated import PopulatedDirectory, address, minute

_STEPS = int(os.environ.get("COLLECTOR_ERASED", "6"))
"""At so many of the steps a process is killed; with 600 at each of them."""
_SINKS = ("store", "ndjson", "lake")
_GONE = (3, 30, 60, 80)
_OLD = range(200, 210)


class _Lake(PopulatedDirectory):
    """With a lake on disk besides, and batches that were set aside."""

    def __post_init__(self) -> None:
        super().__post_init__()
        settings = orjson.loads(self.config_file.read_bytes())
        settings["sinks"]["lake"] = {"type": "parquet", "path": str(self.directory / "lake")}
        self.config_file.write_bytes(orjson.dumps(settings))

    def fill(self) -> None:
        """Put people everywhere: into sinks, segments, the spool, and batches that were set
        aside; and some whose records are too old."""
        self.deliver(range(25), range(25, 50))
        self.deliver(_OLD, days=100)
        with self.lake() as lake:
            for at, group in enumerate((range(25), range(25, 50))):
                lake.deliver(read(self.batch(at, group, 0)))
                if at == 0:
                    lake.finish()
            lake.deliver(read(self.batch(3, _OLD, 100)))
            lake.finish()
        self.spool(range(50, 75))
        plant_aside(self.data / FILE_NAME, "ndjson", self.batch(9, range(75, 100), 0))

    @contextmanager
    def lake(self) -> Iterator[Any]:
        """Open the lake to deliver."""
        settings = self.locations.sinks["lake"]
        with open_sink(settings, Opening("lake", (self.schema,), self.data)) as sink:
            yield sink

    def batch(self, number: int, group: range, days: float) -> Batch:
        """A batch of people, of so long ago."""
        entry = self.entry(group, days)
        received = minute(days)
        return Batch(number.to_bytes(16), received, layout=entry.layout, payload=entry.payload)


def _subject(number: int) -> list[SchemaSubject]:
    window = minute(200), minute(-1)
    return [SchemaSubject(Subject("client.address", address(number), *window), frozenset())]


def _killed_at(step: int | None, action: Callable[[], object]) -> int:
    """Run an action in a process that is killed before the step of that number: a file is renamed,
    linked, removed, synced or cut, or a transaction begins or ends. Return the steps that there
    were before."""
    steps = mmap(-1, 8)  # memory that both processes have
    pid = os.fork()
    if pid == 0:
        try:
            _count_steps(steps, step)
            action()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert status == 0 or os.WIFSIGNALED(status), "the action failed"
    assert status == 0 or step == int.from_bytes(steps[:8])
    return int.from_bytes(steps[:8])


def _count_steps(steps: mmap, last: int | None) -> None:
    def count() -> None:
        number = int.from_bytes(steps[:8])
        if number == last:
            os.kill(os.getpid(), signal.SIGKILL)
        steps[:8] = (number + 1).to_bytes(8)

    def counting(of: Any, name: str) -> None:
        plain = getattr(of, name)

        def counted(*args: Any, **more: Any) -> Any:
            count()
            return plain(*args, **more)

        setattr(of, name, counted)

    for name in ("fsync", "link", "unlink", "ftruncate", "truncate", "rmdir"):
        counting(os, name)
    for name in ("rename", "unlink", "replace"):
        counting(Path, name)
    connect = sqlite3.connect

    class Connection(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if statement.startswith(("BEGIN I", "COMMIT", "VACUUM", "PRAGMA wal_check", "DETACH")):
                count()
            return super().execute(statement, *values)

    sqlite3.connect = lambda *args, **more: connect(  # type: ignore[assignment]
        *args, factory=Connection, **more
    )


def _foreign(locations: Locations) -> dict[str, int]:
    """What lies there that is not ours, by where: after what the next start does first."""
    names = {*locations.sinks}
    names |= {each.shared_name for each in locations.sinks.values()}
    with locations.opened() as sinks:
        for sink in sinks.values():
            sink.settle()
        clear_unfinished(locations)
        found = {name: sink.others for name, sink in sinks.items()}
    found["entries"] = count_entries(locations, names, [])
    found["altered"] = count_altered(locations)
    return {name: number for name, number in found.items() if number}


def _people(populated: _Lake) -> dict[str, list[str]]:
    with populated.locations.opened() as sinks:
        return {
            name: sorted(
                str(record["client.address"])
                for _, record in sink.scan(EVERYTHING)
                if "client.address" in record
            )
            for name, sink in sinks.items()
        }


@pytest.mark.long
@pytest.mark.timeout(120 + 20 * _STEPS)
@pytest.mark.parametrize("what", ["erase", "prune"])
def test_killed_at_any_step(tmp_path: Path, what: str) -> None:
    """Each place is as it was or as it is to be, and is so after the next try."""
    (tmp_path / "whole").mkdir()
    whole = _Lake(tmp_path / "whole")
    whole.fill()
    others = {address(n) for n in range(50)} - {address(n) for n in _GONE}
    first, random = _copied(whole.directory, tmp_path / "try"), Random()
    number = _killed_at(None, lambda: _carry_out(first, what))
    assert number > 30
    steps = sorted(random.sample(range(number), min(_STEPS, number)))
    for step in steps:
        populated = _copied(whole.directory, tmp_path / "try")
        assert _killed_at(step, lambda: _carry_out(populated, what)) == step  # noqa: B023
        assert _foreign(populated.locations) == {}, step
        _carry_out(populated, what)
        assert _foreign(populated.locations) == {}, step
        assert populated.left(_GONE if what == "erase" else _OLD) == set(), step
        for name, found in _people(populated).items():
            own = [each for each in found if each in others]
            assert own == sorted(others), (step, name)
        assert populated.left(range(100)) >= {*range(100)} - {*_GONE}, step


@pytest.mark.long
@pytest.mark.timeout(120 + 20 * _STEPS)
def test_the_spool_of_an_application_that_is_killed(tmp_path: Path) -> None:
    target, spool = tmp_path / "r.ndjson", tmp_path / "spool"

    def work() -> None:
        with Collector(to=f"ndjson:///{target}", spool=spool, interval=0.01) as telemetry:
            for number in range(20):
                telemetry.emit({"ip": address(number), "os": {"type": "linux"}})
            telemetry.flush(10)
            _withdrawn(telemetry, 3)
            for number in range(20, 30):
                telemetry.emit({"ip": address(number), "os": {"type": "linux"}})

    step, tries, random = 0, 0, Random()
    while tries < _STEPS and _killed_at(step, work) == step:
        step, tries = step + random.randint(1, 12), tries + 1
        for directory in spool.glob("[0-9]*"):
            locations = Locations(directory, (load_schema("conferencing"),), {})
            assert _foreign(locations) == {}, step
            parts = foreign_parts(directory / "spool.db", SPOOL_DEFINITION)
            assert parts == 0, step
        with Collector(to=f"ndjson:///{target}", spool=spool) as telemetry:
            assert telemetry.flush(30)
            assert _withdrawn(telemetry, 3).is_swept


def _withdrawn(telemetry: Collector, number: int) -> Withdrawal:
    return telemetry.withdraw("client.address", address(number), since=minute(1)[:10])


def _carry_out(populated: _Lake, what: str) -> None:
    if what == "prune":
        upkeep.prune_all(populated.locations, 5)
        return
    people = [Removing(_subject(number)) for number in _GONE]
    for done in remove_all(populated.locations, people, 5):
        assert isinstance(done, Removal)
        assert done.is_swept


def _copied(source: Path, target: Path) -> _Lake:
    """A copy of a directory, whose configuration names the copy."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return _Lake(target)
