"""Find what a database has besides tables of known names, and texts and bytes of known forms."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from collector.sqlite.connection import quoted
from collector.sqlite.definition import Definition, all_columns_of, columns_of

LONGEST_BYTES = 64 << 20
"""A longer value is not read at all: ``sqlite3.DataError``."""
_FREE_TEXT = re.compile(r"'|--|/\*").search
_NOTED = re.compile(r"integer|[0-9]+( [0-9]+)*( unordered)?( sz=[0-9]+)?( noskipscan)?").fullmatch
"""A number, and what ``ANALYZE`` notes of an index."""
_DIVIDED = re.compile(r"[\s,]+").split
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:00Z)?|").fullmatch
_BYTES = "8, 16, 32"
"""The lengths of ids, hashes, seals and secrets."""
_MOST_TEXTS = 20_000


def database_bytes(file: Path) -> int | None:
    """Return how many bytes the pages of a database have, as its header says it; ``None`` for
    another file. Raises ``OSError``."""
    with file.open("rb") as opened:
        header = opened.read(100)
    if not header.startswith(b"SQLite format 3\0") or len(header) < 100:
        return None
    page, pages = int.from_bytes(header[16:18]), int.from_bytes(header[28:32])
    return pages * (page if page > 1 else 1 << 16)


def foreign_objects(db: sqlite3.Connection, known: Collection[str]) -> int:
    """Count the tables and views of other names than the known ones, indexes and triggers, and
    those whose definition has a comment or a text, which none of ours has; with them the rows of
    SQLite's own tables that say more than these names and numbers. Raises ``sqlite3.Error``."""
    found = db.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT GLOB 'sqlite_*'")
    number = sum(
        kind not in ("table", "view") or name not in known or _FREE_TEXT(sql or "") is not None
        for kind, name, sql in found
    )
    return number + sum(1 for _ in _foreign_notes(db))


def _foreign_notes(db: sqlite3.Connection) -> Iterator[object]:
    """Yield the rows of SQLite's own tables that are none of SQLite, and tables of its names that
    have values of others, as of samples for its planner."""
    objects = {None, *(name for (name,) in db.execute("SELECT name FROM sqlite_master"))}
    own = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'sqlite_*'")
    for (table,) in own.fetchall():
        if table == "sqlite_sequence":
            rows = db.execute("SELECT name, name, typeof(seq) FROM sqlite_sequence").fetchall()
        elif table == "sqlite_stat1":
            rows = db.execute("SELECT tbl, idx, stat FROM sqlite_stat1").fetchall()
        else:
            yield table
            continue
        for *names, noted in rows:
            if not objects.issuperset(names) or not _NOTED(str(noted)):
                yield noted


def added_columns(db: sqlite3.Connection, definition: Definition) -> int:
    """Count the columns, generated ones included, that the tables of a definition do not have.
    Raises ``sqlite3.Error``."""
    defined = definition.columns.items()
    return sum(len(all_columns_of(db, table).keys() - columns) for table, columns in defined)


def hidden_columns(db: sqlite3.Connection, tables: Iterable[str]) -> int:
    """Count the generated columns, which SQLite does not show. Raises ``sqlite3.Error``."""
    return sum(sum(all_columns_of(db, table).values()) for table in tables)


def foreign_columns(
    db: sqlite3.Connection, tables: Collection[str], words: Collection[str]
) -> Iterator[str]:
    """Yield the columns of texts and bytes in which there is something else. A payload is not
    looked at. Raises ``sqlite3.Error``."""
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_BYTES)
    for table in sorted(tables):
        for name, kind in columns_of(db, table).items():
            column, source = quoted(name), quoted(table)
            if kind == "TEXT":
                query = f"SELECT DISTINCT {column} FROM {source} LIMIT {_MOST_TEXTS}"  # noqa: S608
                texts = [text for (text,) in db.execute(query) if text is not None]
                is_foreign = len(texts) == _MOST_TEXTS or not all(
                    each in words or _TIME(each) for text in texts for each in _DIVIDED(text)
                )
            elif kind == "BLOB" and name != "payload":
                query = f"SELECT 1 FROM {source} WHERE length({column}) NOT IN ({_BYTES}) LIMIT 1"  # noqa: S608
                is_foreign = db.execute(query).fetchone() is not None
            else:
                continue
            if is_foreign:
                yield name
