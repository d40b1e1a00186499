"""``collector schema catalogue check``: the closed lists that schemas name."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from collector.cli.console import err, group, new_table, out, print_json
from collector.cli.options import AsJson
from collector.documents import nearest
from collector.errors import Fault, SchemaError
from collector.schema import resources
from collector.schema.catalogue import (
    MAX_BYTES,
    CatalogueFile,
    CatalogueFinding,
    examine,
)

app: typer.Typer = group("Check catalogues, the closed lists that schemas name.")


def _names(incomplete: str) -> list[str]:
    folder = resources.shipped() / "catalogues"
    return sorted(path.stem for path in folder.glob(f"{incomplete}*.txt"))


@app.command("check")
def check(
    catalogues: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CATALOGUE",
            help="Names of shipped catalogues, or paths of `.txt` files. Default: all shipped.",
            autocompletion=_names,
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check catalogue files, and report every fault of all of them at once. Exit 78 on a fault.

    Prints how many entries there are, how many bits that is, and where they come from. An entry
    that looks like a person or one single device is a fault. An entry out of order, or one that
    differs from another only in case or blanks, is a warning.
    """
    rows, faults = [], []
    for reference in catalogues or _names(""):
        path = _path(reference)
        catalogue_file, findings = examine(_read(path))
        faults += [_fault(path, finding) for finding in findings if finding.code]
        warnings = [finding for finding in findings if not finding.code]
        rows.append(_summary(path, catalogue_file, findings))
        if not as_json:
            _print_warnings(path, warnings)
    if as_json:
        print_json(rows)
        raise typer.Exit(78 if faults else 0)
    _print_rows(rows)
    if faults:
        raise SchemaError(faults)


def _path(reference: str) -> Path:
    """Return the file of a name, or of a path: with a separator, or ending in ``.txt``.

    Raises ``SchemaError`` E101.
    """
    if "/" in reference or "\\" in reference or reference.endswith(".txt"):
        return Path(reference)
    if reference in _names(""):
        return resources.shipped() / "catalogues" / f"{reference}.txt"
    known = _names("")
    hint = nearest(reference, known) or f"; there are {', '.join(known)}, and paths of `.txt` files"
    message = f"no shipped catalogue has this name{hint}"
    raise SchemaError([Fault(reference, 0, 0, "", message, "E101")])


def _read(path: Path) -> bytes:
    """Read the bytes of a catalogue file. Raises ``SchemaError`` E101."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(MAX_BYTES + 1)
    message = "the catalogue cannot be read; check the path and its permissions"
    raise SchemaError([Fault(str(path), 0, 0, "", message, "E101")])


def _fault(path: Path, finding: CatalogueFinding) -> Fault:
    return Fault(str(path), finding.line, 1, "", finding.message, finding.code)


def _summary(
    path: Path, catalogue_file: CatalogueFile, findings: list[CatalogueFinding]
) -> dict[str, Any]:
    return {
        "catalogue": path.stem,
        "file": str(path),
        "entries": len(catalogue_file.entries),
        "bits": round(catalogue_file.bits, 1),
        "longest": catalogue_file.longest,
        "sources": [
            {"source": block.source, "entries": len(block.entries)}
            for block in catalogue_file.blocks
        ],
        "faults": [finding._asdict() for finding in findings if finding.code],
        "warnings": [
            {"line": finding.line, "message": finding.message}
            for finding in findings
            if not finding.code
        ],
    }


def _print_warnings(path: Path, warnings: list[CatalogueFinding]) -> None:
    """Print the first warning of each sort, and how many more there are: there may be hundreds."""
    sorts: dict[str, list[CatalogueFinding]] = {}
    for finding in warnings:
        sorts.setdefault(re.sub(r"[0-9]+", "", finding.message), []).append(finding)
    for first, *others in sorts.values():
        more = f" (and {len(others)} more like it; --json lists them)" if others else ""
        err.print(f"{path}:{first.line}: warning: {first.message}{more}", markup=False)


def _print_rows(rows: list[dict[str, Any]]) -> None:
    numbers = ("entries", "bits", "longest")
    table = new_table("catalogue", *numbers, numbers=numbers)
    for row in rows:
        name, bits = escape(row["catalogue"]), f"{row['bits']}"
        table.add_row(name, f"{row['entries']:,}", bits, str(row["longest"]))
    out.print(table)
    for row in rows:
        out.print(f"\n{row['catalogue']}: entries by source", markup=False)
        for block in row["sources"]:
            out.print(f"{block['entries']:7,}  {block['source']}", markup=False)
