"""``collector subject export|erase|object``: the rights of a person."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from collector.cli.console import err, group, out, print_json
from collector.cli.data_dir import (
    StoreFile,
    Wait,
    counts_of,
    located,
    print_beyond,
    print_counts,
    reach,
    reached_by_sidecar,
    removal_of,
    warn_unreached,
)
from collector.cli.options import AsJson, ConfigFile, Data, DryRun, Yes, confirm
from collector.contracts import Removal
from collector.retention.locations import Locations
from collector.schema import Schema
from collector.server.control_client import Erase, Object, ask
from collector.subject.rights import Removing, SchemaSubject, export, remove, select

app: typer.Typer = group(
    "Show, erase or amend what is stored about a person, in all of Collector's files."
)
_Field = Annotated[
    str,
    typer.Option(
        "--field",
        metavar="FIELD=VALUE",
        help="How to find the person, such as `client.address=203.0.113.7`. With `-` as the value,"
        " it"
        " is read from stdin, so that no list of processes shows it.",
    ),
]
_From = Annotated[
    str,
    typer.Option(
        "--from", metavar="TIME", help="The begin: `2026-11-24`, or `2026-11-24T10:20:00Z`."
    ),
]
_To = Annotated[
    str, typer.Option("--to", metavar="TIME", help="The end; that day or minute is included.")
]
_WAIT = 30.0


@app.command("export")
def show(
    *,
    field: _Field,
    since: _From,
    until: _To,
    config: ConfigFile = None,
    data: Data = None,
    store: StoreFile = None,
) -> None:
    """Print what is stored about a person as JSON, just as it is stored. A sidecar may be
    running."""
    locations = located(config, data, store)
    selected = _selected(locations.schemas, field, since, until)
    found = export(locations, selected)
    sinks: dict[str, dict[str, list[Any]]] = {name: {} for name in found.sinks}
    for name, records in found.sinks.items():
        for collection, record in records:
            sinks[name].setdefault(collection, []).append(record)
    print_json(
        {
            **_of(locations.schemas),
            **_asked(selected),
            "sinks": sinks,
            "spool": found.spool,
            "unreadable": {"batches": found.unreadable, "files": found.aside},
            **reach(locations),
        }
    )
    if warn_unreached(locations):
        raise typer.Exit(1)


@app.command("erase")
def erase(
    *,
    field: _Field,
    since: _From,
    until: _To,
    config: ConfigFile = None,
    data: Data = None,
    store: StoreFile = None,
    wait: Wait = _WAIT,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Delete what is stored about a person, to the last byte. A running sidecar does it while it
    receives.

    Damaged files and batches that may contain something of the window are deleted whole. Exit 1 if
    another process was reading all the time: then some bytes remain until the command is repeated.

    On a terminal it shows how many records there are and asks first; `--dry-run` only shows it.
    """
    asked = _Asked(located(config, data, store), field, since, until, "erase")
    if asked.is_to_do(yes=yes, dry_run=dry_run, as_json=as_json):
        asked.have_removed(Erase(*asked.person, since, until, wait), store is None, as_json)


@app.command("object")
def object_(
    *,
    field: _Field,
    since: _From,
    until: _To,
    config: ConfigFile = None,
    data: Data = None,
    store: StoreFile = None,
    wait: Wait = _WAIT,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Remove the fields that are only for optional purposes from a person's records, as when
    consent is withdrawn. Everything else is as with `erase`."""
    asked = _Asked(located(config, data, store), field, since, until, "object")
    if not any(each.refusable for each in asked.selected):
        err.print(
            "every field of the schema also has a purpose that is not optional, so all fields stay"
        )
    if asked.is_to_do(yes=yes, dry_run=dry_run, as_json=as_json):
        asked.have_removed(Object(*asked.person, since, until, wait), store is None, as_json)


class _Asked:
    """What is asked of a person's records: to erase them, or to take fields out of them."""

    def __init__(
        self, locations: Locations, field: str, since: str, until: str, command: str
    ) -> None:
        self.locations = locations
        self.selected = _selected(locations.schemas, field, since, until)
        self.command = f"subject {command}"
        subject = self.selected[0].subject
        self.person = subject.field, subject.value

    def __repr__(self) -> str:
        return f"<_Asked {self.command}>"

    def is_to_do(self, *, yes: bool, dry_run: bool, as_json: bool) -> bool:
        """Print how many records there are if the options ask for it, and return whether to go
        on."""
        if not dry_run and (yes or not sys.stdin.isatty()):
            return True
        found = export(self.locations, self.selected, self.command)
        counts = {name: len(records) for name, records in found.sinks.items()}
        if dry_run and as_json:
            about = {**_asked(self.selected), "sinks": counts, "records": len(found.spool)}
            print_json({**about, "dry_run": True, **reach(self.locations)})
            return False
        for name, number in counts.items():
            out.print(f"sink {name}: {number:,} records", markup=False)
        out.print(f"spool: {len(found.spool):,} records")
        if not dry_run:
            what = "Delete them" if self.command == "subject erase" else "Take fields out of them"
            confirm(f"{what}, for all time?", yes)
        return not dry_run

    def have_removed(self, command: Erase | Object, by_sidecar: bool, as_json: bool) -> None:
        """Ask the running sidecar to carry out a command, or carry it out if none runs."""
        answer = ask(self.locations.data, command) if by_sidecar else None
        if answer is not None:
            done, locations = _of_sidecar(answer, self.locations)
        else:
            request = Removing(self.selected, is_objection=isinstance(command, Object))
            done, locations = remove(self.locations, request, command.wait), self.locations
        _print_removed(done, self.selected, locations, as_json)


def _of_sidecar(answer: dict[str, Any], locations: Locations) -> tuple[Removal, Locations]:
    """Return what a sidecar has removed, and the locations with those that it could not reach."""
    return removal_of(answer["removed"]), reached_by_sidecar(answer, locations)


def _of(schemas: Sequence[Schema]) -> dict[str, Any]:
    """Print the schemas by which the person was looked for."""
    names = [schema.id for schema in schemas]
    return {"schema": names[0]} if len(names) == 1 else {"schemas": names}


def _selected(schemas: Sequence[Schema], field: str, since: str, until: str) -> list[SchemaSubject]:
    name, is_given, value = field.partition("=")
    if not is_given:
        raise typer.BadParameter("write it as FIELD=VALUE", param_hint="--field")
    if value == "-":
        value = sys.stdin.readline().rstrip("\r\n")
    return select(schemas, name, value, since, until)


def _asked(selected: Sequence[SchemaSubject]) -> dict[str, str]:
    subject = selected[0].subject
    return {"field": subject.field, "from": subject.start, "before": subject.end}


def _print_removed(
    done: Removal, selected: Sequence[SchemaSubject], locations: Locations, as_json: bool
) -> None:
    if as_json:
        print_json({**_asked(selected), **counts_of(done), **reach(locations)})
    else:
        print_counts(done)
        print_beyond(locations)
    if not done.is_swept:
        err.print(
            "another process reads the store or the spool: bytes of what was removed are left in"
            " the log; do it again when it has ended"
        )
    if warn_unreached(locations) or not done.is_swept:
        raise typer.Exit(1)
