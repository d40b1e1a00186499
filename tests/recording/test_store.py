"""The store: its ledger, the commands of any ledger on it, tasks, and failures."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Literal

import pytest
from typer.testing import CliRunner

from collector.cli.app import app
from collector.errors import ConfigError, InUse
from collector.recording.access import Caller
from collector.recording.names import ROLES
from collector.recording.refusals import REFUSALS, Refused
from collector.recording.store import ACTIONS, FILE_NAME, OUTCOMES, SECRET_NAME, Store
from tests.support.database import query
from tests.support.ledgers import entries_of
from tests.support.programs import threads
from tests.support.rows import for_each

_ID = "0123456789abcdef" * 2
_ADA = Caller("host", "ada-canary", "meeting-canary", "jti-canary", 1.0)


def _facts(directory: Path) -> list[tuple[str, dict[str, str]]]:
    return [(entry.kind, dict(entry.facts)) for entry in entries_of(directory / FILE_NAME)]


def test_entries(tmp_path: Path) -> None:
    """Say what was done, with which recording, by whom, and how it ended; never a name."""
    store = Store(tmp_path)
    who = store.who(_ADA.subject)
    store.add(store.note("recording", "request", recording=_ID, caller=_ADA))
    store.add(store.note("recording", "stay", recording=_ID, caller=_ADA, notice="ab" * 32))
    store.add(store.note("recording", "close", recording=_ID, outcome="host_absent"))
    store.add(store.note("access", "track", recording=_ID, caller=_ADA, outcome="open"))
    store.close()
    entries = [facts for kind, facts in _facts(tmp_path) if kind in ("recording", "access")]
    by_ada = {"recording": _ID, "role": "host", "who": who}
    assert entries == [
        {**by_ada, "what": "request", "outcome": "done"},
        {**by_ada, "what": "stay", "notice": "ab" * 32, "outcome": "done"},
        {"recording": _ID, "what": "close", "outcome": "host_absent"},
        {**by_ada, "what": "track", "outcome": "open"},
    ]
    for path in tmp_path.rglob("*"):
        assert b"canary" not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0


@for_each(
    ("kind", "what", "more"),
    [
        ("recording", "sing", {}),
        ("recording", "start", {"recording": "meeting"}),
        ("recording", "start", {"recording": _ID.upper()}),
        ("recording", "start", {"outcome": "well"}),
        ("recording", "stay", {"notice": "ab"}),
        ("access", "track", {"notice": "ab" * 32}),
        ("access", "track\nfact who", {}),
    ],
)
def test_no_fact_is_free_text(
    tmp_path: Path, kind: Literal["recording", "access"], what: str, more: dict[str, Any]
) -> None:
    """Words of closed lists, ids and digests, and nothing else."""
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="entry"):
        store.add(store.note(kind, what, **more))
    store.close()


def test_the_words(tmp_path: Path) -> None:
    """Every action, outcome and role can be stated, and every refusal is an outcome."""
    assert set(REFUSALS) <= OUTCOMES
    store = Store(tmp_path)
    for what in ACTIONS:
        store.add(store.note("recording", what))
    for outcome in OUTCOMES:
        store.add(store.note("access", "track", outcome=outcome))
    for role in ROLES:
        store.add(store.note("access", "manifest", caller=Caller(role, "a", "m", "j", 0.0)))
    store.close()
    assert {facts.get("role") for _, facts in _facts(tmp_path)} == {*ROLES, None}


def test_pseudonyms(tmp_path: Path) -> None:
    first, second = Store(tmp_path / "a"), Store(tmp_path / "b")
    before = first.who("ada")
    assert before not in (first.who("bob"), second.who("ada"))
    first.close()
    again = Store(tmp_path / "a")
    assert again.who("ada") == before
    again.close()
    second.close()
    (tmp_path / "a" / SECRET_NAME).unlink()
    other = Store(tmp_path / "a")
    assert other.who("ada") != before
    other.close()


def test_the_commands_of_the_ledger(tmp_path: Path) -> None:
    """Verify, export and checkpoint it, also while a recorder has it open."""
    data, export, script = tmp_path / "data", tmp_path / "export", tmp_path / "auditor.py"
    store = Store(data)
    store.add(store.note("access", "track", recording=_ID, caller=_ADA))
    noted = tmp_path / "noted"
    noted.write_bytes(_run("checkpoint", "--new", "--data", data))
    store.add(store.note("recording", "erase", recording=_ID))
    store.checkpoint("hour")
    assert b"the ledger holds" in _run("verify", "--data", data, "--checkpoint", noted)
    store.close()
    assert b"the ledger holds" in _run("verify", "--data", data, "--checkpoint", noted)
    _run("checkpoint", "--new", "--data", data)
    assert _ID.encode() in _run("entries", "--data", data, "--json")
    export.write_bytes(_run("export", "--data", data))
    script.write_bytes(_run("export", "--verifier"))
    command = [sys.executable, *map(str, (script, export, noted))]
    assert b"the ledger holds" in subprocess.run(command, check=True, capture_output=True).stdout
    changed = export.read_bytes().replace(b"what erase", b"what pause")
    export.write_bytes(changed)
    assert subprocess.run(command, check=False, capture_output=True).returncode == 1


def _run(*arguments: str | Path) -> bytes:
    done = CliRunner().invoke(app, ["ledger", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout_bytes


def test_many_threads(tmp_path: Path) -> None:
    """Each entry is there, in one chain."""
    store = Store(tmp_path)

    def add() -> None:
        for _ in range(20):
            store.add(store.note("access", "events", caller=_ADA))

    with threads(*[add] * 4):
        pass
    store.close()
    assert [kind for kind, _ in _facts(tmp_path)].count("access") == 80


def test_one_process_has_a_directory(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(InUse):
        Store(tmp_path)
    store.close()
    Store(tmp_path).close()


def test_a_ledger_that_cannot_be_written(tmp_path: Path) -> None:
    """Nothing is done or shown without an entry; it goes on when it can."""
    store = Store(tmp_path)
    store.add(store.note("access", "track", caller=_ADA))
    path = tmp_path / FILE_NAME
    query(path, "CREATE TRIGGER full BEFORE INSERT ON entries BEGIN SELECT RAISE(FAIL, ''); END")
    with pytest.raises(Refused, match=r"^unavailable"):
        store.add(store.note("access", "track", caller=_ADA))
    query(path, "DROP TRIGGER full")
    store.add(store.note("access", "manifest", caller=_ADA))  # with a new connection
    store.close()
    kinds = [facts.get("what") for _, facts in _facts(tmp_path)]
    assert (kinds.count("track"), kinds.count("manifest")) == (1, 1)


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / SECRET_NAME).write_bytes(b"short")
    with pytest.raises(ConfigError, match="E203"):
        Store(tmp_path)
    (tmp_path / SECRET_NAME).unlink()
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(ConfigError, match="E203"):
        Store(tmp_path)
    (tmp_path / FILE_NAME).rmdir()
    Store(tmp_path).close()


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """What it says cannot be trusted; it stays as it is."""
    store = Store(tmp_path)
    for _ in range(50):
        store.add(store.note("access", "track", recording=_ID, caller=_ADA))
    store.close()
    path = tmp_path / FILE_NAME
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="E203"):
        Store(tmp_path)
    assert path.read_bytes() == before


def test_tasks(tmp_path: Path) -> None:
    """Each is there once, and due at the time that was set last; uploads are counted."""
    with closing(Store(tmp_path)) as store:

        def work(db: Connection) -> None:
            store.add_task(db, "expire", _ID, due=9.0)
            store.add_task(db, "expire", _ID, due=5.0)
            store.add_task(db, "erase", _ID, "a" * 32)
            for chunk in range(3):
                store.add_task(db, "upload", _ID, "a" * 32, chunk, size=100)

        store.commit(work)
        assert store.due(4.0, "expire", "erase", "upload") == store.tasks(_ID, "erase")
        assert [each.what for each in store.due(5.0, "expire", "erase")] == ["erase", "expire"]
        assert store.next_due("expire") == 5.0
        assert store.next_due("compact") is None
        assert store.queued() == (300, 3)
        first, second = store.uploads(0, 2)
        assert [each.chunk for each in store.uploads(first.number, 9)] == [1, 2]
        store.commit(lambda db: store.end_tasks(db, first, second))
        assert store.queued() == (100, 1)
        store.commit(lambda db: store.drop_tasks(db, "upload", _ID, "a" * 32))
        assert store.queued() == (0, 0)
