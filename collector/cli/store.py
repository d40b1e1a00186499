"""``collector store prune|query|risk|drop|set-aside|redeliver``: what is stored, and what waits for
sinks."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from collector.cli.console import err, group, new_table, out, print_json, wide
from collector.cli.data_dir import (
    StoreFile,
    Wait,
    counts_of,
    directory,
    located,
    print_beyond,
    print_counts,
    reach,
    reached_by_sidecar,
    readable,
    removal_of,
    settings,
    warn_unreached,
)
from collector.cli.options import AsJson, ConfigFile, Data, DryRun, Yes, confirm
from collector.cli.query import query
from collector.config import Config, Loaded, read
from collector.contracts import layout_of
from collector.drain import redeliver as redeliver_aside
from collector.errors import ConfigError, file_name
from collector.retention import upkeep
from collector.retention.upkeep import Dropped, overdue, prune_all
from collector.risk import GroupStats, Reduction, Risk, risks
from collector.routing import all_flows, reaching
from collector.routing.schemas import configured
from collector.server.control_client import Drop, Prune, Redeliver, ask
from collector.sinks.sink import Opening, open_sink
from collector.spool import FILE_NAME as SPOOL_NAME
from collector.spool import Spool
from collector.spool.tables import RefusedBatch, aside_batches

app: typer.Typer = group("Look after what is stored, and what waits for sinks.")
app.command("query")(query)
_SinkName = Annotated[
    str | None,
    typer.Option("--sink", metavar="NAME", help="Only those of this sink."),
]


@app.command("prune")
def prune(
    *,
    config: ConfigFile = None,
    data: Data = None,
    store: StoreFile = None,
    wait: Wait = 30.0,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Delete expired data from the store, the spool and files, down to the last byte.

    A running sidecar prunes once an hour, and at once when this command asks it to. Exit 1 if bytes
    are left because another process kept reading or the disk is full, if the store has a table
    whose retention is unknown, or if a location of ours could not be reached.

    On a terminal the command shows what has expired and asks first; `--dry-run` only shows it.
    """
    locations = located(config, data, store)
    if dry_run or (not yes and sys.stdin.isatty()):
        late = list(overdue(locations))
        if dry_run and as_json:
            print_json({"overdue": late, "dry_run": True})
        for each in [] if dry_run and as_json else late or ["nothing is overdue"]:
            out.print(each, markup=False)
        if dry_run:
            return
        confirm("Delete what is past its retention?", yes)
    answer = None if store else ask(locations.data, Prune(wait))
    if answer is None:
        done = prune_all(locations, wait)
    else:
        done, locations = removal_of(answer["pruned"]), reached_by_sidecar(answer, locations)
    if as_json:
        print_json({**counts_of(done), **reach(locations)})
    else:
        print_counts(done)
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
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Delete the batches that wait, or were set aside, for a sink that is no longer in the
    configuration. Other sinks keep what they still need. The ledger gets an entry.

    A running sidecar does this while it receives. On a terminal the command asks before it deletes.
    """
    loaded = read(config)
    folder = directory(config, data)
    is_on = sink in loaded.config.sinks.on()
    done = _dropped(folder, sink, is_on=is_on and _is_stated(loaded, sink), is_dry_run=True)
    if not dry_run:
        confirm(f"{_counts(done)}. Delete them?", yes)
        done = _dropped(folder, sink, is_on=False, is_dry_run=False)
    if as_json:
        print_json({**asdict(done), "dry_run": dry_run})
    else:
        out.print(f"{_counts(done)}{'' if dry_run else ': deleted'}", markup=False)


def _is_stated(loaded: Loaded, sink: str) -> bool:
    """Return whether the configuration itself, and not only a default, switches a sink on."""
    origins = (
        origin for name, origin in loaded.origins.items() if name.startswith(f"sinks.{sink}.")
    )
    return loaded.file is not None or any(origin != "default" for origin in origins)


def _dropped(folder: Path, sink: str, *, is_on: bool, is_dry_run: bool) -> Dropped:
    """Ask the sidecar of a data directory to drop a sink's batches, or drop them if none runs."""
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


@app.command("set-aside")
def set_aside(config: ConfigFile = None, data: Data = None, as_json: AsJson = False) -> None:
    """List the batches that were set aside: for which sink, of which schema and minute, and how
    many records. No value is shown, and a sidecar may be running."""
    refused = aside_batches(_folder(settings(config, data)) / SPOOL_NAME)
    if as_json:
        print_json({"set_aside": [_aside_dict(each) for each in refused]})
        return
    for each in refused:
        row = _aside_dict(each)
        out.print(
            f"{row['sink']}: {row['id']}, {row['schema']}, {row['received']},"
            f" {row['records']:,} records",
            markup=False,
        )
    if not refused:
        out.print("nothing was set aside")


@app.command("redeliver")
def redeliver(
    config: ConfigFile = None, data: Data = None, sink: _SinkName = None, as_json: AsJson = False
) -> None:
    """Deliver the batches that were set aside to their sinks again, with the fields that each sink
    may have now. A running sidecar does this. Exit 1 if a sink still refuses some."""
    chosen = settings(config, data)
    schemas = configured(chosen)
    matrices, folder = all_flows(chosen, schemas), _folder(chosen)
    sinks, fields_for = matrices[0].sinks, reaching(matrices)
    taken, waiting = 0, aside_batches(folder / SPOOL_NAME)
    refused = [each for each in waiting if sink in (None, each.sink)]
    answer = ask(folder, Redeliver(sink)) if refused else None
    if answer is not None:
        taken = answer["delivered"]
    elif refused:
        with Spool(folder / SPOOL_NAME) as spool:
            for name in dict.fromkeys(each.sink for each in refused):
                if name in sinks:
                    opening = Opening(name, schemas, folder)
                    with open_sink(sinks[name], opening) as opened:
                        taken += redeliver_aside(name, opened, spool, fields_for)
                else:
                    err.print(f"no sink {name} is switched on", markup=False)
    left = len(refused) - taken
    if as_json:
        print_json({"delivered": taken, "left": left})
    else:
        out.print(f"{taken:,} batches delivered, {left:,} left")
    raise typer.Exit(1 if left else 0)


def _aside_dict(refused: RefusedBatch) -> dict[str, str | int]:
    batch = refused.batch
    return {
        "sink": refused.sink,
        "id": batch.id.hex(),
        "schema": layout_of(batch).schema,
        "received": batch.received,
        "records": batch.payload.count(b"\n"),
    }


def _folder(config: Config) -> Path:
    folder = config.data or Path()
    if not folder.is_dir():
        raise ConfigError("E203", f"{file_name(folder)} is no directory; name the data directory")
    return folder


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
