"""The clock of a sidecar is moved. Fields are deleted when their retention is over, and not
collected from the day on which they expire, without intervention."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collector.schema import resources
from tests.support.database import query
from tests.support.deadline import wait_until
from tests.support.failing_disk import clock
from tests.support.ledgers import entries_of
from tests.support.populated import PopulatedDirectory
from tests.support.sidecar import Sidecar, started

_DAY = 24 * 3600
_EVENT = json.dumps({"ip_address": "203.0.113.177", "os": {"type": "linux"}}).encode()


def _rows(data: Path) -> list[tuple[str | None, str | None]]:
    text = 'SELECT "client.address", "os.type" FROM conferencing ORDER BY received'
    return query(data / "store.db", text)


def _send(sidecar: Sidecar) -> None:
    assert sidecar.send(_EVENT, "application/json").json["admitted"] == 1


@pytest.mark.long
def test_a_field_expires_on_its_day_without_a_restart(tmp_path: Path) -> None:
    """On the day before, the field is collected. On the day it is not, and is counted as
    expired."""
    moved, now = clock(tmp_path), datetime.now(UTC)
    noon = now.replace(hour=12)  # midnight is far away
    to_noon, day = int((noon - now).total_seconds()), (noon + timedelta(days=2)).date()
    moved.move(to_noon)
    shipped = (resources.shipped() / "conferencing.yaml").read_text()
    document = shipped.replace("    kind: ip\n", f"    kind: ip\n    expires: {day}\n")
    (tmp_path / "conferencing.yaml").write_text(document)
    environ = moved.environ | {"COLLECTOR__SCHEMA": str(tmp_path / "conferencing.yaml")}
    with started(tmp_path, environ=environ) as sidecar:
        _send(sidecar)
        moved.move(to_noon + _DAY)
        _send(sidecar)
        moved.move(to_noon + 2 * _DAY)
        _send(sidecar)
        wait_until(lambda: len(_rows(tmp_path / "collector-data")) == 3)
        metrics = sidecar.admin("/metrics").body.decode()
    addresses = [address for address, _ in _rows(tmp_path / "collector-data")]
    assert addresses == ["203.0.113.177", "203.0.113.177", None]
    assert 'field="client.address",reason="expired",schema="conferencing"} 1.0' in metrics


def test_a_sidecar_prunes_at_its_start(tmp_path: Path) -> None:
    """Expired data is deleted from store, files and quarantine, to the last byte, while the sidecar
    takes new events. It logs that somebody reads the store, and waits."""
    lives = PopulatedDirectory(tmp_path)
    lives.deliver_aged((range(10), 1), (range(10, 20), 31), (range(20, 30), 91))
    lives.set_aside(30, days=8)
    environ = {
        "COLLECTOR__DATA": str(lives.data),
        "COLLECTOR__SINKS__NDJSON__PATH": str(lives.lines),
    }
    with closing(sqlite3.connect(lives.data / "store.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM conferencing").fetchone()
        with started(tmp_path, environ=environ) as sidecar:
            wait_until(lambda: _said(sidecar, "pruning_held"))
            assert not _said(sidecar, "pruning_done")
            _send(sidecar)
            wait_until(lambda: len(_rows(lives.data)) == 21)
            reader.execute("COMMIT")
            wait_until(lambda: _said(sidecar, "pruning_done"))
            wait_until(lambda: lives.left(range(31)) == set(range(10)))
            assert _said(sidecar, "pruning_held") == 1
            assert len(_rows(lives.data)) == 21
            wait_until(lambda: _noted(lives) == (10 + 10, 1))


def test_a_store_that_is_switched_off_and_a_file_that_is_in_the_way(tmp_path: Path) -> None:
    """The store is still pruned; the log says that the file cannot be pruned."""
    lives = PopulatedDirectory(tmp_path)
    lives.deliver_aged((range(10), 1), (range(10, 20), 91))
    lives.lines.with_name(f"{lives.lines.name}.1").mkdir()
    environ = {
        "COLLECTOR__DATA": str(lives.data),
        "COLLECTOR__SINKS__STORE": "false",
        "COLLECTOR__SINKS__NDJSON__PATH": str(lives.lines),
    }
    with started(tmp_path, environ=environ) as sidecar:
        wait_until(lambda: lives.left(range(20)) == set(range(10)))
        wait_until(lambda: _said(sidecar, "pruning_held"))
        wait_until(lambda: _noted(lives) == (10 + 10, 0))
    assert len(_rows(lives.data)) == 10


def _noted(lives: PopulatedDirectory) -> tuple[int, int]:
    """The numbers of rows and lines, and of files, that were deleted, from the ledger."""
    notes = [dict(entry.facts) for entry in entries_of(lives.data / "spool.db", "prune")]
    return sum(int(note["rows"]) for note in notes), sum(int(note["files"]) for note in notes)


def _said(sidecar: Sidecar, name: str) -> int:
    return sum(event["event"] == name for event in sidecar.events)
