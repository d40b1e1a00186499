"""``collector ledger entries|checkpoint|rotate-key|export``: what makes a ledger evidence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from collector.cli.console import AsJson, err, out, print_json, seen, wide
from collector.cli.stdout import write
from collector.errors import ConfigError
from collector.ledger import Entry, Note, opened
from collector.ledger.checkpoint import written
from collector.ledger.export import auditor, lines
from collector.spool import FILE_NAME, note, rotate

__all__ = ["DATA", "Data", "checkpoint", "entries", "export", "rotate_key"]

Data = Annotated[
    Path, typer.Option("--data", help="The sidecar's data directory; it may be running.")
]
DATA = Path("collector-data")
_HEX_DIGITS = 64


def entries(
    data: Data = DATA,
    last: Annotated[
        int, typer.Option("--last", min=0, help="How many of the newest; 0 for all.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the newest entries: checkpoints, keys, changes of schema and configuration, and what was
    read, pruned, exported, amended and erased. With `--json`, all of each."""
    with opened(data / FILE_NAME) as ledger:
        newest = list(ledger.entries())[-last:]
    if as_json:
        print_json([entry.as_dict() for entry in newest])
    else:
        wide().print(_table(newest))


def _table(newest: list[Entry]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("number", justify="right", no_wrap=True)
    for name in ("minute", "kind", "receipt", "signed", "facts"):
        table.add_column(name, no_wrap=name != "facts")
    for entry in newest:
        minute = f"{entry.minute[:10]} {entry.minute[11:16]}"
        facts = ", ".join(f"{name} {_short(fact)}" for name, fact in entry.facts)
        signed = "yes" if entry.signature else "no"
        cells = (minute, entry.kind, str(entry.receipt.sequence), signed, facts)
        table.add_row(str(entry.sequence), *map(seen, cells))
    return table


def _short(fact: str) -> str:
    """The beginning of a hash or a key."""
    return fact[:12] if len(fact) == _HEX_DIGITS and fact.isalnum() else fact


def checkpoint(
    data: Data = DATA,
    new: Annotated[bool, typer.Option("--new", help="Make one first.")] = False,
) -> None:
    """Print the newest checkpoint, a few lines to keep on another machine.

    It stands for all receipts and entries up to it: `collector ledger verify --checkpoint FILE`
    finds later if they were cut off or rewritten. The sidecar makes one at start, at stop, each
    hour, and every 10,000 receipts.
    """
    with opened(data / FILE_NAME):
        pass  # it is there
    if new:
        note(data, Note.of("checkpoint", at="asked"))
    with opened(data / FILE_NAME) as ledger:
        newest = ledger.newest("checkpoint")
    if newest is None:
        err.print("there is no checkpoint yet; make one with --new")
        raise typer.Exit(1)
    if not newest.signature:
        err.print("it is not signed: install data-minimisation-collector[signing]", markup=False)
    write(written(newest).encode())


def rotate_key(data: Data = DATA) -> None:
    """Make a new key that signs entries from now on; the old one signs it, and is deleted."""
    with opened(data / FILE_NAME):
        pass  # it is there
    out.print(f"key: {rotate(data)}")


def export(
    data: Data = DATA,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file; none: stdout.")
    ] = None,
    verifier: Annotated[
        bool, typer.Option("--verifier", help="Print the script that verifies it instead.")
    ] = False,
) -> None:
    """Write the whole ledger for an auditor: starts, receipts, entries and documents, as lines of
    JSON that hold the very texts that were hashed and signed. No record is in it.

    `collector ledger export --verifier > auditor.py` is a script of less than a hundred lines that
    verifies it without Collector: `python3 auditor.py EXPORT [CHECKPOINT…]`.
    """
    if verifier:
        write(auditor().encode())
        return
    with opened(data / FILE_NAME) as ledger:
        if output is None:
            for line in lines(ledger):
                write(line)
            return
        is_written = False
        try:
            handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.writelines(lines(ledger))
            is_written = True
        except OSError:
            pass
    if not is_written:
        raise ConfigError("E203", "the file given as --output cannot be written")
