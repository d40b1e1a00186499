"""The index of the vault, ``vault.db``: manifests line by line, and work that is not done yet.

A chunk exists from the commit of its line on. With it are committed its tag, by which a repetition
is recognised, and its place in the queue of uploads. Erasures are noted before they begin, and
taken from here when they are done, so that a crash interrupts none for good.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Literal

from collector.recording import manifest
from collector.recording.database import Database
from collector.recording.manifest import Begin, Chunk, Destroyed, End, Line, ManifestTip
from collector.recording.names import chunk_key, prefix
from collector.recording.refusals import Refused
from collector.recording.storage import Queued

TABLES = """
CREATE TABLE IF NOT EXISTS recordings (
  recording TEXT PRIMARY KEY, state TEXT NOT NULL, storage TEXT NOT NULL, recipient TEXT,
  lines INTEGER NOT NULL, hash TEXT NOT NULL, signature BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lines (
  recording TEXT NOT NULL, line INTEGER NOT NULL, object TEXT, number INTEGER,
  start INTEGER, tag BLOB, is_uploaded INTEGER, text BLOB NOT NULL, PRIMARY KEY (recording, line)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS chunks ON lines (recording, object, number)
  WHERE number IS NOT NULL;
CREATE INDEX IF NOT EXISTS destroyed ON lines (recording, object) WHERE number IS NULL;
CREATE TABLE IF NOT EXISTS queue (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, recording TEXT NOT NULL, object TEXT NOT NULL,
  number INTEGER NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS queue_of ON queue (recording, object);
CREATE TABLE IF NOT EXISTS queue_size (
  one INTEGER PRIMARY KEY CHECK (one = 1), bytes INTEGER NOT NULL, files INTEGER NOT NULL
);
INSERT OR IGNORE INTO queue_size VALUES (1, 0, 0);
CREATE TRIGGER IF NOT EXISTS queue_grows AFTER INSERT ON queue BEGIN
  UPDATE queue_size SET bytes = bytes + NEW.size, files = files + 1;
END;
CREATE TRIGGER IF NOT EXISTS queue_shrinks AFTER DELETE ON queue BEGIN
  UPDATE queue_size SET bytes = bytes - OLD.size, files = files - 1;
END;
CREATE TABLE IF NOT EXISTS erasures (
  recording TEXT NOT NULL, object TEXT NOT NULL, step TEXT NOT NULL,
  PRIMARY KEY (recording, object)
) WITHOUT ROWID;
"""
"""What its file has."""
_LIVING = """
EXISTS (SELECT 1 FROM recordings WHERE recording = ?1 AND state != 'erased') AND NOT EXISTS
(SELECT 1 FROM lines INDEXED BY destroyed
 WHERE recording = ?1 AND object = ?2 AND number IS NULL)"""
"""Whether neither a track nor its recording was destroyed, or is about to be."""
_PAGE = 256
"""Lines that are read at once."""

State = Literal["open", "finished", "erased"]
Step = Literal["keys", "journal", "objects", "bucket", "again"]
"""The next step of an erasure: destroy keys, tell the journal, remove files, remove objects, and
remove again what a bucket may have got late."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording: ``lines`` and ``hash`` are the tip of its manifest."""

    recording: str
    state: State
    storage: Literal["local", "cloud"]
    recipient: str | None
    lines: int
    hash: str


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk's line; ``start`` is the place of its content in the track; ``tag`` recognises a
    repetition."""

    line: Chunk
    start: int
    tag: bytes

    @property
    def next_start(self) -> int:
        """Return where the next chunk's content begins."""
        return self.start + self.line.content


@dataclass(frozen=True, slots=True)
class PendingErasure:
    """An erasure that is not done: of a track, or of the whole recording where ``object`` is
    empty."""

    recording: str
    object: str
    step: Step


class VaultIndex:
    """The index of a directory. Methods raise ``Refused`` ``full`` or ``unavailable`` when the file
    cannot be read or written; then nothing was changed."""

    def __init__(self, path: Path) -> None:
        self.database: Database = Database(path, TABLES)

    # -- recordings -------------------------------------------------------------------------------

    def find(self, recording: str) -> Recording | None:
        """Return a recording, also an erased one."""
        rows = self.database.rows(
            "SELECT recording, state, storage, recipient, lines, hash FROM recordings"
            " WHERE recording = ?",
            recording,
        )
        return Recording(*rows[0]) if rows else None

    def recordings(self) -> list[str]:
        """Return the recordings that have content and are not erased."""
        rows = self.database.rows(
            "SELECT recording FROM recordings WHERE state != 'erased' AND EXISTS (SELECT 1 FROM"
            " lines WHERE lines.recording = recordings.recording AND number IS NOT NULL)"
        )
        return [row[0] for row in rows]

    def create(self, begin: Begin, recipient: str | None) -> None:
        """Begin a manifest, unless there is one."""
        with self.database.transaction() as db:
            row = (begin.recording, "open", begin.storage, recipient, 0, manifest.NOTHING, None)
            added = db.execute("INSERT OR IGNORE INTO recordings VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            if added.rowcount:
                _append(db, begin.recording, lambda line, previous: begin)

    def finish(self, recording: str, sign: Callable[[ManifestTip], bytes]) -> None:
        """Add the end mark, and the signature of it."""
        with self.database.transaction() as db:
            end = _append(db, recording, End)
            signature = sign(ManifestTip(recording, end.line, manifest.digest(end), True, {}))
            db.execute(
                "UPDATE recordings SET state = 'finished', signature = ? WHERE recording = ?",
                (signature, recording),
            )

    def keep_signature(self, recording: str, signature: bytes) -> None:
        """Keep the latest signature of a manifest."""
        with self.database.transaction() as db:
            statement = "UPDATE recordings SET signature = ? WHERE recording = ?"
            db.execute(statement, (signature, recording))

    def signature(self, recording: str) -> bytes | None:
        """Return the latest signature of a manifest."""
        rows = self.database.rows("SELECT signature FROM recordings WHERE recording = ?", recording)
        return rows[0][0] if rows else None

    def lines(self, recording: str, last: int) -> Iterator[bytes]:
        """Yield the lines of a manifest up to number ``last``, a page at a time."""
        done = 0
        while done < last:
            rows = self.database.rows(
                "SELECT line, text FROM lines WHERE recording = ? AND line > ? AND line <= ?"
                " ORDER BY line LIMIT ?",
                *(recording, done, last, _PAGE),
            )
            if not rows:
                return
            yield from (row[1] for row in rows)
            done = rows[-1][0]

    # -- chunks -----------------------------------------------------------------------------------

    def add(
        self,
        recording: str,
        chunk: Callable[[int, str], Chunk],
        *,
        start: int,
        tag: bytes,
        is_queued: bool,
    ) -> None:
        """Add a chunk's line, made of its number and the hash before it, and queue it."""

        def work(db: Connection) -> None:
            line = _append(db, recording, chunk, start=start, tag=tag)
            if is_queued and isinstance(line, Chunk):
                row = (recording, line.track, line.number, line.size, line.sha256)
                db.execute(
                    "INSERT INTO queue (recording, object, number, size, sha256)"
                    " VALUES (?, ?, ?, ?, ?)",
                    row,
                )

        self.database.commit(work)

    def chunk(self, recording: str, object_: str, number: int) -> StoredChunk | None:
        """Return a chunk of a track that is living."""
        return self._one("number = ?3", recording, object_, number)

    def last(self, recording: str, object_: str) -> StoredChunk | None:
        """Return the last chunk of a track."""
        return self._one("number >= ?3 ORDER BY number DESC LIMIT 1", recording, object_, 0)

    def at(self, recording: str, object_: str, place: int) -> StoredChunk | None:
        """Return the chunk of a track whose content has the byte at a place, or the last one."""
        low, last = 0, self.last(recording, object_)
        high = last.line.number if last else 0
        while low < high:  # by halves: start grows with number
            middle = (low + high + 1) // 2
            found = self.chunk(recording, object_, middle)
            low, high = (middle, high) if found and found.start <= place else (low, middle - 1)
        return self.chunk(recording, object_, low)

    def is_living(self, recording: str, object_: str) -> bool:
        """Return whether neither a track nor its recording was destroyed, or is about to be."""
        return bool(self.database.rows(f"SELECT 1 WHERE {_LIVING}", recording, object_))

    def _one(self, where: str, recording: str, object_: str, number: int) -> StoredChunk | None:
        rows = self.database.rows(
            "SELECT text, start, tag FROM lines"  # noqa: S608
            f" WHERE recording = ?1 AND object = ?2 AND {_LIVING} AND {where}",
            *(recording, object_, number),
        )
        if not rows:
            return None
        line = manifest.read_line(rows[0][0])
        if not isinstance(line, Chunk):
            raise Refused("unavailable")
        return StoredChunk(line, rows[0][1], rows[0][2])

    # -- uploads: see storage.Queue ---------------------------------------------------------------

    def queued(self) -> tuple[int, int]:
        """Return how many bytes and files wait for their upload."""
        size, files = self.database.rows("SELECT bytes, files FROM queue_size")[0]
        return size, files

    def waiting(self, after: int, limit: int) -> list[Queued]:
        """Return the next uploads, in order."""
        rows = self.database.rows(
            "SELECT sequence, recording, object, number, sha256 FROM queue"
            " WHERE sequence > ? ORDER BY sequence LIMIT ?",
            *(after, limit),
        )
        return [Queued(s, chunk_key(r, o, n), digest) for s, r, o, n, digest in rows]

    def is_waiting(self, sequence: int) -> bool:
        """Return whether an upload is in the queue still."""
        return bool(self.database.rows("SELECT 1 FROM queue WHERE sequence = ?", sequence))

    def is_uploaded(self, recording: str, object_: str, number: int) -> bool:
        """Return whether the bucket has taken a chunk."""
        where = "recording = ? AND object = ? AND number = ? AND is_uploaded"
        rows = self.database.rows(f"SELECT 1 FROM lines WHERE {where}", recording, object_, number)  # noqa: S608
        return bool(rows)

    def uploaded(self, sequence: int) -> None:
        """Take an upload from the queue, and note that the bucket has it."""
        statement = "DELETE FROM queue WHERE sequence = ? RETURNING recording, object, number"

        def work(db: Connection) -> None:
            for place in db.execute(statement, (sequence,)).fetchall():
                db.execute(
                    "UPDATE lines SET is_uploaded = 1"
                    " WHERE recording = ? AND object = ? AND number = ?",
                    place,
                )

        self.database.commit(work)

    def removals(self) -> list[str]:
        """Return prefixes below which every object of the bucket has to go."""
        steps = ("bucket", "again")
        return [prefix(e.recording, e.object) for e in self.erasures() if e.step in steps]

    def removed(self, beginning: str, *, is_again: bool = False) -> None:
        """Take a removal from the queue, or note that it is done, and is to be made again."""
        _, recording, object_, *_ = [*beginning.split("/"), ""]
        statement = "UPDATE erasures SET step = 'again' WHERE recording = ? AND object = ?"
        with self.database.transaction() as db:
            if is_again:
                db.execute(statement, (recording, object_))
            else:
                _end(db, recording, object_)

    # -- erasures ---------------------------------------------------------------------------------

    def erasures(self, recording: str | None = None) -> list[PendingErasure]:
        """Return the erasures that are not done, of a recording or of all."""
        rows = self.database.rows(
            "SELECT recording, object, step FROM erasures WHERE ? IS NULL OR recording = ?",
            *(recording, recording),
        )
        return [PendingErasure(*row) for row in rows]

    def mark_destroyed(self, recording: str, objects: Collection[str]) -> None:
        """Note that tracks are to be destroyed, and state it in the manifest."""
        with self.database.transaction() as db:
            for object_ in objects:
                _append(db, recording, lambda n, previous, o=object_: Destroyed(n, previous, o))  # type: ignore[misc]
                _begin(db, recording, object_)
                place = (recording, object_)
                db.execute("DELETE FROM queue WHERE recording = ? AND object = ?", place)
                statement = "UPDATE lines SET tag = NULL WHERE recording = ? AND object = ?"
                db.execute(statement, place)

    def mark_erased(self, recording: str) -> None:
        """Note that a recording is to be erased, as a whole."""
        with self.database.transaction() as db:
            db.execute("DELETE FROM queue WHERE recording = ?", (recording,))
            db.execute("DELETE FROM erasures WHERE recording = ?", (recording,))
            db.execute("UPDATE recordings SET state = 'erased' WHERE recording = ?", (recording,))
            _begin(db, recording, "")

    def advance(self, erasure: PendingErasure, step: Step | None) -> None:
        """Go on to a step of an erasure, or end it. With the keys, the manifest of an erased
        recording goes as well."""
        with self.database.transaction() as db:
            if step is None:
                _end(db, erasure.recording, erasure.object)
                return
            db.execute(
                "UPDATE erasures SET step = ? WHERE recording = ? AND object = ?",
                (step, erasure.recording, erasure.object),
            )
            if not erasure.object:
                db.execute("DELETE FROM lines WHERE recording = ?", (erasure.recording,))
                db.execute(
                    "UPDATE recordings SET recipient = NULL, lines = 0, hash = '', signature = NULL"
                    " WHERE recording = ?",
                    (erasure.recording,),
                )

    def cut_log(self) -> None:
        """Truncate the log, if no process reads an earlier state of it."""
        self.database.cut_log()

    def close(self) -> None:
        """Close the file."""
        self.database.close()


def _append(
    db: Connection, recording: str, make: Callable[[int, str], Line], **columns: Any
) -> Line:
    """Add a line to a manifest within a transaction."""
    statement = "SELECT lines, hash FROM recordings WHERE recording = ?"
    lines, previous = db.execute(statement, (recording,)).fetchone()
    line = make(lines + 1, previous)
    object_ = line.track if isinstance(line, Chunk | Destroyed) else None
    number = line.number if isinstance(line, Chunk) else None
    place = (recording, line.line, object_, number)
    rest = (columns.get("start"), columns.get("tag"), 0, manifest.encode(line))
    db.execute("INSERT INTO lines VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*place, *rest))
    statement = "UPDATE recordings SET lines = ?, hash = ? WHERE recording = ?"
    db.execute(statement, (line.line, manifest.digest(line), recording))
    return line


def _begin(db: Connection, recording: str, object_: str) -> None:
    db.execute("INSERT OR IGNORE INTO erasures VALUES (?, ?, 'keys')", (recording, object_))


def _end(db: Connection, recording: str, object_: str) -> None:
    place = (recording, object_)
    db.execute("DELETE FROM erasures WHERE recording = ? AND object = ?", place)
