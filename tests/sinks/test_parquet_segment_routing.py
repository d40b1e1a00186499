"""What waits in segments goes to the place for which it was collected, with the fields that reach
the sink when it becomes a file."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from collector.contracts import Batch, Granted, count_lines
from collector.errors import DeliveryError
from collector.filter.stored import read
from collector.routing import entitled
from collector.schema import load_schema
from collector.schema.model import Schema
from collector.server.control_client import Reload, ask
from collector.sinks.parquet import ParquetSettings, ParquetSink
from collector.sinks.parquet.segment_reader import read_segments
from collector.sinks.sink import Opening
from collector.testing.sinks import batch_of, person, removal_of
from tests.support.database import query
from tests.support.deadline import wait_until
from tests.support.raising import raises
from tests.support.sidecar import started
from tests.support.unpacked import every_byte

_SCHEMA = load_schema("conferencing")
_PURPOSES = ["service_operations", "security", "capacity_planning"]
_Purposes = Collection[str] | None
_USAGE = """\
schema: usage
version: 1.0.0
title: Usage
owner: tests
purposes:
  service: {use: essential.service.operations, basis: contract, reason: Run the service}
  quality: {use: essential.service.operations, basis: contract, reason: Run it well}
fields:
"""
_FIELD = """\
  {0}: {{kind: enum, values: [known], category: user.device, purposes: [{1}], retention: 30d,
    reason: Run the service}}
"""
_REACHING = {"os.type": "service", "device.type": "service", "os.name": "quality"}
_EVENT = b'{"os": {"type": "known", "name": "known"}, "device": {"type": "known"}}'


def _opened(
    directory: Path,
    purposes: _Purposes,
    lake: str = "lake",
    *,
    schemas: tuple[Schema, ...] = (_SCHEMA,),
    offline: bool = False,
) -> ParquetSink:
    stated: dict[str, Any] = {} if purposes is None else {"purposes": [*purposes]}
    chosen = ParquetSettings(type="parquet", path=directory / lake, **stated)
    return ParquetSink(chosen, Opening("lake", schemas, directory / "data", is_offline=offline))


def _routed(number: int, purposes: _Purposes, granted: Granted = None) -> Batch:
    """A batch of one record, of fields for which there is a grant, as a drain delivers it."""
    batch = replace(batch_of(number, [number], _SCHEMA), granted=granted)
    return read(batch, entitled(_SCHEMA, purposes, granted))


def _fields(directory: Path, lake: str = "lake") -> set[str]:
    """The fields that have a value in a file."""
    found = set[str]()
    for path in (directory / lake).rglob("*.parquet"):
        table = parquet.read_table(path)
        found |= {name for row in table.to_pylist() for name in row if row[name] is not None}
    return found - {"schema", "received", "count"}


@pytest.mark.parametrize("before", [None, ["service_operations", "capacity_planning"]])
@pytest.mark.parametrize("is_closed", [False, True])
def test_fewer_purposes(tmp_path: Path, before: _Purposes, is_closed: bool) -> None:
    with _opened(tmp_path, before) as sink:
        sink.deliver(_routed(1, before))
        if is_closed:
            failing = mock.patch.object(sink._lake, "write", side_effect=DeliveryError("E503", ""))
            with failing, pytest.raises(DeliveryError):
                sink.finish()
    assert person(1).encode() in every_byte(tmp_path / "data")
    with _opened(tmp_path, ["capacity_planning"]) as sink:
        assert person(1).encode() not in every_byte(tmp_path / "data")
        assert {name for _, found in sink.values() for name in found} == {"os.type", "received"}
        sink.finish()
    assert _fields(tmp_path) == {"os.type"}
    (path,) = (tmp_path / "lake").rglob("*.parquet")
    assert "client.address" not in parquet.read_table(path).column_names


def test_where_the_disk_is_full(tmp_path: Path) -> None:
    """The sink opens, and makes no file of what has too many fields."""
    with _opened(tmp_path, None) as sink:
        sink.deliver(_routed(1, None))
    full = mock.patch("collector.sinks.parquet.segments._sync_file", side_effect=OSError)
    with full, _opened(tmp_path, ["capacity_planning"]) as sink, pytest.raises(DeliveryError):
        sink.finish()
    assert _fields(tmp_path) == set()


@given(
    before=st.none() | st.sets(st.sampled_from(_PURPOSES), min_size=1),
    now=st.sets(st.sampled_from(_PURPOSES), min_size=1),
    granted=st.lists(st.none() | st.sets(st.sampled_from(_PURPOSES)), min_size=1, max_size=3),
)
def test_no_more_than_reaches_the_sink_now(
    before: set[str] | None, now: set[str], granted: list[set[str] | None]
) -> None:
    with TemporaryDirectory() as folder:
        directory = Path(folder)
        grants = [None if each is None else tuple(sorted(each)) for each in granted]
        with _opened(directory, before) as sink:
            for number, each in enumerate(grants):
                batch = _routed(number, before, each)
                if batch.payload:
                    sink.deliver(batch)
        with _opened(directory, now) as sink:
            sink.finish()
        may = set[str]()
        for each in grants:
            may |= entitled(_SCHEMA, now, each).keys() & entitled(_SCHEMA, before, each).keys()
        may &= {"client.address", "os.type"}
        assert _fields(directory) <= may
        if all(each is None for each in grants):
            assert _fields(directory) == may


def test_another_place(tmp_path: Path) -> None:
    """It gets nothing that was collected for the one before, which rights reach."""
    with _opened(tmp_path, None) as sink:
        sink.deliver(_routed(1, None), _routed(2, None))
    with _opened(tmp_path, None, "other") as sink:
        assert [name for name, _ in sink.values()] == []
        assert len(list(sink.unproven())) == 1
        sink.deliver(_routed(3, None))
        sink.finish()
        assert len(list(sink.scan(removal_of(1)))) == 1
        assert sink.rewrite([removal_of(1)])[0].deleted == 1
    assert person(1).encode() not in every_byte(tmp_path)
    assert person(2).encode() not in every_byte(tmp_path / "other")
    assert not (tmp_path / "lake").exists()
    with _opened(tmp_path, None, offline=True) as sink:
        assert list(sink.unproven()) == []
    with _opened(tmp_path, None) as sink:
        sink.finish()
    (path,) = (tmp_path / "lake").rglob("*.parquet")
    assert parquet.read_table(path)["client.address"].to_pylist() == [person(2)]
    with _opened(tmp_path, None, "other") as sink:
        assert sink.prune(datetime.now(UTC) + timedelta(days=400)).deleted == 1


def test_what_waits_for_another_place_is_reported(tmp_path: Path) -> None:
    """The sink fails once after it was opened, and goes on."""
    with _opened(tmp_path, None) as sink:
        sink.deliver(_routed(1, None))
        sink.idle()
    for _ in range(2):
        with _opened(tmp_path, None, "other") as sink:
            with raises("E503", DeliveryError, match="earlier place") as error:
                sink.idle()
            assert error.value.cause == "changed"
            sink.idle()
            sink.deliver(_routed(2, None))
            sink.finish()
    with _opened(tmp_path, None) as sink:
        sink.idle()


def test_fewer_fields_by_a_reload(tmp_path: Path) -> None:
    schema, file, lake = tmp_path / "usage.yaml", tmp_path / "collector.yaml", tmp_path / "lake"
    data = tmp_path / "collector-data"

    def write(fields: Collection[str], purposes: str) -> None:
        lines = (_FIELD.format(name, _REACHING[name]) for name in fields)
        schema.write_text(_USAGE + "".join(lines))
        sink = f"{{type: parquet, path: {lake}, every: 1h, purposes: [{purposes}]}}"
        file.write_text(f"schema: {schema}\nsinks: {{lake: {sink}}}\n")

    write(_REACHING, "service, quality")
    with started(tmp_path, "--config", file.name) as sidecar:
        for number, change in enumerate((_REACHING, ["os.type", "os.name"], None)):
            assert sidecar.send(_EVENT).status == 200
            wait_until(partial(_waits, data / "sinks" / "lake", number + 1))
            if change is not None:
                write(change, "service")
                answer = ask(data, Reload(allow_widening=False))
                assert answer is not None
                assert answer["change"] == "narrowing"
        assert sidecar.stop()[0] == 0
    opening = Opening("lake", (load_schema(str(schema)),), data)
    chosen = ParquetSettings(type="parquet", path=lake, purposes=["service"])
    with ParquetSink(chosen, opening) as sink:
        sink.finish()
    assert _fields(tmp_path) == {"os.type"}
    files = lake.rglob("*.parquet")
    assert sum(parquet.read_table(each).num_rows for each in files) == 3


def _waits(directory: Path, number: int) -> bool:
    with read_segments(directory) as segments:
        pieces = [piece for each in segments for _, piece in each.pieces]
    return sum(map(count_lines, pieces)) == number


def test_a_schema_that_is_not_in_force(tmp_path: Path) -> None:
    """It is not known which of its fields reach the sink, so records wait."""
    web = load_schema("web")
    with _opened(tmp_path, None) as sink:
        sink.deliver(_routed(1, None))
    with _opened(tmp_path, ["security"], schemas=(web,)) as sink:
        sink.finish()
    assert _fields(tmp_path) == set()
    with _opened(tmp_path, ["security"]) as sink:
        sink.deliver(_routed(2, ["security"]))
    with _opened(tmp_path, ["security", "service_operations"], schemas=(web,)) as sink:
        sink.finish()
    assert _fields(tmp_path) == {"client.address"}


def _files(directory: Path) -> dict[str, bytes]:
    """The files that hold something: not the log of the database, which is empty, and its index."""
    return {path.name: path.read_bytes() for path in directory.glob("*[!lm]")}


def test_segments_of_an_unknown_format(tmp_path: Path) -> None:
    """What waits is not touched."""
    with _opened(tmp_path, None) as sink:
        sink.deliver(_routed(1, None))
    directory = tmp_path / "data" / "sinks" / "lake"
    for version in (0, 2):
        query(directory / "segments.db", f"PRAGMA user_version = {version}")
        before = _files(directory)
        message = "a format that this version of Collector does not know"
        with raises("E501", DeliveryError, match=message), _opened(tmp_path, None):
            pass
        with _opened(tmp_path, None, offline=True) as sink:
            with raises("E501", DeliveryError, match=message):
                list(sink.scan(removal_of(1)))
            with raises("E501", DeliveryError, match=message):
                sink.rewrite([removal_of(1)])
            with raises("E501", DeliveryError, match=message):
                ParquetSink.check(sink.settings, sink.opening)
        assert _files(directory) == before
    query(directory / "segments.db", "PRAGMA user_version = 1")
    with _opened(tmp_path, None, offline=True) as sink:
        assert len(list(sink.scan(removal_of(1)))) == 1


def test_another_name_at_the_same_place(tmp_path: Path) -> None:
    """It takes over what waits, but not from a sink that is open, of another place, or of an
    application."""
    lake = ParquetSettings(type="parquet", path=tmp_path / "lake")
    other = lake.model_copy(update={"path": tmp_path / "other"})
    names = {"lake": lake, "beside": other, lake.shared_name: lake}
    for number, (name, chosen) in enumerate(names.items(), 1):
        is_shared = name == lake.shared_name
        opening = Opening(name, (_SCHEMA,), tmp_path / "data", is_shared=is_shared)
        with ParquetSink(chosen, opening) as sink:
            sink.deliver(_routed(number, None))
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / ".lake.new").write_bytes(person(9).encode())
    renamed = Opening("warehouse", (_SCHEMA,), tmp_path / "data")
    with ParquetSink(lake, renamed) as sink:
        assert not (tmp_path / "lake" / ".lake.new").exists()
        sink.deliver(_routed(1, None), _routed(4, None))
        with ParquetSink(lake, replace(renamed, name="third")) as third:
            third.deliver(_routed(5, None))
        sink.finish()
    found = [
        address
        for path in (tmp_path / "lake").rglob("*.parquet")
        for address in parquet.read_table(path)["client.address"].to_pylist()
    ]
    assert sorted(found) == [person(1), person(4)]
    left = {path.name for path in (tmp_path / "data" / "sinks").iterdir()}
    assert left == {"warehouse", "beside", "third", lake.shared_name}
