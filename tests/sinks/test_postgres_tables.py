"""Tables of a PostgreSQL database that do not fit, and what others did with them, with a real
server."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import orjson
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.contracts import Batch, Layout, Removal, Subject, to_minute
from collector.errors import ConfigError, DeliveryError, Unacceptable, Unreachable
from collector.filter.redaction import Rule
from collector.filter.stored import read
from collector.ledger import Note
from collector.schema import load_schema
from collector.schema.model import Schema
from collector.sinks.postgres import PostgresSink
from collector.sinks.postgres.tables import check_names
from collector.sinks.sink import Opening
from collector.spool import Spool, note
from collector.testing.sinks import person, removal_of
from tests.support.postgres import PostgresServer
from tests.support.raising import raises

_HEAD = """
schema: {name}
version: {version}
title: T
owner: o
purposes:
  operations: {{use: essential.service.operations, basis: contract, reason: "Clients need one"}}
fields:
  client.address: {{kind: ip, from: [ip_address], category: user.device.ip_address,
    purposes: [operations], retention: 30d, reason: "The network decides which server is near"}}
"""
_FIELD = """  {name}: {{{kind}, from: [{name}], category: user.device, purposes: [operations],
    retention: 30d, reason: "Faults of the client go by device"}}
"""
_TEXTS = ("text", "text")
_NOW = datetime.now(UTC)
_DAY = f"{_NOW + timedelta(days=1):%Y%m%d}"
"""Of tomorrow, as a day may end while tests run."""


def _schema(folder: Path, name: str, version: str = "1.0.0", **fields: str) -> Schema:
    lines = [_FIELD.format(name=each, kind=kind) for each, kind in fields.items()]
    (path := folder / f"{name}-{version}.yaml").write_text(
        _HEAD.format(name=name, version=version) + "".join(lines)
    )
    return load_schema(str(path))


def _batch(number: int, schema: Schema, *, days: float = 0, **values: Any) -> Batch:
    """A batch with one record of a person of that number."""
    record = {"schema": schema.id, "client.address": person(number), **values}
    received = to_minute(_NOW - timedelta(days=days))
    payload = orjson.dumps(record) + b"\n"
    return read(Batch(number.to_bytes(16), received, layout=schema.layout, payload=payload))


def _opening(folder: Path, *schemas: Schema, **more: Any) -> Opening:
    return Opening("warehouse", schemas, folder, **more)


def _sink(server: PostgresServer, folder: Path, *schemas: Schema, **more: Any) -> PostgresSink:
    return PostgresSink(server.settings(), _opening(folder, *schemas, **more))


def _check(server: PostgresServer, folder: Path, *schemas: Schema, **settings: Any) -> None:
    PostgresSink.check(server.settings(**settings), _opening(folder, *schemas))


def _addresses(server: PostgresServer, table: str) -> list[str]:
    query = f'SELECT host("client.address") FROM collector."{table}" ORDER BY 1'
    return [address for (address,) in server.ask(query)]


# -- names -----------------------------------------------------------------------------------------


def _layout(table: str, *columns: str) -> Layout:
    return Layout(f"{table}/1.0.0", "0" * 64, table, tuple((each, "TEXT") for each in columns))


def test_names_that_no_column_has() -> None:
    """These are names of the server's own columns, and one that it would cut."""
    for name in ["tableoid", "ctid", "xmin", "cmin", "xmax", "cmax", "a" * 64]:
        with raises("E504", DeliveryError):
            check_names([_layout("calls", "os.type", name)])


def test_names_of_tables() -> None:
    """The server would cut one, and a partition of another schema has the other."""
    for tables in (["c" * 55], ["calls", f"calls_{_DAY}"], [f"calls_{_DAY}", "calls"]):
        with raises("E504", DeliveryError):
            check_names([_layout(table, "os.type") for table in tables])
    free = ["calls", "calls_20269999", "calls_2026", "calls-20261128", "web_20261128", "c" * 54]
    check_names([_layout(table, "os.type", "oid", "a" * 63) for table in free])


@given(
    names=st.lists(st.from_regex(r"[a-z]([_-]?[a-z0-9]){0,12}", fullmatch=True), unique=True),
    day=st.dates(date(1000, 1, 1)),
    chosen=st.randoms(use_true_random=False),
)
def test_no_schema_has_the_name_of_a_partition(names: list[str], day: date, chosen: Random) -> None:
    layouts = [_layout(name, "os.type") for name in names if not name[-8:].isdecimal()]
    check_names(layouts)
    if layouts:
        layouts.append(_layout(f"{chosen.choice(layouts).table}_{day:%Y%m%d}", "os.type"))
        chosen.shuffle(layouts)
        with raises("E504", DeliveryError):
            check_names(layouts)


@pytest.mark.servers
@pytest.mark.parametrize("name", ["tableoid", "ctid", "xmin", "cmin", "xmax", "cmax"])
def test_a_field_with_the_name_of_a_system_column(
    clean: PostgresServer, tmp_path: Path, name: str
) -> None:
    schema = _schema(tmp_path, "calls", **{name: "kind: boolean"})
    with raises("E504", DeliveryError, match=f"`{name}`"):
        _check(clean, tmp_path, schema)
    with _sink(clean, tmp_path, schema) as sink, raises("E504", DeliveryError, match=f"`{name}`"):
        sink.deliver(_batch(1, schema))


@pytest.mark.servers
def test_a_schema_with_the_name_of_a_partition(clean: PostgresServer, tmp_path: Path) -> None:
    """Records of the two never lie in one table: one is refused, whichever comes first."""
    calls, day = _schema(tmp_path, "calls"), _schema(tmp_path, f"calls_{_DAY}")
    with raises("E504", DeliveryError):
        _check(clean, tmp_path, calls, day)
    for first, second in ((calls, day), (day, calls)):
        clean.reset()
        with _sink(clean, tmp_path, first) as sink:
            sink.deliver(_batch(1, first, days=-1))
        with raises("E504", DeliveryError):
            _check(clean, tmp_path, second)
        with _sink(clean, tmp_path, second) as sink, raises("E504", DeliveryError):
            sink.deliver(_batch(2, second, days=-1))
        assert _addresses(clean, first.name) == [person(1)]
        with _sink(clean, tmp_path, first) as sink:
            sink.deliver(_batch(3, first, days=-1))
        assert _addresses(clean, first.name) == [person(1), person(3)]


@pytest.mark.servers
def test_a_schema_with_the_name_of_a_partition_of_the_past(
    clean: PostgresServer, tmp_path: Path
) -> None:
    """Tables that are there go on working, for all other days."""
    old, calls = _schema(tmp_path, "calls_20200101"), _schema(tmp_path, "calls")
    for number, schema in ((1, old), (2, calls), (3, old)):
        _check(clean, tmp_path, schema)
        with _sink(clean, tmp_path, schema) as sink:
            sink.deliver(_batch(number, schema))
    assert _addresses(clean, "calls") == [person(2)]
    assert _addresses(clean, "calls_20200101") == [person(1), person(3)]


@pytest.mark.servers
def test_a_partition_that_was_detached(clean: PostgresServer, tmp_path: Path) -> None:
    """No command would find rows there, so nothing goes there until it is attached again."""
    schema = _schema(tmp_path, "calls")
    with _sink(clean, tmp_path, schema) as sink:
        sink.deliver(_batch(1, schema, days=-1))
    day = f"collector.calls_{_DAY}"
    clean.ask(f"ALTER TABLE collector.calls DETACH PARTITION {day}")
    clean.ask("INSERT INTO collector._unswept (partition) VALUES (%s)", f"calls_{_DAY}")
    with _sink(clean, tmp_path, schema, is_offline=True) as sink:
        assert sink.prune(_NOW) == Removal(is_swept=True)
    assert clean.ask("SELECT count(*) FROM collector._unswept") == [(0,)]
    with raises("E504", DeliveryError, match="attach"):
        _check(clean, tmp_path, schema)
    with _sink(clean, tmp_path, schema) as sink:
        with raises("E504", DeliveryError, match="attach"):
            sink.deliver(_batch(2, schema, days=-1))
        bounds = [f"{_NOW + timedelta(days=each):%Y-%m-%dT00:00:00Z}" for each in (1, 2)]
        attach = "ALTER TABLE collector.calls ATTACH PARTITION {} FOR VALUES FROM ('{}') TO ('{}')"
        clean.ask(attach.format(day, *bounds))
        sink.deliver(_batch(2, schema, days=-1))
    assert _addresses(clean, "calls") == [person(1), person(2)]


# -- what others did -------------------------------------------------------------------------------


@pytest.mark.servers
def test_rows_of_a_day_in_a_partition_of_others(clean: PostgresServer, tmp_path: Path) -> None:
    """The day's own partition cannot be made, which is no fault of the batch."""
    schema = _schema(tmp_path, "calls")
    with _sink(clean, tmp_path, schema) as sink:
        sink.deliver(_batch(1, schema, days=2))
        clean.ask("CREATE TABLE collector.calls_rest PARTITION OF collector.calls DEFAULT")
        clean.ask("ALTER TABLE collector.calls_rest OWNER TO collector")
        clean.ask("INSERT INTO collector.calls (received) VALUES (%s)", _NOW)
        for batches in ([_batch(2, schema)], [_batch(2, schema), _batch(3, schema)]):
            with raises("E514", Unreachable, match="others") as caught:
                sink.deliver(*batches)
            assert caught.value.cause == "changed"
        clean.ask("DELETE FROM collector.calls_rest")
        sink.deliver(_batch(2, schema), _batch(3, schema))
    assert _addresses(clean, "calls") == [person(1), person(2), person(3)]


@pytest.mark.servers
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_of_another_encoding(
    clean: PostgresServer, tmp_path: Path, encoding: str
) -> None:
    """It lacks letters, and the server would log records that have them."""
    schema, name = _schema(tmp_path, "calls"), encoding.lower()
    with psycopg.connect(clean.admin_url("postgres"), autocommit=True) as db:
        create = f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
        db.execute(f"{create} TEMPLATE template0".encode())
        db.execute(f"GRANT CREATE ON DATABASE {name} TO collector".encode())
    settings = clean.settings(url=clean.url.replace("/telemetry", f"/{name}"))
    with raises("E219", ConfigError, match="UTF8"):
        PostgresSink.check(settings, _opening(tmp_path, schema))
    sink = PostgresSink(settings, _opening(tmp_path, schema))
    with sink, raises("E219", ConfigError, match="UTF8"):
        sink.deliver(_batch(1, schema))
    with psycopg.connect(clean.admin_url(name)) as db:
        found = db.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'collector'").fetchall()
    assert found == []


# -- the ids of batches ----------------------------------------------------------------------------


@pytest.mark.servers
def test_the_newest_ids_are_known(
    clean: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repeats, parts of batches and deliveries that broke off take none of their places."""
    monkeypatch.setattr("collector.sinks.postgres._STORED_IDS", 10)
    monkeypatch.setattr("collector.sinks.postgres._FORGET_AFTER", 1)
    schema = _schema(tmp_path, "calls")
    with _sink(clean, tmp_path, schema) as sink:
        for number in range(1, 9):
            sink.deliver(_batch(number, schema))
        for _ in range(20):
            sink.deliver(_batch(8, schema))
        clean.ask("ALTER TABLE collector.calls ADD CHECK (count < 2)")
        for number in range(20, 40):
            with raises("E511", Unacceptable):
                sink.deliver(_batch(number, schema, count=2))
        for number in range(1, 9):
            sink.deliver(_batch(number, schema))
        assert len(_addresses(clean, "calls")) == 8
        for number in range(9, 30):
            sink.deliver(_batch(number, schema))
        sink.deliver(_batch(29, schema), _batch(20, schema))
    assert len(_addresses(clean, "calls")) == 29
    assert clean.ask("SELECT count(*) BETWEEN 10 AND 12 FROM collector._delivered") == [(True,)]


# -- retention and rights where others are in the way ----------------------------------------------


@pytest.mark.servers
def test_a_reader_keeps_one_partition_only(
    clean: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.sinks.postgres.removal._WRITER_SECONDS", 1.0)
    schemas = [_schema(tmp_path, name) for name in ("aaa", "zzz")]
    with _sink(clean, tmp_path, *schemas) as sink:
        for number, schema in enumerate(schemas, 1):
            sink.deliver(_batch(number, schema, days=29), _batch(number + 10, schema, days=28))
        later = _NOW + timedelta(days=5)
        with psycopg.connect(clean.admin_url()) as reader:
            day = f"{_NOW - timedelta(days=29):%Y%m%d}"
            reader.execute(f"SELECT * FROM collector.aaa_{day}".encode()).fetchall()
            assert sink.prune(later) == Removal(deleted=3, is_swept=False)
            assert sink.prune(later) == Removal(is_swept=False)
        assert (_addresses(clean, "aaa"), _addresses(clean, "zzz")) == ([person(1)], [])
        assert sink.prune(later) == Removal(deleted=1)


@pytest.mark.servers
def test_a_view_of_others_on_one_partition(clean: PostgresServer, tmp_path: Path) -> None:
    schema = _schema(tmp_path, "calls")
    with _sink(clean, tmp_path, schema) as sink:
        sink.deliver(*[_batch(number, schema, days=30 - number) for number in (1, 2, 3)])
        day = f"{_NOW - timedelta(days=29):%Y%m%d}"
        clean.ask(f"CREATE VIEW public.old AS SELECT * FROM collector.calls_{day}")
        later = _NOW + timedelta(days=10)
        assert sink.prune(later) == Removal(deleted=2, is_swept=False)
        with raises("E514", DeliveryError):
            sink.prune(later)
        clean.ask("DROP VIEW public.old")
        assert sink.prune(later) == Removal(deleted=1)


@pytest.mark.servers
def test_partitions_of_partitions(clean: PostgresServer, tmp_path: Path) -> None:
    schema = _schema(tmp_path, "calls")
    with _sink(clean, tmp_path, schema) as sink:
        sink.deliver(_batch(1, schema))
        for each in (
            "calls_rest PARTITION OF collector.calls DEFAULT PARTITION BY LIST (count)",
            "calls_one PARTITION OF collector.calls_rest FOR VALUES IN (1)",
            "calls_more PARTITION OF collector.calls_rest DEFAULT",
        ):
            clean.ask(f"CREATE TABLE collector.{each}")
            clean.ask(f"ALTER TABLE collector.{each.split()[0]} OWNER TO collector")
        insert = 'INSERT INTO collector.calls (received, count, "client.address") VALUES'
        for number, count in ((7, 1), (7, 2), (8, 1), (8, 2)):
            values = f"(now() - interval '5 days', {count}, '{person(number)}')"
            clean.ask(f"{insert} {values}")
        with psycopg.connect(clean.admin_url()) as reader:
            reader.execute("SELECT * FROM collector.calls_more").fetchall()
            assert sink.rewrite([removal_of(7)])[0] == Removal(2, is_swept=False)
        assert sink.rewrite([removal_of(7)])[0] == Removal(0, is_swept=True)
        assert _addresses(clean, "calls_rest") == [person(8), person(8)]
        sink.deliver(_batch(9, schema))
    assert b"\x02\x20\xcb\x00\x71\x07" not in clean.files()
    assert clean.ask("SELECT count(*) FROM collector._unswept") == [(0,)]


# -- versions of a schema --------------------------------------------------------------------------


@pytest.mark.servers
@pytest.mark.parametrize("is_noted", [False, True])
def test_back_to_an_earlier_version(
    clean: PostgresServer, tmp_path: Path, *, is_noted: bool
) -> None:
    """A later version dropped fields. Columns have the types of the earlier one where the ledger
    notes it, else general ones."""
    fields = {"tablet": "kind: boolean", "peer.address": "kind: ip", "seen": "kind: time"}
    v1 = _schema(tmp_path, "calls", **fields)
    if is_noted:
        Spool(tmp_path / "spool.db").close()
        about = Note.of("schema", document=v1.document, schema=v1.id, change="first")
        note(tmp_path, about)
    v2 = _schema(tmp_path, "calls", "1.1.0")
    values: dict[str, Any] = {
        "tablet": True,
        "peer.address": "203.0.113.99",
        "seen": "2026-11-28T00:00:00Z",
    }
    with _sink(clean, tmp_path, v2) as sink:
        sink.deliver(_batch(1, v1, **values))
    query = "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = "
    types = dict(clean.ask(query + "'collector.calls'::regclass AND attnum > 0"))
    wanted = ("boolean", "inet", "timestamp with time zone") if is_noted else ("bigint", *_TEXTS)
    assert tuple(types[name] for name in fields) == wanted
    _check(clean, tmp_path, v1)
    with _sink(clean, tmp_path, v1) as sink:
        sink.deliver(_batch(2, v1, **values | {"tablet": False}), _batch(3, v1))
        rule = Rule.removal(Subject("peer.address", "203.0.113.99", "", "~"), None)
        found = list(sink.scan(rule))
        assert sorted(bool(row["tablet"]) for _, row in found) == [False, True]
        assert sink.rewrite([rule])[0].records == 2
    assert _addresses(clean, "calls") == [person(3)]
