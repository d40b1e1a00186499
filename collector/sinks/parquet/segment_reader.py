"""Read segments, and find foreign files beside them, while another process may write there."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import groupby
from pathlib import Path
from time import sleep, time
from typing import NamedTuple

from collector.errors import DeliveryError
from collector.files import failing_as, foreign_entries
from collector.schema.model import Schema
from collector.sqlite import foreign
from collector.sqlite.connection import connect_to_read
from collector.sqlite.definition import Definition, format_of

DATABASE = "segments.db"
"""The name of the database in the directory of a sink."""
COLUMNS = (
    "number, key, schema, digest, hour, opened, length, revision, is_closed, place, routed,"
    " is_limited"
)
"""The columns of a segment in the database."""
DEFINITION = Definition(
    (
        """CREATE TABLE segments (
  number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, schema TEXT NOT NULL, digest TEXT NOT NULL,
  hour TEXT NOT NULL, opened REAL NOT NULL, length INTEGER NOT NULL, revision INTEGER NOT NULL,
  is_closed INTEGER NOT NULL, place TEXT NOT NULL, routed TEXT NOT NULL,
  is_limited INTEGER NOT NULL) STRICT""",
        """CREATE TABLE frames (
  segment INTEGER NOT NULL, at INTEGER NOT NULL, length INTEGER NOT NULL, received TEXT NOT NULL,
  PRIMARY KEY (segment, at)) STRICT""",
        """CREATE TABLE types (
  digest TEXT NOT NULL, place INTEGER NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL,
  PRIMARY KEY (digest, name)) STRICT""",
        """CREATE TABLE retentions (
  digest TEXT NOT NULL, name TEXT NOT NULL, seconds INTEGER NOT NULL,
  PRIMARY KEY (digest, name)) STRICT""",
        "CREATE TABLE places (digest TEXT NOT NULL) STRICT",
        "CREATE TABLE delivered (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE) STRICT",
    )
)
"""The definition of the database."""
_PIECE = 2 << 20


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment. ``key`` is the key of its object, ``hour`` the hour in which its records were
    received, and ``length`` the number of valid bytes in its file.

    ``place`` is the digest of the place for which it was collected. ``routed`` names the fields
    that reached the sink, one on each line with its purposes. ``is_limited`` is true if it has
    records of people who granted only some purposes.
    """

    number: int
    key: str
    schema: str
    digest: str
    hour: str
    opened: float
    length: int
    revision: int
    is_closed: int
    place: str
    routed: str
    is_limited: int

    @property
    def file_name(self) -> str:
        """The name of its file, which changes when the segment is rewritten."""
        return f"{self.number}-{self.revision}.ndjson"

    @property
    def name(self) -> str:
        """The name of its schema, without the version."""
        return self.schema.partition("/")[0]

    @property
    def first(self) -> str:
        """The first minute at which its records can have been received."""
        return f"{self.hour}:00:00Z"

    @property
    def last(self) -> str:
        """The last minute at which its records can have been received."""
        return f"{self.hour}:59:00Z"

    def is_due(self, seconds: float, size: int) -> bool:
        """Return whether it must become an object now: it is closed, or old or large enough."""
        age = time() - self.opened
        return bool(self.is_closed) or self.length >= size or not 0 <= age < seconds


def has_segments(directory: Path) -> bool:
    """Return whether a sink has collected in a directory, as far as this user may know."""
    with suppress(OSError):
        return (directory / DATABASE).is_file()
    return False


def _may_know(directory: Path) -> bool:
    """Return whether this user may know whether there are segments in a directory."""
    with suppress(OSError):
        with suppress(FileNotFoundError, NotADirectoryError):
            (directory / DATABASE).stat()
        return True
    return False


def require_known_format(db: sqlite3.Connection) -> bool:
    """Return whether there are tables in a database of segments. Raises ``DeliveryError`` E501 if
    it has another format."""
    found = format_of(db)
    if found not in (None, DEFINITION.format):
        raise DeliveryError("E501", _UNKNOWN)
    return found is not None


@contextmanager
def _database(directory: Path) -> Iterator[sqlite3.Connection | None]:
    """Open the database of a directory read-only; ``None`` if there are no segments. Raises
    ``DeliveryError``: E501 for another format, E503 if it cannot be read."""
    if not has_segments(directory):
        yield None
        return
    db = connect_to_read(directory / DATABASE)
    if db is None:
        raise DeliveryError("E503", _UNREADABLE)
    with closing(db), disk(_UNREADABLE):
        yield db if require_known_format(db) else None


def place_of(directory: Path) -> str | None:
    """Return the digest of the place of the sink that used a directory last, if it is readable."""
    with suppress(DeliveryError), _database(directory) as db:
        if db is not None:
            (found,) = db.execute("SELECT digest FROM places").fetchone() or (None,)
            return found if isinstance(found, str) else None
    return None


class Waiting(NamedTuple):
    """A segment, pieces of its records, each with the minute at which they were received, and the
    retentions of its fields."""

    segment: Segment
    pieces: Iterator[tuple[str, bytes]]
    retentions: Mapping[str, timedelta]


@contextmanager
def read_segments(directory: Path, *, must_know: bool = False) -> Iterator[list[Waiting]]:
    """Yield the segments in a directory with their records, as of one moment. Another process may
    write there. Raises ``DeliveryError`` E501 for another format, and E503; with ``must_know``,
    also if this user may not know whether there are segments."""
    if must_know and not _may_know(directory):
        raise DeliveryError("E503", _UNREADABLE)
    with ExitStack() as files:
        yield _opened(directory, files)


_TRIES = 100
_LOST = b"?\n"
_UNKNOWN = "what waits for the lake has a format that this version of Collector does not know"
_UNREADABLE = "what waits for the lake cannot be read; is the directory of the sink damaged?"


def _opened(directory: Path, files: ExitStack) -> list[Waiting]:
    """Open all segments at once. Try again if one is removed meanwhile."""
    for _ in range(_TRIES):
        with _database(directory) as db, suppress(FileNotFoundError):
            return (
                [] if db is None else [_waiting(directory, db, s, files) for s in all_segments(db)]
            )
        files.close()
    raise DeliveryError("E503", _UNREADABLE)


def _waiting(
    directory: Path, db: sqlite3.Connection, segment: Segment, files: ExitStack
) -> Waiting:
    file = os.open(directory / segment.file_name, os.O_RDONLY | os.O_CLOEXEC)
    files.callback(os.close, file)
    found = pieces(read_frames(frames_of(db, segment), file))
    return Waiting(segment, found, retentions_of(db, segment))


def all_segments(db: sqlite3.Connection) -> list[Segment]:
    """Return all segments of a database, the oldest first."""
    query = f"SELECT {COLUMNS} FROM segments ORDER BY number"  # noqa: S608 - constants
    return [Segment(*row) for row in db.execute(query)]


def frames_of(db: sqlite3.Connection, segment: Segment) -> list[tuple[str, int, int]]:
    """Return the minutes of a segment's frames, with the offset and length of each."""
    query = "SELECT received, at, length FROM frames WHERE segment = ? ORDER BY received, at"
    return list(db.execute(query, (segment.number,)))


def retentions_of(db: sqlite3.Connection, segment: Segment) -> dict[str, timedelta]:
    """Return the retentions of a segment's fields; none if they were not noted."""
    query = "SELECT name, seconds FROM retentions WHERE digest = ?"
    rows = db.execute(query, (segment.digest,))
    return {name: timedelta(seconds=seconds) for name, seconds in rows}


def read_frames(
    frames: Iterable[tuple[str, int, int]], file: int, *, is_partial: bool = False
) -> Iterator[tuple[str, bytes]]:
    """Yield the minutes and bytes of frames from an open file. Raises ``DeliveryError`` E503 if the
    file has lost some; with ``is_partial``, yield an unreadable line in their place.
    """
    for minute, at, length in frames:
        payload = os.pread(file, length, at)
        if len(payload) < length:
            if not is_partial or os.fstat(file).st_size >= at + length:
                raise DeliveryError("E503", _UNREADABLE)
            payload += _LOST
        yield minute, payload


def pieces(payloads: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Yield the records of one minute together, in pieces of a bounded size."""
    for minute, group in groupby(payloads, key=lambda each: each[0]):
        parts, size = list[bytes](), 0
        for _, payload in group:
            parts.append(payload)
            size += len(payload)
            if size >= _PIECE:
                yield minute, b"".join(parts)
                parts, size = [], 0
        if size:
            yield minute, b"".join(parts)


def disk(
    message: str = "the sink's directory did not take the batch; is the disk full?",
) -> AbstractContextManager[None]:
    """Turn errors of the disk and the database into ``DeliveryError`` E503, without their text."""
    return failing_as(DeliveryError("E503", message), OSError, sqlite3.Error)


# -- what is in a sink's directory besides records that wait --------------------------------------

_TYPES = frozenset({"text", "time", "boolean", "integer", "number", "*"})
_DIGEST = re.compile(r"[0-9a-f]{64}").fullmatch
_HOUR = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}").fullmatch
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+", re.ASCII).fullmatch
_KEY = re.compile(r"/day=[0-9]{4}-[0-9]{2}-[0-9]{2}/[0-9]{2}-[0-9a-f]{32}\.parquet").fullmatch
_LOOKS, _PAUSE = 20, 0.05
"""Several looks, because a delivering process writes into a segment before it notes that."""


def foreign_parts(directory: Path, schemas: Collection[Schema]) -> int:
    """Count the parts of a directory that are not its database, its lock or segments that the
    database lists. Raises ``DeliveryError`` E503."""
    for attempt in range(_LOOKS):
        sleep(_PAUSE * bool(attempt))
        with _database(directory) as db:
            listed = {each.file_name: each.length for each in all_segments(db)} if db else {}

        def is_listed(name: str, listed: Mapping[str, int] = listed) -> bool:
            size = (directory / name).stat().st_size
            return _IS_DATABASE(name) is not None or size <= listed.get(name, -(name != "lock"))

        with disk(_UNREADABLE):
            found = foreign_entries(directory, {"file": is_listed})
        if not found:
            break
    words = partial(_words, schemas=schemas)
    return len(found) + foreign.foreign_parts(directory / DATABASE, DEFINITION, words=words)


_IS_DATABASE = re.compile(rf"{re.escape(DATABASE)}(-wal|-shm)?").fullmatch


def _words(db: sqlite3.Connection, schemas: Collection[Schema]) -> set[str]:
    """Return the words of schemas, and the digests, hours, versions and file keys of segments."""
    found = {*_TYPES, *(word for each in schemas for word in (*each.fields, *each.purposes))}
    names = {each.name for each in schemas}
    for table in ("segments", "types", "retentions", "places"):
        digests = db.execute(f"SELECT DISTINCT digest FROM {table}").fetchall()  # noqa: S608
        found.update(digest for (digest,) in digests if _DIGEST(digest))
    for segment in all_segments(db):
        name, _, version = segment.schema.partition("/")
        if name in names and _VERSION(version):
            found.add(segment.schema)
            if segment.key.startswith(name) and _KEY(segment.key.removeprefix(name)):
                found.add(segment.key)
        found.update([*filter(_HOUR, [segment.hour]), *filter(_DIGEST, [segment.place])])
    return found
