"""The grants of a recorder: stored before they are acknowledged, carried out, and moved by time.

There is one row for each recording, in ``recorder.db``. A grant's snapshot, the event that tells
members of it, and what it asks of the vault (destroy a track, erase a recording, finish a manifest)
are written in one transaction, which is on disk when it returns. The vault does it after that; what
a crash or a fault of the bucket left undone is done later. So after a crash nothing is destroyed
that was not to be, and what was to be is destroyed at the next start.

Grants that are not closed are in memory; the others are read when they are asked for. There is one
lock for each recording, so that a withdrawal and a chunk of the same recording never overlap.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, RLock
from typing import Any, Literal, NamedTuple
from weakref import WeakValueDictionary

from collector.errors import CollectorError, ConfigError
from collector.recording.access import Caller, Replays, StoredAnswer
from collector.recording.database import Database
from collector.recording.grant import Closed, Erased, Grant, Paused
from collector.recording.journal import Journal
from collector.recording.refusals import Refused
from collector.recording.vault import Vault
from collector.sqlite.files import connect

__all__ = [
    "FILE_NAME",
    "MOST_ACTIVE",
    "MOST_ACTIVE_OF_MEETING",
    "Active",
    "GrantStore",
    "Grants",
    "Row",
    "StateEvent",
    "StateName",
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
"""
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


class Row(NamedTuple):
    """A recording: its id, its meeting, its state, when time alone changes it next (seconds since
    the epoch; ``None``: never), and the snapshot of its grant."""

    id: str
    meeting: str
    state: str
    due: float | None
    snapshot: dict[str, Any]


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

    def save(self, row: Row, event: tuple[str, str | None] | None, tasks: Iterable[str]) -> None:
        """Store a recording's state, a new event (state and reason), and what is to be done.

        All of it is on disk on return.
        """
        text = json.dumps(row.snapshot, separators=(",", ":"))
        with self._db.transaction() as db:
            db.execute(_SAVE, (row.id, row.meeting, row.state, row.due, text))
            if event is not None:
                db.execute(_NEW_EVENT, (row.id, *event))
            for task in tasks:
                db.execute("INSERT OR IGNORE INTO tasks VALUES (?, ?)", (row.id, task))

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
        return [str(row[0]) for row in self._db.rows("SELECT DISTINCT recording FROM tasks")]

    def tasks(self, recording: str) -> list[str]:
        """Return what is to be done with a recording's content."""
        query = "SELECT task FROM tasks WHERE recording = ?"
        return [str(row[0]) for row in self._db.rows(query, recording)]

    def carried_out(self, recording: str, tasks: Iterable[str]) -> None:
        """Note that tasks are done."""
        with self._db.transaction() as db:
            for task in tasks:
                db.execute("DELETE FROM tasks WHERE recording = ? AND task = ?", (recording, task))

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
    if (db := connect(directory / FILE_NAME)) is not None:
        with closing(db):
            return [_row(row) for row in db.execute(f"{_ROWS} ORDER BY id")]
    raise ConfigError("E203", "the recorder's file cannot be read; check its permissions")


def _row(columns: Sequence[Any]) -> Row:
    recording, meeting, state, due, snapshot = columns
    return Row(recording, meeting, state, due, json.loads(snapshot))


MOST_ACTIVE = 1000
"""Recordings that are not closed, at a time."""
MOST_ACTIVE_OF_MEETING = 8
_RETRY_SECONDS = 10.0
"""How often is tried again what the disk or the bucket did not let happen."""
_DESTROY, _ERASE, _FINISH = "destroy ", "erase", "finish"
"""Tasks for the vault; the first is followed by the name of a track."""
_NOTE = "note "
"""The task to have a close in the ledger, followed by its reason."""


@dataclass
class Active:
    """A grant, as it was saved last: its revision, and what members know of it.

    ``destroyed`` are tracks that a withdrawal destroyed and that no save has noted yet: a disk that
    is full must not make the next attempt forget them.
    """

    grant: Grant
    revision: int = -1
    shown: tuple[str, str | None] = ("requested", None)
    destroyed: set[str] = field(default_factory=set[str])


class _Lock:
    """The lock of a recording; it exists while it is in use."""

    def __init__(self) -> None:
        self.lock = RLock()


class Grants:
    """All grants of a directory, those included that a crash left open: they are closed here.

    A closed recording is erased after its retention, one for the host's own key after
    ``local_seconds`` if that is earlier. ``clock`` returns seconds since the epoch.

    Raises ``ConfigError`` E203 if the file of grants cannot be opened.
    """

    def __init__(
        self,
        directory: Path,
        vault: Vault,
        journal: Journal,
        *,
        local_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self.listeners: list[Callable[[str], None]] = []
        self.errors: int = 0
        self.store: GrantStore = GrantStore(directory)
        self._vault, self._journal = vault, journal
        self._local, self._clock = local_seconds, clock
        self._active: dict[str, Active] = {}
        self._locks: WeakValueDictionary[str, _Lock] = WeakValueDictionary()
        self._mutex = Lock()
        self._retry_at = 0.0
        vault.recover()
        for row in self.store.active():
            self.save(row.id, Active(Grant.restored(row.snapshot, clock())))
        self._retry()

    def __repr__(self) -> str:
        return f"<Grants: {len(self._active)} active>"

    def close(self) -> None:
        """Close every grant, and then the file."""
        for recording in list(self._active):
            with self._tolerated(), self.opened(recording) as active:
                active.grant.close("restarted", self._clock())
                self.save(recording, active)
                self.carry_out(recording)
        self.store.close()

    def meeting(self, recording: str) -> str | None:
        """Return the meeting of a recording; ``None`` if there is no such recording."""
        if (active := self._active.get(recording)) is not None:
            return active.grant.terms.meeting
        row = self.store.load(recording)
        return None if row is None else row.meeting

    @contextmanager
    def opened(self, recording: str) -> Iterator[Active]:
        """Lock a recording and give its grant. Raises ``Refused``: ``not_found``."""
        with self._locked(recording):
            active = self._active.get(recording)
            if active is None:
                row = self.store.load(recording)
                if row is None:
                    raise Refused("not_found")
                grant = Grant.restored(row.snapshot)
                active = Active(grant, grant.revision, _shown(grant))
            yield active

    @contextmanager
    def added(self, recording: str, grant: Grant) -> Iterator[Active]:
        """Lock a new recording and give its grant, which is forgotten if the block fails before it
        is saved. Raises ``Refused``: ``busy``."""
        active = Active(grant)
        with self._locked(recording):
            with self._mutex:
                meetings = [each.grant.terms.meeting for each in self._active.values()]
                is_many = meetings.count(grant.terms.meeting) >= MOST_ACTIVE_OF_MEETING
                if is_many or len(meetings) >= MOST_ACTIVE:
                    raise Refused("busy")
                self._active[recording] = active
            try:
                yield active
            finally:
                if active.revision < 0:
                    self._active.pop(recording, None)

    @contextmanager
    def _locked(self, recording: str) -> Iterator[None]:
        with self._mutex:
            lock = self._locks.setdefault(recording, _Lock())
        with lock.lock:
            yield

    def save(self, recording: str, active: Active, tracks: Iterable[str] = ()) -> None:
        """Store a grant that has changed, with the tracks to be destroyed, and tell the members.
        The caller holds its lock."""
        grant = active.grant
        active.destroyed.update(tracks)
        if grant.revision == active.revision:
            return
        shown = _shown(grant)
        event = None if shown == active.shown else shown
        tasks = [f"{_DESTROY}{each}" for each in active.destroyed]
        if event is not None:
            ends = {"closed": [_FINISH, f"{_NOTE}{shown[1]}"], "erased": [_ERASE]}
            tasks += ends.get(shown[0], [])
        row = Row(recording, grant.terms.meeting, shown[0], self._due(grant), grant.snapshot())
        self.store.save(row, event, tasks)
        active.revision, active.shown = grant.revision, shown
        active.destroyed.clear()
        if isinstance(grant.state, Closed | Erased):
            self._active.pop(recording, None)
        if event is None:
            return
        for listener in self.listeners:
            listener(recording)
        if isinstance(grant.state, Closed):
            self._note(recording, [f"{_NOTE}{grant.state.reason}"])

    def carry_out(self, recording: str) -> None:
        """Do what is to be done with a recording's content. The caller holds its lock."""
        tasks = self.store.tasks(recording)
        if _ERASE in tasks:
            self._vault.erase(recording)
        else:
            if tracks := [each[len(_DESTROY) :] for each in tasks if each.startswith(_DESTROY)]:
                self._vault.destroy(recording, tracks)
            if _FINISH in tasks:
                self._vault.finish(recording)
        self._note(recording, tasks)  # last, as a ledger that is full must not keep content
        if tasks:
            self.store.carried_out(recording, tasks)

    def _note(self, recording: str, tasks: Iterable[str]) -> None:
        """Write a close that is to be in the ledger; twice, if the process ends in between."""
        for task in tasks:
            if task.startswith(_NOTE):
                reason = task[len(_NOTE) :]
                self._journal.add("recording", "close", recording=recording, outcome=reason)
                self.store.carried_out(recording, [task])

    def _due(self, grant: Grant) -> float | None:
        """Return when a closed recording is to be erased."""
        if not isinstance(grant.state, Closed):
            return None
        retention = grant.terms.retention
        if grant.terms.storage == "local":
            retention = min(retention, self._local)
        return grant.state.at + retention

    # -- time ------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Close and erase what is due, and try again what could not be done."""
        now = self._clock()
        for recording in list(self._active):
            with self._tolerated(), self.opened(recording) as active:
                active.grant.tick(now)
                if active.grant.revision != active.revision:  # also what could not be saved before
                    self.save(recording, active)
                    self.carry_out(recording)
        for recording in self.store.due(now):
            with self._tolerated(), self.opened(recording) as active:
                active.grant.erase(now)
                self.save(recording, active)
                self.carry_out(recording)
        if time.monotonic() >= self._retry_at:
            with self._tolerated():
                self._vault.recover()
            self._retry()

    def _retry(self) -> None:
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        for recording in self.store.pending():
            with self._tolerated(), self._locked(recording):
                self.carry_out(recording)

    @contextmanager
    def _tolerated(self) -> Iterator[None]:
        """Count faults of disk and bucket, which may have passed at the next tick."""
        try:
            yield
        except (Refused, CollectorError, OSError):
            self.errors += 1


def _shown(grant: Grant) -> tuple[str, str | None]:
    """Return what members are told of a grant: its state, and the reason of a pause or a close."""
    reason = grant.state.reason if isinstance(grant.state, Paused | Closed) else None
    return type(grant.state).__name__.lower(), reason
