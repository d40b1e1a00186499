"""``collector config flows|diff``: which field reaches which sink, and what a change does to it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from collector.cli.console import AsJson, err, out, print_json
from collector.config import read
from collector.config.sinks import Sink
from collector.proof.flows import Flows, flows
from collector.proof.rerouting import Change, changes
from collector.schema import load_schema

__all__ = ["diff", "show"]

_WIDTH = 200
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
    found = _flows(file)
    if as_json:
        print_json(found.as_dict())
    elif mermaid:
        for line in _chart(found):
            out.print(line, markup=False)
    else:
        _print(_matrix(found))


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A configuration file.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Another one.")],
    as_json: AsJson = False,
) -> None:
    """Say which flows NEW adds, widens, narrows or removes. Exit 1 where something widens.

    The files alone are compared, each with the schema that it names: the environment is left out.
    docs/flows.md is the list of what widens.
    """
    before, after = _flows(old, {}), _flows(new, {})
    found = changes(before, after)
    widens = any(change.verdict == "widening" for change in found)
    if as_json:
        print_json({"changes": [change.as_dict() for change in found], "widening": widens})
    elif not found:
        out.print("no difference")
    else:
        _print(_table(found))
    if widens and not as_json:
        err.print(f"{new} lets more flow than {old}", markup=False, style="red")
    raise typer.Exit(1 if widens else 0)


def _flows(file: Path | None, environ: Mapping[str, str] = os.environ) -> Flows:
    config = read(file, environ).config
    return flows(config, load_schema(config.schema_))


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


def _print(table: Table) -> None:
    to = out if out.is_terminal else Console(highlight=False, width=_WIDTH)
    to.print(table)


def _words(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else value or ""
