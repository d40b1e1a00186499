"""Columns of PostgreSQL: their types, and values in the text format of ``COPY``.

The kind of a field decides the type: ``inet``, ``timestamptz``, ``boolean``, and otherwise
``text``, ``bigint`` or ``double precision``. Each value is checked before it is sent, because a
server that refuses a value writes it into its log.
"""

from __future__ import annotations

import re
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from ipaddress import ip_address
from itertools import repeat
from math import isfinite
from operator import itemgetter
from typing import Any

from psycopg import sql

from collector.contracts import Batch, Layout, Row
from collector.errors import Unacceptable
from collector.filter.redaction import Dialect
from collector.schema.model import Schema
from collector.sqlite.connection import quoted

RESERVED_COLUMNS = ("received", "count")
MOST_TEXT_BYTES = 256
"""More than a value of any kind has: the longest values have 64 characters."""
FAMILIES = {
    "TEXT": {"text", "inet", "timestamptz"},
    "INTEGER": {"bigint", "boolean"},
    "REAL": {"double precision"},
}
"""The types that a column may have, by the type that its layout states."""
_BY_COLUMN = {"TEXT": "text", "INTEGER": "bigint", "REAL": "double precision"}
"""The general type, by the type that a layout states: a column of an unknown kind has it."""
GENERAL_TYPES = {kind: FAMILIES[column] for column, kind in _BY_COLUMN.items()}
"""The types whose values a general type takes, by that type."""
_KINDS = {"ip": "inet", "time": "timestamptz", "boolean": "boolean"}
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z", re.ASCII
).fullmatch
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_READ = {
    "inet": "host({})",
    "timestamptz": 'to_char({}, \'YYYY-MM-DD"T"HH24:MI:SS"Z"\')',
    "text": "{}",
    "bigint": "{}",
    "double precision": "{}",
    "boolean": "{}",
}
"""SQL for a column's values, by type. For other types ``_OTHER`` reads a part of the text."""
_UNFIT = (ValueError, TypeError, KeyError, OverflowError, AttributeError)
_OTHER = "left({}::text, 512)"
DIALECT = Dialect(
    lambda name, kind: f"%({name})s::{kind}", lambda name: quoted(name).replace("%", "%%")
)
"""How rules are written for PostgreSQL, with values bound by psycopg."""


def column_types(layout: Layout, schemas: Iterable[Schema]) -> dict[str, str]:
    """Return the type of each column, by the kind of its field if the schema, or another version of
    it, is known."""
    versions = [each for each in schemas if each.name == layout.table]
    own = min(versions, key=lambda each: each.digest != layout.digest, default=None)
    kinds = {} if own is None else {name: each.kind for name, each in own.fields.items()}
    return {
        name: _KINDS.get(kinds.get(name, ""), _BY_COLUMN[column]) for name, column in layout.columns
    }


def value_fits(value: object, kind: str) -> bool:
    """Return whether a column of a type can have a value."""
    with suppress(*_UNFIT):
        _ENCODERS[kind](value)
        return True
    return False


def _text(value: Any) -> str:
    if len(value.encode()) > MOST_TEXT_BYTES or "\0" in value:
        raise ValueError
    return str(value).translate(_ESCAPES)


def _inet(value: Any) -> str:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in value else socket.AF_INET, value)
    except OSError:
        raise ValueError from None
    return str(value)


def _moment(value: Any) -> str:
    if not _MOMENT(value):
        raise ValueError
    datetime.fromisoformat(value)
    return str(value)


def _bigint(value: Any) -> str:
    number = int(value)
    if number != value or not -(1 << 63) <= number < 1 << 63:
        raise ValueError
    return str(number)


def _double(value: Any) -> str:
    if not isfinite(value):
        raise ValueError
    return repr(float(value))


_ENCODERS: Mapping[str, Callable[[Any], str]] = {
    "text": _text,
    "inet": _inet,
    "timestamptz": _moment,
    "bigint": _bigint,
    "double precision": _double,
    "boolean": {0: "f", 1: "t"}.__getitem__,
}
"""By type, the function that checks a value and writes it in the text format of ``COPY``."""
TYPES = frozenset(_ENCODERS)
"""The types that our columns have."""


def copied_order(types: Sequence[str]) -> list[int]:
    """Return the places of columns in the order of copying. Addresses come first, because rows
    differ most in them."""
    return sorted(range(len(types)), key=lambda place: types[place] != "inet")


def encoded(batch: Batch, layout: Layout, types: Sequence[str]) -> list[str]:
    """Return a batch's rows as lines of ``COPY``: the columns in the order of copying, the count,
    and the minute.

    Raises ``Unacceptable`` for a value that its column cannot have, and ``DeliveryError`` E507.
    """
    rows = _rows(batch, layout)
    if not rows:
        return []
    order, addresses = copied_order(types), types.count("inet")
    with suppress(*_UNFIT):
        minute = _moment(batch.received)
        columns = [_column([row[at] for row in rows], "inet") for at in order[:addresses]]
        rests = [*map(_picker([*order[addresses:], len(types)]), rows)]
        kinds = [types[at] for at in order[addresses:]]
        different = [*{*rests}]
        if 2 * len(different) > len(rests):
            return [*map("\t".join, zip(*columns, _ends(rests, kinds, minute), strict=True))]
        known = dict(zip(different, _ends(different, kinds, minute), strict=True))
        ends = map(known.__getitem__, rests)
        return [*map("\t".join, zip(*columns, ends, strict=True))] if columns else [*ends]
    raise Unacceptable(batch.id)


def _picker(places: Sequence[int]) -> Callable[[Row], tuple[Any, ...]]:
    """Return the function that picks the values at some places of a row."""
    if len(places) == 1:
        (place,) = places
        return lambda row: (row[place],)
    return itemgetter(*places)


def _ends(rests: Sequence[Sequence[Any]], kinds: Sequence[str], minute: str) -> list[str]:
    """Return the parts of lines after the addresses: other columns, the count, and the minute."""
    *columns, counts = zip(*rests, strict=True)
    written = map(_column, columns, kinds)
    different = {*counts}
    ends = dict(zip(different, (f"{_bigint(each)}\t{minute}\n" for each in different), strict=True))
    return [*map("\t".join, zip(*written, map(ends.__getitem__, counts), strict=False))]


def _column(values: Sequence[Any], kind: str) -> Iterable[str]:
    """Encode the values of a column. Encode each distinct value once, unless most are distinct."""
    if kind == "inet" and _are_addresses(values):
        return values
    encode, different = _ENCODERS[kind], {*values}
    if len(different) == 1 and None not in different:
        return repeat(encode(values[0]))
    if 2 * len(different) > len(values) and None not in different:
        return [*map(encode, values)]
    different.discard(None)
    known = dict(zip(different, map(encode, different), strict=True))
    known[None] = "\\N"
    return map(known.__getitem__, values)


def _are_addresses(values: Sequence[Any]) -> bool:
    """Return whether all values are addresses, in half the time of checking each with ``_inet``."""
    if None in values:
        return False
    with suppress(OSError):
        for family, of_family in (
            (socket.AF_INET, [value for value in values if ":" not in value]),
            (socket.AF_INET6, [value for value in values if ":" in value]),
        ):
            deque(map(socket.inet_pton, repeat(family), of_family), maxlen=0)
        return True
    return False


def _rows(batch: Batch, layout: Layout) -> list[Row]:
    if batch.rows is not None:
        return batch.rows()
    names = [name for name, _ in layout.columns]
    return [(*map(each.get, names), each.get("count", 1)) for each in batch.records]


def readable(name: str, kind: str) -> sql.Composed:
    """Return SQL for the values of a column as records have them."""
    return sql.SQL(_READ.get(kind, _OTHER)).format(sql.Identifier(name))


def _plain(value: Any, kind: str) -> Any:
    """Return a value as a record has it: the server writes some addresses differently."""
    return str(ip_address(value)) if kind == "inet" and value is not None else value


def plain_rows(
    rows: Iterable[Sequence[Any]], columns: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield rows by column, with values as records have them."""
    for row in rows:
        yield {
            name: _plain(value, kind)
            for (name, kind), value in zip(columns.items(), row, strict=True)
        }
