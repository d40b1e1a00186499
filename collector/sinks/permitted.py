"""What a statement over a store may do: read tables of records and their views, with functions of a
closed list. Everything else is denied while SQLite compiles it, or at the latest when it begins.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

__all__ = ["FUNCTIONS", "Permission", "confine"]

FUNCTIONS = frozenset(
    """
    abs avg ceil ceiling char coalesce concat concat_ws count cume_dist current_date current_time
    current_timestamp date datetime dense_rank exp first_value floor format glob group_concat hex
    ifnull iif instr json_array json_group_array json_group_object json_object julianday lag
    last_value lead length like ln log log10 log2 lower ltrim max min mod nth_value ntile nullif
    octet_length percent_rank pow power printf quote random rank replace round row_number rtrim sign
    sqrt strftime string_agg substr substring sum time timediff total trim trunc typeof unicode
    unixepoch upper
    """.split()
)
"""Functions that only compute. ``LIKE`` and ``GLOB`` are functions too."""

_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 200_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
"""Bytes of a text, and of a statement. A function cannot be interrupted: to look for one text of
that length in another takes a second at most."""
_MOST_MEMORY = 512 << 20
_STEPS = 10_000
"""Steps of SQLite's machine, some tenths of a millisecond, after which signals are looked for."""


class Permission:
    """Says of each thing that a statement is made of whether it may be.

    ``names`` are tables and views that may be read, ``others`` what else SQLite knows by a name.
    ``denied`` says what was not allowed, if something was not; it names nothing of the statement.
    """

    def __init__(self, names: Collection[str], others: Collection[str]) -> None:
        self._names = {name.lower() for name in names}
        self._others = {name.lower() for name in others}
        self.denied: str | None = None

    def __call__(
        self, action: int, first: str | None, second: str | None, _database: object, _by: object
    ) -> int:
        """SQLite's authorizer, https://www.sqlite.org/c3ref/set_authorizer.html."""
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ:
            is_allowed = self._is_read((first or "").lower(), second)
            why = "it reads what is no table of records, and no view of one"
        elif action == sqlite3.SQLITE_FUNCTION:
            is_allowed = second in FUNCTIONS
            why = "it uses a function that is not one of those listed in docs/query.md"
        else:
            is_allowed, why = False, "it must be a single SELECT: nothing is changed, set or opened"
        if is_allowed:
            return sqlite3.SQLITE_OK
        self.denied = self.denied or why
        return sqlite3.SQLITE_DENY

    def _is_read(self, name: str, column: str | None) -> bool:
        """Whether a column may be read. Where only the number of rows is wanted there is none, and
        the name may be one that the statement has given to a part of its own."""
        is_its_own = name not in self._others and not name.startswith(("pragma_", "sqlite_"))
        return name in self._names or (is_its_own and not column)


def confine(db: sqlite3.Connection, names: Collection[str]) -> Permission:
    """Let a connection do nothing from now on but read what has these names, with little memory,
    and look for signals meanwhile. Memory is limited for all of the process, and for good."""
    execute = db.execute
    known = {row[1] for row in execute("PRAGMA table_list")}
    known.update(row[0] for row in execute("PRAGMA module_list"))
    execute("PRAGMA query_only = ON")
    execute(f"PRAGMA hard_heap_limit = {_MOST_MEMORY}")
    for limit, most in _LIMITS.items():
        db.setlimit(limit, most)
    permission = Permission(names, known)
    db.set_authorizer(permission)
    db.set_progress_handler(_pause, _STEPS)
    return permission


def _pause() -> int:
    """Python looks for signals on entering it; what their handlers raise ends the statement."""
    return 0
