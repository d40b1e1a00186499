"""The embedded store: exactly once, typed, private, growing with its schema."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from collector.contracts import Batch
from collector.errors import ConfigError, DeliveryError
from collector.schema import Schema, load_schema
from collector.sinks import store_file
from collector.sinks.inventory import check_store, reading
from collector.sinks.store import Store
from collector.sinks.store_file import Table, opened
from tests.support.database import query
from tests.support.failing_disk import fill, small_disk
from tests.support.raising import raises

_MINUTE = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:00Z")
_RECORDS: list[dict[str, Any]] = [
    {"schema": "conferencing/1.0.0", "client.address": f"203.0.113.{n}", "os.type": "linux"}
    for n in range(200)
]


@pytest.fixture
def schema() -> Schema:
    return load_schema("conferencing")


def _batch(number: int, records: list[dict[str, Any]]) -> Batch:
    return Batch(number.to_bytes(16), _MINUTE, records)


def _write_schema(path: Path, **fields: Any) -> Schema:
    base = {
        "category": "user.device",
        "purposes": ["service_operations"],
        "retention": "1d",
        "reason": "for this test",
    }
    document = {
        "schema": path.stem,
        "version": "1.0.0",
        "title": "A schema of a test",
        "owner": "tests",
        "purposes": {
            "service_operations": {
                "use": "essential.service.operations",
                "basis": "contract",
                "reason": "for this test",
            }
        },
        "fields": {name.replace("__", "."): base | options for name, options in fields.items()},
    }
    path.write_bytes(orjson.dumps(document))
    return load_schema(path)


def test_rows_are_typed_columns_under_canonical_names(tmp_path: Path, schema: Schema) -> None:
    with Store(tmp_path / "store.db", schema) as store:
        store.deliver(_batch(1, [_RECORDS[0] | {"count": 7}, _RECORDS[1]]))
        assert store.count() == 8
    rows = query(
        tmp_path / "store.db",
        'SELECT received, "client.address", "os.type", "os.name", count FROM conferencing'
        ' ORDER BY "client.address"',
    )
    assert rows == [
        (_MINUTE, "203.0.113.0", "linux", None, 7),
        (_MINUTE, "203.0.113.1", "linux", None, 1),
    ]
    view = query(tmp_path / "store.db", "SELECT client_address, os_type FROM conferencing_view")
    assert sorted(view) == [("203.0.113.0", "linux"), ("203.0.113.1", "linux")]


def test_rows_of_a_batch_are_shuffled(tmp_path: Path, schema: Schema) -> None:
    """200 rows are in order by chance once in 200!."""
    with Store(tmp_path / "store.db", schema) as store:
        store.deliver(_batch(1, _RECORDS))
    rows = query(tmp_path / "store.db", 'SELECT "client.address" FROM conferencing ORDER BY rowid')
    assert rows != [(record["client.address"],) for record in _RECORDS]
    assert len(rows) == 200


def test_files_are_private_whatever_the_umask(tmp_path: Path, schema: Schema) -> None:
    before = os.umask(0)
    try:
        with Store(tmp_path / "data" / "store.db", schema) as store:
            store.deliver(_batch(1, _RECORDS))
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "data").iterdir()}
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert modes == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}


def test_durability_is_wal_and_full(tmp_path: Path, schema: Schema) -> None:
    with Store(tmp_path / "store.db", schema) as store:
        assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_grown_schema_adds_columns(tmp_path: Path) -> None:
    """A narrower schema leaves columns alone."""
    path = tmp_path / "store.db"
    one = _write_schema(tmp_path / "grow-ing.yaml", a={"kind": "boolean"})
    two = _write_schema(
        tmp_path / "grow-ing.yaml",
        a={"kind": "boolean"},
        b__c={"kind": "integer", "minimum": 0, "maximum": 9, "step": 1},
    )
    for number, schema in enumerate((one, two, one)):
        with Store(path, schema) as store:
            store.deliver(_batch(number, [{"a": True, "b.c": 5}]))
    rows = query(path, 'SELECT a, "b.c" FROM "grow-ing" ORDER BY 2')
    assert rows == [(1, None), (1, None), (1, 5)]


def test_a_changed_type_is_refused(tmp_path: Path) -> None:
    first = _write_schema(tmp_path / "turn.yaml", a={"kind": "boolean"})
    Store(tmp_path / "store.db", first).close()
    second = _write_schema(tmp_path / "turn.yaml", a={"kind": "ip"})
    with pytest.raises(DeliveryError, match="E504"):
        Store(tmp_path / "store.db", second)


def test_a_store_on_a_full_disk_is_not_looked_at(tmp_path: Path) -> None:
    """Without room, the system ends a process that makes the index anew that a killed one has left.
    The store says all of that when it opens."""
    first = _write_schema(tmp_path / "turn.yaml", a={"kind": "boolean"})
    with small_disk(tmp_path / "small", megabytes=8) as place, Store(place / "store.db", first):
        second = Table(_write_schema(tmp_path / "turn.yaml", a={"kind": "ip"}).layout)
        fill(place / "ballast")
        check_store(place / "store.db", second)
        (place / "ballast").unlink()
        with pytest.raises(DeliveryError, match="E504"):
            check_store(place / "store.db", second)


def test_names_that_meet_in_the_view_stay_apart(tmp_path: Path) -> None:
    """Both ``a.b_c`` and ``a_b.c`` would be ``a_b_c``: they keep their dots."""
    schema = _write_schema(
        tmp_path / "meet.yaml", a__b_c={"kind": "boolean"}, a_b__c={"kind": "ip"}
    )
    with Store(tmp_path / "store.db", schema) as store:
        store.deliver(_batch(1, [{"a.b_c": True, "a_b.c": "::1"}]))
    assert query(tmp_path / "store.db", 'SELECT "a.b_c", "a_b.c" FROM meet_view') == [(1, "::1")]


@pytest.mark.parametrize("content", [b"canary, no database", b"SQLite format 3\0" + b"x" * 200])
def test_a_foreign_file_is_refused_and_left_alone(
    tmp_path: Path, schema: Schema, content: bytes
) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(content)
    with pytest.raises(DeliveryError, match="E501"):
        Store(path, schema)
    assert path.read_bytes() == content


@pytest.mark.parametrize("format_", [0, 2, 99])
def test_a_store_of_an_unknown_format_is_refused(
    tmp_path: Path, schema: Schema, format_: int
) -> None:
    path = tmp_path / "store.db"
    Store(path, schema).close()
    query(path, f"PRAGMA user_version = {format_}")
    before = path.read_bytes()
    uses = (
        lambda: Store(path, schema),
        lambda: check_store(path, Table(schema.layout)),
        lambda: reading(path).__enter__(),
        lambda: opened(path).__enter__(),
    )
    for use in uses:
        with pytest.raises(DeliveryError, match=r"a format that this version .* \[E501\]"):
            use()
    assert path.read_bytes() == before


def test_an_unusable_directory_is_an_error_of_ours(tmp_path: Path, schema: Schema) -> None:
    (tmp_path / "file").write_bytes(b"")
    with raises("E203", ConfigError):
        Store(tmp_path / "file" / "store.db", schema)


def test_batches_together_are_kept_all_or_none(tmp_path: Path, schema: Schema) -> None:
    """Batches that were there before, or twice, count once; one that the table refuses takes the
    others with it."""
    bad: dict[str, Any] = {"client.address": {"not": "a scalar"}}
    with Store(tmp_path / "store.db", schema) as store:
        store.deliver(_batch(1, _RECORDS))
        store.deliver(_batch(1, _RECORDS), _batch(2, _RECORDS[:10]), _batch(2, _RECORDS[:10]))
        assert store.count() == 210
        with raises("E503", DeliveryError):
            store.deliver(_batch(3, _RECORDS[:5]), _batch(4, [*_RECORDS, bad]))
        assert store.count() == 210
        store.deliver(_batch(3, _RECORDS[:5]))
        assert store.count() == 215
        store.deliver()
        assert store.count() == 215
        store.deliver(_batch(4, _RECORDS))
        assert store.count() == 415


def test_places_that_are_taken_are_drawn_again(
    tmp_path: Path, schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows of a batch may want the same place, or an earlier batch has it."""
    monkeypatch.setattr(store_file, "_ROOM", 1 << 10)
    monkeypatch.setattr(store_file, "_STEP", 1)
    with Store(tmp_path / "store.db", schema) as store:
        for number in range(5):
            store.deliver(_batch(number, _RECORDS))
        assert store.count() == 1000
    found = query(tmp_path / "store.db", 'SELECT "client.address", count(*) FROM conferencing')
    assert found[0][1] == 1000
