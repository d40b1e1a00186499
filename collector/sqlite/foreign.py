"""Compare a SQLite file with what our statements produce.

``sqlite_master`` must have exactly the rows that these statements produce in an empty database.
Anything else that somebody has created or redefined differs from them. ``pages`` checks the bytes
between the rows; ``wal`` checks the log and its index.
"""

from __future__ import annotations

import os
import re
import sqlite3
import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from collector.sqlite.connection import connect_to_memory, connect_to_read, quoted
from collector.sqlite.definition import Definition, columns_of, tables_of
from collector.sqlite.pages import Pages
from collector.sqlite.wal import is_index, is_whole

LONGEST_BYTES = 64 << 20
"""Reading a longer value raises ``sqlite3.DataError``."""
_DIVIDED = re.compile(r"[\s,]+").split
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:00Z)?|").fullmatch
_BYTES = "8, 16, 32"
"""The lengths of ids, hashes, seals and secrets."""
_MOST_TEXTS = 20_000


def foreign_parts(
    path: Path,
    definition: Definition,
    more: Callable[[sqlite3.Connection], Iterable[str]] = lambda _: (),
    words: Callable[[sqlite3.Connection], Collection[str]] | None = None,
    passed: Collection[tuple[str, str]] = (),
) -> int:
    """Count the parts of a file and its log that we would not have written. The file may be in use;
    a file that cannot be read counts as one part.

    ``more`` returns statements for tables beyond the definition. With ``words``, texts in the
    definition's tables may have these words only, except in the columns ``passed`` (pairs of table
    and column).
    """
    log, index = (path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm"))
    if not path.is_file():
        return int(os.path.lexists(path))
    if not (path.stat().st_size or log.exists()):
        return 0
    with suppress(sqlite3.Error, struct.error, OSError, ValueError, LookupError):
        if (db := connect_to_read(path)) is None:
            return 1
        with closing(db):
            found = foreign_objects(db, (*definition.tables, *more(db)))
            with closing(Pages(db, path)) as pages:
                found += len([*pages.foreign(definition.format, definition.application)])
            if words is not None:
                tables = definition.columns.keys() & {*tables_of(db)}
                found += len([*foreign_columns(db, tables, words(db), passed)])
            return found + (not is_whole(log)) + (not is_index(index))
    return 1


def foreign_objects(db: sqlite3.Connection, statements: Iterable[str]) -> int:
    """Count the tables, indexes, views and triggers that differ from what the statements create.
    Raises ``sqlite3.Error``."""
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master"
    with closing(connect_to_memory()) as model:
        for statement in statements:
            model.executescript(statement)
        return len({*db.execute(query)} - {*model.execute(query)})


def foreign_columns(
    db: sqlite3.Connection,
    tables: Collection[str],
    words: Collection[str],
    passed: Collection[tuple[str, str]],
) -> Iterator[str]:
    """Yield the columns with texts that are neither ``words`` nor times, or with bytes of a length
    that we never write. Raises ``sqlite3.Error``."""
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_BYTES)
    for table in sorted(tables):
        for name, kind in columns_of(db, table).items():
            column, source = quoted(name), quoted(table)
            if (table, name) in passed:
                continue
            if kind == "TEXT":
                query = f"SELECT DISTINCT {column} FROM {source} LIMIT {_MOST_TEXTS}"  # noqa: S608
                texts = [text for (text,) in db.execute(query) if text is not None]
                is_foreign = len(texts) == _MOST_TEXTS or not all(
                    each in words or _TIME(each) for text in texts for each in _DIVIDED(text)
                )
            elif kind == "BLOB":
                query = f"SELECT 1 FROM {source} WHERE length({column}) NOT IN ({_BYTES}) LIMIT 1"  # noqa: S608
                is_foreign = db.execute(query).fetchone() is not None
            else:
                continue
            if is_foreign:
                yield name
