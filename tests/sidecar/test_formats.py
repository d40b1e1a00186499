"""Data directories of earlier versions: they are opened, migrated and delivered from, and verify;
those of a later version are refused.

Each file of ``tests/formats`` is the directory of a sidecar that was killed: nine events, of which
three were malformed, had been delivered, and two more waited in the spool.
"""

from __future__ import annotations

import sqlite3
import tarfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from collector.sinks import store_file
from collector.spool import tables
from tests.cli.process import run, run_process
from tests.deadline import wait_until
from tests.sidecar.faults import Clock, clock
from tests.sidecar.serving import FREE_PORTS, started

_ARCHIVES = sorted((Path(__file__).parent.parent / "formats").glob("*.tar.gz"))
_KILLED = datetime(2026, 11, 27, 13, tzinfo=UTC)
"""A little later than that: nothing is due for deletion yet."""
_ROWS = [
    *((f"2001:db8::{n}", "windows") for n in (1, 2, 3)),
    *((f"203.0.113.{n}", "linux") for n in (1, 2, 3, 4, 5)),
]


def _then(folder: Path) -> Clock:
    found = clock(folder)
    found.move(int((_KILLED - datetime.now(UTC)).total_seconds()))
    return found


def _format(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def _stored(folder: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(f"file:{folder / 'store.db'}?mode=ro", uri=True)) as store:
        query = 'SELECT "client.address", "os.type" FROM conferencing WHERE count = 1 ORDER BY 1'
        return list(store.execute(query))


@pytest.mark.long
@pytest.mark.parametrize("archive", _ARCHIVES, ids=lambda path: path.name.split(".")[0])
def test_an_earlier_directory_goes_on(tmp_path: Path, archive: Path) -> None:
    """What waited is delivered once, what comes is added, and the chain of receipts holds over
    all of it; both files have today's format. Flows that a ledger notes in a form that is not
    compared any more need `--allow-widening`, once."""
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    data, lines = tmp_path / "collector-data", tmp_path / "records.ndjson"
    settings = {"COLLECTOR__SINKS__NDJSON__PATH": str(lines)} | _then(tmp_path).environ
    allowed = ["--allow-widening"] if archive.name.startswith("spool-3-") else []
    with started(tmp_path, *allowed, environ=settings) as sidecar:
        wait_until(lambda: _stored(data) == _ROWS)
        wait_until(lambda: len(lines.read_bytes().splitlines()) == len(_ROWS))
        event = b'{"ip_address": "203.0.113.9", "os": {"type": "linux"}}\n'
        assert sidecar.send(event).status == 200
        wait_until(lambda: len(_stored(data)) == len(_ROWS) + 1)
        assert sidecar.stop()[0] == 0
    verified = run("ledger", "verify", "--data", data)
    assert verified.code == 0, verified.err
    assert verified.out.startswith(b"6 receipts: 12 received = 9 admitted + 3 rejected\n")
    assert (_format(data / "spool.db"), _format(data / "store.db")) == (
        tables.FORMAT,
        store_file.FORMAT,
    )


@pytest.mark.long
@pytest.mark.parametrize("name", ["spool.db", "store.db"])
def test_a_later_directory_is_refused(tmp_path: Path, name: str) -> None:
    """In words, with nothing changed."""
    with started(tmp_path) as sidecar:
        assert sidecar.stop()[0] == 0
    file = tmp_path / "collector-data" / name
    later = _format(file) + 1
    with closing(sqlite3.connect(file)) as db:
        db.execute(f"PRAGMA user_version = {later}")
        if name == "spool.db":
            db.execute("UPDATE about SET format = ?", (later,))
        db.commit()
    before = file.read_bytes()
    done = run_process("serve", env=FREE_PORTS, directory=tmp_path)
    assert (done.code, b"newer version" in done.err) == (78, True), done.err
    assert file.read_bytes() == before
