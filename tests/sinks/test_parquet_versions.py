"""Parquet files of a schema's earlier versions, and of schemas that do not run any more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from collector.contracts import Batch, Layout, to_minute
from collector.documents import Document
from collector.filter.arrow import arrow_schema
from collector.filter.stored import read
from collector.ledger import Note
from collector.schema import Schema
from collector.schema.load import parse_source
from collector.sinks.ndjson import NdjsonSettings, NdjsonSink
from collector.sinks.parquet import ParquetSettings, ParquetSink
from collector.sinks.sink import ErasableSink, Opening
from collector.spool import Spool, note
from collector.testing.sinks import removal_of

_KINDS: Mapping[str, dict[str, Any]] = {
    "tablet": {"kind": "boolean"},
    "cores": {"kind": "integer", "minimum": 0, "maximum": 512, "step": 1},
    "started": {"kind": "time", "precision": "hour"},
    "jitter": {"kind": "number", "minimum": 0, "maximum": 1, "step": 0.125},
    "os": {"kind": "enum", "values": ["linux", "ios"]},
}
_NOW = datetime.now(UTC)
"""An hour may end while a test runs."""
_VALUES = {"tablet": True, "cores": 1, "started": "2026-11-28T08:00:00Z", "jitter": 0.5}


def _schema(version: str, *fields: str, name: str = "calls", retention: str = "30d") -> Schema:
    common = {
        "category": "user.device",
        "purposes": ["operations"],
        "retention": retention,
        "reason": "Faults of the client go by device",
    }
    document: dict[str, Any] = {
        "schema": name,
        "version": version,
        "title": "Calls",
        "owner": "tests",
        "purposes": {
            "operations": {
                "use": "essential.service.operations",
                "basis": "contract",
                "reason": "Connect clients to a server near them",
            }
        },
        "fields": {
            "client.address": {"kind": "ip", **common, "category": "user.device.ip_address"},
            **{field: {**_KINDS[field], **common, "from": [field]} for field in fields},
        },
    }
    schema, faults = parse_source(Document("calls.yaml", value=document))
    assert schema is not None, faults
    return schema


def _opened(folder: Path, *schemas: Schema, name: str = "lake", **more: Any) -> ParquetSink:
    chosen = ParquetSettings(type="parquet", path=folder / "lake")
    return ParquetSink(chosen, Opening(name, schemas, folder / "data", **more))


def _batch(number: int, schema: Schema, *records: Mapping[str, Any], days: float = 0) -> Batch:
    lines = [orjson.dumps({"schema": schema.id, **record}) + b"\n" for record in records]
    minute = to_minute(_NOW - timedelta(days=days))
    payload = b"".join(lines)
    return read(Batch(number.to_bytes(16), minute, layout=schema.layout, payload=payload))


def _files(folder: Path) -> list[pa.Table]:
    return [parquet.read_table(path) for path in sorted((folder / "lake").rglob("*.parquet"))]


def _records(folder: Path) -> list[dict[str, Any]]:
    """The records of all files, without what is the same in all."""
    reserved = {"schema", "received", "count", "day"}
    rows = [row for table in _files(folder) for row in table.to_pylist()]
    return [{n: v for n, v in row.items() if v is not None and n not in reserved} for row in rows]


def _note(folder: Path, *schemas: Schema) -> None:
    """Note schemas in the ledger, as a sidecar does."""
    (folder / "data").mkdir(exist_ok=True)
    with Spool(folder / "data" / "spool.db"):
        pass
    for schema in schemas:
        facts = {"schema": schema.id, "change": "first"}
        note(folder / "data", Note.of("schema", document=schema.document, **facts))


# -- the types of columns --------------------------------------------------------------------------


@pytest.mark.parametrize("field", _VALUES)
def test_a_version_of_which_nothing_is_known(tmp_path: Path, field: str) -> None:
    """The type of a field becomes known with its first value."""
    old, new = _schema("1.0.0", field), _schema("2.0.0", "os")
    with _opened(tmp_path, new) as sink:
        sink.deliver(_batch(1, old, {"client.address": "203.0.113.1"}))
        sink.deliver(_batch(2, old, {field: _VALUES[field]}))
        sink.finish()
    (table,) = _files(tmp_path)
    expected = {"tablet": pa.bool_(), "cores": pa.int64(), "jitter": pa.float64()}
    assert table.schema.field(field).type == expected.get(field, pa.timestamp("us", "UTC"))
    assert sorted(map(len, _records(tmp_path))) == [1, 1]
    assert len(table) == 2
    assert table[field].null_count == 1


@pytest.mark.parametrize("knows", ["ledger", "version that runs"])
def test_types_before_a_value_was_seen(tmp_path: Path, knows: str) -> None:
    old = _schema("1.0.0", *_VALUES)
    new = _schema("2.0.0", *(() if knows == "ledger" else _VALUES))
    if knows == "ledger":
        _note(tmp_path, old, new)
    with _opened(tmp_path, new) as sink:
        sink.deliver(_batch(1, old, {"client.address": "203.0.113.1"}))
        sink.finish()
        sink.deliver(_batch(2, old, dict(_VALUES)))
        sink.finish()
    first, second = _files(tmp_path)
    assert first.schema.types == second.schema.types
    assert {**_VALUES, "started": datetime(2026, 11, 28, 8, tzinfo=UTC)} in _records(tmp_path)


def test_a_wrong_guess_does_not_stay(tmp_path: Path) -> None:
    """The schema corrects it, when it is in force again, or a value does."""
    old, new = _schema("1.0.0", "tablet"), _schema("2.0.0", "os")
    with _opened(tmp_path, new) as sink:
        sink.deliver(_batch(1, old, {"tablet": True}))
        assert sink._staged is not None
        sink._staged._db.execute("UPDATE types SET type = 'integer' WHERE name = 'tablet'")
    with _opened(tmp_path, old) as sink:
        sink.finish()
        sink.deliver(_batch(2, old, {"tablet": False}))
        sink.finish()
        assert sink._staged is not None
        sink._staged._db.execute("UPDATE types SET type = 'integer' WHERE name = 'tablet'")
    with _opened(tmp_path, new) as sink:
        sink.deliver(_batch(3, old, {"tablet": True}))
        sink.finish()
    assert sorted(map(str, _records(tmp_path))) == [
        "{'tablet': False}",
        "{'tablet': True}",
        "{'tablet': True}",
    ]


def test_a_text_that_looks_like_a_time(tmp_path: Path) -> None:
    old, new = _schema("1.0.0", "os"), _schema("2.0.0")
    with _opened(tmp_path, new) as sink:
        sink.deliver(_batch(1, old, {"os": "2026-11-28T08:00:00Z"}))
        sink.deliver(_batch(2, old, {"os": "linux"}))
        sink.deliver(_batch(3, old, {"os": "2026-11-28T09:00:00Z"}))
        sink.finish()
    assert sorted(record["os"] for record in _records(tmp_path)) == [
        "2026-11-28T08:00:00Z",
        "2026-11-28T09:00:00Z",
        "linux",
    ]


# -- retention -------------------------------------------------------------------------------------

_ADDRESS = {"client.address": "203.0.113.1"}


def _left(folder: Path) -> list[str]:
    return sorted(
        row["schema"].partition("/")[0] for table in _files(folder) for row in table.to_pylist()
    )


def _pruned(sink: ErasableSink) -> tuple[int, tuple[str, ...], int]:
    """What pruning deletes, of which schemas it knows no retention, and what is overdue then."""
    now = datetime.now(UTC)
    found = sink.prune(now)
    return found.deleted, found.unruled, len(list(sink.overdue(now)))


@pytest.mark.parametrize("is_waiting", [False, True])
@pytest.mark.parametrize(("own", "other", "left"), [("365d", "1d", ["calls"]), ("1d", "365d", [])])
def test_each_schema_by_its_own_retention(
    tmp_path: Path, own: str, other: str, left: list[str], is_waiting: bool
) -> None:
    """Another program may send a schema to the same lake of which this one knows nothing."""
    calls, web = _schema("1.0.0", retention=own), _schema("1.0.0", name="web", retention=other)
    with _opened(tmp_path, calls, is_shared=True) as sink:
        sink.deliver(_batch(1, calls, _ADDRESS, days=5))
        if not is_waiting:
            sink.finish()
    with _opened(tmp_path, web, is_shared=True) as sink:
        assert _pruned(sink) == (1 - len(left), (), 0)
        sink.finish()
        assert _left(tmp_path) == left


def test_versions_of_one_name_go_by_the_version_that_runs(tmp_path: Path) -> None:
    old, new = _schema("1.0.0", retention="365d"), _schema("2.0.0", retention="1d")
    with _opened(tmp_path, old) as sink:
        sink.deliver(_batch(1, old, _ADDRESS, days=5))
        sink.finish()
    with _opened(tmp_path, new) as sink:
        assert _pruned(sink) == (1, (), 0)
    with _opened(tmp_path, new) as sink:
        sink.deliver(_batch(2, new, _ADDRESS, days=5))
        sink.finish()
    with _opened(tmp_path, old) as sink:
        assert _pruned(sink) == (0, (), 0)
    assert _left(tmp_path) == ["calls"]


def test_a_schema_that_ran_before(tmp_path: Path) -> None:
    """The ledger has its retention, also for files that state none."""
    first, last = _schema("1.0.0", retention="365d"), _schema("2.0.0", retention="1d")
    web = _schema("1.0.0", name="web")
    with _stating_none(), _opened(tmp_path, first) as sink:
        sink.deliver(_batch(1, first, _ADDRESS, days=5))
        sink.finish()
    _note(tmp_path, first, last, web)
    with _opened(tmp_path, web, is_offline=True) as sink:
        assert _pruned(sink) == (1, (), 0)
    assert _left(tmp_path) == []


def test_nothing_is_known_of_a_schema(tmp_path: Path) -> None:
    """A file may state what is no retention. Nothing is deleted, and it is said."""
    calls, web = _schema("1.0.0"), _schema("1.0.0", name="web", retention="1d")
    for number, stated in enumerate((None, b"client.address=-1", b"client.address=1 x", b"")):
        with _stating_none(stated), _opened(tmp_path, calls) as sink:
            sink.deliver(_batch(number, calls, _ADDRESS, days=5 + number))
            sink.finish()
    with _opened(tmp_path, web) as sink:
        assert _pruned(sink) == (0, ("calls",), 1)
        (finding,) = sink.overdue(datetime.now(UTC))
        assert "`lake`" in finding
        assert " 4 records" in finding
    assert _left(tmp_path) == ["calls"] * 4
    with _opened(tmp_path, calls, web) as sink:
        assert _pruned(sink) == (0, (), 0)


@contextmanager
def _stating_none(text: bytes | None = None) -> Iterator[None]:
    """Write files with another text in place of the retentions, or without any."""

    def schema(types: Mapping[str, str], mark: bytes, **_: object) -> pa.Schema:
        found = arrow_schema(types, mark)
        more = {} if text is None else {b"collector.retentions": text}
        return found.with_metadata({**found.metadata, **more})

    with mock.patch("collector.filter.arrow.arrow_schema", schema):
        yield


def test_what_a_file_states(tmp_path: Path) -> None:
    """The retentions of its fields in seconds stay when it is rewritten."""
    calls = _schema("1.0.0", "os", retention="3d")
    with _opened(tmp_path, calls) as sink:
        sink.deliver(_batch(1, calls, _ADDRESS, {"client.address": "203.0.113.2"}))
        sink.finish()
        for left in (2, 1):
            (table,) = _files(tmp_path)
            assert len(table) == left
            stated = table.schema.metadata[b"collector.retentions"]
            assert stated == b"client.address=259200 os=259200"
            sink.rewrite([removal_of(2)])


def test_lines_of_a_file_by_several_programs(tmp_path: Path) -> None:
    calls, web = _schema("1.0.0", retention="1d"), _schema("1.0.0", name="web", retention="84h")
    writing = _schema("1.0.0"), _schema("1.0.0", name="web")
    settings = NdjsonSettings(type="ndjson", path=tmp_path / "out.ndjson")
    with NdjsonSink(settings, Opening("out", writing, tmp_path / "data")) as sink:
        for number, schema in enumerate((writing[0], writing[1], writing[1])):
            sink.deliver(_batch(number, schema, _ADDRESS, days=2 + number))
    opening = Opening("out", (calls,), tmp_path / "data", is_offline=True)
    with NdjsonSink(settings, opening) as sink:
        assert _pruned(sink) == (1, ("",), 1)
        (finding,) = sink.overdue(datetime.now(UTC))
        assert "`out`" in finding
        assert " 2 lines" in finding
    _note(tmp_path, web)
    with NdjsonSink(settings, replace(opening)) as sink:
        assert _pruned(sink) == (1, (), 0)
    assert settings.path is not None
    assert settings.path.read_bytes().count(b'"web/1.0.0"') == 1


_SHAPES = {
    "TEXT": st.one_of(st.text("aé2:TZ-", max_size=9), st.just("2026-11-28T08:00:00Z")),
    "REAL": st.floats(0, 1, allow_nan=False),
    "boolean": st.booleans(),
    "integer": st.integers(-(2**53), 2**53),
}


@given(data=st.data(), columns=st.lists(st.sampled_from([*_SHAPES]), min_size=1, max_size=4))
def test_no_value_is_lost(
    data: st.DataObject, columns: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nobody knows the schema, and values are spread over batches and files."""
    folder = tmp_path_factory.mktemp("lake")
    sql = {"boolean": "INTEGER", "integer": "INTEGER"}
    names = {f"f{at}": shape for at, shape in enumerate(columns)}
    layout = Layout(
        "web/1.0.0", "d" * 64, "web", tuple((n, sql.get(s, s)) for n, s in names.items())
    )
    record = st.fixed_dictionaries({}, optional={n: _SHAPES[s] for n, s in names.items()})
    sent = list[dict[str, Any]]()
    with _opened(folder, _schema("1.0.0")) as sink:
        for number in range(data.draw(st.integers(1, 5))):
            records = [each for each in data.draw(st.lists(record, max_size=3)) if each]
            lines = [orjson.dumps({"schema": layout.schema, **each}) + b"\n" for each in records]
            minute = to_minute(datetime.now(UTC))
            batch = Batch(number.to_bytes(16), minute, layout=layout, payload=b"".join(lines))
            sink.deliver(read(batch))
            sent += records
            if data.draw(st.booleans()):
                sink.finish()
        sink.finish()
    assert _texts(_records(folder)) == _texts(sent)


def _texts(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Records as texts that can be compared, with moments as they were sent."""
    found = []
    for record in records:
        plain = {
            name: to_minute(value) if isinstance(value, datetime) else value
            for name, value in record.items()
        }
        found.append(str(sorted(plain.items())))
    return sorted(found)
