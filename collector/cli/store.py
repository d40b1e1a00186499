"""``collector store prune``: what is older than it may be goes now."""

from __future__ import annotations

from dataclasses import asdict

import typer

from collector.cli.console import AsJson, err, out, print_json
from collector.cli.holdings import ConfigFile, Data, StoreFile, Wait, located
from collector.proof.upkeep import prune_all

__all__ = ["app"]

app: typer.Typer = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look after the embedded store.",
)


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

    A sidecar does it by itself, once an hour, and must be stopped for this. Exit 1 if somebody was
    reading all the time, or if the store has a table of which no retention is known.
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
        err.print("somebody is reading: bytes of what was deleted are left in the log; do it again")
    raise typer.Exit(0 if done.is_swept and not done.unruled else 1)
