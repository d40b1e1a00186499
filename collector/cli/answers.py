"""Answers of the store as bytes: a table for people; JSON, lines of JSON and CSV for programs.

All but the table are made as rows come, so that memory stays constant.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Literal, NamedTuple

import orjson
from rich.table import Table

from collector.cli.console import seen, wide
from collector.sinks.query import Answer

__all__ = ["FORMS", "MOST_ROWS", "Form", "Piece"]

Form = Literal["table", "json", "ndjson", "csv"]

MOST_ROWS = 1000
"""So many rows are shown in a table."""
_PIECE_BYTES = 64 << 10


class Piece(NamedTuple):
    """A part of an answer, and how many rows it has."""

    data: bytes
    rows: int


def _table(answer: Answer) -> Iterator[Piece]:
    rows = list(islice(answer.rows, MOST_ROWS))
    is_more = next(answer.rows, None) is not None
    table = Table(box=None, pad_edge=False, header_style="dim")
    for at, name in enumerate(answer.columns):
        is_number = bool(rows) and all(isinstance(row[at], int | float) for row in rows)
        table.add_column(_seen(name), overflow="fold", justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*map(_seen, row))
    console = wide()
    with console.capture() as captured:
        console.print(table)
        if is_more:
            console.print(f"there are more than these {MOST_ROWS:,} rows; --json has all of them")
    yield Piece(captured.get().encode(), len(rows))


def _seen(value: object) -> str:
    """A value on a terminal, which is sent nothing that it would obey."""
    text = "" if value is None else str(_plain(value))
    return seen(text)


def _json(answer: Answer) -> Iterator[Piece]:
    def lines() -> Iterator[bytes]:
        start = b""
        for line in _objects(answer):
            yield start + line
            start = b",\n"

    yield Piece(b"[", 0)
    yield from _pieces(lines())
    yield Piece(b"]\n", 0)


def _ndjson(answer: Answer) -> Iterator[Piece]:
    return _pieces(line + b"\n" for line in _objects(answer))


def _objects(answer: Answer) -> Iterator[bytes]:
    names = answer.columns
    for row in answer.rows:
        yield orjson.dumps(dict(zip(names, row, strict=True)), default=_plain)


def _csv(answer: Answer) -> Iterator[Piece]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")

    def line(values: Iterable[object]) -> bytes:
        writer.writerow(map(_plain, values))
        written = text.getvalue().encode()
        text.seek(0)
        text.truncate()
        return written

    yield Piece(line(answer.columns), 0)
    yield from _pieces(map(line, answer.rows))


def _plain(value: object) -> object:
    """Bytes as hexadecimal digits. A store has none, but a statement may make some."""
    return value.hex() if isinstance(value, bytes) else value


def _pieces(lines: Iterable[bytes]) -> Iterator[Piece]:
    """Lines of a row each, put together."""
    kept: list[bytes] = []
    size = 0
    for line in lines:
        kept.append(line)
        size += len(line)
        if size >= _PIECE_BYTES:
            yield Piece(b"".join(kept), len(kept))
            kept, size = [], 0
    yield Piece(b"".join(kept), len(kept))


FORMS: dict[Form, Callable[[Answer], Iterator[Piece]]] = {
    "table": _table,
    "json": _json,
    "ndjson": _ndjson,
    "csv": _csv,
}
