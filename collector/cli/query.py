"""``collector store query``: show the tables of the store, or the rows that a statement gives.

Each reading is an entry of the ledger before any of it is shown. The answer is a table for people;
JSON, lines of JSON or CSV for programs.

SQLite looks for signals after ten thousand steps of a statement, and a single step can take a
second: one that looks for a long text in another does. So the process that has the time limit only
reads what another one writes into a pipe, and kills that one when the time is over.
"""

from __future__ import annotations

import csv
import io
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from itertools import chain, islice
from math import ceil
from pathlib import Path
from struct import Struct
from time import monotonic
from typing import Annotated, BinaryIO, Literal, NamedTuple, NoReturn

import orjson
import typer
from rich.table import Table

from collector.cli.console import new_table, out, print_json, seen, wide
from collector.cli.data_dir import Data, StoreFile, readable
from collector.cli.options import AsJson
from collector.cli.serve import ConfigFile
from collector.cli.stdout import write
from collector.errors import (
    CollectorError,
    InputError,
    UsageError,
    packed,
    unpacked,
)
from collector.sinks.inventory import Contents, contents, read_or_raise, reading
from collector.sinks.query import Answer, ask
from collector.sinks.store_file import BUSY_SECONDS

Form = Literal["table", "json", "ndjson", "csv"]

MOST_ROWS = 1000
"""So many rows are shown in a table."""
_PIECE_BYTES = 64 << 10
_STDIN = "-"
_MOST_BYTES = 100_000
_BUFFERED_BYTES = 4 << 20
"""An answer of up to so many bytes is read whole before any of it is shown, so that a slow reader
of it does not keep the store from being compacted."""
_RING_SECONDS = 0.2
_INTERRUPTS = (signal.SIGINT, signal.SIGALRM)
NoteRead = Callable[[int | None], None]


class Piece(NamedTuple):
    """A part of an answer, and how many rows it has."""

    data: bytes
    rows: int


Write = Callable[[Answer], Iterator[Piece]]

_HEAD = Struct(">BQQ")
"""Before each message: what it is, a number of rows, and the bytes that follow."""
_PIECE, _END, _FAULT = range(3)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt the block when its time is over, even if it waits for the reader of stdout.

    For the main thread. Raises ``InputError`` E416 then. The timer rings all the while: a signal
    that comes just before the block begins to wait in the system is noticed at the next ring.
    """
    is_over, until = False, monotonic() + seconds

    def ring(*_: object) -> None:
        nonlocal is_over
        if not is_over and monotonic() >= until:
            is_over = True
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ring)
    interval = min(seconds, _RING_SECONDS)
    timer = signal.setitimer(signal.ITIMER_REAL, interval, interval)
    try:
        yield
    except KeyboardInterrupt:
        if not is_over:
            raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)
    if is_over:
        message = "the statement took too long; ask for less, or give it more time with --timeout"
        raise InputError("E416", message)


def query(
    statement: Annotated[
        str | None,
        typer.Argument(
            metavar="[SQL]",
            help="One SELECT over the tables of the store; `-` reads it from stdin. Without it,"
            " what tables there are.",
        ),
    ] = None,
    *,
    form: Annotated[
        Form | None,
        typer.Option("--format", help="How rows are written: else a table, or lines of JSON."),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.01, max=86400.0, help="Seconds it may take.")
    ] = 300.0,
    config: ConfigFile = None,
    data: Data = None,
    store: StoreFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what tables the store has, or the rows that one SELECT gives. Nothing can be changed or
    reached but these tables, and a sidecar may be running.

    A table is named after its schema; names with dots or dashes are written in double quotes. Each
    has a view with underscores. On a terminal the answer is a table of up to 1,000 rows; elsewhere
    it is a line of JSON for each row. That the store was read is an entry of the ledger, where
    there is one. docs/query.md has the rest.

        collector store query

        collector store query "SELECT os_type, sum(count) FROM conferencing_view GROUP BY os_type"

        collector store query --format csv - < statement.sql > rows.csv
    """
    found = readable(config, data, store)
    note_read = partial(found.note_read, "store query")
    if statement is None:
        _show(found.store, note_read, as_json or form == "json")
        return
    chosen: Form = "json" if as_json else form or ("table" if out.is_terminal else "ndjson")
    _write_answer(found.store, _read(statement), FORMS[chosen], timeout, note_read)


def _read(statement: str) -> str:
    """Read the text of a statement. Raises ``InputError`` E407."""
    is_there = statement != _STDIN
    text = os.fsencode(statement) if is_there else sys.stdin.buffer.read(_MOST_BYTES + 1)
    with suppress(UnicodeDecodeError):
        if len(text) <= _MOST_BYTES:
            return text.decode()
    raise UsageError("E407", f"the statement is not UTF-8, or is over {_MOST_BYTES:,} bytes")


def _write_answer(
    path: Path, statement: str, form: Write, seconds: float, note_read: NoteRead
) -> None:
    """Write the answer to a statement; a short one once the store is closed. Note before a long one
    that a reading begins, and after each how many rows it had."""
    rows, whole = 0, b""
    with reading(path, min(seconds, BUSY_SECONDS)):
        pass  # what is no store is not read, and nothing is noted
    try:
        with time_limit(seconds), answering(path, statement, form, seconds) as pieces:
            first, following = _buffered(pieces)
            if following is None:
                rows = sum(piece.rows for piece in first)
                whole = b"".join(piece.data for piece in first)
            else:
                note_read(None)
                for piece in chain(first, [following], pieces):
                    rows += piece.rows
                    write(piece.data)
    finally:
        note_read(rows)
    write(whole)


def _buffered(pieces: Iterator[Piece]) -> tuple[list[Piece], Piece | None]:
    """Read as much of an answer as is held in memory, and the piece after it, if there is one."""
    buffered: list[Piece] = []
    size = 0
    for piece in pieces:
        size += len(piece.data)
        if size > _BUFFERED_BYTES:
            return buffered, piece
        buffered.append(piece)
    return buffered, None


def _show(path: Path, note_read: NoteRead, as_json: bool) -> None:
    """Show the tables and views, and note in the ledger that no row was shown."""
    with reading(path) as db:
        found = read_or_raise(lambda: contents(db))
    note_read(0)
    if as_json:
        print_json({"tables": [asdict(each) for each in found]})
    elif not found:
        out.print("there are no tables of records")
    else:
        for each in found:
            _print(each)


def _print(found: Contents) -> None:
    table, first, last = seen(found.table), seen(str(found.first)), seen(str(found.last))
    when = f", received from {first} to {last}" if found.rows else ""
    out.print(f"[bold]{table}[/]: {found.rows:,} rows, {found.events:,} events{when}")
    columns = Table(box=None, pad_edge=False, show_header=False)
    for name, kind in found.columns.items():
        columns.add_row(f"  {seen(name)}", kind)
    wide().print(columns)
    if found.view is not None:
        out.print(f"  the view {seen(found.view)} has the same, with underscores for dots")


@contextmanager
def answering(path: Path, statement: str, form: Write, seconds: float) -> Iterator[Iterator[Piece]]:
    """Yield the pieces of an answer as they come; the process that makes them ends with the block.

    The pieces raise what ``reading`` and ``ask`` raise. After so many seconds of work the process
    is ended by the system, should this one have been killed meanwhile.
    """
    reader, writer = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    process = os.fork()
    if not process:
        os.close(reader)
        _answer(path, statement, form, seconds, writer)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            yield _received(stream)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _received(stream: BinaryIO) -> Iterator[Piece]:
    while True:
        head = stream.read(_HEAD.size)
        if len(head) < _HEAD.size:
            message = "the statement ended the process that answered it; ask for less at once"
            raise InputError("E416", message)
        kind, rows, size = _HEAD.unpack(head)
        if kind == _END:
            return
        data = stream.read(size)
        if kind == _FAULT:
            raise unpacked(orjson.loads(data))
        yield Piece(data, rows)


def _answer(path: Path, statement: str, form: Write, seconds: float, writer: int) -> NoReturn:
    """Write the pieces of an answer, or a fault, into a pipe, and end the process."""
    with suppress(BaseException), os.fdopen(writer, "wb", 0) as stream:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process decides
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        limit = ceil(seconds) + 1
        with suppress(ValueError, OSError):  # a lower one is set already
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        try:
            with reading(path) as db:
                for piece in form(ask(db, statement)):
                    stream.write(_HEAD.pack(_PIECE, piece.rows, len(piece.data)) + piece.data)
        except CollectorError as error:
            text = orjson.dumps(packed(error))
            stream.write(_HEAD.pack(_FAULT, 0, len(text)) + text)
        else:
            stream.write(_HEAD.pack(_END, 0, 0))
    os._exit(0)


# -- the forms of an answer: all but the table are made as rows come, in constant memory


def _table(answer: Answer) -> Iterator[Piece]:
    rows = list(islice(answer.rows, MOST_ROWS))
    is_more = next(answer.rows, None) is not None
    table = new_table()
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
    """Escape a value for a terminal."""
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
    """Write bytes as hexadecimal digits. A store has none, but a statement may make some."""
    return value.hex() if isinstance(value, bytes) else value


def _pieces(lines: Iterable[bytes]) -> Iterator[Piece]:
    """Join lines of a row each into larger pieces."""
    joined: list[bytes] = []
    size = 0
    for line in lines:
        joined.append(line)
        size += len(line)
        if size >= _PIECE_BYTES:
            yield Piece(b"".join(joined), len(joined))
            joined, size = [], 0
    yield Piece(b"".join(joined), len(joined))


FORMS: dict[Form, Callable[[Answer], Iterator[Piece]]] = {
    "table": _table,
    "json": _json,
    "ndjson": _ndjson,
    "csv": _csv,
}
