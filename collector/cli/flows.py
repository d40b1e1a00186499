"""``collector config flows|diff``: which field reaches which sink, and what a change does to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from collector.cli.console import AsJson, err, out, print_json, wide
from collector.config import Loaded, read
from collector.config.sinks import Sink
from collector.errors import ConfigFaults, Fault, SchemaError
from collector.proof.flows import Flows, flows
from collector.proof.rerouting import Change, changes
from collector.schema import Schema, load_schema, revision, shelf

__all__ = ["diff", "show"]

_STYLES = {"widening": "red", "narrowing": "green", "neutral": "dim"}
_ESCAPES = str.maketrans({mark: f"#{ord(mark)};" for mark in '"#<>&;|'})


def show(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A YAML file; none: defaults.")
    ] = None,
    as_json: AsJson = False,
    mermaid: Annotated[
        bool, typer.Option("--mermaid", help="Print a Mermaid flow chart instead.")
    ] = False,
) -> None:
    """Show which field of the schema reaches which sink, and for which purposes. The sidecar
    delivers by the very same matrix. Exit 78 where a sink would get what it may not."""
    found = _flows(read(file))
    if as_json:
        print_json(found.as_dict())
    elif mermaid:
        for line in _chart(found):
            out.print(line, markup=False)
    else:
        wide().print(_matrix(found))


def diff(
    old: Annotated[
        str, typer.Argument(metavar="OLD", help="A file, or `REV:path` in a git repository.")
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Another one.")],
    as_json: AsJson = False,
) -> None:
    """Say which flows NEW adds, widens, narrows or removes. Exit 1 where something widens.

    The files alone are compared, each with the schema that it names: the environment is left out.
    docs/flows.md is the list of what widens.
    """
    before, after = _both(old, new)
    found = changes(before, after)
    widens = any(change.verdict == "widening" for change in found)
    if as_json:
        print_json({"changes": [change.as_dict() for change in found], "widening": widens})
    elif not found:
        out.print("no difference")
    else:
        wide().print(_table(found))
    if widens and not as_json:
        err.print(f"{new} lets more flow than {old}", markup=False, style="red")
    raise typer.Exit(1 if widens else 0)


def _both(*references: str) -> list[Flows]:
    """The flows of each file, or the faults of all of them."""
    found: list[Flows] = []
    faults: list[Fault] = []
    for reference in references:
        parts = revision.split(reference)
        try:
            if parts is None:
                found.append(_flows(read(Path(reference), {})))
            else:
                source = revision.read(*parts, Path(), reference)
                found.append(_flows(read(source, {}), parts[0]))
        except ConfigFaults as error:
            faults += error.faults
    if faults:
        raise ConfigFaults(dict.fromkeys(faults))
    return found


def _flows(loaded: Loaded, rev: str | None = None) -> Flows:
    """The flows of settings, under their schema; a file of one as it was at a revision, if given.

    Faults between settings and schema are told at the places of the settings.
    """
    try:
        return flows(loaded.config, _schema(loaded.config.schema_, rev))
    except SchemaError as error:
        faults = loaded.schema_faults(error)
    except ConfigFaults as error:
        faults = [loaded.fault(one.field, one.message, one.code) for one in error.faults]
    raise ConfigFaults(faults)


def _schema(reference: str, rev: str | None) -> Schema:
    if rev is None or not shelf.is_path(reference):
        return load_schema(reference)
    schema, faults = revision.load_reference(f"{rev}:./{os.path.relpath(reference)}")
    if schema is None:
        raise SchemaError(faults)
    return schema


def _who(sink: Sink) -> str:
    """Whose a sink is, in words."""
    words = {"first": "ours", "processor": "processor", "third": "third party"}[sink.party]
    return ", ".join(part for part in (words, sink.recipient, sink.country) if part)


def _matrix(found: Flows) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(found.schema.id, no_wrap=True)
    for name, sink in found.sinks.items():
        table.add_column(escape(f"{name} ({_who(sink)})"), overflow="fold")
    for field in found.schema.fields:
        cells = (found.to(name).get(field, ()) for name in found.sinks)
        table.add_row(field, *(", ".join(cell) or "-" for cell in cells))
    return table


def _chart(found: Flows) -> Iterator[str]:
    """A flow chart; a field that goes nowhere stands alone."""
    fields, sinks = list(found.schema.fields), list(found.sinks)
    yield "flowchart LR"
    for index, name in enumerate(fields):
        yield f'  f{index}["{name}"]'
    for index, name in enumerate(sinks):
        yield f'  s{index}[("{name}<br>{_who(found.sinks[name]).translate(_ESCAPES)}")]'
    for flow in found.flows:
        ends = fields.index(flow.field), sinks.index(flow.sink)
        yield f'  f{ends[0]} -->|"{", ".join(flow.purposes)}"| s{ends[1]}'


def _table(found: list[Change]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("verdict", "what", "field", "sink", "old", "new"):
        table.add_column(heading, overflow="fold")
    order = list(_STYLES)
    for change in sorted(found, key=lambda change: order.index(change.verdict)):
        words = (change.what, change.field, change.sink, _words(change.old), _words(change.new))
        table.add_row(change.verdict, *map(escape, words), style=_STYLES[change.verdict])
    return table


def _words(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else value or ""
