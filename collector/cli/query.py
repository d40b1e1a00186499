"""``collector store query``: show the tables of the store, or the rows that a statement gives.

The ledger notes each query before any row is shown. The answer is a table for people;
JSON, lines of JSON or CSV for programs.

The main thread runs the statement and writes the answer; both may keep it for minutes in one call
that nothing interrupts: a search for a long text in another, a pipe that nobody reads. So another
thread has the time limit and Ctrl-C. It notes what was read and ends the process.
"""

from __future__ import annotations

import csv
import io
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import chain, islice, zip_longest
from operator import and_
from pathlib import Path
from threading import Lock, Thread
from time import monotonic
from typing import Annotated, Literal, NamedTuple, NoReturn

import orjson
import typer
from rich.table import Table

from collector.cli import exit_code
from collector.cli.console import new_table, out, print_json, seen, wide
from collector.cli.data_dir import StoreFile, readable
from collector.cli.options import AsJson, ConfigFile, Data
from collector.cli.stdout import write
from collector.errors import CollectorError, InputError, UsageError
from collector.sinks.inventory import Contents, contents, read_or_raise, reading
from collector.sinks.query import Answer, ask
from collector.sqlite.connection import BUSY_SECONDS

Form = Literal["table", "json", "ndjson", "csv"]

MOST_ROWS = 1000
"""So many rows are shown in a table."""
_PIECE_BYTES = 64 << 10
_STDIN = "-"
_MOST_BYTES = 100_000
_BUFFERED_BYTES = 4 << 20
"""The command reads an answer of up to this many bytes completely before it shows the first row.
So somebody who reads slowly does not keep the store from being compacted."""
NoteRead = Callable[[int | None], None]


class Piece(NamedTuple):
    """A part of an answer, and how many rows it has."""

    data: bytes
    rows: int

    def __repr__(self) -> str:
        return "<Piece>"


Write = Callable[[Answer], Iterator[Piece]]

_INTERRUPTED = 130
_BUG = 70


class _Noted:
    """Counts rows, and notes the count in the ledger before any row is given out.

    Every method is for the main thread but ``last``: from then on the others wait for ever, so that
    nothing is given out that was not noted.
    """

    def __init__(self, note: NoteRead) -> None:
        self._note, self._rows, self._is_ended = note, 0, False
        self._lock = Lock()

    def begin(self) -> None:
        """Note that a long reading begins. Raises what ``note`` raises."""
        with self._lock:
            self._note(None)

    def add(self, rows: int) -> None:
        """Count rows that are given out next."""
        with self._lock:
            self._rows += rows

    def end(self) -> None:
        """Note how many rows there were. Raises what ``note`` raises."""
        with self._lock:
            self._is_ended = True
            self._note(self._rows)

    def last(self) -> None:
        """Do the same, if it was not done, just before the process ends."""
        self._lock.acquire()
        if not self._is_ended:
            self._note(self._rows)


@contextmanager
def time_limit(seconds: float, last: Callable[[], None]) -> Iterator[None]:
    """End the process when the block's time is over (E416), or at Ctrl-C, whatever the block does;
    call ``last`` before. For the main thread."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    handler = signal.signal(signal.SIGINT, lambda *_: None)  # the other thread reads of it
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watch = Thread(target=_watch, args=(reader, monotonic() + seconds, last), daemon=True)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGINT, handler)
        os.close(writer)
        watch.join()
        os.close(reader)


def _watch(reader: int, until: float, last: Callable[[], None]) -> None:
    """Wait until the pipe is closed. End the process before if the time is over, or if the pipe
    says that there was Ctrl-C."""
    while (left := until - monotonic()) > 0:
        if select.select([reader], [], [], left)[0]:
            signals = os.read(reader, _PIECE_BYTES)
            if not signals:
                return
            if signal.SIGINT in signals:
                _end_process(last, None)
    message = "the statement, or whoever reads the answer, took too long; ask for less, or give it"
    _end_process(last, InputError("E416", f"{message} more time with --timeout"))


def _end_process(last: Callable[[], None], why: CollectorError | None) -> NoReturn:
    """End the process, with an error or after Ctrl-C. Where stderr is a pipe that is full, the
    error is not written."""
    code = _BUG
    try:
        try:
            last()
        except CollectorError as error:
            why = error
        code = _INTERRUPTED if why is None else exit_code(why)
        if why is not None and select.select([], [sys.stderr.fileno()], [], 0)[1]:
            os.write(sys.stderr.fileno(), f"{why}\n".encode()[: select.PIPE_BUF])
    finally:
        os._exit(code)


def query(
    statement: Annotated[
        str | None,
        typer.Argument(
            metavar="SQL",
            help="One SELECT over the tables of the store; `-` reads it from stdin. Without one,"
            " the"
            " tables are listed.",
        ),
    ] = None,
    *,
    form: Annotated[
        Form | None,
        typer.Option(
            "--format",
            help="The format of the rows. Default: a table on a terminal, else lines of JSON.",
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option("--timeout", min=0.01, max=86400.0, help="How many seconds it may take."),
    ] = 300.0,
    config: ConfigFile = None,
    data: Data = None,
    store: StoreFile = None,
    as_json: AsJson = False,
) -> None:
    """List the tables of the store, or show the rows that one SELECT returns. A query can only read
    these tables. A sidecar may be running.

    A table has the name of its schema; write names with dots or dashes in double quotes, or use the
    view of the table, which has underscores. On a terminal the answer is a table of up to 1,000
    rows; elsewhere it is one line of JSON per row. The ledger, if there is one, notes that the
    store was read. See docs/stores.md.

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
    try:
        if len(text) <= _MOST_BYTES:
            return text.decode()
    except UnicodeDecodeError:
        pass
    raise UsageError("E407", f"the statement is not UTF-8, or is over {_MOST_BYTES:,} bytes")


def _write_answer(
    path: Path, statement: str, form: Write, seconds: float, note_read: NoteRead
) -> None:
    """Write the answer to a statement; a short one once the store is closed. Note before a long one
    that a reading begins, and after each how many rows it had."""
    noted = _Noted(note_read)
    with time_limit(seconds, noted.last):
        with reading(path, min(seconds / 2, BUSY_SECONDS)) as db:
            try:
                whole = _given_out(form(ask(db, statement)), noted)
            finally:
                noted.end()
        write(whole)


def _given_out(pieces: Iterator[Piece], noted: _Noted) -> bytes:
    """Write a long answer, and return a short one."""
    first, following = _buffered(pieces)
    if following is None:
        noted.add(sum(piece.rows for piece in first))
        return b"".join(piece.data for piece in first)
    noted.begin()
    for piece in chain(first, [following], pieces):
        noted.add(piece.rows)
        write(piece.data)
    return b""


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
        out.print("the store has no tables of records")
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


# -- the forms of an answer: all but the table are made as rows come, in constant memory


def _table(answer: Answer) -> Iterator[Piece]:
    rows, size = list[list[str]](), 0
    are_numbers: list[bool] = []
    for row in islice(answer.rows, MOST_ROWS):
        rows.append([_seen(value) for value in row])
        size += sum(map(len, rows[-1]))
        if size > _BUFFERED_BYTES:
            raise InputError(
                "E416", "the table is too long to be shown; ask for less, or use --json"
            )
        numbers = [isinstance(value, int | float) for value in row]
        are_numbers = [*map(and_, are_numbers or numbers, numbers)]
    is_more = next(answer.rows, None) is not None
    table = new_table()
    for name, is_number in zip_longest(answer.columns, are_numbers):
        table.add_column(_seen(name), overflow="fold", justify="right" if is_number else "left")
    for cells in rows:
        table.add_row(*cells)
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
