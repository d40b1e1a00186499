"""``collector ledger``: show, verify, sign and export receipts and entries, without a server."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from collector.cli.console import err, group, new_table, out, print_json, seen, wide
from collector.cli.data_dir import directory
from collector.cli.options import (
    AsJson,
    Checkpoints,
    ConfigFile,
    Data,
    Output,
    read_file,
    refuse_other_format,
    unwritable,
)
from collector.cli.stdout import write
from collector.errors import file_name
from collector.ledger import Audit, Entry, Flaw, Note, Receipt, opened
from collector.ledger.auditor import Checkpoint
from collector.ledger.export import (
    auditor_script,
    export_lines,
    format_checkpoint,
    parse_checkpoints,
)
from collector.spool import FILE_NAME, note, rotate

app: typer.Typer = group(
    "Show, verify, sign and export the record of what was received, kept and done."
)
_MOST_BYTES = 64 << 20
"""That is a checkpoint every hour for more than ten years."""
_HEX_DIGITS = 64
_Noted = Annotated[
    str | None,
    typer.Option(
        "--noted",
        metavar="HASH",
        help="A hash that you noted earlier, which must still be in the ledger.",
    ),
]
_New = Annotated[bool, typer.Option("--new", help="Make a new checkpoint first.")]
_Verifier = Annotated[
    bool, typer.Option("--verifier", help="Print the script that verifies the export.")
]
_Last = Annotated[
    int, typer.Option("--last", min=0, help="How many of the newest to show; 0 for all.")
]


@app.command("show")
def show(
    config: ConfigFile = None,
    data: Data = None,
    last: _Last = 20,
    as_json: AsJson = False,
) -> None:
    """Show the newest receipts: the number, the minute, how many events were received, admitted and
    rejected, and the beginning of the hash. With `--json`, show all of each."""
    with opened(directory(config, data) / FILE_NAME) as ledger:
        receipts = ledger.receipts(last or None)
        if as_json:
            print_json([receipt.as_dict() for receipt in receipts])
        else:
            out.print(_receipts(receipts))


def _receipts(receipts: Iterable[Receipt]) -> Table:
    numbers = ("number", "received", "admitted")
    whole = (*numbers, "minute", "hash")
    table = new_table(*whole, "rejected", numbers=numbers, whole=whole)
    for receipt in receipts:
        rejected = ", ".join(f"{times:,} {reason}" for reason, times in receipt.rejected.items())
        counts = (str(receipt.sequence), f"{receipt.received:,}", f"{receipt.admitted:,}")
        minute = f"{receipt.minute[:10]} {receipt.minute[11:16]}"
        table.add_row(*counts, seen(minute), receipt.hash.hex()[:12], rejected)
    return table


@app.command("verify")
def verify(
    config: ConfigFile = None,
    data: Data = None,
    noted: _Noted = None,
    checkpoint: Checkpoints = None,
    as_json: AsJson = False,
) -> None:
    """Verify the chains of receipts and entries, the sums, the signatures, and the batches that
    still wait. Exit 1 if anything was changed, removed, moved or inserted.

    With a checkpoint that you kept elsewhere (`collector ledger checkpoint`), it also finds out
    whether the end was cut off or history was rewritten, even with new hashes and signatures.
    """
    if noted is not None and not re.fullmatch("[0-9a-f]{64}", noted):
        raise typer.BadParameter("a hash is 64 hexadecimal digits", param_hint="--noted")
    checkpoints = [each for path in checkpoint or () for each in _checkpoints(path)]
    place = directory(config, data)
    with opened(place / FILE_NAME) as ledger:
        found = ledger.verify(noted, checkpoints)
    quarantined = len(list(place.glob(f"{FILE_NAME}.damaged-*")))
    if as_json:
        print_json(_as_dict(found, quarantined))
    else:
        _print(found, quarantined)
    raise typer.Exit(1 if found.flaws else 0)


def _checkpoints(path: Path) -> list[Checkpoint]:
    """Read the checkpoints of a file. Raises ``InputError`` E101."""
    data = read_file(path, _MOST_BYTES)
    return parse_checkpoints(data.decode(errors="replace"), file_name(path))


def _as_dict(found: Audit, quarantined: int) -> dict[str, object]:
    tips = {
        what: {"sequence": number, "hash": digest} for what, (number, digest) in found.tips.items()
    }
    kept = [each.sequence for each in found.checkpoints]
    return {
        "ok": not found.flaws,
        "receipts": found.receipts,
        "received": found.received,
        "admitted": found.admitted,
        "rejected": dict(found.rejected),
        "tip": tips["receipt"],
        "breaks": [each._asdict() for each in found.breaks],
        "damaged_files": quarantined,
        "flaws": [_of_flaw(flaw) for flaw in found.flaws],
        "entries": {
            "entries": found.entries,
            "signed": found.signed,
            "signed_up_to": found.signed_up_to,
            "signatures_checked": found.is_checked,
            "checkpoints_kept": len(kept),
            "checkpoints_up_to": max(kept, default=0),
            "tip": tips["entry"],
            "keys": [
                {"sequence": key.sequence, "public": key.public, "vouched": key.is_vouched}
                for key in found.keys
            ],
            "breaks": found.lost,
        },
    }


def _of_flaw(flaw: Flaw) -> dict[str, object]:
    described: dict[str, object] = {"sequence": flaw.sequence, "message": flaw.message}
    return described if flaw.what == "receipt" else {**described, "what": flaw.what}


def _print(found: Audit, quarantined: int) -> None:
    for flaw in found.flaws:
        err.print(str(flaw), markup=False, style="red")
    for line in found.summary():
        out.print(line, markup=False)
    if quarantined:
        out.print(f"{quarantined} damaged files were set aside in the data directory")


@app.command("entries")
def entries(
    config: ConfigFile = None,
    data: Data = None,
    last: _Last = 20,
    as_json: AsJson = False,
) -> None:
    """Show the newest entries: checkpoints, keys, changes of schema and configuration, and what was
    read, pruned, exported, amended and erased. With `--json`, show all of each."""
    with opened(directory(config, data) / FILE_NAME) as ledger:
        newest = list(ledger.entries())[-last:]
    if as_json:
        print_json([entry.as_dict() for entry in newest])
    else:
        wide().print(_entries(newest))


def _entries(newest: list[Entry]) -> Table:
    whole = ("number", "minute", "kind", "receipt", "signed")
    table = new_table(*whole, "facts", numbers=whole[:1], whole=whole)
    for entry in newest:
        minute = f"{entry.minute[:10]} {entry.minute[11:16]}"
        facts = ", ".join(f"{name} {_short(fact)}" for name, fact in entry.facts)
        signed = "yes" if entry.signature else "no"
        cells = (minute, entry.kind, str(entry.receipt.sequence), signed, facts)
        table.add_row(str(entry.sequence), *map(seen, cells))
    return table


def _short(fact: str) -> str:
    """Shorten a hash or a key to its beginning."""
    return fact[:12] if len(fact) == _HEX_DIGITS and fact.isalnum() else fact


@app.command("checkpoint")
def checkpoint(
    config: ConfigFile = None,
    data: Data = None,
    new: _New = False,
) -> None:
    """Print the newest checkpoint, a few lines to keep on another machine.

    A checkpoint covers all receipts and entries before it: `collector ledger verify --checkpoint
    FILE` later finds out whether they were cut off or rewritten. The sidecar makes one at start, at
    stop, every hour, and every 10,000 receipts.
    """
    place = directory(config, data)
    with opened(place / FILE_NAME):
        pass  # it is there
    if new:
        note(place, Note.of("checkpoint", at="asked"))
    with opened(place / FILE_NAME) as ledger:
        newest = ledger.newest("checkpoint")
    if newest is None:
        err.print("there is no checkpoint yet; add --new to make one")
        raise typer.Exit(1)
    if not newest.signature:
        err.print(
            "the checkpoint is not signed; install data-minimisation-collector[signing]",
            markup=False,
        )
    write(format_checkpoint(newest).encode())


@app.command("rotate-key")
def rotate_key(config: ConfigFile = None, data: Data = None) -> None:
    """Make a new key that signs entries from now on. The old key signs the new one, and is
    deleted."""
    place = directory(config, data)
    with opened(place / FILE_NAME):
        pass  # it is there
    out.print(f"key: {rotate(place)}")


@app.command("export")
def export(
    config: ConfigFile = None,
    data: Data = None,
    output: Output = None,
    verifier: _Verifier = False,
) -> None:
    """Write the whole ledger for an auditor: starts, receipts, entries and documents, as lines of
    JSON with exactly the texts that were hashed and signed. It contains no record.

    `collector ledger export --verifier > auditor.py` writes a script that verifies the export
    without Collector: `python3 auditor.py EXPORT [CHECKPOINT…]`. `collector ledger verify` runs the
    same script.
    """
    if output is not None:
        refuse_other_format(output, ".ndjson")
    if verifier:
        write(auditor_script().encode())
        return
    with opened(directory(config, data) / FILE_NAME) as ledger:
        if output is None:
            for line in export_lines(ledger):
                write(line)
            return
        fault = None
        try:
            handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.writelines(export_lines(ledger))
        except OSError as error:
            fault = unwritable(output, error)
    if fault is not None:
        raise fault
