"""Output of all commands: data on stdout, everything else on stderr.

Tables are for terminals; with ``--json``, and where stderr is no terminal, it is JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any, Literal

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from collector.cli.options import (
    DEFAULT_SCHEMAS,
    AsJson,
    Checkpoints,
    Output,
    SchemaName,
    Schemas,
    complete_schema,
    write_file,
)
from collector.cli.stdout import ReaderGoneError, write
from collector.contracts import Tally

__all__ = [
    "DEFAULT_SCHEMAS",
    "AsJson",
    "Checkpoints",
    "Output",
    "SchemaName",
    "Schemas",
    "complete_schema",
    "err",
    "new_table",
    "out",
    "print_json",
    "print_tally",
    "seen",
    "tally_table",
    "wide",
    "write_file",
]


class _Output(Console):
    """A console on stdout whose closed pipe is no failure of the command."""

    def on_broken_pipe(self) -> None:
        raise ReaderGoneError


out: Console = _Output(highlight=False, soft_wrap=True)
err: Console = Console(stderr=True, highlight=False, soft_wrap=True)
_WIDTH = 200


def wide() -> Console:
    """Return a console for tables of many columns: as wide as the terminal, or 200 characters."""
    return out if out.is_terminal else _Output(highlight=False, width=_WIDTH)


def seen(text: str) -> str:
    """Escape a text for a cell of a table: no markup, and no control characters."""
    return escape("".join(char if char.isprintable() else "\ufffd" for char in text))


def print_json(value: Any, to: Console = out) -> None:
    """Print one JSON document on one line."""
    text = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    if to is out:
        write(text)
    else:
        sys.stderr.buffer.write(text)
        sys.stderr.buffer.flush()


def new_table(*headings: str, numbers: Collection[str] = (), whole: Collection[str] = ()) -> Table:
    """Make a table without lines. Columns of ``numbers`` are aligned right, and those of ``whole``
    are never folded."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        justify: Literal["right", "left"] = "right" if heading in numbers else "left"
        table.add_column(heading, justify=justify, no_wrap=heading in whole, overflow="fold")
    return table


def tally_table(tally: Tally) -> Table:
    """Lay out a tally as a table."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("received", f"{tally.received:,}", "events")
    table.add_row("admitted", f"{tally.admitted:,}", "records")
    for reason, times in tally.rejected.items():
        table.add_row("rejected", f"{times:,}", reason)
    for name, reasons in tally.dropped.items():
        for drop, times in reasons.items():
            table.add_row("dropped", f"{times:,}", f"{name}: {drop}")
    for category, times in tally.content.items():
        table.add_row("content", f"{times:,}", f"events with {category}, never decoded")
    share = f"{tally.bytes_out / tally.bytes_in:.1%} of what came in" if tally.bytes_in else ""
    table.add_row("bytes in", f"{tally.bytes_in:,}", "")
    table.add_row("bytes out", f"{tally.bytes_out:,}", share)
    return table


def print_tally(tally: Tally, as_json: bool) -> None:
    """Print the tally on stderr: a table on a terminal, JSON elsewhere."""
    if as_json or not err.is_terminal:
        print_json(tally.as_dict(), err)
    else:
        err.print(tally_table(tally))
