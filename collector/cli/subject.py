"""``collector subject export|erase|object``: the rights of a person."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from collector.cli.console import err, group, print_json
from collector.cli.data_dir import (
    Data,
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
from collector.cli.options import AsJson
from collector.cli.serve import ConfigFile
from collector.contracts import Removal
from collector.retention.locations import Locations
from collector.schema import Schema
from collector.server.control_client import Erase, Object, ask
from collector.subject.rights import SchemaSubject, erase, export, object_to, select

app: typer.Typer = group("Show, erase or amend what is stored of a person, in all files of ours.")
_Field = Annotated[
    str,
    typer.Option(
        "--field",
        metavar="FIELD=VALUE",
        help="By what the person is found, such as `client.address=203.0.113.7`; with `-` for the"
        " value it is read from stdin, and is in no list of processes.",
    ),
]
_From = Annotated[
    str,
    typer.Option(
        "--from", metavar="TIME", help="Since when: `2026-11-24`, or `2026-11-24T10:20:00Z`."
    ),
]
_To = Annotated[
    str, typer.Option("--to", metavar="TIME", help="Until when; that day or minute belongs to it.")
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
    """Write what is stored of a person as JSON, as it is stored. A sidecar may be running."""
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
def remove(
    *,
    field: _Field,
    since: _From,
    until: _To,
    config: ConfigFile = None,
    data: Data = None,
    store: StoreFile = None,
    wait: Wait = _WAIT,
    as_json: AsJson = False,
) -> None:
    """Delete what is stored of a person, and every byte of it. A sidecar that runs does it while it
    receives.

    Damaged files and batches that may hold something of the window are deleted whole. Exit 1 if
    another process was reading all the time: then bytes of it are left until it is done again.
    """
    locations = located(config, data, store)
    selected = _selected(locations.schemas, field, since, until)
    answer = None if store else ask(locations.data, Erase(*_person(selected), since, until, wait))
    if answer is None:
        done = erase(locations, selected, wait)
    else:
        done, locations = _of_sidecar(answer, locations)
    _print_removed(done, selected, locations, as_json)


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
    as_json: AsJson = False,
) -> None:
    """Take out of what is stored of a person all that is for optional purposes only, as when
    consent is withdrawn; otherwise as `erase`."""
    locations = located(config, data, store)
    selected = _selected(locations.schemas, field, since, until)
    if not any(each.refusable for each in selected):
        err.print("no field of the schema is for optional purposes alone: all of them stay")
    answer = None if store else ask(locations.data, Object(*_person(selected), since, until, wait))
    if answer is None:
        done = object_to(locations, selected, wait)
    else:
        done, locations = _of_sidecar(answer, locations)
    _print_removed(done, selected, locations, as_json)


def _person(selected: Sequence[SchemaSubject]) -> tuple[str, str]:
    subject = selected[0].subject
    return subject.field, subject.value


def _of_sidecar(answer: dict[str, Any], locations: Locations) -> tuple[Removal, Locations]:
    """Return what a sidecar has removed, and the locations with those that it could not reach."""
    return removal_of(answer["removed"]), reached_by_sidecar(answer, locations)


def _of(schemas: Sequence[Schema]) -> dict[str, Any]:
    """Say which schema, or which schemas, the answer is by."""
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
