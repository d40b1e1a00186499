"""The recorder's database, ``recorder.db``: everything that the recorder remembers, except for its
keys.

It has the grants with their members and tracks, the events for members, the lines of the manifests,
the ledger, the used tokens, and the tasks. A step of a grant, its entries in the ledger, its lines
in the manifest and its tasks are one commit. So a crash leaves nothing half done: an uncommitted
step did not happen, and whatever is still to do for a committed step is a task.

The ledger has entries and no receipts. ``collector ledger`` verifies, exports and checkpoints it
like the ledger of a sidecar. An entry names no meeting, track or member: ``who`` is the HMAC of the
token's subject under ``subjects.key``, which identifies nobody once that file is destroyed.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection
from threading import Lock
from typing import Any, Literal, NamedTuple

from collector.errors import ConfigError
from collector.files import failing_as, sync, write_private
from collector.ledger import Note
from collector.ledger.journal import TABLES as ENTRY_TABLES
from collector.ledger.journal import append_all
from collector.ledger.receipt import NOTHING as NO_HASH
from collector.ledger.stored import FORMAT, RECORDER_FILE
from collector.ledger.stored import TABLES as RECEIPT_TABLES
from collector.recording import manifest
from collector.recording.access import LEEWAY, Caller, Replays, StoredAnswer
from collector.recording.database import Database
from collector.recording.manifest import Begin, Chunk, Destroyed, Line
from collector.recording.refusals import REFUSALS, Refused
from collector.recording.states import StateEvent
from collector.spool.lock import Lock as DirectoryLock
from collector.sqlite.connection import connect_to_read

FILE_NAME = RECORDER_FILE
SECRET_NAME = "subjects.key"  # noqa: S105 - a name
SECRET_BYTES = 32
"""The length of that file."""
_MOST_ACCESSES = 50_000
"""How many logged accesses are remembered; a forgotten one is logged again when it repeats."""
_NO_ANSWER = StoredAnswer(0, b"")
"""Stands for the answer of a request in progress, or one whose answer was not kept."""
_PAGE = 256
"""How many lines of a manifest are read at once."""
ACTIONS: frozenset[str] = frozenset(
    "request announce start pause resume stop close handover accept join depart stay leave withdraw"
    " expire erase rotate notice track manifest chunk events list verify open".split()
)
"""What was done with a recording, or read from it."""
OUTCOMES: frozenset[str] = frozenset(
    {"done", "stopped", "host_absent", "expired", "restarted", *REFUSALS}
)
"""The outcome of an action: done, the reason of a close, or the code of a refusal."""

_SCRIPT = """
CREATE TABLE about (format INTEGER NOT NULL) STRICT

CREATE TABLE recordings (
    id TEXT PRIMARY KEY, meeting TEXT NOT NULL, state TEXT NOT NULL, snapshot TEXT NOT NULL
) STRICT

CREATE TABLE events (
    recording TEXT NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT,
    PRIMARY KEY (recording, number)
) STRICT

CREATE TABLE manifests (
    recording TEXT PRIMARY KEY, state TEXT NOT NULL, storage TEXT NOT NULL, recipient TEXT,
    lines INTEGER NOT NULL, hash TEXT NOT NULL, signature BLOB
) STRICT, WITHOUT ROWID

CREATE TABLE lines (
    recording TEXT NOT NULL, line INTEGER NOT NULL, object TEXT, number INTEGER, start INTEGER,
    tag BLOB, text BLOB NOT NULL, PRIMARY KEY (recording, line)
) STRICT, WITHOUT ROWID

CREATE UNIQUE INDEX chunks ON lines (recording, object, number) WHERE number IS NOT NULL

CREATE INDEX destroyed ON lines (recording, object) WHERE number IS NULL

CREATE TABLE tasks (
    number INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL, recording TEXT NOT NULL,
    object TEXT NOT NULL, chunk INTEGER NOT NULL, due REAL NOT NULL, size INTEGER NOT NULL,
    UNIQUE (recording, what, object, chunk)
) STRICT

CREATE INDEX tasks_due ON tasks (due) WHERE what != 'upload'

CREATE INDEX uploads ON tasks (number) WHERE what = 'upload'

CREATE TABLE queue (
    one INTEGER PRIMARY KEY CHECK (one = 1), bytes INTEGER NOT NULL, files INTEGER NOT NULL
) STRICT

INSERT INTO queue VALUES (1, 0, 0)

CREATE TRIGGER queue_grows AFTER INSERT ON tasks WHEN NEW.what = 'upload' BEGIN
    UPDATE queue SET bytes = bytes + NEW.size, files = files + 1;
END

CREATE TRIGGER queue_shrinks AFTER DELETE ON tasks WHEN OLD.what = 'upload' BEGIN
    UPDATE queue SET bytes = bytes - OLD.size, files = files - 1;
END
"""
_LEDGER = f"""
INSERT INTO about VALUES ({FORMAT})

INSERT INTO tip VALUES (1, 0, x'{NO_HASH.hex()}')

INSERT INTO starts VALUES (1, 'new', x'{NO_HASH.hex()}')
"""  # noqa: S608 - constants
STATEMENTS = (
    *RECEIPT_TABLES,
    *ENTRY_TABLES,
    Replays.TABLE,
    *(statement for script in (_SCRIPT, _LEDGER) for statement in script.split("\n\n")),
)
"""What a new database has."""
_ROWS = (
    "SELECT id, meeting, state, snapshot, (SELECT due FROM tasks WHERE recording = id"
    " AND what = 'expire') FROM recordings"
)
_SAVE = (
    "INSERT INTO recordings VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
    " SET state = excluded.state, snapshot = excluded.snapshot"
)
_NEW_EVENT = (
    "INSERT INTO events SELECT ?1, coalesce(max(number), 0) + 1, ?2, ?3 FROM events"
    " WHERE recording = ?1"
)
_NEW_TASK = (
    "INSERT INTO tasks (what, recording, object, chunk, due, size) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (recording, what, object, chunk) DO UPDATE SET due = excluded.due"
)
_TASK = "SELECT number, what, recording, object, chunk FROM tasks"
_LIVING = (
    "EXISTS (SELECT 1 FROM manifests WHERE recording = ?1 AND state != 'erased') AND NOT EXISTS"
    " (SELECT 1 FROM lines INDEXED BY destroyed"
    " WHERE recording = ?1 AND object = ?2 AND number IS NULL)"
)
"""Whether a track is living: neither it nor its recording was destroyed or is about to be."""

What = Literal["close", "expire", "sweep", "compact", "erase", "delete", "again", "upload"]
"""The tasks, in this order: close a grant, erase a recording whose time is over, remove files that
no line names, rewrite the file of keys, destroy keys, delete files and objects, delete again what a
bucket may have stored late, upload a chunk."""


class Task(NamedTuple):
    """A task about the track with the random name ``object``, or about the whole recording if
    ``object`` is empty. ``chunk`` is the number of the chunk to upload."""

    number: int
    what: What
    recording: str
    object: str = ""
    chunk: int = 0


class Row(NamedTuple):
    """A recording: its id, its meeting, its state, the snapshot of its grant and, once closed, when
    it is to be erased (seconds since the epoch)."""

    id: str
    meeting: str
    state: str
    snapshot: dict[str, Any]
    due: float | None


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of a recording's content: ``lines`` and ``hash`` are the tip of its
    manifest."""

    recording: str
    state: Literal["open", "finished", "erased"]
    storage: Literal["local", "cloud"]
    recipient: str | None
    lines: int
    hash: str


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk's line. Its content begins at ``start`` in the track; ``tag`` identifies a
    repetition."""

    line: Chunk
    start: int
    tag: bytes

    @property
    def next_start(self) -> int:
        """Return where the next chunk's content begins."""
        return self.start + self.line.content


class Store:
    """The database of a directory, which it locks until ``close``. Meanwhile readers may open it,
    but change nothing. Use it from any thread.

    Methods that take a connection are for use inside ``commit``. Raises ``InUse`` if another
    process has the directory, ``ConfigError`` E203 if it cannot be used; methods raise ``Refused``,
    ``unavailable`` or ``full``, with nothing changed.
    """

    def __init__(self, directory: Path, *, is_reader: bool = False) -> None:
        self.directory: Path = directory
        self._accesses: dict[tuple[str, ...], float] = {}
        self._mutex = Lock()
        self._is_reader, self._secret = is_reader, b""
        with ExitStack() as opened:
            if not is_reader:
                opened.callback(DirectoryLock(directory).release)
                message = "subjects.key of the recorder's directory cannot be made or read"
                with failing_as(ConfigError("E203", message), OSError):
                    self._secret = _secret(directory / SECRET_NAME)
            self.database: Database = Database(directory / FILE_NAME, STATEMENTS)
            opened.callback(self.database.close)
            if not is_reader:
                message = "the recorder's ledger cannot be written; check its directory"
                with failing_as(ConfigError("E203", message), Refused):
                    self.checkpoint("start")
            self._opened = opened.pop_all()

    def __repr__(self) -> str:
        return "<Store>"

    def close(self) -> None:
        """Add a last checkpoint, close the file, and unlock the directory."""
        if not self._is_reader:
            with suppress(Refused):
                self.checkpoint("stop")
        self._opened.close()

    def commit(self, work: Callable[[Connection], object]) -> None:
        """Run ``work`` as one transaction, which is on disk on return. ``work`` may run twice, and
        only the second run counts. Raises ``Refused``, and what ``work`` raises."""
        self.database.commit(work)

    # -- the ledger -------------------------------------------------------------------------------

    def who(self, subject: str) -> str:
        """Return the mark of a subject in this directory: 64 hexadecimal digits."""
        return hmac.digest(self._secret, subject.encode(), "sha256").hex()

    def note(
        self,
        kind: Literal["recording", "access"],
        what: str,
        *,
        recording: str | None = None,
        caller: Caller | None = None,
        notice: str | None = None,
        outcome: str = "done",
    ) -> Note:
        """Build the contents of an entry.

        ``what`` is one of ``ACTIONS``, ``outcome`` one of ``OUTCOMES``; ``recording`` is an id;
        ``caller`` is ``None`` where the recorder acts by itself; ``notice`` is the digest that came
        with a choice. Raises ``ValueError`` for other words.
        """
        if what not in ACTIONS or outcome not in OUTCOMES:
            raise ValueError("an entry states words of closed lists")
        return Note.of(
            kind,
            recording=recording,
            what=what,
            role=None if caller is None else caller.role,
            who=None if caller is None else self.who(caller.subject),
            notice=notice,
            outcome=outcome,
        )

    def append(self, db: Connection, *notes: Note) -> None:
        """Append entries to the ledger."""
        try:
            append_all(db, self.database.path, notes)
        except OSError:
            raise Refused("unavailable") from None

    def add(self, *notes: Note) -> None:
        """Append entries to the ledger in a separate commit. If this raises ``Refused``, nothing
        may be done or shown."""
        self.commit(lambda db: self.append(db, *notes))

    def add_access(
        self, caller: Caller, recording: str, what: str, outcome: str, track: str, *, now: float
    ) -> None:
        """Append the entry of an access, unless the ledger has it. There is one entry for each
        token and track, and one for each reason to refuse a token, so no reader can fill the
        disk."""
        access = (caller.jti, caller.role, caller.subject, recording, what, outcome, track)
        with self._mutex:
            is_there = self._accesses.get(access, 0.0) > now
        if is_there:
            return
        self.add(self.note("access", what, recording=recording, caller=caller, outcome=outcome))
        with self._mutex:
            self._accesses[access] = caller.exp + LEEWAY
            while len(self._accesses) > 1:
                oldest = next(iter(self._accesses))
                if self._accesses[oldest] > now and len(self._accesses) <= _MOST_ACCESSES:
                    break
                del self._accesses[oldest]

    def checkpoint(self, at: Literal["start", "stop", "hour", "asked"]) -> None:
        """Append a checkpoint to the ledger."""
        self.add(Note.of("checkpoint", at=at))

    def signers(self) -> list[str]:
        """Return the public keys that the ledger names."""
        rows = self.database.rows("SELECT facts FROM entries WHERE kind = 'key'")
        return [str(row[0]).removeprefix("public ") for row in rows]

    # -- grants -----------------------------------------------------------------------------------

    def save(
        self,
        db: Connection,
        recording: str,
        state: str,
        snapshot: Mapping[str, Any],
        event: tuple[str, str | None] | None,
    ) -> None:
        """Store a grant, and a new event (state and reason)."""
        meeting = snapshot["terms"]["meeting"]
        db.execute(_SAVE, (recording, meeting, state, encode(snapshot)))
        if event is not None:
            db.execute(_NEW_EVENT, (recording, *event))

    def load(self, recording: str) -> Row | None:
        """Return a recording, if there is one."""
        rows = self.database.rows(f"{_ROWS} WHERE id = ?", recording)
        return _row(rows[0]) if rows else None

    def open_rows(self) -> list[Row]:
        """Return the recordings that are not closed or erased."""
        rows = self.database.rows(f"{_ROWS} WHERE state NOT IN ('closed', 'erased')")
        return [_row(row) for row in rows]

    def counts(self) -> dict[str, int]:
        """Return how many recordings there are in each state."""
        return dict(self.database.rows("SELECT state, count(*) FROM recordings GROUP BY state"))

    def events(self, recording: str, since: int = 0) -> list[StateEvent]:
        """Return the events of a recording with numbers above ``since``."""
        query = (
            "SELECT number, state, reason FROM events WHERE recording = ? AND number > ?"
            " ORDER BY number"
        )
        return [StateEvent(*row) for row in self.database.rows(query, recording, since)]

    def answer_to(self, caller: Caller, request: bytes) -> StoredAnswer | None:
        """Return the earlier answer to this request with the same token. Otherwise bind the token
        to this request, by its digest. Raises ``Refused``: ``replayed``."""
        found: StoredAnswer | None = None

        def work(db: Connection) -> None:
            nonlocal found
            replays = Replays(db)
            found = replays.find(caller, request)
            if found is None:
                replays.forget(time.time())
                replays.add(caller, request, _NO_ANSWER)

        self.commit(work)
        return None if found == _NO_ANSWER else found

    def answered(self, caller: Caller, request: bytes, answer: StoredAnswer) -> None:
        """Keep the answer to a request."""
        self.commit(lambda db: Replays(db).add(caller, request, answer))

    # -- tasks ------------------------------------------------------------------------------------

    def add_task(
        self,
        db: Connection,
        what: What,
        recording: str = "",
        object_: str = "",
        chunk: int = 0,
        *,
        due: float = 0.0,
        size: int = 0,
    ) -> None:
        """Add a task, or set when the existing one is due (seconds since the epoch)."""
        db.execute(_NEW_TASK, (what, recording, object_, chunk, due, size))

    def end_tasks(self, db: Connection, *tasks: Task) -> list[Task]:
        """Remove finished tasks; return those that no other thread has removed meanwhile."""
        statement = "DELETE FROM tasks WHERE number = ?"
        return [each for each in tasks if db.execute(statement, (each.number,)).rowcount]

    def drop_tasks(self, db: Connection, what: What, recording: str, object_: str = "%") -> None:
        """Cancel the tasks of one kind for a recording or a track."""
        statement = "DELETE FROM tasks WHERE recording = ? AND what = ? AND object LIKE ?"
        db.execute(statement, (recording, what, object_))

    def due(self, now: float, *what: What) -> list[Task]:
        """Return the due tasks of these kinds, the longest due first."""
        places = ", ".join("?" * len(what))
        query = (
            f"{_TASK} WHERE what != 'upload' AND due <= ? AND what IN ({places})"
            " ORDER BY due, number LIMIT 1000"
        )
        return [Task(*row) for row in self.database.rows(query, now, *what)]

    def tasks(self, recording: str, *what: What) -> list[Task]:
        """Return a recording's tasks of these kinds, due or not."""
        places = ", ".join("?" * len(what))
        query = f"{_TASK} WHERE recording = ? AND what IN ({places}) ORDER BY number"
        return [Task(*row) for row in self.database.rows(query, recording, *what)]

    def next_due(self, *what: What) -> float | None:
        """Return when the next task of these kinds is due; ``None`` if there is none."""
        places = ", ".join("?" * len(what))
        query = f"SELECT min(due) FROM tasks WHERE what != 'upload' AND what IN ({places})"  # noqa: S608
        due: float | None = self.database.rows(query, *what)[0][0]
        return due

    def uploads(self, after: int, limit: int) -> list[Task]:
        """Return the next uploads, in order."""
        query = f"{_TASK} WHERE what = 'upload' AND number > ? ORDER BY number LIMIT ?"
        return [Task(*row) for row in self.database.rows(query, after, limit)]

    def queued(self) -> tuple[int, int]:
        """Return how many bytes and files wait for upload."""
        size, files = self.database.rows("SELECT bytes, files FROM queue")[0]
        return size, files

    # -- manifests --------------------------------------------------------------------------------

    def find(self, recording: str) -> Stored | None:
        """Return what is stored of a recording, even of an erased one."""
        query = (
            "SELECT recording, state, storage, recipient, lines, hash FROM manifests"
            " WHERE recording = ?"
        )
        rows = self.database.rows(query, recording)
        return Stored(*rows[0]) if rows else None

    def full(self) -> list[str]:
        """Return the recordings that have content and are not erased."""
        query = (
            "SELECT recording FROM manifests WHERE state != 'erased' AND EXISTS (SELECT 1 FROM"
            " lines WHERE lines.recording = manifests.recording AND number IS NOT NULL)"
        )
        return [row[0] for row in self.database.rows(query)]

    def begin(self, db: Connection, begin: Begin, recipient: str | None) -> None:
        """Begin a manifest."""
        row = (begin.recording, "open", begin.storage, recipient, 0, manifest.NOTHING, None)
        db.execute("INSERT INTO manifests VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        self.append_line(db, begin.recording, lambda _, __: begin)

    def append_line(
        self,
        db: Connection,
        recording: str,
        make: Callable[[int, str], Line],
        start: int | None = None,
        tag: bytes | None = None,
    ) -> Line:
        """Append a line to a manifest, made from its number and the previous hash."""
        statement = "SELECT lines, hash FROM manifests WHERE recording = ?"
        lines, previous = db.execute(statement, (recording,)).fetchone()
        line = make(lines + 1, previous)
        object_ = line.track if isinstance(line, Chunk | Destroyed) else None
        number = line.number if isinstance(line, Chunk) else None
        row = (recording, line.line, object_, number, start, tag, manifest.encode(line))
        db.execute("INSERT INTO lines VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        statement = "UPDATE manifests SET lines = ?, hash = ? WHERE recording = ?"
        db.execute(statement, (line.line, manifest.digest(line), recording))
        return line

    def lines(self, recording: str, last: int) -> Iterator[bytes]:
        """Yield the lines of a manifest up to number ``last``, a page at a time."""
        done = 0
        query = (
            "SELECT line, text FROM lines WHERE recording = ? AND line > ? AND line <= ?"
            " ORDER BY line LIMIT ?"
        )
        while done < last:
            rows = self.database.rows(query, recording, done, last, _PAGE)
            if not rows:
                return
            yield from (row[1] for row in rows)
            done = rows[-1][0]

    def signature(self, recording: str) -> bytes | None:
        """Return the latest signature of a manifest."""
        query = "SELECT signature FROM manifests WHERE recording = ?"
        rows = self.database.rows(query, recording)
        return rows[0][0] if rows else None

    def chunk(self, recording: str, object_: str, number: int) -> StoredChunk | None:
        """Return a chunk of a living track."""
        return self._one("number = ?3", recording, object_, number)

    def last(self, recording: str, object_: str) -> StoredChunk | None:
        """Return the last chunk of a living track."""
        return self._one("number >= ?3 ORDER BY number DESC LIMIT 1", recording, object_, 0)

    def at(self, recording: str, object_: str, place: int) -> StoredChunk | None:
        """Return the chunk that contains the byte at a position in the track, or the last chunk."""
        low, last = 0, self.last(recording, object_)
        high = last.line.number if last else 0
        while low < high:  # binary search: start grows with number
            middle = (low + high + 1) // 2
            found = self.chunk(recording, object_, middle)
            low, high = (middle, high) if found and found.start <= place else (low, middle - 1)
        return self.chunk(recording, object_, low)

    def is_living(self, recording: str, object_: str) -> bool:
        """Return whether a track is living."""
        return bool(self.database.rows(f"SELECT 1 WHERE {_LIVING}", recording, object_))

    def _one(self, where: str, recording: str, object_: str, number: int) -> StoredChunk | None:
        query = (
            "SELECT text, start, tag FROM lines"  # noqa: S608 - constants
            f" WHERE recording = ?1 AND object = ?2 AND {_LIVING} AND {where}"
        )
        rows = self.database.rows(query, recording, object_, number)
        if not rows:
            return None
        line = manifest.read_line(rows[0][0])
        if not isinstance(line, Chunk):
            raise Refused("unavailable")
        return StoredChunk(line, rows[0][1], rows[0][2])


def encode(snapshot: Mapping[str, Any]) -> str:
    """Return the canonical text of a snapshot."""
    return json.dumps(snapshot, separators=(",", ":"))


def read_rows(directory: Path) -> list[Row]:
    """Return every recording of a directory in the order of ids, even while a recorder uses it.

    Raises ``ConfigError`` E203 if the file cannot be read.
    """
    if (db := connect_to_read(directory / FILE_NAME)) is not None:
        with closing(db):
            return [_row(row) for row in db.execute(f"{_ROWS} ORDER BY id")]
    raise ConfigError("E203", "the recorder's file cannot be read; check its permissions")


def _row(columns: Iterable[Any]) -> Row:
    recording, meeting, state, snapshot, due = columns
    return Row(recording, meeting, state, json.loads(snapshot), due)


def _secret(path: Path) -> bytes:
    """Read the secret of a directory; create it (0600) if there is none. Raises ``OSError``."""
    if not path.exists():
        part = path.with_name(f"{path.name}.part")
        part.unlink(missing_ok=True)
        write_private(part, [secrets.token_bytes(SECRET_BYTES)])
        part.rename(path)
        sync(path.parent)
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
        secret = file.read(SECRET_BYTES + 1)
    if len(secret) != SECRET_BYTES:
        raise OSError
    return secret
