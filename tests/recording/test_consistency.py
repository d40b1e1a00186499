"""What is changed in the recorder's directory by a program that may write in it, and is found."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from collector.contracts import to_minute
from collector.recording import NewChunk, Recorder
from collector.recording.consistency import find_contradictions
from collector.recording.opening import open_vault
from tests.cli.process import run
from tests.database import query
from tests.recording.recorders import caller, opened_recording, terms

_Change = Callable[[dict[str, Any], dict[str, Any]], object]


def _record(recorder: Recorder) -> str:
    """A closed recording of Ana, Ben, who withdrew, and Chloe, who is pending."""
    recording, digest = recorder.request(caller("host"), terms())
    for member in ("ben", "chloe"):
        recorder.join(caller("platform", "p"), recording, member)
    for member in ("ana", "ben"):
        recorder.choose(caller("participant", member), recording, "stay", digest)
    recorder.control(caller("host"), recording, "start")
    for member in ("ana", "ben"):
        chunk = NewChunk(f"{member}s", 0, b"content", "audio")
        recorder.add_chunk(caller("participant", member), recording, chunk)
    recorder.withdraw(caller("participant", "ben"), recording)
    recorder.control(caller("host"), recording, "stop")
    return recording


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A recorder's directory, with a closed recording and an erased one."""
    directory = tmp_path_factory.mktemp("consistency") / "r"
    recorder = Recorder(directory)
    recording, erased = _record(recorder), _record(recorder)
    recorder.erase(caller("host"), erased)
    recorder.close()
    return directory, recording


@pytest.fixture
def copied(made: tuple[Path, str], tmp_path: Path) -> tuple[Path, str]:
    """A copy of it, which a test changes."""
    return shutil.copytree(made[0], tmp_path / "r"), made[1]


def _found(directory: Path) -> list[str]:
    with closing(open_vault(directory, is_reader=True)) as vault:
        return [each for found in find_contradictions(directory, vault).values() for each in found]


def _change(directory: Path, recording: str, change: _Change) -> None:
    """Change a row and its snapshot, both as dictionaries."""
    with closing(sqlite3.connect(directory / "recorder.db")) as db, db:
        db.row_factory = sqlite3.Row
        row = dict(db.execute("SELECT * FROM recordings WHERE id = ?", (recording,)).fetchone())
        grant = json.loads(row["snapshot"])
        change(row, grant)
        row["snapshot"] = json.dumps(grant)
        db.execute("DELETE FROM recordings WHERE id = ?", (recording,))
        names = ", ".join(f":{name}" for name in row)
        db.execute(f"INSERT INTO recordings VALUES ({names})", row)


def test_what_was_not_changed(made: tuple[Path, str]) -> None:
    """Holds."""
    assert _found(made[0]) == []
    ended = run("recording", "verify", "--data", made[0], "--json")
    assert (ended.code, ended.json["ok"]) == (0, True)


def _everyone_stays(_: dict[str, Any], grant: dict[str, Any]) -> None:
    for member in grant["members"].values():
        member["choice"] = "stay"


def _nobody_chose(_: dict[str, Any], grant: dict[str, Any]) -> None:
    grant["members"] = {grant["host"]: {"choice": "pending", "departed": None}}


def _open(row: dict[str, Any], grant: dict[str, Any]) -> None:
    row["state"], row["due"], grant["state"] = "open", None, {"name": "open"}


def _erased(row: dict[str, Any], grant: dict[str, Any]) -> None:
    row["state"], row["due"], grant["state"] = "erased", None, {"name": "erased"}


def _later(row: dict[str, Any], grant: dict[str, Any]) -> None:
    row["due"] += 9000
    grant["state"]["at"] += 9000


def _longer(row: dict[str, Any], grant: dict[str, Any]) -> None:
    row["due"] += 9000
    grant["terms"]["retention"] += 9000


def _moved(row: dict[str, Any], grant: dict[str, Any]) -> None:
    row["meeting"] = grant["terms"]["meeting"] = "another"


def _another_host(_: dict[str, Any], grant: dict[str, Any]) -> None:
    grant["host"] = next(each for each in grant["members"] if each != grant["host"])


_CHANGES: dict[str, _Change] = {
    "never due": lambda row, grant: row.update(due=None),
    "due later": lambda row, grant: row.update(due=row["due"] + 1),
    "due at once": lambda row, grant: row.update(due=0),
    "closed later": _later,
    "a longer retention": _longer,
    "more kinds": lambda row, grant: grant["terms"]["kinds"].append("video"),
    "another meeting": _moved,
    "another meeting in the row": lambda row, grant: row.update(meeting="another"),
    "another host": _another_host,
    "everybody stays": _everyone_stays,
    "nobody has chosen": _nobody_chose,
    "open again": _open,
    "another state in the row": lambda row, grant: row.update(state="paused"),
    "erased": _erased,
    "a track that nobody owns": lambda row, grant: grant["tracks"].pop("anas"),
    "a track of another owner": lambda row, grant: grant["tracks"]["anas"].update(owner="f" * 64),
    "a track that was destroyed": lambda row, g: g["tracks"]["anas"].update(is_destroyed=True),
    "local storage": lambda row, grant: grant["terms"].update(storage="local", recipient="age1"),
}


_SHORT = ("due later", "more kinds", "a track of another owner")
"""Those that are among the usual tests."""


@pytest.mark.parametrize(
    "name",
    [each if each in _SHORT else pytest.param(each, marks=pytest.mark.long) for each in _CHANGES],
)
def test_a_row_that_was_changed(copied: tuple[Path, str], name: str) -> None:
    """Contradicts the ledger, the manifest or the keys."""
    directory, recording = copied
    _change(directory, recording, _CHANGES[name])
    assert _found(directory)
    assert run("recording", "verify", "--data", directory).code == 1
    assert run("recording", "verify", recording, "--data", directory).code == 1


def test_a_clock_that_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording that began before it ends at the latest time that it has seen."""
    ahead = [500.0]
    monkeypatch.setattr(
        "collector.ledger.journal.to_minute", lambda now: to_minute(now + timedelta(0, ahead[0]))
    )
    with closing(Recorder(tmp_path, clock=lambda: time.time() + ahead[0])) as recorder:
        recording = opened_recording(recorder)
        ahead[0] = 0.0
        recorder.control(caller("host"), recording, "stop")
    assert _found(tmp_path) == []
    _change(tmp_path, recording, _later)
    assert _found(tmp_path) != []


def test_rows_that_are_gone_or_put_in(copied: tuple[Path, str]) -> None:
    """A recording that is in the ledger alone, or in the file alone."""
    directory, recording = copied
    with closing(sqlite3.connect(directory / "recorder.db")) as db, db:
        db.execute("UPDATE recordings SET id = ? WHERE id = ?", ("f" * 32, recording))
    found = _found(directory)
    assert "the ledger has it, and the recorder's file does not" in found
    assert "the ledger has no request of it" in found


def test_a_file_that_was_put_back(tmp_path: Path) -> None:
    """An earlier copy of the recorder's file has neither the withdrawal nor the close."""
    recorder = Recorder(tmp_path / "r")
    recording, digest = recorder.request(caller("host"), terms())
    recorder.choose(caller("participant"), recording, "stay", digest)
    places = (tmp_path / "r" / "recorder.db", tmp_path / "earlier")
    with closing(sqlite3.connect(places[0])) as db, closing(sqlite3.connect(places[1])) as earlier:
        db.backup(earlier)
    recorder.withdraw(caller("participant"), recording)
    recorder.control(caller("host"), recording, "stop")
    recorder.close()
    assert _found(tmp_path / "r") == []
    for path in (tmp_path / "r").glob("recorder.db*"):
        path.unlink()
    shutil.copy(tmp_path / "earlier", tmp_path / "r" / "recorder.db")
    assert len(_found(tmp_path / "r")) >= 2


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tracks SET name = 'bens' WHERE name = 'anas'",
        "UPDATE tracks SET kind = 'video' WHERE name = 'anas'",
        "UPDATE tracks SET owner_mark = 'x' WHERE name = 'anas'",
        "UPDATE tracks SET recipient = 'age1x' WHERE name = 'anas'",
        "UPDATE tracks SET identity = zeroblob(60) WHERE name = 'anas'",
        "UPDATE tracks SET mark = zeroblob(32) WHERE name = 'anas'",
        "DELETE FROM tracks WHERE name = 'anas'",
        "DELETE FROM tracks",
        "DELETE FROM recordings",
        "UPDATE recordings SET secret = zeroblob(60)",
    ],
)
def test_keys_that_were_changed(copied: tuple[Path, str], statement: str) -> None:
    """Are found by the manifest, the grant, or since they open nothing."""
    directory, _ = copied
    with closing(sqlite3.connect(directory / "vault" / "keys.db")) as db, db:
        changed = db.execute(statement).rowcount
    assert changed
    assert run("recording", "verify", "--data", directory).code != 0


def test_a_ledger_that_was_changed(copied: tuple[Path, str]) -> None:
    """Is verified with the recordings that it is about."""
    directory, _ = copied
    query(directory / "spool.db", "UPDATE entries SET facts = replace(facts, 'withdraw', 'stay')")
    ended = run("recording", "verify", "--data", directory, "--json")
    assert ended.code == 1
    assert ended.json["ledger"]
