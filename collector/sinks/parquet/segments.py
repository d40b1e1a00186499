"""Segments: records on their way into a Parquet file, on this machine's disk.

A segment is an NDJSON file of one schema and hour, and becomes one object. A database beside it
knows which bytes of the file are valid, when they were received, and which batches were taken; it
holds no values. A batch is in a segment once its transaction is committed, after the file was
synced. A closed segment gets no more batches, so that its object can be made again after a crash.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from time import time
from typing import NamedTuple, Self
from uuid import uuid4

from collector.contracts import Batch, Layout, Removal, added, layout_of
from collector.errors import DeliveryError, InUse
from collector.files import make_private, sync
from collector.filter.redaction import Rule, redact
from collector.sinks.parquet.segment_reader import (
    COLUMNS,
    DATABASE,
    DEFINITION,
    Segment,
    all_segments,
    disk,
    frames_of,
    pieces,
    read_frames,
    require_known_format,
    retentions_of,
)
from collector.sinks.record_files import FileLock
from collector.sqlite.connection import connect, transaction

TypesOf = Callable[[Batch, Mapping[str, str]], Mapping[str, str | None]]
"""Returns the type of each column that records of a batch's layout can have, as far as it is known.
Its arguments are the batch and the types that were noted before."""
_STORED_IDS = 1_000_000
"""How many of the newest batch ids are kept: some 50 MB."""
_NEW_TYPE = (
    "INSERT INTO types VALUES (?, ?, ?, ?)"
    " ON CONFLICT (digest, name) DO UPDATE SET type = excluded.type"
)
_IN_USE = "another process has the directory of the sink"


class Terms(NamedTuple):
    """The length at which a segment is full, and its ``place`` and ``routed``."""

    size: int
    place: str
    routed: str


class Segments:
    """The segments in a directory, for one process and one thread at a time. With ``is_shared``,
    several processes may use them, each while it is in ``locked``.

    Raises ``InUse`` if another process uses them, and ``DeliveryError``: E501 for another format,
    E503 for an error of the disk; then nothing has changed.
    """

    def __init__(self, directory: Path, *, is_shared: bool = False) -> None:
        self.directory = directory
        with disk():
            handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock = FileLock(handle, shared=is_shared)
        try:
            with self._lock as is_locked:
                if not is_locked:
                    raise InUse("E203", _IN_USE)
                with disk():
                    self._open()
        except BaseException:
            self._lock.close()
            raise

    def __repr__(self) -> str:
        return "<Segments>"

    @contextmanager
    def locked(self) -> Iterator[Self]:
        """Keep other processes from changing anything during the block. Raises ``DeliveryError``
        E503 if another process holds the lock for too long."""
        with self._lock as is_locked:
            if not is_locked:
                raise DeliveryError("E503", _IN_USE)
            yield self

    def close(self) -> None:
        """Close the database, and release the directory."""
        with suppress(sqlite3.Error):
            self._db.close()
        self._lock.close()

    def _open(self) -> None:
        path = self.directory / DATABASE
        make_private(path)  # never opens an existing file: another sink may have locks on it
        self._db = connect(path)
        try:
            with transaction(self._db):
                if not require_known_format(self._db):
                    DEFINITION.create(self._db)
            self._clear()
        except BaseException:
            self._db.close()
            raise

    def clear(self) -> None:
        """Remove what a crash or a failed change left: files of no segment, and bytes after the
        valid length."""
        with disk():
            self._clear()

    def _clear(self) -> None:
        known = {segment.file_name: segment for segment in self.all()}
        for path in self.directory.iterdir():
            if path.name in known:
                _truncate(path, known[path.name].length)
            elif path.suffix in (".ndjson", ".parquet"):
                path.unlink()
        sync(self.directory)

    # -- delivery ---------------------------------------------------------------------------------

    def add(
        self, batches: Iterable[Batch], types_of: TypesOf, terms_of: Callable[[Layout], Terms]
    ) -> None:
        """Store batches durably, each once by its id, under the terms of their layouts."""
        touched: dict[int, Segment] = {}
        try:
            with disk(), transaction(self._db):
                new = [batch for batch in batches if self._is_new(batch)]
                for _, group in groupby(sorted(new, key=_place), key=_place):
                    some = list(group)
                    self._note_types(some, types_of)
                    self._append(some, terms_of(layout_of(some[0])), touched)
                for segment in touched.values():
                    self._sync(segment)
        except BaseException:
            for segment in touched.values():
                with suppress(OSError):
                    _truncate(self.directory / segment.file_name, segment.length)
            raise

    def _is_new(self, batch: Batch) -> bool:
        new = self._db.execute("INSERT OR IGNORE INTO delivered (id) VALUES (?)", (batch.id,))
        if not new.rowcount:
            return False
        oldest = (new.lastrowid or 0) - _STORED_IDS
        self._db.execute("DELETE FROM delivered WHERE number <= ?", (oldest,))
        return True

    def _append(self, batches: list[Batch], terms: Terms, touched: dict[int, Segment]) -> None:
        """Append batches of one schema and hour, in the order of their minutes."""
        layout, hour = layout_of(batches[0]), batches[0].received[:13]
        is_limited = int(any(batch.granted is not None for batch in batches))
        segment = self._segment(layout, hour, terms)
        for minute, payload in pieces((batch.received, batch.payload) for batch in batches):
            if segment.length >= terms.size:
                self._update(segment, is_closed=1)
                segment = self._segment(layout, hour, terms)
            touched.setdefault(segment.number, segment)
            _write(self.directory / segment.file_name, payload, segment.length)
            frame = (segment.number, segment.length, len(payload), minute)
            self._db.execute("INSERT INTO frames VALUES (?, ?, ?, ?)", frame)
            is_limited = max(is_limited, segment.is_limited)
            length = segment.length + len(payload)
            segment = self._update(segment, length=length, is_limited=is_limited)

    def _segment(self, layout: Layout, hour: str, terms: Terms) -> Segment:
        """Return the open segment for a schema, an hour and terms; create one if there is none."""
        where = "schema = ? AND digest = ? AND hour = ? AND place = ? AND routed = ?"
        query = f"SELECT {COLUMNS} FROM segments WHERE is_closed = 0 AND {where}"  # noqa: S608
        row = self._db.execute(query, (layout.schema, layout.digest, hour, *terms[1:])).fetchone()
        if row is not None:
            found = Segment(*row)
            if (self._size(found) or 0) >= found.length:
                return found
            self._update(found, is_closed=1)  # its file is damaged
        key = f"{layout.table}/day={hour[:10]}/{hour[11:13]}-{uuid4().hex}.parquet"
        values = (None, key, layout.schema, layout.digest, hour, time(), 0, 0, 0, *terms[1:], 0)
        query = f"INSERT INTO segments ({COLUMNS}) VALUES ({', '.join('?' * len(values))})"  # noqa: S608
        made = self._db.execute(query, values)
        return Segment(made.lastrowid or 0, *values[1:])

    def _note_types(self, batches: list[Batch], types_of: TypesOf) -> None:
        """Note the types of columns that have reached the sink, including changed types."""
        digest = layout_of(batches[0]).digest
        noted = dict(self._types(digest))
        for batch in batches:
            names = {name for name, _ in layout_of(batch).columns}
            for place, (name, type_) in enumerate(types_of(batch, noted).items()):
                if name in names and type_ is not None and noted.get(name) != type_:
                    self._db.execute(_NEW_TYPE, (digest, place, name, type_))
                    noted[name] = type_

    def _types(self, digest: str) -> list[tuple[str, str]]:
        query = "SELECT name, type FROM types WHERE digest = ? ORDER BY place, name"
        return list(self._db.execute(query, (digest,)))

    def _update(self, segment: Segment, **changes: int | str) -> Segment:
        names = ", ".join(f"{name} = ?" for name in changes)
        query = f"UPDATE segments SET {names} WHERE number = ? RETURNING {COLUMNS}"  # noqa: S608
        (row,) = self._db.execute(query, (*changes.values(), segment.number)).fetchall()
        return Segment(*row)

    def _sync(self, segment: Segment) -> None:
        _sync_file(self.directory / segment.file_name)
        if not segment.length:
            sync(self.directory)

    # -- what is there ----------------------------------------------------------------------------

    def all(self) -> list[Segment]:
        """Return all segments, the oldest first."""
        with disk():
            return all_segments(self._db)

    def types(self, segment: Segment) -> dict[str, str]:
        """Return the types of a segment's columns, in the order of its schema."""
        with disk():
            return dict(self._types(segment.digest))

    def note_retentions(self, digest: str, spans: Mapping[str, timedelta]) -> None:
        """Note the retentions of a schema's fields durably, in case we later lack the schema."""
        rows = [(digest, name, span // timedelta(seconds=1)) for name, span in spans.items()]
        with disk(), transaction(self._db):
            self._db.executemany("INSERT OR IGNORE INTO retentions VALUES (?, ?, ?)", rows)

    def retentions(self, segment: Segment) -> dict[str, timedelta]:
        """Return the retentions of a segment's fields; none if they were not noted."""
        with disk():
            return retentions_of(self._db, segment)

    def pieces(self, segment: Segment) -> Iterator[tuple[str, bytes]]:
        """Yield the records of a segment in pieces of a bounded size, each with the minute at which
        they were received. An unreadable line stands for records that the file has lost."""
        with disk():
            frames = frames_of(self._db, segment)
            is_gone = self._size(segment) is None
            path = Path(os.devnull) if is_gone else self.directory / segment.file_name
            with path.open("rb") as file:
                yield from pieces(read_frames(frames, file.fileno(), is_partial=True))

    def _size(self, segment: Segment) -> int | None:
        """Return the length of a segment's file; ``None`` if only that file is gone. Raises
        ``OSError`` if the whole directory is gone, for example because its volume is not mounted.
        """
        with suppress(FileNotFoundError):
            return (self.directory / segment.file_name).stat().st_size
        (self.directory / DATABASE).stat()
        return None

    # -- changes ----------------------------------------------------------------------------------

    def close_segment(self, segment: Segment) -> Segment:
        """Note durably that a segment gets no more batches."""
        return segment if segment.is_closed else self.note(segment, is_closed=1)

    def note_place(self, place: str) -> None:
        """Note the place of the sink that uses the directory now."""
        with disk(), transaction(self._db):
            self._db.execute("DELETE FROM places")
            self._db.execute("INSERT INTO places VALUES (?)", (place,))

    def note(self, segment: Segment, **notes: int | str) -> Segment:
        """Change columns of a segment durably."""
        with disk(), transaction(self._db):
            return self._update(segment, **notes)

    def remove(self, segment: Segment) -> None:
        """Remove a segment; the ids of its batches stay."""
        with disk():
            with transaction(self._db):
                self._db.execute("DELETE FROM frames WHERE segment = ?", (segment.number,))
                self._db.execute("DELETE FROM segments WHERE number = ?", (segment.number,))
            (self.directory / segment.file_name).unlink(missing_ok=True)
            sync(self.directory)

    def rewrite(self, segment: Segment, rules: Sequence[Rule]) -> list[Removal]:
        """Rewrite a segment by rules; return what each has removed. Deletes the old file."""
        if not any(any(redact(piece, rules, minute)[1]) for minute, piece in self.pieces(segment)):
            return [Removal() for _ in rules]
        try:
            with disk():
                return self._rewrite(segment, rules)
        except BaseException:
            with suppress(OSError, sqlite3.Error):
                self._clear()
            raise

    def _rewrite(self, segment: Segment, rules: Sequence[Rule]) -> list[Removal]:
        total = [Removal() for _ in rules]
        length, frames = 0, list[tuple[int, int, int, str]]()
        path = self.directory / f"{segment.number}-{segment.revision + 1}.ndjson"
        path.unlink(missing_ok=True)  # an earlier try may have left it
        _write(path, b"", 0)
        for minute, piece in self.pieces(segment):
            left, done = redact(piece, rules, minute)
            total = added(total, done)
            if left:
                _write(path, left, length)
                frames.append((segment.number, length, len(left), minute))
                length += len(left)
        _sync_file(path)
        sync(self.directory)
        with transaction(self._db):
            self._db.execute("DELETE FROM frames WHERE segment = ?", (segment.number,))
            self._db.executemany("INSERT INTO frames VALUES (?, ?, ?, ?)", frames)
            self._update(segment, length=length, revision=segment.revision + 1)
        (self.directory / segment.file_name).unlink(missing_ok=True)
        sync(self.directory)
        return total


def _place(batch: Batch) -> tuple[str, str, str]:
    layout = layout_of(batch)
    return layout.schema, layout.digest, batch.received


def _write(path: Path, data: bytes, offset: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(path, flags, 0o600)
    try:
        left = memoryview(data)
        while left:
            written = os.pwrite(handle, left, offset)
            left, offset = left[written:], offset + written
    finally:
        os.close(handle)


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _truncate(path: Path, length: int) -> None:
    if path.stat().st_size > length:
        os.truncate(path, length)
