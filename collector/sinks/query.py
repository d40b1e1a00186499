"""Answer one statement over a store: read-only and within limits.

No error contains SQLite's own message: it quotes the statement, which may contain an address.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from collector.documents import nearest
from collector.errors import CollectorError, DeliveryError, InputError, UsageError
from collector.sinks.inventory import shapes
from collector.sqlite.definition import columns_of

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
"""Functions that only compute; ``LIKE`` and ``GLOB`` are functions too."""

_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 200_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
"""Limits of SQLite for texts, statements, patterns, attached files and threads."""
_MOST_MEMORY = 512 << 20
_LEAST_COLUMNS = 200
_MOST_ROW_BYTES = 8 << 20


class Permission:
    """Decides which operations of a statement are allowed.

    ``names`` are tables and views that may be read, ``others`` all other names that SQLite knows.
    ``denied`` describes the first operation that was refused; it contains nothing of the statement.
    """

    def __init__(self, names: Collection[str], others: Collection[str]) -> None:
        self._names = {name.lower() for name in names}
        self._others = {name.lower() for name in others}
        self.denied: str | None = None

    def __call__(
        self, action: int, first: str | None, second: str | None, _database: object, _by: object
    ) -> int:
        """Authorize an operation, as https://www.sqlite.org/c3ref/set_authorizer.html says."""
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ:
            is_allowed = self._is_read((first or "").lower(), second)
            why = "it reads what is no table of records, and no view of one"
        elif action == sqlite3.SQLITE_FUNCTION:
            is_allowed = second in FUNCTIONS
            why = "it uses a function that is not one of those listed in docs/stores.md"
        else:
            is_allowed, why = False, "it must be a single SELECT: nothing is changed, set or opened"
        if is_allowed:
            return sqlite3.SQLITE_OK
        self.denied = self.denied or why
        return sqlite3.SQLITE_DENY

    def _is_read(self, name: str, column: str | None) -> bool:
        """Return whether a column may be read. A query that only counts rows names no column; its
        table may be a part of the statement itself."""
        is_its_own = name not in self._others and not name.startswith(("pragma_", "sqlite_"))
        return name in self._names or (is_its_own and not column)


def confine(db: sqlite3.Connection, names: Collection[str]) -> Permission:
    """Restrict a connection to reading these names. This also limits SQLite's memory, permanently
    and for the whole process."""
    execute = db.execute
    known = {row[1] for row in execute("PRAGMA table_list")}
    known.update(row[0] for row in execute("PRAGMA module_list"))
    execute("PRAGMA query_only = ON")
    execute(f"PRAGMA hard_heap_limit = {_MOST_MEMORY}")
    for limit, most in _LIMITS.items():
        db.setlimit(limit, most)
    permission = Permission(names, known)
    db.set_authorizer(permission)
    return permission


_TOKENS = re.compile(
    r"""'(?:[^']++|'')*+(?:'|\Z) | "(?P<name>(?:[^"]++|"")*+)" | `(?:[^`]++|``)*+(?:`|\Z)
    | \[[^\]]*+(?:\]|\Z) | --[^\n]*+ | /\*.*?(?:\*/|\Z)""",
    re.DOTALL | re.VERBOSE,
)
"""Matches texts, quoted names and comments, even unterminated ones. The time is proportional to the
length of the statement; no other thread runs meanwhile."""
_EXPLAIN = re.compile(
    r"(?:[\s;\ufeff]|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))*+explain\b", re.DOTALL | re.IGNORECASE
)
"""Matches the beginning of EXPLAIN, which would show what the file has besides records."""
_FAILURES = (sqlite3.Error, sqlite3.Warning, MemoryError)
_OF_THE_STATEMENT = (
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_RANGE,
    sqlite3.SQLITE_MISUSE,
)
"""The codes of errors in the statement. All other errors concern the file."""
_TOO_MUCH = (sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_NOMEM)
_MUCH = "the statement makes too long a text, or needs too much memory; ask for less at once"
_MOST_CHARACTERS = 200


@dataclass(frozen=True, repr=False)
class Answer:
    """The names of an answer's columns, each once, and an iterator of its rows."""

    columns: tuple[str, ...]
    rows: Iterator[Sequence[Any]]


def ask(db: sqlite3.Connection, statement: str) -> Answer:
    """Run a statement over the tables of records and their views. The rows can be read while the
    connection is open. The connection cannot be used for anything else afterwards.

    SQLite releases the interpreter's lock while it works, but a single step may take minutes and
    ignores ``interrupt``. To limit the time, let another thread end the process.

    Raises ``UsageError`` E407 for a statement that cannot be answered or is not allowed,
    ``InputError`` E416 for one that needs too much memory, and ``DeliveryError`` E501 if the store
    cannot be read. Reading the rows raises the same.
    """
    return _Statement(db, statement).answer()


class _Statement:
    def __init__(self, db: sqlite3.Connection, text: str) -> None:
        found = shapes(db)
        views = [shape.view for shape in found if shape.view is not None]
        self._tables = [shape.table for shape in found] + views
        columns = [name for table in self._tables for name in columns_of(db, table)]
        self._columns = list(dict.fromkeys(columns))
        self._permission = confine(db, self._tables)
        widest = max((len(shape.columns) for shape in found), default=0)
        db.setlimit(sqlite3.SQLITE_LIMIT_COLUMN, max(_LEAST_COLUMNS, 2 * widest))
        self._db, self._text = db, text
        db.text_factory = _text

    def answer(self) -> Answer:
        if _EXPLAIN.match(self._text):
            raise UsageError("E407", "the statement is refused: it explains, and gives no rows")
        try:
            cursor = self._db.execute(_TOKENS.sub(_as_name, self._text))
        except _FAILURES as error:
            failure = self._translated(error)
        else:
            columns = tuple(column[0] for column in cursor.description or ())
            if not columns:
                raise UsageError("E407", "there is no statement: write a SELECT")
            if len(set(columns)) < len(columns):
                message = "two columns of the answer have one name; give another to one, with AS"
                raise UsageError("E407", message)
            return Answer(columns, self._rows(cursor))
        raise failure

    def _rows(self, cursor: sqlite3.Cursor) -> Iterator[Sequence[Any]]:
        try:
            for row in cursor:
                if (
                    sum(len(each) for each in row if isinstance(each, str | bytes))
                    > _MOST_ROW_BYTES
                ):
                    raise MemoryError
                yield row
        except _FAILURES as error:
            failure = self._translated(error)
        else:
            return
        raise failure

    def _translated(self, error: Exception) -> CollectorError:
        """Build our exception for an exception of SQLite or Python."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if self._permission.denied is not None:
            return UsageError("E407", f"the statement is refused: {self._permission.denied}")
        if code in _TOO_MUCH or isinstance(error, MemoryError | sqlite3.DataError):
            return InputError("E416", _MUCH)
        if code in _OF_THE_STATEMENT:
            return UsageError("E407", f"the statement {self._statement_fault(str(error))}")
        return DeliveryError("E501", "the store cannot be read: it is damaged, or its disk fails")

    def _statement_fault(self, message: str) -> str:
        """Describe an error of SQLite without its own message."""
        what, _, word = message[:_MOST_CHARACTERS].partition(": ")
        if what == "no such table":
            return f"names a table that is not there{_hint(word, self._tables)}"
        if what == "no such column":
            hint = _hint(word, self._columns)
            quotes = "names with dots are in double quotes, values in single quotes"
            return f"names a column that is not there{hint}; {quotes}"
        if what == "ambiguous column name":
            return "names a column that several of its tables have; say of which, as `table.column`"
        if what == "no such function":
            return f"uses a function that is not there{_hint(word, sorted(FUNCTIONS))}"
        if what.startswith("You can only execute one"):
            return "is more than one; ask them one by one"
        if near := re.fullmatch(r'near "(.+)": syntax error', message, re.DOTALL):
            return f"is not well formed{self._place(near[1])}; write one SELECT"
        return "cannot be answered by SQLite; write it another way"

    def _place(self, word: str) -> str:
        """State where a word is, if it occurs once."""
        first = self._text.find(word)
        is_sure = first >= 0 and first == self._text.rfind(word)
        return f", from character {first + 1} on" if is_sure else ""


def _hint(word: str, known: list[str]) -> str:
    """Suggest a known name for a word, or for the part of it after the name of a table."""
    hint = nearest(word, known) or nearest(word.partition(".")[2], known)
    return hint or "; `collector store query` alone shows what there is"


def _as_name(token: re.Match[str]) -> str:
    """Quote a double-quoted token as a name: SQLite reads a misspelt name as text otherwise."""
    name = token["name"]
    if name is None:
        return token[0]
    return "`" + name.replace('""', '"').replace("`", "``") + "`"


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
