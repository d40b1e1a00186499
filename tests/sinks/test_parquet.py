"""Parquet files: what readers see, what a crash leaves, what is never there twice or again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from random import Random
from time import sleep, time
from typing import Any
from unittest import mock

import pytest
from pyarrow import parquet

from collector import Collector
from collector.config.sink_settings import SinkSettings
from collector.contracts import Batch, Subject, to_minute
from collector.errors import ConfigError, DeliveryError, InUse
from collector.filter.redaction import EVERYTHING, Rule
from collector.filter.stored import read
from collector.schema import load_schema
from collector.sdk.sender import open_sink_of
from collector.sdk.target import Target
from collector.sinks.parquet import ParquetSettings, ParquetSink
from collector.sinks.parquet.lake import FileKey
from collector.sinks.parquet.segments import Segments
from collector.sinks.sink import Opening, check_sink
from collector.testing.sinks import batch_of, person, removal_of
from tests.conftest import required
from tests.sdk.program import run_code
from tests.support.deadline import WAIT_SECONDS
from tests.support.programs import script
from tests.support.raising import raises

_SCHEMA = load_schema("conferencing")
_NOW = datetime.now(UTC)
_DUE = "collector.sinks.parquet.segments.Segment.is_due"


def _opened(directory: Path, *, offline: bool = False, **settings: Any) -> ParquetSink:
    opening = Opening("lake", (_SCHEMA,), directory / "data", is_offline=offline)
    chosen = ParquetSettings(type="parquet", path=directory / "lake", **settings)
    return ParquetSink(chosen, opening)


def _put(sink: ParquetSink) -> None:
    with mock.patch(_DUE, return_value=True):
        sink.deliver()


def _batch(number: int, people: list[int], **ago: float) -> Batch:
    """A batch of so long ago; an hour may end while a test runs."""
    return replace(batch_of(number, people, _SCHEMA), received=to_minute(_NOW - timedelta(**ago)))


def _files(directory: Path) -> list[Path]:
    return sorted((directory / "lake").rglob("*.parquet"))


def _dataset(table: Path) -> Any:
    return import_module("pyarrow.dataset").dataset(table, partitioning="hive")


def _people(directory: Path, lake: str = "lake") -> list[str]:
    """The addresses in all files, as a reader finds them."""
    found = _dataset(directory / lake).to_table(columns=["client.address"])["client.address"]
    return sorted(person for person in found.to_pylist() if person)


def _made(directory: Path, *batches: Batch) -> None:
    """Make files of batches."""
    with _opened(directory) as sink:
        sink.deliver(*batches)
        _put(sink)


def _bytes(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


def test_a_file_of_each_schema_and_hour(tmp_path: Path) -> None:
    with _opened(tmp_path) as sink:
        sink.deliver(_batch(1, [1]), _batch(2, [2]), _batch(3, [3], hours=30))
        assert _files(tmp_path) == []
        _put(sink)
    old, new = (
        FileKey.of(path.relative_to(tmp_path / "lake").as_posix()) for path in _files(tmp_path)
    )
    assert old is not None
    assert new is not None
    assert old.schema == "conferencing"
    assert new.first <= to_minute(_NOW) <= new.last
    assert _people(tmp_path) == [person(1), person(2), person(3)]
    assert {path.stat().st_mode & 0o777 for path in _files(tmp_path)} == {0o600}
    assert [path.name for path in (tmp_path / "lake").iterdir()] == ["conferencing"]
    left = {path.name for path in (tmp_path / "data" / "sinks" / "lake").iterdir()}
    assert left <= {"lock", "segments.db", "segments.db-wal", "segments.db-shm"}


def test_a_person_in_one_part_of_an_hour(tmp_path: Path) -> None:
    """The row groups before and after have no address; a window may begin within the hour."""
    hour = _NOW.replace(minute=0) - timedelta(hours=2)
    nobody = b'{"schema":"%b","os.type":"linux"}\n' % _SCHEMA.id.encode()
    with _opened(tmp_path) as sink, mock.patch("collector.arrow.tables._GROUP_BYTES", 1):
        for number, minute in enumerate((5, 10, 45, 55)):
            batch = batch_of(number, [1], _SCHEMA)
            payload = nobody if minute in (5, 55) else batch.payload
            received = to_minute(hour + timedelta(minutes=minute))
            sink.deliver(read(replace(batch, received=received, payload=payload, rows=None)))
        sink.finish()
        (file,) = _files(tmp_path)
        assert parquet.ParquetFile(file).num_row_groups == 4
        start = to_minute(hour + timedelta(minutes=40))
        later = Rule.removal(Subject("client.address", person(1), start, "~"), None)
        assert sink.rewrite([later])[0].records == 1
        assert len(list(sink.scan(removal_of(1)))) == 1
        assert sink.rewrite([removal_of(1)])[0].records == 1
        assert _people(tmp_path) == []


def test_no_order_of_arrival(tmp_path: Path) -> None:
    people = list(range(200, 0, -1))
    _made(tmp_path, _batch(1, people))
    (path,) = _files(tmp_path)
    put = parquet.read_table(path)["client.address"].to_pylist()
    sent = [person(number) for number in people]
    assert sorted(put) == sorted(sent)
    in_order = sum(put.index(a) < put.index(b) for a, b in pairwise(sent))
    assert 50 < in_order < 150


def test_when_a_segment_is_due(tmp_path: Path) -> None:
    """Many small segments do not grow beyond a bound either."""
    with _opened(tmp_path, every="1s") as sink:
        sink.deliver(_batch(1, [1]))
        with mock.patch("collector.sinks.parquet.segment_reader.time", return_value=time() + 1):
            sink.idle()
        assert len(_files(tmp_path)) == 1
    with _opened(tmp_path, size="1MiB") as sink:
        large = _batch(2, [2, 3] * 7000)
        sink.deliver(large)
        sink.deliver(_batch(3, [4]))
        assert len(_files(tmp_path)) == 2
        for hours in range(10):
            sink.deliver(_batch(10 + hours, [5] * 4000, hours=hours))
        assert sink._staged is not None
        assert sum(each.length for each in sink._staged.all()) < 3 << 20


def test_a_crash_at_any_step_of_a_put(tmp_path: Path) -> None:
    """Each record is there once afterwards."""
    steps = [
        "collector.sinks.parquet.segments.Segments.close_segment",
        "collector.sinks.parquet.lake.Lake.write",
        "collector.sinks.parquet.object_store.DirectoryObjects.create",
        "collector.sinks.parquet.segments.Segments.remove",
        "collector.sinks.parquet.segments.sync",
        "collector.sinks.parquet.object_store.sync",
    ]
    number = 0
    for step in steps:
        for is_after in (False, True):
            number += 1
            sink = _opened(tmp_path)
            sink.deliver(_batch(number, [number]))
            module, _, name = step.rpartition(".")
            with suppress(_Crash), _crashing(module, name, is_after=is_after):
                _put(sink)
            sink.close()
            _made(tmp_path, _batch(number, [number]))
    assert _people(tmp_path) == sorted(person(each) for each in range(1, number + 1))
    assert not list((tmp_path / "lake").glob(".*"))


class _Crash(BaseException):
    """The end of a process."""


def _crashing(where: str, name: str, *, is_after: bool) -> Any:
    import pkgutil  # noqa: PLC0415

    real = getattr(pkgutil.resolve_name(where), name)

    def crash(*arguments: Any) -> Any:
        if is_after:
            real(*arguments)
        raise _Crash

    return mock.patch(f"{where}.{name}", crash)


def test_a_person_does_not_come_back(tmp_path: Path) -> None:
    """An erasure finishes a put that ended in a crash, and the batch is known when it comes
    again."""
    sink = _opened(tmp_path)
    sink.deliver(_batch(1, [1]), _batch(2, [2], hours=3))
    with (
        suppress(_Crash),
        _crashing("collector.sinks.parquet.segments.Segments", "remove", is_after=False),
    ):
        _put(sink)
    sink.close()
    with _opened(tmp_path, offline=True) as offline:
        assert offline.rewrite([removal_of(1)])[0].records
        assert offline.rewrite([removal_of(2)])[0].records
        assert list(offline.scan(removal_of(1))) == []
    files = _files(tmp_path)
    _made(tmp_path, _batch(1, [1]), _batch(2, [2], hours=3))
    assert _files(tmp_path) == files
    assert _people(tmp_path) == []
    assert person(1).encode() not in _bytes(tmp_path)


def test_no_byte_of_a_person_is_left(tmp_path: Path) -> None:
    """The person is in files and in segments, closed or open."""
    with _opened(tmp_path) as sink:
        sink.deliver(_batch(1, [11, 12, 13] * 300), _batch(2, [12], hours=2))
        _put(sink)
        sink.deliver(_batch(3, [11, 12]), _batch(4, [12, 13], hours=50))
    assert person(12).encode() in _bytes(tmp_path)
    with _opened(tmp_path, offline=True) as sink:
        (removal,) = sink.rewrite([removal_of(12)])
        assert (removal.deleted, removal.is_swept) == (303, True)
        left = [record["client.address"] for _, record in sink.scan(removal_of(11))]
        assert left == [person(11)] * 301
    assert person(12).encode() not in _bytes(tmp_path)


def test_no_dictionary_keeps_a_value(tmp_path: Path) -> None:
    with _opened(tmp_path) as sink:
        sink.deliver(_batch(1, [1, 2, 2, 3]))
        sink.finish()
        sink.rewrite([removal_of(2)])
        (file,) = _files(tmp_path)
        for people in ([person(1), person(3)], [person(1)]):
            read = parquet.ParquetFile(file, read_dictionary=["client.address"]).read()
            (chunk,) = read.column("client.address").chunks
            assert sorted(chunk.dictionary.to_pylist()) == people
            sink.rewrite([removal_of(3, ["client.address"])])


@pytest.mark.parametrize("failing", ["_sync_file", "sync", "transaction", "unlink", "_write"])
def test_a_failed_rewriting_leaves_nothing(tmp_path: Path, failing: str) -> None:
    """Neither bytes that a later rewriting does not reach nor the old file are left."""
    with _opened(tmp_path) as sink:
        sink.deliver(_batch(1, [1, 3, *[2] * 9]))
        with _failing(failing), suppress(DeliveryError):
            sink.rewrite([removal_of(1)])
        for number in (2, 1):
            sink.rewrite([removal_of(number)])
            (path,) = (tmp_path / "data" / "sinks" / "lake").glob("*.ndjson")
            assert person(number).encode() not in path.read_bytes()
        assert [record["client.address"] for _, record in sink.scan(removal_of(3))] == [person(3)]


def _failing(name: str) -> Any:
    """Let a step of rewriting a segment fail, or removing its old file."""
    if name != "unlink":
        return mock.patch(f"collector.sinks.parquet.segments.{name}", side_effect=OSError)
    remove = Path.unlink

    def unlink(path: Path, *, missing_ok: bool = False) -> None:
        if path.name == "1-0.ndjson":
            raise OSError
        remove(path, missing_ok=missing_ok)

    return mock.patch.object(Path, "unlink", unlink)


@pytest.mark.long
def test_a_reader_sees_the_old_file_or_the_new(tmp_path: Path) -> None:
    with _opened(tmp_path) as sink:
        for number in range(8):
            sink.deliver(_batch(number, list(range(1, 9)) * 50, hours=number))
        _put(sink)
    script = (
        "import sys, pyarrow.dataset as d\n"
        "while True:\n"
        "    t = d.dataset(sys.argv[1], partitioning='hive').to_table(columns=['client.address'])\n"
        "    n = t['client.address'].value_counts().to_pylist()\n"
        "    assert all(each['counts'] <= 400 for each in n), n\n"
        "    print(len(n), flush=True)\n"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "lake")], stdout=subprocess.PIPE
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == b"8\n"
    with _opened(tmp_path, offline=True) as sink:
        for number in range(1, 8):
            sink.rewrite([removal_of(number)])[0]
    while (line := reader.stdout.readline()) not in (b"1\n", b""):
        pass
    assert line == b"1\n"
    reader.kill()
    reader.communicate(timeout=WAIT_SECONDS)


def test_pruning_drops_files(tmp_path: Path) -> None:
    with _opened(tmp_path) as sink:
        sink.deliver(_batch(1, [1]), _batch(2, [2], days=2))
        _put(sink)
        assert len(_files(tmp_path)) == 2
        removal = sink.prune(datetime.now(UTC) + timedelta(days=89))
        assert (removal.deleted, removal.shortened) == (1, 1)
        assert len(_files(tmp_path)) == 1
        assert person(1).encode() not in _bytes(tmp_path)
        assert len(list((tmp_path / "lake" / "conferencing").iterdir())) == 1


def test_columns_of_consent(tmp_path: Path) -> None:
    """A batch of people who refused some fields has fewer columns."""
    whole = _batch(1, [1])
    assert whole.layout is not None
    fewer = replace(whole.layout, columns=whole.layout.columns[:1])
    part = read(Batch(b"2" * 16, whole.received, layout=fewer, payload=whole.payload))
    _made(tmp_path, part, whole)
    (path,) = _files(tmp_path)
    names = parquet.read_schema(path).names
    assert names == ["schema", "received", *(name for name, _ in whole.layout.columns), "count"]


def test_a_line_that_cannot_be_read_keeps_no_other_back(tmp_path: Path) -> None:
    """The sink says so once, as an error that counts."""
    good = _batch(1, [1, 2, 3])
    lines = good.payload.splitlines(keepends=True)
    payload = b"".join([lines[0], b'{"torn\n', *lines[1:]])
    with _opened(tmp_path) as sink:
        sink.deliver(replace(good, payload=payload))
        with raises("E507", DeliveryError, match="^1 collected"):
            _put(sink)
        sink.deliver(_batch(2, [4]))
        sink.finish()
    assert _people(tmp_path) == [person(1), person(2), person(3), person(4)]


def test_a_full_disk_below_a_lake(tmp_path: Path) -> None:
    """The end of a file may be what does not fit."""

    def full(path: Path) -> Any:
        path.touch()
        return Path("/dev/full").open("wb")

    with _opened(tmp_path) as sink:
        sink.deliver(_batch(1, [1]))
        patch = mock.patch("collector.sinks.parquet.lake.written", full)
        with patch, raises("E503", DeliveryError):
            sink.finish()
        assert not list((tmp_path / "lake").glob(".*"))
        sink.finish()
    assert _people(tmp_path) == [person(1)]


@pytest.mark.parametrize("failing", ["note_place", "all"])
def test_opened_anew_after_a_failure(tmp_path: Path, failing: str) -> None:
    """The process does not keep its lock."""
    failure = DeliveryError("E503", "the disk is full")
    with mock.patch.object(Segments, failing, side_effect=failure), raises("E503", DeliveryError):
        _opened(tmp_path)
    with _opened(tmp_path) as sink:
        sink.deliver(_batch(1, [1]))
        sink.finish()
    assert _people(tmp_path) == [person(1)]


@pytest.mark.parametrize("length", [None, 0, 300])
def test_a_damaged_segment_keeps_no_other_back(tmp_path: Path, length: int | None) -> None:
    """A segment that is gone or has lost its end becomes a file with what is left."""
    with _opened(tmp_path) as sink:
        sink.deliver(_batch(1, [1, 2, 3, 4, 5, 6]), _batch(2, [7]))
    (path,) = (tmp_path / "data" / "sinks" / "lake").glob("*.ndjson")
    path.unlink() if length is None else os.truncate(path, length)
    with _opened(tmp_path) as sink:
        sink.deliver(_batch(3, [8, 9]))
        assert sink.rewrite([removal_of(9)])[0].records == 1
        assert sink.rewrite([removal_of(2)])[0].records == (length == 300)
        with raises("E507", DeliveryError):
            sink.finish()
        sink.deliver(_batch(4, [10]))
        sink.finish()
        assert not sink.rewrite([removal_of(2)])[0]
    left = [person(1), person(3)] if length else []
    assert _people(tmp_path) == sorted([*left, person(8), person(10)])


def test_what_is_not_ours(tmp_path: Path) -> None:
    """Other files are counted, never changed, and are no obstacle."""
    _made(tmp_path, _batch(1, [1]))
    (path,) = _files(tmp_path)
    (tmp_path / "lake" / "other.csv").write_bytes(b"a")
    foreign = path.with_name(f"00-{'0' * 32}.parquet")
    foreign.write_bytes(b"PAR1canary")
    with _opened(tmp_path, offline=True) as sink:
        assert sink.others == 2
        (tmp_path / "data" / "sinks" / "lake" / "left").touch()
        assert sink.others == 3
        assert sink.is_ours
        with raises("E507", DeliveryError) as caught:
            sink.rewrite([removal_of(1)])
        assert "canary" not in str(caught.value)
        with raises("E507", DeliveryError):
            sink.prune(datetime.now(UTC) + timedelta(days=400))
    assert foreign.read_bytes() == b"PAR1canary"
    assert not path.exists()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with _opened(tmp_path) as sink:
        sink.deliver(_batch(1, [1]))
        with raises("E203", InUse):
            _opened(tmp_path)
        with _opened(tmp_path, offline=True) as offline:
            assert [record["client.address"] for _, record in offline.scan(removal_of(1))]
            with raises("E203", InUse):
                offline.rewrite([removal_of(1)])


def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is said before anything is made."""
    for values in ({}, {"path": tmp_path, "url": "s3://bucket/a"}):
        with pytest.raises(ValueError, match="a `path` or a `url`"):
            ParquetSettings(type="parquet", **values)
    bucket = ParquetSettings(type="parquet", url="s3://bucket/a", secret_key="env:NOT_SET")
    assert (bucket.is_local, bucket.place(tmp_path), bucket.files()) == (False, "s3://bucket/a", {})
    opening = Opening("lake", (_SCHEMA,), tmp_path / "data")
    with raises("E202", ConfigError):
        check_sink(bucket, opening)
    here: SinkSettings = ParquetSettings(type="parquet", path=tmp_path / "lake")
    check_sink(here, opening)
    monkeypatch.setattr("collector.extras.is_installed", lambda _: False)
    with raises("E201", ConfigError, match=r"collector\[parquet\]"):
        check_sink(here, opening)
    assert list(tmp_path.iterdir()) == []


def test_a_field_that_readers_do_not_see(tmp_path: Path) -> None:
    """The path of a file has the name of a column, `day`."""
    field = _SCHEMA.fields["os.type"]
    for name, is_refused in (("day", True), ("Day", True), ("day.part", False)):
        schema = _SCHEMA.model_copy(update={"fields": {**_SCHEMA.fields, name: field}})
        opening = Opening("lake", (_SCHEMA, schema), tmp_path / "data")
        settings = ParquetSettings(type="parquet", path=tmp_path / "lake")
        with raises("E504", DeliveryError, match="`day`") if is_refused else nullcontext():
            check_sink(settings, opening)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("reader", ["duckdb", "polars", "pandas", "pyarrow"])
def test_readers_take_it_as_it_is(tmp_path: Path, reader: str) -> None:
    with _opened(tmp_path) as sink:
        sink.deliver(_batch(1, [1, 2]), _batch(2, [3], days=2), _batch(3, [4, 5], hours=30))
        sink.finish()
    with _opened(tmp_path, offline=True) as sink:
        sink.rewrite([removal_of(3)])
    try:
        rows = _READERS[reader](tmp_path / "lake" / "conferencing")
    except ImportError:
        required(f"{reader} (the extra bench)")
    assert sorted(row["client.address"] for row in rows) == [person(n) for n in (1, 2, 4, 5)]
    for row in rows:
        assert str(row["received"])[:10] == str(row["day"])[:10]
        assert row["count"] == 1


def _with_duckdb(table: Path) -> list[dict[str, Any]]:
    import duckdb  # noqa: PLC0415 - an extra

    utc = "received AT TIME ZONE 'UTC' AS received"
    found = duckdb.sql(f"SELECT * REPLACE ({utc}) FROM '{table}/**/*.parquet'")
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


_READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "duckdb": _with_duckdb,
    "polars": lambda table: (
        import_module("polars").scan_parquet(table, hive_partitioning=True).collect().to_dicts()
    ),
    "pandas": lambda table: import_module("pandas").read_parquet(table).to_dict("records"),
    "pyarrow": lambda table: _dataset(table).to_table().to_pylist(),
}


def test_several_processes_of_an_application(tmp_path: Path) -> None:
    """They share the place, each while it delivers; any of them puts what one has collected."""
    opening = Opening("parquet", (_SCHEMA,), tmp_path / "data", is_shared=True)
    settings = ParquetSettings.at("parquet", tmp_path / "lake")
    one, other = (ParquetSink(settings, opening) for _ in range(2))
    for number in range(1, 9):
        (one, other)[number % 2].deliver(_batch(number, [number]))
        other.deliver(_batch(number, [number]))
    with ParquetSink(settings, replace(opening, is_offline=True)) as offline:
        assert offline.rewrite([removal_of(3, ["client.address"])])[0].records == 1
        assert offline.rewrite([removal_of(4)])[0].deleted == 1
    other.close()
    one.finish()
    one.close()
    assert _people(tmp_path) == [person(n) for n in (1, 2, 5, 6, 7, 8)]


_OTHER_PROCESS = """
import sys
from pathlib import Path
from collector.schema import load_schema
from collector.sinks.parquet import ParquetSettings, ParquetSink
from collector.sinks.sink import Opening
folder = Path(sys.argv[1])
opening = Opening("parquet", (load_schema("conferencing"),), folder / "data", is_shared=True)
ParquetSink(ParquetSettings.at("parquet", folder / "lake"), opening).close()
"""


def test_two_sinks_of_one_process(tmp_path: Path) -> None:
    """Closing one would else end the locks of the other, and another process would remove the log
    of their database."""
    opening = Opening("parquet", (_SCHEMA,), tmp_path / "data", is_shared=True)
    settings = ParquetSettings.at("parquet", tmp_path / "lake")
    one, other = (ParquetSink(settings, opening) for _ in range(2))
    with one, other:
        done = run_code(_OTHER_PROCESS, tmp_path)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "data" / "sinks" / "parquet" / "segments.db-wal").exists()
        one.deliver(_batch(1, [1]))
        with ParquetSink(settings, replace(opening, is_offline=True)) as offline:
            assert len(list(offline.scan(removal_of(1)))) == 1


def test_two_sidecars_with_one_lake(tmp_path: Path) -> None:
    """Sinks of two data directories write and rewrite the same lake at the same time."""
    settings = ParquetSettings(type="parquet", path=tmp_path / "lake")
    one, other = (
        ParquetSink(settings, Opening("lake", (_SCHEMA,), tmp_path / each)) for each in "ab"
    )

    def deliver(sink: ParquetSink, first: int) -> None:
        for number in range(first, first + 5):
            sink.deliver(_batch(number, [number, *range(first, first + 5)] * 20))
            sink.finish()

    def erase(sink: ParquetSink, first: int) -> None:
        for number in range(first, first + 2):
            sink.rewrite([removal_of(number)])

    with one, other, ThreadPoolExecutor(2) as pool:
        for action, left in ((deliver, range(1, 11)), (erase, [*range(3, 6), *range(8, 11)])):
            for _ in pool.map(action, (one, other), (1, 6), timeout=WAIT_SECONDS):
                pass
            assert Counter(_people(tmp_path)) == dict.fromkeys(map(person, left), 120)
    assert person(2).encode() not in _bytes(tmp_path)
    assert not list((tmp_path / "lake").glob(".*"))


def test_an_application(tmp_path: Path) -> None:
    with Collector("conferencing", f"parquet:///{tmp_path}/lake", **_PATIENT) as telemetry:
        telemetry.emit({"ip_address": person(1), "os": {"type": "linux"}, "chat": ["never kept"]})
    assert _people(tmp_path) == [person(1)]


_PATIENT: Any = {"exit_timeout": WAIT_SECONDS}
_CRASH = """
import os, sys
from collector import Collector
telemetry = Collector("conferencing", sys.argv[1], interval=0)
telemetry.emit({"ip_address": sys.argv[2]})
assert telemetry.flush(100)
os._exit(0)
"""


def test_lakes_beside_each_other(tmp_path: Path) -> None:
    done = run_code(_CRASH, f"parquet:///{tmp_path}/one", person(1))
    assert done.returncode == 0, done.stderr
    with Collector("conferencing", f"parquet:///{tmp_path}/other", **_PATIENT) as other:
        other.emit({"ip_address": person(2)})
        with Collector("conferencing", f"parquet:///{tmp_path}/one", **_PATIENT) as one:
            one.emit({"ip_address": person(3)})
    for lake, people in (("one", [person(1), person(3)]), ("other", [person(2)])):
        assert _people(tmp_path, lake) == people


def test_buckets_of_one_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bucket has a directory, in which a command finds what waits."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    urls = [f"s3://telemetry/{name}" for name in ("one", "other")]
    for number, url in enumerate(urls):
        target = Target("parquet", sink_type="parquet", url=f"parquet+{url}")
        with open_sink_of(target, _SCHEMA) as sink:
            sink.deliver(_batch(number, [number + 1]))
    assert len(list((tmp_path / "collector" / "sinks").iterdir())) == 2
    for number, url in enumerate(urls):
        opening = Opening("lake", (_SCHEMA,), tmp_path / "collector", is_offline=True)
        sink = ParquetSink(ParquetSettings(type="parquet", url=url), opening)
        with sink, mock.patch.object(sink._lake, "all_keys", return_value=[]):
            assert len(list(sink.scan(removal_of(number + 1)))) == 1
            assert list(sink.scan(removal_of(2 - number))) == []


def test_rights_reach_what_an_application_collected(tmp_path: Path) -> None:
    """It is in a directory beside the lake, and in what is left of a file."""
    settings = ParquetSettings(type="parquet", path=tmp_path / "lake")
    opening = Opening(settings.shared_name, (_SCHEMA,), tmp_path, is_shared=True)
    with ParquetSink(settings, opening) as sink:
        sink.deliver(_batch(1, [1, 2]))
    (tmp_path / "lake").mkdir(exist_ok=True)
    (tmp_path / "lake" / f".{settings.shared_name}.new").write_bytes(person(1).encode())
    command = Opening("parquet", (_SCHEMA,), tmp_path / "requests", is_offline=True)
    with ParquetSink(settings, command) as sink:
        assert sink.is_ours
        assert [each.records for each in sink.measure(EVERYTHING)] == [2]
        assert len(list(sink.scan(removal_of(1)))) == 1
        assert sink.rewrite([removal_of(1)])[0].deleted == 1
        assert list(sink.scan(removal_of(1))) == []
        assert len(list(sink.overdue(datetime.now(UTC) + timedelta(days=99)))) == 1
    assert person(1).encode() not in _bytes(tmp_path)
    with Collector("conferencing", f"parquet:///{tmp_path}/lake", **_PATIENT) as telemetry:
        telemetry.emit({"ip_address": person(3)})
    assert _people(tmp_path) == [person(2), person(3)]
    with ParquetSink(settings, command) as sink:
        assert sink.prune(datetime.now(UTC) + timedelta(days=99)).deleted == 2
    assert person(2).encode() not in _bytes(tmp_path)


def test_a_directory_of_another_sink_is_left_alone(tmp_path: Path) -> None:
    """A sidecar's sink may have the name that applications' directories had."""
    settings = ParquetSettings(type="parquet", path=tmp_path / "lake")
    sidecar = Opening("parquet", (_SCHEMA,), tmp_path)
    elsewhere = settings.model_copy(update={"path": tmp_path / "elsewhere" / "lake"})
    with ParquetSink(elsewhere, sidecar) as sink:
        sink.deliver(_batch(1, [1]))
        command = Opening("lake", (_SCHEMA,), tmp_path / "requests", is_offline=True)
        with ParquetSink(settings, command) as other:
            assert not other.rewrite([removal_of(1)])[0]
        assert len(list(sink.scan(removal_of(1)))) == 1


_LARGE = """
import resource, sys
from dataclasses import replace
from pathlib import Path
from collector.testing.sinks import person
from collector.testing.sinks import removal_of
from tests.sinks.test_parquet import _batch, _opened

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

with _opened(Path(sys.argv[1])) as sink:
    before, batch = peak(), _batch(1, [1])
    line = batch.payload.replace(b'"203.0.113.1"', b'"203.%d.%d.%d"')
    for number in range(30):
        lines = (line % (number, at >> 8, at & 255) for at in range(40_000))
        sink.deliver(replace(batch, id=number.to_bytes(16), payload=b"".join(lines)))
    sink.finish()
    sink.deliver(replace(batch, id=b"last"))
    assert sink.rewrite([removal_of(1)])[0].deleted == 2
    print((peak() - before) >> 10)
"""


@pytest.mark.long
def test_memory_is_bounded(tmp_path: Path) -> None:
    assert int(script(_LARGE, tmp_path, timeout=500).stdout) < 150


_WRITER = """
import sys
from pathlib import Path
from unittest import mock
from collector.schema import load_schema
from collector.sdk.sender import open_sink_of
from collector.sdk.target import Target
from tests.sinks.test_parquet import _DUE, _batch, _opened

first = int(sys.argv[2])
with _opened(Path(sys.argv[1]), every="1s", size="1MiB") as sink:
    for number in range(first, 10_000):
        with mock.patch(_DUE, return_value=number % 3 == 0):
            sink.deliver(_batch(number, [number % 200]), _batch(number - 1, [(number - 1) % 200]))
        print(number, flush=True)
"""


def _killed(directory: Path, first: int, seconds: float) -> int:
    """Deliver batches, each twice, until a kill; return the last that was taken."""
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(directory), str(first)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert writer.stdout is not None
    taken = int(writer.stdout.readline())
    sleep(seconds)
    writer.kill()
    rest, _ = writer.communicate(timeout=WAIT_SECONDS)
    return int(rest.split()[-1]) if rest.strip() else taken


def _kills() -> Iterator[float]:
    random = Random(7)
    for _ in range(int(os.environ.get("COLLECTOR_KILLS", "10"))):
        yield random.uniform(0.0, 0.25)


@pytest.mark.long
def test_killed_at_any_time(tmp_path: Path) -> None:
    taken = 0
    for seconds in _kills():
        taken = _killed(tmp_path, taken + 1, seconds)
    _made(tmp_path, _batch(taken, [taken % 200]))
    expected = sorted(person(number % 200) for number in range(taken + 1))
    found = _people(tmp_path)
    assert len(expected) <= len(found) <= len(expected) + 1  # the one that a kill has not let tell
    assert set(found) >= set(expected)
