"""``collector config check|show|flows|diff``: read by the very loader that ``serve`` uses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from collector.cli import flows
from collector.cli.console import AsJson, err, out, print_json
from collector.cli.serve import needs_sidecar
from collector.config import Loaded, examine, read
from collector.config.model import settings
from collector.errors import CollectorError, ConfigFaults, Fault, SchemaError

__all__ = ["app"]

app: typer.Typer = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Check the sidecar's configuration, show what is in force, and what goes where.",
)
app.command("flows")(flows.show)
app.command("diff")(flows.diff)
File = Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A YAML file; none: defaults.")]


@app.command("check")
def check(file: File = None, as_json: AsJson = False) -> None:
    """Find every fault of the configuration at once, as `serve` would: also in the schema, in
    certificates, and in directories that cannot be used. Exit 78 if there is one."""
    needs_sidecar()
    loaded = examine(file)
    faults = [*loaded.faults, *_of_parts(loaded)]
    if as_json:
        print_json({"ok": not faults, "faults": [fault._asdict() for fault in faults]})
    for fault in [] if as_json else faults:
        err.print(str(fault), markup=False)
    if not faults and not as_json:
        out.print("no faults")
    raise typer.Exit(78 if faults else 0)


def _of_parts(loaded: Loaded) -> list[Fault]:
    """What ``serve`` would find when it makes its parts, of settings that are sound."""
    from collector.server.trial import trials  # noqa: PLC0415 - it imports what parts are made of

    faults: list[Fault] = []
    for name, trial in trials(loaded.config):
        if not loaded.sound(name):
            continue
        try:
            trial()
        except SchemaError as error:
            faults += loaded.schema_faults(error)
        except ConfigFaults as error:
            named = (one for one in error.faults if loaded.sound(one.field))
            faults += [loaded.fault(one.field, one.message, one.code) for one in named]
        except CollectorError as error:
            faults.append(loaded.fault(name, error.message, error.code))
    return list(dict.fromkeys(faults))


@app.command("show")
def show(file: File = None, as_json: AsJson = False) -> None:
    """Show every setting that is in force, and where its value comes from. Of secrets, only how
    many there are."""
    loaded = read(file)
    rows = [(one.name, one.of(loaded.config), loaded.origins[one.name]) for one in settings()]
    if as_json:
        print_json({name: {"value": value, "origin": origin} for name, value, origin in rows})
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("setting", "value", "comes from"):
        table.add_column(heading, overflow="fold")
    for name, value, origin in rows:
        table.add_row(name, escape(_text(value)), escape(origin))
    out.print(table)


def _text(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, list):
        return ", ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
