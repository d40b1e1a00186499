"""Sinks that are opened for several schemas: each has its own tables and retentions."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from collector.config import Config
from collector.config.sink_settings import SinkSettings
from collector.contracts import Batch, to_minute
from collector.filter.redaction import EVERYTHING
from collector.filter.stored import read
from collector.schema import Schema, load_schema
from collector.sinks.otlp import OtlpSettings
from collector.sinks.parquet import ParquetSettings, ParquetSink
from collector.sinks.sink import ErasableSink, Opening, open_sink
from collector.sinks.store import Store
from tests.support.database import query
from tests.support.otlp_receivers import http_receiver
from tests.support.postgres import PostgresServer

_SHORT = """
schema: short
version: 1.0.0
title: A sample
owner: tests
purposes:
  ops: {use: essential.service.operations, basis: contract, reason: Needed}
fields:
  client.address:
    kind: ip
    category: user.device.ip_address
    purposes: [ops]
    retention: 1d
    reason: Needed
  os.type:
    kind: enum
    values: [linux]
    category: user.device
    purposes: [ops]
    retention: 20d
    reason: Needed
"""


def _schemas(folder: Path) -> tuple[Schema, Schema]:
    (folder / "short.yaml").write_text(_SHORT)
    return load_schema("conferencing"), load_schema(folder / "short.yaml")


def _batch(schema: Schema, days: int) -> Batch:
    record = {"schema": schema.id, "client.address": "203.0.113.7", "os.type": "linux"}
    minute = to_minute(datetime.now(UTC) - timedelta(days=days))
    layout, payload = schema.layout, orjson.dumps(record) + b"\n"
    name = f"{schema.name} {days}".ljust(16).encode()[-16:]
    return read(Batch(name, minute, layout=layout, payload=payload))


def test_a_table_and_a_view_for_each(tmp_path: Path) -> None:
    schemas = _schemas(tmp_path)
    with Store(tmp_path / "store.db", *schemas):
        pass
    path = tmp_path / "store.db"
    for schema in schemas:
        assert query(path, f"SELECT count(*) FROM {schema.name}_view") == [(0,)]
        spans = dict(
            query(path, f"SELECT field, seconds FROM _retention WHERE \"table\" = '{schema.name}'")
        )
        assert spans == {f: s.total_seconds() for f, s in schema.retentions.items()}


def test_each_record_goes_by_its_own_schema(tmp_path: Path) -> None:
    """The same field stays for a month in one, and for a day in the other."""
    schemas = _schemas(tmp_path)
    settings = Config(sinks={"ndjson": {"path": str(tmp_path / "out.ndjson")}}).sinks.on()
    for name, each in settings.items():
        with open_sink(each, Opening(name, schemas, tmp_path)) as sink:
            sink.deliver(*(_batch(schema, days) for schema in schemas for days in (0, 2, 25)))
        with open_sink(each, Opening(name, schemas, tmp_path, is_offline=True)) as sink:
            assert isinstance(sink, ErasableSink)
            sink.prune(datetime.now(UTC))
            assert list(sink.overdue(datetime.now(UTC))) == []
    counted = 'SELECT count(*), count("client.address") FROM '
    store = tmp_path / "store.db"
    assert query(store, f"{counted} conferencing") == [(3, 3)]
    assert query(store, f"{counted} short") == [(2, 1)]
    lines = [orjson.loads(line) for line in (tmp_path / "out.ndjson").read_bytes().splitlines()]
    told = [(line["schema"].partition("/")[0], "client.address" in line) for line in lines]
    assert sorted(told) == [("conferencing", True)] * 3 + [("short", False), ("short", True)]


def _each_by_its_own(settings: SinkSettings, folder: Path, schemas: tuple[Schema, ...]) -> None:
    """Deliver records of both schemas, prune, and look at what is left of each."""
    with open_sink(settings, Opening("one", schemas, folder)) as sink:
        sink.deliver(*(_batch(schema, days) for schema in schemas for days in (0, 2, 25)))
        if isinstance(sink, ParquetSink):
            sink.finish()
    with open_sink(settings, Opening("one", schemas, folder, is_offline=True)) as sink:
        assert isinstance(sink, ErasableSink)
        sink.prune(datetime.now(UTC))
        assert list(sink.overdue(datetime.now(UTC))) == []
        found = {
            each.name: (each.records, each.fields["client.address"])
            for each in sink.measure(EVERYTHING)
        }
        assert found == {"conferencing": (3, 3), "short": (2, 1)}
        named = {schema.partition("/")[0] for schema, _ in sink.values() or ()}
        assert named == {"conferencing", "short"}


def test_files_of_a_lake(tmp_path: Path) -> None:
    schemas = _schemas(tmp_path)
    settings = ParquetSettings(type="parquet", path=tmp_path / "lake")
    _each_by_its_own(settings, tmp_path / "data", schemas)
    names = {path.name for path in (tmp_path / "lake").iterdir() if path.name[0] != "."}
    assert names == {"conferencing", "short"}


@pytest.mark.servers
def test_tables_of_a_database(tmp_path: Path) -> None:
    with PostgresServer.made() as server:
        _each_by_its_own(server.settings(), tmp_path / "data", _schemas(tmp_path))
        for name, rows in (("conferencing", 3), ("short", 2)):
            assert server.ask(f"SELECT count(*) FROM collector.{name}") == [(rows,)]


def test_scopes_of_log_records(tmp_path: Path) -> None:
    schemas = _schemas(tmp_path)
    with http_receiver() as received:
        settings = OtlpSettings(type="otlp", endpoint=f"http://127.0.0.1:{received.port}")
        with open_sink(settings, Opening("one", schemas, tmp_path / "data")) as sink:
            sink.deliver(*(_batch(schema, days) for days in (0, 2) for schema in schemas))
    found = Counter[str]()
    for request in received.requests:
        for scope in request.resource_logs[0].scope_logs:
            found[f"{scope.scope.name}/{scope.scope.version}"] += len(scope.log_records)
    assert found == {schema.id: 2 for schema in schemas}
