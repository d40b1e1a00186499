"""A sidecar whose clock is moved: fields go when their time is over, and are collected no more from
the day on which they expire, without anybody doing anything."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from collector.schema import shelf
from tests.sidecar.faults import clock, eventually
from tests.sidecar.serving import Sidecar, started

_DAY = 24 * 3600
_EVENT = json.dumps({"ip_address": "203.0.113.177", "os": {"type": "linux"}}).encode()


def _rows(directory: Path) -> list[tuple[str | None, str | None]]:
    with closing(sqlite3.connect(directory / "collector-data" / "store.db")) as db:
        query = 'SELECT "client.address", "os.type" FROM conferencing ORDER BY received'
        return db.execute(query).fetchall()


def _send(sidecar: Sidecar) -> None:
    assert sidecar.send(_EVENT, "application/json").json["admitted"] == 1


def _bytes(directory: Path) -> bytes:
    data = directory / "collector-data"
    return b"".join(path.read_bytes() for path in data.iterdir() if path.is_file())


def test_a_field_expires_on_its_day_without_a_restart(tmp_path: Path) -> None:
    """The day before, it is collected; on the day it is not, and is counted as expired."""
    moved = clock(tmp_path)
    day = (datetime.now(UTC) + timedelta(days=2)).date()
    shipped = (shelf.shipped() / "conferencing.yaml").read_text()
    document = shipped.replace("    kind: ip\n", f"    kind: ip\n    expires: {day}\n")
    (tmp_path / "conferencing.yaml").write_text(document)
    environ = moved.environ | {"COLLECTOR__SCHEMA": str(tmp_path / "conferencing.yaml")}
    with started(tmp_path, environ=environ) as sidecar:
        _send(sidecar)
        moved.move(_DAY)
        _send(sidecar)
        moved.move(2 * _DAY)
        _send(sidecar)
        assert eventually(lambda: len(_rows(tmp_path)) == 3)
        metrics = sidecar.admin("/metrics").body.decode()
    addresses = [address for address, _ in _rows(tmp_path)]
    assert addresses == ["203.0.113.177", "203.0.113.177", None]
    assert 'field="client.address",reason="expired"} 1.0' in metrics


def test_a_start_after_a_long_time_prunes(tmp_path: Path) -> None:
    """After 31 days the address is gone from store, spool, ledger and files, to the last byte; the
    ledger says so, and new events are taken meanwhile."""
    moved = clock(tmp_path)
    environ = moved.environ | {"COLLECTOR__SINKS__NDJSON__PATH": "collector-data/records.ndjson"}
    with started(tmp_path, environ=environ) as sidecar:
        _send(sidecar)
        assert eventually(lambda: len(_rows(tmp_path)) == 1)
        sidecar.stop()
    assert b"203.0.113.177" in _bytes(tmp_path)
    moved.move(31 * _DAY)
    with started(tmp_path, environ=environ) as sidecar:
        assert eventually(lambda: b"203.0.113.177" not in _bytes(tmp_path))
        assert _rows(tmp_path) == [(None, "linux")]
        _send(sidecar)
        assert eventually(lambda: len(_rows(tmp_path)) == 2)
        sidecar.stop()
    with closing(sqlite3.connect(tmp_path / "collector-data" / "spool.db")) as db:
        kinds = [row[0] for row in db.execute("SELECT kind FROM entries")]
    assert "prune" in kinds


def test_a_reader_is_said_in_the_log(tmp_path: Path) -> None:
    """Once when somebody is in the way, and once when he is not any more."""
    moved = clock(tmp_path)
    with started(tmp_path, environ=moved.environ) as sidecar:
        _send(sidecar)
        assert eventually(lambda: len(_rows(tmp_path)) == 1)
        sidecar.stop()
    moved.move(31 * _DAY)
    store = tmp_path / "collector-data" / "store.db"
    with closing(sqlite3.connect(store, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM conferencing").fetchone()
        with started(tmp_path, environ=moved.environ) as sidecar:
            assert eventually(lambda: _said(sidecar, "pruning_held"))
            assert not _said(sidecar, "pruning_done")
            reader.execute("COMMIT")
            assert eventually(lambda: _said(sidecar, "pruning_done"))
            assert b"203.0.113.177" not in _bytes(tmp_path)
            assert sum(event["event"] == "pruning_held" for event in sidecar.events) == 1


def _said(sidecar: Sidecar, name: str) -> bool:
    return any(event["event"] == name for event in sidecar.events)
