"""The file of a recorder's grants, ``recorder.db``: one row for each recording.

A grant's snapshot, the event that tells members of it, and what it asks of the vault (destroy a
track, erase a recording, finish a manifest) are written in one transaction with the ledger's
entries of the change, which is on disk when it returns.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, NamedTuple

from collector.errors import ConfigError
from collector.ledger import Note
from collector.recording.access import Caller, Replays, StoredAnswer
from collector.recording.database import Database
from collector.sqlite.files import connect

__all__ = [
    "FILE_NAME",
    "GrantStore",
    "NotedEntry",
    "Row",
    "StateEvent",
    "StateName",
    "Unfinished",
    "read_all",
    "read_rows",
]

FILE_NAME = "recorder.db"
_NO_ANSWER = StoredAnswer(0, b"")
"""What is kept of a request that is in progress, or ended without an answer that is to last."""
_TABLES = """
CREATE TABLE IF NOT EXISTS recordings (
    id TEXT PRIMARY KEY, meeting TEXT NOT NULL, state TEXT NOT NULL, due REAL,
    snapshot TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS recordings_due ON recordings (due);
CREATE TABLE IF NOT EXISTS events (
    recording TEXT NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT,
    PRIMARY KEY (recording, number)) STRICT;
CREATE TABLE IF NOT EXISTS tasks (
    recording TEXT NOT NULL, task TEXT NOT NULL, PRIMARY KEY (recording, task)) STRICT;
CREATE TABLE IF NOT EXISTS entries (
    number INTEGER PRIMARY KEY, recording TEXT NOT NULL, tip INTEGER NOT NULL,
    facts TEXT NOT NULL) STRICT;
"""
_ENTRIES = "SELECT recording, number, tip, facts FROM entries"
_ROWS = "SELECT id, meeting, state, due, snapshot FROM recordings"
_SAVE = """
INSERT INTO recordings VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE
SET state = excluded.state, due = excluded.due, snapshot = excluded.snapshot"""
_NEW_EVENT = """
INSERT INTO events
SELECT ?1, coalesce(max(number), 0) + 1, ?2, ?3 FROM events WHERE recording = ?1"""


StateName = Literal["requested", "announced", "open", "paused", "closed", "erased"]


class StateEvent(NamedTuple):
    """A change that members are told of: its number, the state that began, and the reason of a
    pause or a close. Numbers count from 1 within a recording."""

    number: int
    state: StateName
    reason: str | None

    @property
    def indicator(self) -> bool:
        """Whether content is taken in this state."""
        return self.state == "open"


class NotedEntry(NamedTuple):
    """An entry that the ledger is to have: its number here, the ledger's newest entry when it was
    noted, and its contents."""

    number: int
    tip: int
    note: Note


class Row(NamedTuple):
    """A recording: its id, its meeting, its state, when time alone changes it next (seconds since
    the epoch; ``None``: never), and the snapshot of its grant."""

    id: str
    meeting: str
    state: str
    due: float | None
    snapshot: dict[str, Any]


class Unfinished(NamedTuple):
    """What is still to be done of a recording: tasks of the vault, and entries of the ledger."""

    tasks: tuple[str, ...]
    notes: tuple[Note, ...]


class GrantStore:
    """The file of grants in a recorder's directory, for the threads of one process.

    Raises ``ConfigError`` E203 if it cannot be opened; its methods ``Refused``, ``unavailable`` or
    ``full``, with nothing changed.
    """

    def __init__(self, directory: Path) -> None:
        self._db = Database(directory / FILE_NAME, _TABLES)

    def __repr__(self) -> str:
        return "<GrantStore>"

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def save(
        self,
        row: Row,
        event: tuple[str, str | None] | None,
        tasks: Iterable[str],
        notes: Iterable[Note],
        tip: int,
    ) -> None:
        """Store a recording's state, a new event (state and reason), what is to be done, and what
        the ledger, whose newest entry is ``tip``, is to have.

        All of it is on disk on return.
        """
        text = json.dumps(row.snapshot, separators=(",", ":"))
        with self._db.transaction() as db:
            db.execute(_SAVE, (row.id, row.meeting, row.state, row.due, text))
            if event is not None:
                db.execute(_NEW_EVENT, (row.id, *event))
            for task in tasks:
                db.execute("INSERT OR IGNORE INTO tasks VALUES (?, ?)", (row.id, task))
            for note in notes:
                facts = json.dumps(note.facts)
                db.execute("INSERT INTO entries VALUES (NULL, ?, ?, ?)", (row.id, tip, facts))

    def load(self, recording: str) -> Row | None:
        """Return a recording, if there is one."""
        return next(self._rows("WHERE id = ?", recording), None)

    def active(self) -> list[Row]:
        """Return the recordings that are not closed or erased."""
        return list(self._rows("WHERE state NOT IN ('closed', 'erased')"))

    def due(self, now: float, most: int = 100) -> list[str]:
        """Return recordings that time has changed by ``now``, the longest due first."""
        query = "SELECT id FROM recordings WHERE due <= ? ORDER BY due LIMIT ?"
        return [str(row[0]) for row in self._db.rows(query, now, most)]

    def counts(self) -> dict[str, int]:
        """Return how many recordings there are in each state."""
        return dict(self._db.rows("SELECT state, count(*) FROM recordings GROUP BY state"))

    def events(self, recording: str, since: int = 0) -> list[StateEvent]:
        """Return the events of a recording with numbers above ``since``."""
        query = (
            "SELECT number, state, reason FROM events WHERE recording = ? AND number > ?"
            " ORDER BY number"
        )
        return [StateEvent(*row) for row in self._db.rows(query, recording, since)]

    def pending(self) -> list[str]:
        """Return the recordings for which there is something to be done."""
        query = "SELECT recording FROM entries UNION SELECT recording FROM tasks"
        return [str(row[0]) for row in self._db.rows(query)]

    def tasks(self, recording: str) -> list[str]:
        """Return what is to be done with a recording's content."""
        query = "SELECT task FROM tasks WHERE recording = ?"
        return [str(row[0]) for row in self._db.rows(query, recording)]

    def carried_out(self, recording: str, tasks: Iterable[str]) -> None:
        """Note that tasks are done."""
        with self._db.transaction() as db:
            for task in tasks:
                db.execute("DELETE FROM tasks WHERE recording = ? AND task = ?", (recording, task))

    def entries(self, recording: str) -> list[NotedEntry]:
        """Return what the ledger is to have of a recording, the oldest first."""
        rows = self._db.rows(f"{_ENTRIES} WHERE recording = ? ORDER BY number", recording)
        return [_noted(row[1:]) for row in rows]

    def entered(self, numbers: Iterable[int]) -> None:
        """Note that the ledger has entries, by their numbers here."""
        with self._db.transaction() as db:
            db.executemany("DELETE FROM entries WHERE number = ?", [(each,) for each in numbers])

    def answer_to(self, caller: Caller, request: bytes) -> StoredAnswer | None:
        """Return the answer that a request got before with the same token, or keep the token for
        this request alone, by its digest. Raises ``Refused``: ``replayed``."""
        with self._db.transaction() as db:
            replays = Replays(db)
            found = replays.find(caller, request)
            if found is None:
                replays.forget(time.time())
                replays.add(caller, request, _NO_ANSWER)
            return None if found == _NO_ANSWER else found

    def answered(self, caller: Caller, request: bytes, answer: StoredAnswer) -> None:
        """Keep the answer to a request."""
        with self._db.transaction() as db:
            Replays(db).add(caller, request, answer)

    def _rows(self, condition: str, *values: object) -> Iterator[Row]:
        for row in self._db.rows(f"{_ROWS} {condition}", *values):
            yield _row(row)


def read_rows(directory: Path) -> list[Row]:
    """Return every recording of a directory, in the order of ids, also while a recorder has it.

    Raises ``ConfigError`` E203 if the file cannot be read.
    """
    return [row for row, _ in read_all(directory)]


def read_all(directory: Path) -> list[tuple[Row, Unfinished]]:
    """Return every recording as ``read_rows`` does, with what is still to be done of it."""
    if (db := connect(directory / FILE_NAME)) is not None:
        with closing(db):
            tasks, notes = defaultdict[str, list[str]](list), defaultdict[str, list[Note]](list)
            for recording, task in db.execute("SELECT recording, task FROM tasks"):
                tasks[recording].append(task)
            for recording, *noted in db.execute(f"{_ENTRIES} ORDER BY number"):
                notes[recording].append(_noted(noted).note)
            rows = [_row(row) for row in db.execute(f"{_ROWS} ORDER BY id")]
        return [(row, Unfinished(tuple(tasks[row.id]), tuple(notes[row.id]))) for row in rows]
    raise ConfigError("E203", "the recorder's file cannot be read; check its permissions")


def _row(columns: Sequence[Any]) -> Row:
    recording, meeting, state, due, snapshot = columns
    return Row(recording, meeting, state, due, json.loads(snapshot))


def _noted(columns: Sequence[Any]) -> NotedEntry:
    number, tip, facts = columns
    pairs = tuple((name, fact) for name, fact in json.loads(facts))
    return NotedEntry(number, tip, Note("recording", pairs))
