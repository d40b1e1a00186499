"""``collector store prune|query|risk``: what is older than it may be goes now; what there is; who
stands alone in it."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.table import Table

from collector.cli.console import AsJson, err, out, print_json, wide
from collector.cli.holdings import ConfigFile, Data, StoreFile, Wait, located, readable
from collector.cli.query import query
from collector.proof.risk import Change, Crowd, Risk, risks
from collector.proof.upkeep import prune_all
from collector.schema import load_schema

__all__ = ["app"]

app: typer.Typer = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look after the embedded store, and into it.",
)
app.command("query")(query)


@app.callback()
def _group() -> None:
    pass


@app.command("prune")
def prune(
    config: ConfigFile = None,
    data: Data = None,
    store: StoreFile = None,
    wait: Wait = 30.0,
    as_json: AsJson = False,
) -> None:
    """Take out of store, spool and files what is older than its retention, and every byte of it.

    A sidecar does it by itself, once an hour, and must be stopped for this. Exit 1 if bytes are
    left since somebody was reading all the time or the disk has no room, or if the store has a
    table of which no retention is known.
    """
    schema, holdings = located(config, data, store)
    done = prune_all(schema, holdings.spool, holdings.store, holdings.lines, wait)
    if as_json:
        print_json(asdict(done))
    else:
        out.print(f"store: {done.rows:,} rows deleted, {done.shortened:,} lost fields")
        out.print(f"spool: {done.batches:,} batches lost records or fields")
        out.print(f"files of records: {done.lines:,} lines lost fields or are gone")
        out.print(f"damaged: {done.damaged:,} batches and {done.files:,} files, deleted whole")
        out.print(f"sums of hours: {done.hours:,} deleted")
    for table in done.unruled:
        message = f"table {table}: no retention is known; open the store with its schema once"
        err.print(message, markup=False)
    if not done.is_swept:
        err.print(
            "bytes of what was deleted are left: somebody is reading an earlier state, or the disk"
            " has no room; do it again"
        )
    raise typer.Exit(0 if done.is_swept and not done.unruled else 1)


@app.command("risk")
def risk(
    config: ConfigFile = None,
    data: Data = None,
    store: StoreFile = None,
    as_json: AsJson = False,
) -> None:
    """Show how many events and people stand alone in the store, and which coarser precision would
    help. No value is shown, nothing in the store is changed, and a sidecar may be running.

    All fields but the time of receipt are looked at. That the store was read is an entry of the
    ledger, where there is one. docs/risk.md explains the figures.
    """
    at = readable(config, data, store)
    found = risks(at.store, load_schema(at.schema))
    at.tell("store risk", sum(each.events.total for each in found))
    if as_json:
        print_json({"tables": [asdict(each) for each in found]})
    else:
        for each in found:
            _print_risk(each)


def _print_risk(risk: Risk) -> None:
    out.print(f"[bold]{risk.table}[/]: {_crowd(risk.events, 'events')}, by all fields")
    if risk.people is not None:
        out.print(f"by the fields besides {risk.by}: {_crowd(risk.people, 'people')}")
    helpful = [change for change in risk.changes if risk.helped_by(change)]
    if not helpful:
        out.print("no single option would help")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("field", "option that would help"):
        table.add_column(heading, overflow="fold")
    for heading in ("events alone", "smallest", "people alone", "smallest"):
        table.add_column(heading, justify="right")
    for change in helpful:
        table.add_row(change.field, change.how, *_figures(change))
    wide().print(table)


def _crowd(crowd: Crowd, what: str) -> str:
    return (
        f"{crowd.total:,} {what} in {crowd.groups:,} groups, {crowd.smallest:,} in the smallest,"
        f" {crowd.alone:,} alone"
    )


def _figures(change: Change) -> list[str]:
    figures = []
    for crowd in (change.events, change.people):
        counts = ["-", "-"] if crowd is None else [f"{crowd.alone:,}", f"{crowd.smallest:,}"]
        figures += counts
    return figures
