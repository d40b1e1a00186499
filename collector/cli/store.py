"""``collector store prune|drop|query|risk``: delete expired data and what waits for a sink that is
gone, query the store, and show the risk of identification."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from collector.cli.console import err, group, new_table, out, print_json, wide
from collector.cli.data_dir import (
    Data,
    StoreFile,
    Wait,
    directory,
    located,
    print_beyond,
    reach,
    reached_by_sidecar,
    readable,
    warn_unreached,
)
from collector.cli.options import AsJson
from collector.cli.query import query
from collector.cli.serve import ConfigFile
from collector.config import Loaded, read
from collector.errors import ConfigError, file_name
from collector.retention import upkeep
from collector.retention.upkeep import Dropped, PruneCounts, prune_all
from collector.risk import GroupStats, Reduction, Risk, risks
from collector.routing.schemas import configured
from collector.server.control_client import Drop, Prune, ask
from collector.spool import FILE_NAME as SPOOL_NAME
from collector.spool import Spool

app: typer.Typer = group("Look after the embedded store, and into it.")
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

    A sidecar does it by itself once an hour, and at once when it is asked by this. Exit 1 if bytes
    are left since another process was reading all the time or the disk has no room, if the store
    has a table of which no retention is known, or if something of ours could not be reached.
    """
    locations = located(config, data, store)
    answer = None if store else ask(locations.data, Prune(wait))
    if answer is None:
        done = prune_all(locations, wait)
    else:
        done, locations = PruneCounts(**answer["pruned"]), reached_by_sidecar(answer, locations)
    if as_json:
        print_json({**asdict(done), **reach(locations)})
    else:
        out.print(f"store: {done.rows:,} rows deleted, {done.shortened:,} lost fields")
        out.print(f"spool: {done.batches:,} batches lost records or fields")
        out.print(f"files of records: {done.lines:,} lines lost fields or are gone")
        out.print(f"damaged: {done.damaged:,} batches and {done.files:,} files, deleted whole")
        out.print(f"sums of hours: {done.hours:,} deleted")
        print_beyond(locations)
    for table in done.unruled:
        message = f"{table}: no retention is known; let its schema run once with these data"
        err.print(message, markup=False)
    if not done.is_swept:
        err.print(
            "bytes of deleted data are left: another process reads an earlier state, or the disk"
            " has no room; do it again"
        )
    is_left = warn_unreached(locations) or done.unruled or not done.is_swept
    raise typer.Exit(1 if is_left else 0)


@app.command("drop")
def drop(
    sink: Annotated[str, typer.Argument(metavar="SINK", help="The name of the sink.")],
    *,
    config: ConfigFile = None,
    data: Data = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be deleted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete what waits for a sink that the configuration does not have any more, and what was set
    aside for it. The ledger has an entry of it. What other sinks still need stays for them.

    A sidecar that runs does it while it receives. On a terminal it asks before it deletes.
    """
    loaded = read(config)
    folder = directory(config, data)
    is_on = sink in loaded.config.sinks.on()
    done = _dropped(folder, sink, is_on=is_on and _is_stated(loaded, sink), is_dry_run=True)
    if not dry_run:
        if not yes and sys.stdin.isatty():
            typer.confirm(f"{_counts(done)}. Delete them?", abort=True, err=True)
        done = _dropped(folder, sink, is_on=False, is_dry_run=False)
    if as_json:
        print_json({**asdict(done), "dry_run": dry_run})
    else:
        out.print(f"{_counts(done)}{'' if dry_run else ': deleted'}", markup=False)


def _is_stated(loaded: Loaded, sink: str) -> bool:
    """Return whether a configuration says that a sink is on, and not the defaults alone."""
    origins = (
        origin for name, origin in loaded.origins.items() if name.startswith(f"sinks.{sink}.")
    )
    return loaded.file is not None or any(origin != "default" for origin in origins)


def _dropped(folder: Path, sink: str, *, is_on: bool, is_dry_run: bool) -> Dropped:
    """Have the sidecar of a data directory drop what waits, or do it where none runs."""
    answer = ask(folder, Drop(sink, is_dry_run))
    if answer is not None:
        return Dropped(**answer)
    if is_on:
        raise ConfigError("E122", "the sink is switched on; take it out of the configuration first")
    if not (folder / SPOOL_NAME).is_file():
        raise ConfigError(
            "E203", f"there is no spool in {file_name(folder)}; name another directory"
        )
    with Spool(folder / SPOOL_NAME) as spool:
        return upkeep.drop(spool, sink, is_dry_run=is_dry_run)


def _counts(done: Dropped) -> str:
    return (
        f"{done.batches + done.set_aside:,} batches with {done.records:,} records for {done.sink},"
        f" {done.set_aside:,} of them set aside"
    )


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
    ledger, where there is one. docs/rights.md explains the figures.
    """
    at = readable(config, data, store)
    found = risks(at.store, configured(at.config))
    at.note_read("store risk", sum(each.events.total for each in found))
    if as_json:
        print_json({"tables": [asdict(each) for each in found]})
    else:
        for each in found:
            _print_risk(each)


def _print_risk(risk: Risk) -> None:
    out.print(f"[bold]{risk.table}[/]: {_groups_line(risk.events, 'events')}, by all fields")
    if risk.people is not None:
        out.print(f"by the fields besides {risk.by}: {_groups_line(risk.people, 'people')}")
    helpful = [change for change in risk.changes if risk.helped_by(change)]
    if not helpful:
        out.print("no single option would help")
        return
    numbers = ("events alone", "smallest", "people alone", "smallest")
    table = new_table("field", "option that would help", *numbers, numbers=numbers)
    for change in helpful:
        table.add_row(change.field, change.how, *_figures(change))
    wide().print(table)


def _groups_line(stats: GroupStats, what: str) -> str:
    return (
        f"{stats.total:,} {what} in {stats.groups:,} groups, {stats.smallest:,} in the smallest,"
        f" {stats.alone:,} alone"
    )


def _figures(change: Reduction) -> list[str]:
    figures = []
    for stats in (change.events, change.people):
        counts = ["-", "-"] if stats is None else [f"{stats.alone:,}", f"{stats.smallest:,}"]
        figures += counts
    return figures
