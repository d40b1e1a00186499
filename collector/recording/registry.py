"""The registry of a recorder's grants: stored before they are acknowledged, carried out, and moved
by time.

There is one row for each recording, in ``recorder.db``. A grant's snapshot, the event that tells
members of it, and what it asks of the vault (destroy a track, erase a recording, finish a manifest)
are written in one transaction with the ledger's entries of the change, which is on disk when it
returns. The vault and the ledger follow after that; what a crash or a fault of the bucket left
undone is done later. So after a crash nothing is destroyed that was not to be, what was to be is
destroyed at the next start, and no change is without its entry.

Grants that are not closed are in memory; the others are read when they are asked for. There is one
lock for each recording, so that a withdrawal and a chunk of the same recording never overlap.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, RLock
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from collector.errors import CollectorError, ConfigError
from collector.ledger import Note
from collector.recording.access import Caller, Replays, StoredAnswer
from collector.recording.database import Database
from collector.recording.grant import Grant
from collector.recording.journal import Journal
from collector.recording.refusals import Refused
from collector.recording.states import Closed, Erased, Paused, StateEvent
from collector.recording.vault import Vault
from collector.sqlite.connection import connect_to_read

FILE_NAME = "recorder.db"
_NO_ANSWER = StoredAnswer(0, b"")
"""What is kept of a request that is in progress, or ended without an answer that is to last."""
TABLES = """
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
"""What its file has."""
_ENTRIES = "SELECT recording, number, tip, facts FROM entries"
_ROWS = "SELECT id, meeting, state, due, snapshot FROM recordings"
_SAVE = """
INSERT INTO recordings VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE
SET state = excluded.state, due = excluded.due, snapshot = excluded.snapshot"""
_NEW_EVENT = """
INSERT INTO events
SELECT ?1, coalesce(max(number), 0) + 1, ?2, ?3 FROM events WHERE recording = ?1"""


class Row(NamedTuple):
    """A recording: its id, its meeting, its state, when time alone changes it next (seconds since
    the epoch; ``None``: never), the snapshot of its grant, and, as ``read_rows`` reads it, what is
    still to be done: tasks of the vault, and entries of the ledger."""

    id: str
    meeting: str
    state: str
    due: float | None
    snapshot: dict[str, Any]
    tasks: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()


class GrantStore:
    """The file of grants in a recorder's directory, for the threads of one process.

    Raises ``ConfigError`` E203 if it cannot be opened; its methods ``Refused``, ``unavailable`` or
    ``full``, with nothing changed.
    """

    def __init__(self, directory: Path) -> None:
        self._db = Database(directory / FILE_NAME, TABLES)

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
        the ledger, whose newest entry is ``tip``, is to have. It is on disk on return."""
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

    def due(self, now: float) -> list[str]:
        """Return recordings that time has changed by ``now``, the longest due first."""
        query = "SELECT id FROM recordings WHERE due <= ? ORDER BY due LIMIT 100"
        return [str(row[0]) for row in self._db.rows(query, now)]

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

    def entries(self, recording: str) -> list[tuple[int, int, Note]]:
        """Return what the ledger is to have of a recording, the oldest first: the number here, the
        ledger's newest entry at that time, and the contents."""
        rows = self._db.rows(f"{_ENTRIES} WHERE recording = ? ORDER BY number", recording)
        return [(number, tip, _note(facts)) for _, number, tip, facts in rows]

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
    if (db := connect_to_read(directory / FILE_NAME)) is not None:
        with closing(db):
            tasks, notes = defaultdict[str, list[str]](list), defaultdict[str, list[Note]](list)
            for recording, task in db.execute("SELECT recording, task FROM tasks"):
                tasks[recording].append(task)
            for recording, _, _, facts in db.execute(f"{_ENTRIES} ORDER BY number"):
                notes[recording].append(_note(facts))
            rows = [_row(row) for row in db.execute(f"{_ROWS} ORDER BY id")]
        return [row._replace(tasks=(*tasks[row.id],), notes=(*notes[row.id],)) for row in rows]
    raise ConfigError("E203", "the recorder's file cannot be read; check its permissions")


def _row(columns: Sequence[Any]) -> Row:
    recording, meeting, state, due, snapshot = columns
    return Row(recording, meeting, state, due, json.loads(snapshot))


def _note(facts: str) -> Note:
    return Note("recording", tuple((name, fact) for name, fact in json.loads(facts)))


_MOST_ACTIVE = 1000
"""Recordings that are not closed, at a time."""
MOST_ACTIVE_OF_MEETING = 8
_RETRY_SECONDS = 10.0
"""How often is tried again what the disk or the bucket did not let happen."""
_DESTROY, _ERASE, _FINISH = "destroy ", "erase", "finish"
"""Tasks for the vault; the first is followed by the name of a track."""


@dataclass
class Active:
    """A grant, as it was saved last: its revision, and what members know of it.

    ``destroyed`` are tracks that a withdrawal destroyed, and ``notes`` entries of changes, that no
    save has noted yet: a disk that is full must not make the next attempt forget them.
    """

    grant: Grant
    revision: int = -1
    shown: tuple[str, str | None] = ("requested", None)
    destroyed: set[str] = field(default_factory=set[str])
    notes: list[Note] = field(default_factory=list[Note])


class _Lock:
    """The lock of a recording; it exists while it is in use."""

    def __init__(self) -> None:
        self.lock = RLock()


class GrantRegistry:
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
        self.retry_at: float = 0.0
        """When what failed is tried again, by the monotonic clock."""
        for recording in self.store.pending():
            self._enter(recording)
        vault.recover()
        for row in self.store.active():
            self.save(row.id, Active(Grant.restored(row.snapshot, clock())))
        self._retry()

    def __repr__(self) -> str:
        return f"<GrantRegistry: {len(self._active)} active>"

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
                if is_many or len(meetings) >= _MOST_ACTIVE:
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

    def save(
        self,
        recording: str,
        active: Active,
        tracks: Iterable[str] = (),
        note: Note | None = None,
    ) -> None:
        """Store a grant that has changed, with the tracks to be destroyed and the ledger's entry of
        it, and tell the members. The caller holds its lock."""
        grant = active.grant
        active.destroyed.update(tracks)
        if note is not None and note not in active.notes:
            active.notes.append(note)
        if grant.revision == active.revision and not active.notes:
            return
        shown = _shown(grant)
        event = None if shown == active.shown else shown
        tasks = [f"{_DESTROY}{each}" for each in active.destroyed]
        if event is not None:
            tasks += {"closed": [_FINISH], "erased": [_ERASE]}.get(shown[0], [])
        notes = list(active.notes)
        if event is not None and isinstance(grant.state, Closed):  # which may come by itself
            reason = grant.state.reason
            end = self._journal.note("recording", "close", recording=recording, outcome=reason)
            notes.insert(0, end)
        row = Row(recording, grant.terms.meeting, shown[0], self._due(grant), grant.snapshot())
        self.store.save(row, event, tasks, notes, self._journal.tip)
        active.revision, active.shown = grant.revision, shown
        active.destroyed.clear()
        active.notes.clear()
        if isinstance(grant.state, Closed | Erased):
            self._active.pop(recording, None)
        for listener in self.listeners if event is not None else ():
            listener(recording)
        if notes:
            self._enter(recording)

    def _enter(self, recording: str) -> None:
        """Write into the ledger what was noted for it. It is on disk already: where the ledger
        cannot be written now, that is done later."""
        with self._tolerated():
            noted, newest = self.store.entries(recording), 0
            for _, tip, note in noted:
                newest = self._journal.add_since(max(tip, newest), note)
            self.store.entered(number for number, _, _ in noted)

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
        if tasks:
            self.store.carried_out(recording, tasks)

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
        if time.monotonic() >= self.retry_at:
            with self._tolerated():
                self._vault.recover()
            self._retry()

    def _retry(self) -> None:
        self.retry_at = time.monotonic() + _RETRY_SECONDS
        for recording in self.store.pending():
            with self._tolerated(), self._locked(recording):
                self._enter(recording)
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
