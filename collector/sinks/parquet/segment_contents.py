"""What is in a sink's directory besides records that wait: files that are no segments, bytes behind
their ends, and what a database has that the sink does not write there. Nothing is changed."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from pathlib import Path
from stat import S_ISREG
from time import sleep

from collector.schema.model import Schema
from collector.sinks.parquet.segment_reader import (
    DATABASE,
    NOTES,
    TABLES,
    all_segments,
    disk,
)
from collector.sqlite.files import connect
from collector.sqlite.foreign import added_columns, foreign_columns, foreign_objects

__all__ = ["foreign_parts"]

_FILES = frozenset({DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"})
_TRIES, _PAUSE = 20, 0.05
"""A process that delivers writes into a segment before it notes that."""
_UNREADABLE = "what waits for the lake cannot be read; is the directory of the sink damaged?"
_TYPES = frozenset({"text", "time", "boolean", "integer", "number", "*"})
_DIGEST = re.compile(r"[0-9a-f]{64}").fullmatch
_HOUR = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}").fullmatch
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+", re.ASCII).fullmatch
_KEY = re.compile(r"/day=[0-9]{4}-[0-9]{2}-[0-9]{2}/[0-9]{2}-[0-9a-f]{32}\.parquet").fullmatch


def foreign_parts(directory: Path, schemas: Collection[Schema]) -> int:
    """Count the files, tables and columns with anything else. Raises ``DeliveryError`` E508."""
    with disk(_UNREADABLE):
        if not directory.exists():
            return 0
        for attempt in range(_TRIES):
            sizes = _sizes(directory)
            sleep(_PAUSE * bool(attempt))
            lengths, foreign = _of_database(directory / DATABASE, schemas)
            longer = sum(size > lengths.get(name, 0) for name, size in sizes.items())
            if not longer:
                break
        return longer + foreign


def _sizes(directory: Path) -> dict[str, int]:
    """Return the sizes of all files but the database; a directory or a link has one, too."""
    sizes = dict[str, int]()
    for path in directory.iterdir():
        if path.name not in _FILES:
            with suppress(FileNotFoundError):
                status = path.lstat()
                is_empty = S_ISREG(status.st_mode) and path.name == "lock"
                sizes[path.name] = status.st_size if is_empty else max(status.st_size, 1)
    return sizes


def _of_database(path: Path, schemas: Collection[Schema]) -> tuple[dict[str, int], int]:
    """Return the lengths of segments by the names of their files, and how many tables and columns
    of the database are foreign; one that cannot be read counts as one."""
    db = connect(path)
    if db is None:
        return {}, int(path.exists())
    statements = TABLES.split(";")[:-1]
    notes = (f"ALTER TABLE segments ADD COLUMN {name} {type_}" for name, type_ in NOTES.items())
    with closing(db), closing(sqlite3.connect(":memory:")) as model:
        model.executescript(TABLES)
        known = [name for (name,) in model.execute(_NAMES)]
        found = foreign_objects(db, known) + added_columns(db, (*statements, *notes))
        words = {*_TYPES, *_words(schemas), *_spelled(db, {each.name for each in schemas})}
        found += sum(1 for _ in foreign_columns(db, [*_there(db, known)], words))
        return {each.file_name: each.length for each in all_segments(db)}, found


_NAMES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"


def _there(db: sqlite3.Connection, known: Collection[str]) -> Iterator[str]:
    yield from (name for (name,) in db.execute(_NAMES) if name in known)


def _words(schemas: Collection[Schema]) -> Iterator[str]:
    for schema in schemas:
        yield from (*schema.fields, *schema.purposes)


def _spelled(db: sqlite3.Connection, schemas: Collection[str]) -> Iterator[str]:
    """Yield the digests, hours, names of versions and keys of files that segments have."""
    tables = [*_there(db, ("segments", "types", "retentions", "places"))]
    for table in tables:
        for (digest,) in db.execute(f"SELECT DISTINCT digest FROM {table}"):  # noqa: S608
            if _DIGEST(digest):
                yield digest
    for segment in all_segments(db) if "segments" in tables else ():
        name, _, version = segment.schema.partition("/")
        if name in schemas and _VERSION(version):
            yield segment.schema
            if segment.key.startswith(name) and _KEY(segment.key.removeprefix(name)):
                yield segment.key
        yield from filter(_HOUR, [segment.hour])
        yield from filter(_DIGEST, filter(None, [segment.place]))
