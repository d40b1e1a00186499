"""``collector ledger show|verify``: receipts, and whether they hold. No server is needed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from collector.cli.console import AsJson, err, out, print_json
from collector.ledger import Receipt, Verification, opened

__all__ = ["app"]

app: typer.Typer = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look at the receipts of what was received, admitted and rejected, and verify them.",
)
_FILE_NAME = "spool.db"
_Data = Annotated[
    Path, typer.Option("--data", help="The sidecar's data directory; it may be running.")
]
_DATA = Path("collector-data")


@app.command("show")
def show(
    data: _Data = _DATA,
    last: Annotated[
        int, typer.Option("--last", min=0, help="How many of the newest; 0 for all.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the newest receipts: number, minute, what was received, admitted and rejected, and the
    beginning of its hash. With `--json`, all of each."""
    with opened(data / _FILE_NAME) as ledger:
        receipts = ledger.receipts(last or None)
        if as_json:
            print_json([receipt.as_dict() for receipt in receipts])
        else:
            out.print(_table(receipts))


def _table(receipts: Iterable[Receipt]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("number", "received", "admitted"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("minute", "hash"):
        table.add_column(name, no_wrap=True)
    table.add_column("rejected")
    for receipt in receipts:
        rejected = ", ".join(f"{times:,} {reason}" for reason, times in receipt.rejected.items())
        counts = (str(receipt.sequence), f"{receipt.received:,}", f"{receipt.admitted:,}")
        minute = f"{receipt.minute[:10]} {receipt.minute[11:16]}"
        table.add_row(*counts, minute, receipt.hash.hex()[:12], rejected)
    return table


@app.command("verify")
def verify(
    data: _Data = _DATA,
    noted: Annotated[
        str | None,
        typer.Option(
            "--noted", metavar="HASH", help="A tip that was noted earlier and must still be there."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify the chain of receipts, the sums, and the batches that still wait. Exit 1 if a receipt
    was changed, removed or moved.

    What it prints as the tip stands for the whole ledger up to here. Whoever notes it elsewhere can
    see later, with `--noted`, that nothing before it was rewritten.
    """
    if noted is not None and not re.fullmatch("[0-9a-f]{64}", noted):
        raise typer.BadParameter("a hash is 64 hexadecimal digits", param_hint="--noted")
    with opened(data / _FILE_NAME) as ledger:
        found = ledger.verify(None if noted is None else bytes.fromhex(noted))
    aside = len(list(data.glob(f"{_FILE_NAME}.damaged-*")))
    if as_json:
        print_json(_as_dict(found, aside))
    else:
        _print(found, aside)
    raise typer.Exit(1 if found.flaws else 0)


def _as_dict(found: Verification, aside: int) -> dict[str, object]:
    return {
        "ok": not found.flaws,
        "receipts": found.receipts,
        "received": found.received,
        "admitted": found.admitted,
        "rejected": dict(found.rejected),
        "tip": {"sequence": found.tip.sequence, "hash": found.tip.hash.hex()},
        "breaks": [{"first": each.first, "missing": each.missing} for each in found.breaks],
        "damaged_files": aside,
        "flaws": [{"sequence": flaw.sequence, "message": flaw.message} for flaw in found.flaws],
    }


def _print(found: Verification, aside: int) -> None:
    for flaw in found.flaws:
        err.print(str(flaw), markup=False, style="red")
    rejected = found.received - found.admitted
    out.print(
        f"{found.receipts:,} receipts: {found.received:,} received ="
        f" {found.admitted:,} admitted + {rejected:,} rejected",
        markup=False,
    )
    for each in found.breaks:
        out.print(
            f"a new chain begins at receipt {each.first}, where the file was damaged;"
            f" {each.missing:,} receipts are missing before it"
        )
    if aside:
        out.print(f"{aside} damaged files were set aside in the data directory")
    out.print(f"tip: {found.tip.sequence} {found.tip.hash.hex()}")
    out.print("[bold red]the ledger does not hold[/]" if found.flaws else "the ledger holds")
