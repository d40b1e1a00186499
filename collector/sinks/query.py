"""One statement over a store, by whoever runs it: read-only, within limits, and without a word of
SQLite's in what goes wrong, as these quote the statement, and a statement may hold an address.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from collector.errors import DeliveryError, InputError
from collector.schema.checks import nearest
from collector.sinks.contents import shapes
from collector.sinks.permitted import FUNCTIONS, confine

__all__ = ["Answer", "ask"]

_TOKENS = re.compile(
    r"""'(?:[^']|'')*' | "(?P<name>(?:[^"]|"")*)" | `(?:[^`]|``)*` | \[[^\]]*\]
    | --[^\n]* | /\*.*?(?:\*/|\Z)""",
    re.DOTALL | re.VERBOSE,
)
_FAILURES = (sqlite3.Error, sqlite3.Warning, MemoryError)
_OF_THE_STATEMENT = (
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_RANGE,
    sqlite3.SQLITE_MISUSE,
)
"""What the others are about is the file."""
_TOO_MUCH = (sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_NOMEM)
_MUCH = "the statement makes too long a text, or needs too much memory; ask for less at once"
_MOST_CHARACTERS = 200


@dataclass(frozen=True, repr=False)
class Answer:
    """The names of an answer's columns, each once, and its rows as they come."""

    columns: tuple[str, ...]
    rows: Iterator[Sequence[Any]]


def ask(db: sqlite3.Connection, statement: str) -> Answer:
    """The answer to a statement over the tables of records and their views, for as long as the
    connection is open, which is good for nothing else from then on.

    Raises ``InputError``: E407 for what cannot be answered, E408 for what is not allowed, E409 for
    what needs too much memory; ``DeliveryError`` E501 when the store cannot be read; and
    ``KeyboardInterrupt`` when the handler of a signal raises anything. The rows raise the same.
    """
    return _Statement(db, statement).answer()


class _Statement:
    def __init__(self, db: sqlite3.Connection, text: str) -> None:
        found = shapes(db)
        views = [shape.view for shape in found if shape.view is not None]
        self._tables = [shape.table for shape in found] + views
        columns = [name for shape in found for name in (*shape.columns, *shape.view_columns)]
        self._columns = list(dict.fromkeys(columns))
        self._permission = confine(db, self._tables)
        self._db, self._text = db, text
        db.text_factory = _text

    def answer(self) -> Answer:
        try:
            cursor = self._db.execute(_TOKENS.sub(_as_name, self._text))
        except _FAILURES as error:
            failure = self._told(error)
        else:
            columns = tuple(column[0] for column in cursor.description or ())
            if not columns:
                raise InputError("E407", "there is no statement: write a SELECT")
            if len(set(columns)) < len(columns):
                message = "two columns of the answer have one name; give another to one, with AS"
                raise InputError("E407", message)
            return Answer(columns, self._rows(cursor))
        raise failure

    def _rows(self, cursor: sqlite3.Cursor) -> Iterator[Sequence[Any]]:
        try:
            for row in cursor:  # noqa: UP028 - it would close the cursor, after its connection
                yield row
        except _FAILURES as error:
            failure = self._told(error)
        else:
            return
        raise failure

    def _told(self, error: Exception) -> BaseException:
        """What to raise for what SQLite raises, or Python for it."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if self._permission.denied is not None:
            return InputError("E408", f"the statement is refused: {self._permission.denied}")
        if code == sqlite3.SQLITE_INTERRUPT:
            return KeyboardInterrupt()
        if code in _TOO_MUCH or isinstance(error, MemoryError | sqlite3.DataError):
            return InputError("E409", _MUCH)
        if code in _OF_THE_STATEMENT:
            return InputError("E407", f"the statement {self._why(str(error))}")
        return DeliveryError("E501", "the store cannot be read: it is damaged, or its disk fails")

    def _why(self, message: str) -> str:
        """What SQLite finds wrong, in words of ours."""
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
            return f"is not well formed{self._place(near[1])}"
        return "is none that SQLite can answer"

    def _place(self, word: str) -> str:
        """Where a word is, if it is only in one place."""
        first = self._text.find(word)
        is_sure = first >= 0 and first == self._text.rfind(word)
        return f", from character {first + 1} on" if is_sure else ""


def _hint(word: str, known: list[str]) -> str:
    """A "did you mean" for a word, or for what follows the name of a table in it."""
    hint = nearest(word, known) or nearest(word.partition(".")[2], known)
    return hint or "; `collector store query` alone shows what there is"


def _as_name(token: re.Match[str]) -> str:
    """What is in double quotes, as a name: SQLite takes a name that is misspelt for a text else."""
    name = token["name"]
    if name is None:
        return token[0]
    return "`" + name.replace('""', '"').replace("`", "``") + "`"


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
