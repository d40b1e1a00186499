"""``collector store query``: what there is in the store, and the answer to a statement over it.

Whoever reads is noted in the ledger before anything is shown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from collector.cli.answers import FORMS, Form, Piece
from collector.cli.console import AsJson, out, print_json, seen, wide
from collector.cli.holdings import ConfigFile, Data, StoreFile, readable
from collector.cli.patience import patience
from collector.cli.stdout import write
from collector.errors import InputError
from collector.sinks.contents import Contents, contents
from collector.sinks.query import Answer, ask
from collector.sinks.reading import looked, reading

__all__ = ["query"]

_STDIN = "-"
_MOST_BYTES = 100_000
_HELD_BYTES = 4 << 20
"""An answer of up to so many bytes is whole before any of it is shown: then nobody who reads it
slowly keeps the store from being made anew."""
Tell = Callable[[int | None], None]
Write = Callable[[Answer], Iterator[Piece]]


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
    tell = partial(found.tell, "store query")
    if statement is None:
        _show(found.store, tell, as_json or form == "json")
        return
    chosen: Form = "json" if as_json else form or ("table" if out.is_terminal else "ndjson")
    _give(found.store, _read(statement), FORMS[chosen], timeout, tell)


def _read(statement: str) -> str:
    """The text of a statement. Raises ``InputError`` E407."""
    is_there = statement != _STDIN
    text = os.fsencode(statement) if is_there else sys.stdin.buffer.read(_MOST_BYTES + 1)
    with suppress(UnicodeDecodeError):
        if len(text) <= _MOST_BYTES:
            return text.decode()
    raise InputError("E407", f"the statement is not UTF-8, or is over {_MOST_BYTES:,} bytes")


def _give(path: Path, statement: str, form: Write, seconds: float, tell: Tell) -> None:
    """Write the answer to a statement. A short one is shown when the store is held no more. Before
    a long one the ledger is told that a reading begins, and after it, how many rows it was."""
    rows, whole = 0, b""
    with reading(path) as db:
        try:
            with patience(seconds):
                pieces = form(ask(db, statement))
                first, following = _held(pieces)
                if following is None:
                    rows = sum(piece.rows for piece in first)
                    whole = b"".join(piece.data for piece in first)
                else:
                    tell(None)
                    for piece in chain(first, [following], pieces):
                        rows += piece.rows
                        write(piece.data)
        finally:
            tell(rows)
    write(whole)


def _held(pieces: Iterator[Piece]) -> tuple[list[Piece], Piece | None]:
    """As much of an answer as is held in memory, and the piece after it, if there is one."""
    kept: list[Piece] = []
    size = 0
    for piece in pieces:
        size += len(piece.data)
        if size > _HELD_BYTES:
            return kept, piece
        kept.append(piece)
    return kept, None


def _show(path: Path, tell: Tell, as_json: bool) -> None:
    """What there is. No row of it is shown, and so many the ledger has."""
    with reading(path) as db:
        found = looked(lambda: contents(db))
    tell(0)
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
