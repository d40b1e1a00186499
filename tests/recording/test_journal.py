"""The recorder's ledger: what it states, the commands of any ledger on it, and failures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from typer.testing import CliRunner

from collector.cli.app import app
from collector.errors import ConfigError, InUse
from collector.recording.access import Caller
from collector.recording.journal import ACTIONS, FILE_NAME, OUTCOMES, SECRET_NAME, Journal
from collector.recording.names import ROLES
from collector.recording.refusals import REFUSALS, Refused
from tests.database import query
from tests.ledgers import entries_of
from tests.programs import threads

_ID = "0123456789abcdef" * 2
_ADA = Caller("host", "ada-canary", "meeting-canary", "jti-canary", 1.0)


def _facts(directory: Path) -> list[tuple[str, dict[str, str]]]:
    return [(entry.kind, dict(entry.facts)) for entry in entries_of(directory / FILE_NAME)]


def test_entries(tmp_path: Path) -> None:
    """Say what was done, with which recording, by whom, and how it ended; never a name."""
    journal = Journal(tmp_path)
    who = journal.who(_ADA.subject)
    journal.add(journal.note("recording", "request", recording=_ID, caller=_ADA))
    journal.add(journal.note("recording", "stay", recording=_ID, caller=_ADA, notice="ab" * 32))
    journal.add(journal.note("recording", "close", recording=_ID, outcome="host_absent"))
    journal.add(journal.note("access", "track", recording=_ID, caller=_ADA, outcome="open"))
    journal.close()
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


@pytest.mark.parametrize(
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
    journal = Journal(tmp_path)
    with pytest.raises(ValueError, match="entry"):
        journal.add(journal.note(kind, what, **more))
    journal.close()


def test_the_words(tmp_path: Path) -> None:
    """Every action, outcome and role can be stated, and every refusal is an outcome."""
    assert set(REFUSALS) <= OUTCOMES
    journal = Journal(tmp_path)
    for what in ACTIONS:
        journal.add(journal.note("recording", what))
    for outcome in OUTCOMES:
        journal.add(journal.note("access", "track", outcome=outcome))
    for role in ROLES:
        journal.add(journal.note("access", "manifest", caller=Caller(role, "a", "m", "j", 0.0)))
    journal.close()
    assert {facts.get("role") for _, facts in _facts(tmp_path)} == {*ROLES, None}


def test_pseudonyms(tmp_path: Path) -> None:
    """Are those of a directory, as long as its secret is there."""
    first, second = Journal(tmp_path / "a"), Journal(tmp_path / "b")
    before = first.who("ada")
    assert before not in (first.who("bob"), second.who("ada"))
    first.close()
    again = Journal(tmp_path / "a")
    assert again.who("ada") == before
    again.close()
    second.close()
    (tmp_path / "a" / SECRET_NAME).unlink()
    other = Journal(tmp_path / "a")
    assert other.who("ada") != before
    other.close()


def test_the_commands_of_the_ledger(tmp_path: Path) -> None:
    """Verify, export and checkpoint it, also while a recorder has it open."""
    data, export, script = tmp_path / "data", tmp_path / "export", tmp_path / "auditor.py"
    journal = Journal(data)
    journal.add(journal.note("access", "track", recording=_ID, caller=_ADA))
    noted = tmp_path / "noted"
    noted.write_bytes(_run("checkpoint", "--new", "--data", data))
    journal.add(journal.note("recording", "erase", recording=_ID))
    journal.checkpoint("hour")
    assert b"the ledger holds" in _run("verify", "--data", data, "--checkpoint", noted)
    journal.close()
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
    journal = Journal(tmp_path)

    def add() -> None:
        for _ in range(20):
            journal.add(journal.note("access", "events", caller=_ADA))

    with threads(*[add] * 4):
        pass
    journal.close()
    assert [kind for kind, _ in _facts(tmp_path)].count("access") == 80


def test_one_process_has_a_directory(tmp_path: Path) -> None:
    """Another one is refused, and gets it afterwards."""
    journal = Journal(tmp_path)
    with pytest.raises(InUse):
        Journal(tmp_path)
    journal.close()
    Journal(tmp_path).close()


def test_a_ledger_that_cannot_be_written(tmp_path: Path) -> None:
    """Nothing is done or shown without an entry; it goes on when it can."""
    journal = Journal(tmp_path)
    journal.add(journal.note("access", "track", caller=_ADA))
    path = tmp_path / "spool.db"
    query(path, "CREATE TRIGGER full BEFORE INSERT ON entries BEGIN SELECT RAISE(FAIL, ''); END")
    with pytest.raises(Refused, match=r"^unavailable"):
        journal.add(journal.note("access", "track", caller=_ADA))
    query(path, "DROP TRIGGER full")
    journal.add(journal.note("access", "manifest", caller=_ADA))  # with a new connection
    journal.close()
    kinds = [facts.get("what") for _, facts in _facts(tmp_path)]
    assert (kinds.count("track"), kinds.count("manifest")) == (1, 1)


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    """Is said, and unlocked."""
    (tmp_path / SECRET_NAME).write_bytes(b"short")
    with pytest.raises(ConfigError, match="E203"):
        Journal(tmp_path)
    (tmp_path / SECRET_NAME).unlink()
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(ConfigError, match="E203"):
        Journal(tmp_path)
    (tmp_path / FILE_NAME).rmdir()
    Journal(tmp_path).close()


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    """What can be read of it goes on; the loss is an entry."""
    journal = Journal(tmp_path)
    for _ in range(50):
        journal.add(journal.note("access", "track", recording=_ID, caller=_ADA))
    journal.close()
    path = tmp_path / FILE_NAME
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    journal = Journal(tmp_path)
    journal.add(journal.note("access", "track", recording=_ID, caller=_ADA))
    journal.close()
    assert list(tmp_path.glob(f"{FILE_NAME}.damaged-*"))
    assert _facts(tmp_path)[-2][0] == "access"
