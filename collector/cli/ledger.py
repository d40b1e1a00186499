"""``collector ledger``: receipts and entries, and whether they hold. No server is needed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from collector.cli import evidence
from collector.cli.console import AsJson, err, out, print_json, seen
from collector.cli.evidence import DATA, Data
from collector.ledger import Entry, Flaw, Receipt, Verification, opened
from collector.ledger.checkpoint import checkpoints
from collector.ledger.trail import Trail
from collector.spool import FILE_NAME

__all__ = ["app"]

app: typer.Typer = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look at what was received, admitted and rejected, and done beside that, and verify it.",
)
app.command("entries")(evidence.entries)
app.command("checkpoint")(evidence.checkpoint)
app.command("rotate-key")(evidence.rotate_key)
app.command("export")(evidence.export)

_MOST_CHARACTERS = 64 << 20
"""That is a checkpoint every hour for more than ten years."""


@app.command("show")
def show(
    data: Data = DATA,
    last: Annotated[
        int, typer.Option("--last", min=0, help="How many of the newest; 0 for all.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the newest receipts: number, minute, what was received, admitted and rejected, and the
    beginning of its hash. With `--json`, all of each."""
    with opened(data / FILE_NAME) as ledger:
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
        table.add_row(*counts, seen(minute), receipt.hash.hex()[:12], rejected)
    return table


@app.command("verify")
def verify(
    data: Data = DATA,
    noted: Annotated[
        str | None,
        typer.Option(
            "--noted", metavar="HASH", help="A tip that was noted earlier and must still be there."
        ),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            "--checkpoint", metavar="FILE", help="A checkpoint that was kept elsewhere; repeatable."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify the chains of receipts and entries, the sums, the signatures, and the batches that
    still wait. Exit 1 if anything was changed, removed, moved or put in.

    With a checkpoint that was kept elsewhere (`collector ledger checkpoint`) also if the end was
    cut off, or history rewritten, by somebody who could make all hashes and signatures anew.
    """
    if noted is not None and not re.fullmatch("[0-9a-f]{64}", noted):
        raise typer.BadParameter("a hash is 64 hexadecimal digits", param_hint="--noted")
    kept = [each for path in checkpoint or () for each in _kept(path)]
    with opened(data / FILE_NAME) as ledger:
        found = ledger.verify(None if noted is None else bytes.fromhex(noted), kept)
    aside = len(list(data.glob(f"{FILE_NAME}.damaged-*")))
    if as_json:
        print_json(_as_dict(found, aside))
    else:
        _print(found, aside)
    raise typer.Exit(1 if found.flaws else 0)


def _kept(path: Path) -> list[Entry]:
    """The checkpoints of a file. Raises ``InputError`` E401."""
    text = ""
    with suppress(OSError, UnicodeDecodeError), path.open(encoding="utf-8") as file:
        text = file.read(_MOST_CHARACTERS)
    return checkpoints(text)


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
        "flaws": [_of_flaw(flaw) for flaw in found.flaws],
        "entries": _of_trail(found.trail),
    }


def _of_flaw(flaw: Flaw) -> dict[str, object]:
    told: dict[str, object] = {"sequence": flaw.sequence, "message": flaw.message}
    return told if flaw.what == "receipt" else {**told, "what": flaw.what}


def _of_trail(trail: Trail) -> dict[str, object]:
    return {
        "entries": trail.entries,
        "signed": trail.signed,
        "signed_up_to": trail.signed_up_to,
        "signatures_checked": trail.is_checked,
        "checkpoints_kept": trail.kept,
        "checkpoints_up_to": trail.kept_up_to,
        "tip": {"sequence": trail.tip.sequence, "hash": trail.tip.hash.hex()},
        "keys": [
            {"sequence": key.sequence, "public": key.public, "vouched": key.is_vouched}
            for key in trail.keys
        ],
        "breaks": trail.breaks,
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
    _print_trail(found.trail)
    if aside:
        out.print(f"{aside} damaged files were set aside in the data directory")
    out.print(f"tip: {found.tip.sequence} {found.tip.hash.hex()}")
    out.print("[bold red]the ledger does not hold[/]" if found.flaws else "the ledger holds")


def _print_trail(trail: Trail) -> None:
    signed = f"{trail.signed:,} of them signed" if trail.signed else "none of them signed"
    out.print(f"{trail.entries:,} entries, {signed}")
    if trail.is_checked and 0 < trail.signed_up_to < trail.tip.sequence:
        out.print(f"what comes after entry {trail.signed_up_to} is not signed")
    if trail.signed and not trail.is_checked:
        extra = "data-minimisation-collector[signing]"
        out.print(f"signatures were not checked; install {extra}", markup=False)
    for key in trail.keys[1:]:
        if not key.is_vouched:
            out.print(f"a new key begins at entry {key.sequence}; the one before has not signed it")
    for sequence in trail.breaks:
        out.print(f"entries before {sequence} were lost, where the file was damaged")
    if trail.kept:
        out.print(
            f"compared with {trail.kept:,} checkpoints that were kept elsewhere, up to entry"
            f" {trail.kept_up_to}"
        )
