"""``collector schema catalogue check|add``: the closed lists that schemas name."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from collector.cli.console import err, group, new_table, out, print_json
from collector.cli.options import AsJson, replace_file
from collector.documents import nearest
from collector.errors import Fault, SchemaError
from collector.schema import resources
from collector.schema.catalogue import (
    MAX_BYTES,
    CatalogueFile,
    CatalogueFinding,
    examine,
    fault_of,
    insert,
)

app: typer.Typer = group("Check catalogues, the closed lists that schemas name, and add to them.")
_MAX_SOURCE = 500


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
    """Check catalogue files and report every fault of all of them in one pass. Exit 78 on a fault.

    Says how many entries there are, how many bits that is, and where they come from. Refused is
    what looks as if it was about a person or one single device; a warning is for what is not
    sorted, and for what differs only in case or blanks.
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


@app.command("add")
def add(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The catalogue file; it is written if not there.")
    ],
    entries: Annotated[list[str], typer.Argument(metavar="ENTRY...", help="What to add.")],
    source: Annotated[
        str,
        typer.Option(
            "--source",
            metavar="TEXT",
            help="The public source of the entries: a name, its version and licence or the address"
            " of a page, and the date.",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Add entries to a catalogue file, in their places below the line of their source.

    All of them or none: refused is what `check` refuses. Shipped catalogues are only written to by
    their path.
    """
    path, source = _target(file), _source(source)
    data = _read(path) if path.exists() else b""
    catalogue_file, findings = examine(data)
    faults = [
        _fault(path, finding) for finding in findings if finding.code and catalogue_file.lines
    ]
    faults += _refused(path, catalogue_file, entries)
    if faults:
        raise SchemaError(faults)
    written = insert(data, entries, source)
    after, findings = examine(written)
    if any(finding.code for finding in findings):
        raise SchemaError([_fault(path, finding) for finding in findings if finding.code])
    replace_file(path, written)
    summary = _summary(path, after, findings) | {"added": len(entries)}
    if as_json:
        print_json(summary)
        return
    out.print(
        f"{path}: added {len(entries)} entries, now {summary['entries']:,}: {summary['bits']} bits",
        markup=False,
    )


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
    message = f"no such catalogue{hint}"
    raise SchemaError([Fault(reference, 1, 1, "", message, "E101")])


def _read(path: Path) -> bytes:
    """Read the bytes of a catalogue file. Raises ``SchemaError`` E101."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(MAX_BYTES + 1)
    message = "the catalogue cannot be read; check the path and its permissions"
    raise SchemaError([Fault(str(path), 1, 1, "", message, "E101")])


def _target(file: Path) -> Path:
    if file.suffix != ".txt":
        raise typer.BadParameter("give the path of a `.txt` file", param_hint="FILE")
    return file.resolve() if file.is_symlink() else file


def _source(text: str) -> str:
    text = text.strip()
    if not text or not text.isprintable() or len(text) > _MAX_SOURCE:
        message = f"name the public source in one line of at most {_MAX_SOURCE} characters"
        raise typer.BadParameter(message, param_hint="--source")
    return text


def _refused(path: Path, catalogue_file: CatalogueFile, entries: list[str]) -> list[Fault]:
    """List the faults of entries to add, by their number: an entry is never quoted."""
    faults, there = [], catalogue_file.entries
    for number, entry in enumerate(entries, 1):
        why = fault_of(entry)
        if why is None and entry in there:
            why = f"this entry is there already, in line {there[entry]}"
        if why is None and entry in entries[: number - 1]:
            why = "this entry is given twice"
        if why is not None:
            faults.append(Fault(str(path), 1, 1, f"entry {number}", why, "E107"))
    return faults


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
    """Print the first warning of each sort, and the number of others: there may be hundreds."""
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
