"""Output of all commands: data on stdout, everything else on stderr.

Results are tables, or JSON with ``--json``. Counts on stderr are a table on a terminal, else JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import orjson
import typer
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from collector.cli.commands import Commands
from collector.cli.stdout import ReaderGoneError, write
from collector.contracts import Tally
from collector.errors import Fault
from collector.samples import Reach


class _Output(Console):
    """A console on stdout. The command does not fail if the reader closes the pipe."""

    def on_broken_pipe(self) -> None:
        raise ReaderGoneError


out: Console = _Output(highlight=False, soft_wrap=True, emoji=False)
err: Console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
_WIDTH = 200
_GAP = 2
"""The blanks between columns."""


def group(text: str) -> typer.Typer:
    """Make a group of commands, with its help."""
    return Commands(no_args_is_help=True, rich_markup_mode="markdown", help=text)


def wide() -> Console:
    """Return a console for tables of many columns: as wide as the terminal, or 200 characters."""
    return out if out.is_terminal else _Output(highlight=False, width=_WIDTH, emoji=False)


def printable(text: str) -> str:
    """Replace each character that a terminal would obey or hide."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def seen(text: str) -> str:
    """Escape a text for a cell of a table: no markup, and no control characters."""
    return escape(printable(text))


def print_json(value: Any, to: Console = out) -> None:
    """Print one JSON document on one line."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # the name of a file may be no text
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        text += b"\n"
    if to is out:
        write(text)
    else:
        sys.stderr.buffer.write(text)
        sys.stderr.buffer.flush()


class _Table(Table):
    """A table that breaks no word. If the columns do not fit, each row becomes a list."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width - _GAP * (len(self.columns) - 1)
        ranges = [self._range(column, console, options) for column in self.columns]
        least, most = (sum(each[end] for each in ranges) for end in (0, 1))
        if least > room:
            yield from self._lists(console, options)
            return
        for column, (low, high) in zip(self.columns, ranges, strict=True):
            spare = (room - least) * (high - low) // max(most - least, 1)
            column.width = low + min(spare, high - low)
        yield from super().__rich_console__(console, options)

    @staticmethod
    def _range(column: Column, console: Console, options: ConsoleOptions) -> tuple[int, int]:
        """Return the width of the longest word of a column, and that of its longest cell."""
        cells = [Measurement.get(console, options, cell) for cell in (column.header, *column.cells)]
        most = max(cell.maximum for cell in cells)
        return (most if column.no_wrap else max(cell.minimum for cell in cells)), most

    def _lists(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines of each row: its cells below one another, each beside its heading."""
        headings = [console.render_str(str(column.header)) for column in self.columns]
        indent = max(map(len, headings)) + _GAP
        if not self.row_count:
            yield from headings
        for number, row in enumerate(zip(*(column.cells for column in self.columns), strict=True)):
            if number:
                yield Text()
            for heading, content in zip(headings, row, strict=True):
                cell = console.render_str(str(content))
                label, least = heading.plain, Measurement.get(console, options, cell).minimum
                width = max(options.max_width - indent, least)
                for line in cell.wrap(console, width) if cell else ():
                    yield Text.assemble((f"{label:{indent}}", "dim"), line)
                    label = ""


def new_table(*headings: str, numbers: Collection[str] = (), whole: Collection[str] = ()) -> Table:
    """Make a table without lines. Columns of ``numbers`` are aligned right, and those of ``whole``
    are never wrapped; no word of any is broken."""
    table = _Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        justify: Literal["right", "left"] = "right" if heading in numbers else "left"
        table.add_column(heading, justify=justify, no_wrap=heading in whole, overflow="fold")
    return table


def print_faults(faults: Iterable[Fault]) -> None:
    """Print faults on stderr, one a line."""
    for fault in faults:
        err.print(str(fault), markup=False)


_VERDICTS: Mapping[str, str] = {"widening": "red", "narrowing": "green", "neutral": "dim"}
"""The verdicts on a change in the order of tables, each with its style."""


def changes_table(headings: Sequence[str], rows: Iterable[Sequence[str]], whole: int = 0) -> Table:
    """Lay out changes, widenings first. A row is the verdict and the cells under ``headings``; the
    first ones are never wrapped."""
    table = new_table("verdict", *headings, whole=("verdict", *headings[:whole]))
    order = list(_VERDICTS)
    for verdict, *cells in sorted(rows, key=lambda row: order.index(row[0])):
        table.add_row(verdict, *map(escape, cells), style=_VERDICTS[verdict])
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


def share(part: float) -> str:
    """Write a share in whole percents; only nothing is 0 %, and only all is 100 %."""
    if 0 < part < 0.01:
        return "<1%"
    return ">99%" if 0.99 < part < 1 else f"{part:.0%}"


def reach_table(fields: Iterable[str], found: Reach) -> Table:
    """Lay out what share of the events has each field, and why the field was dropped."""
    table = new_table("field", "events", "dropped", numbers=("events",), whole=("field", "events"))
    for name in fields:
        drops = found.tally.dropped[name].items() if name in found.tally.dropped else ()
        dropped = ", ".join(f"{times:,} {why}" for why, times in drops)
        table.add_row(name, share(found.share(name)), dropped)
    return table


def waits_for_typing(path: Path) -> bool:
    """Return whether an input is typed on a terminal, and say so."""
    if path != Path("-") or not sys.stdin.isatty():
        return False
    if err.is_terminal:
        message = "reading events from this terminal, one JSON object a line; Ctrl-D ends them"
        err.print(message, style="dim")
    return True


def print_tally(tally: Tally, as_json: bool, hints: Collection[str] = ()) -> None:
    """Print the tally on stderr, and hints: a table on a terminal, one JSON document elsewhere."""
    if as_json or not err.is_terminal:
        print_json(tally.as_dict() | ({"hints": list(hints)} if hints else {}), err)
        return
    err.print(tally_table(tally))
    for hint in hints:
        print_hint(hint)


def print_hint(text: str) -> None:
    """Print a hint on stderr, for people."""
    err.print(f"hint: {text}", markup=False, style="yellow", soft_wrap=not err.is_terminal)
