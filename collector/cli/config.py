"""``collector config init|check|show|flows|diff``: read by the very loader that ``serve`` uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from collector.cli.console import err, group, new_table, out, print_json, wide
from collector.cli.data_dir import settings as settings_of_data
from collector.cli.options import AsJson, ConfigFile, Data, File, one_file, write_new
from collector.cli.serve import needs_sidecar
from collector.cli.stdout import write
from collector.config import Config, Loaded, examine, read
from collector.config.model import Setting, settings
from collector.errors import ConfigError, ConfigFaults, Fault, SchemaError, file_name
from collector.extras import NO_GRPC, is_installed, missing
from collector.pages.model import build, whose
from collector.pages.render import flow_chart
from collector.routing import Flows, all_flows
from collector.routing.changes import Change, all_changes
from collector.routing.schemas import configured
from collector.schema import Schema, git, resources
from collector.schema.load import parse

app: typer.Typer = group(
    "Check the sidecar's configuration, show what is in force, and what goes where."
)
_AllowWidening = Annotated[
    bool, typer.Option("--allow-widening", help="Reload also if more would flow than before.")
]
_Mermaid = Annotated[bool, typer.Option("--mermaid", help="Print a Mermaid flow chart instead.")]
_Old = Annotated[
    str, typer.Argument(metavar="OLD", help="A file, or `REV:path` in a git repository.")
]
_New = Annotated[str, typer.Argument(metavar="NEW", help="Another one.")]
_STYLES = {"widening": "red", "narrowing": "green", "neutral": "dim"}
_OUTCOMES = {
    "unchanged": "nothing has changed",
    "kept": "reloaded",
    "swapped": "reloaded; the workers use the new configuration",
    "replaced": "reloaded; new workers have replaced the old ones",
}

_HEAD = """\
# The settings of `collector serve --config FILE`, each with its default: take the `#` before its
# name away, and change it. `collector config check FILE` says what is wrong.
"""
_WIDTH = 90


@app.command("init")
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")] = Path(
        "collector.yaml"
    ),
) -> None:
    """Write a configuration with every setting, its meaning and its default, all commented out.

    A file that is there is left as it is.
    """
    text = "".join(f"{line}\n" for line in _lines(Config()))
    write_new(file, [_HEAD.encode(), text.encode()])
    err.print(f"collector serve --config {file_name(file)}", markup=False, soft_wrap=True)


def _lines(defaults: Config) -> Iterator[str]:
    """Yield the settings, section by section."""
    sections: list[str] = []
    for setting in settings():
        *within, key = setting.loc
        yield ""
        if within != sections:
            for depth, name in enumerate(within):
                if within[: depth + 1] != sections[: depth + 1]:
                    yield f"{'  ' * depth}{name}:"
            sections = within
        indent = "  " * len(within)
        meaning = wrap(setting.info.description or "", _WIDTH, break_on_hyphens=False)
        yield from (f"{indent}# {line}" for line in meaning)
        yield f"{indent}#{key}: {_default(setting, defaults)}".rstrip()


def _default(setting: Setting, defaults: Config) -> str:
    """Return a default as YAML; nothing for none."""
    if setting.info.get_default(call_default_factory=True) in (None, ()):
        return ""
    value = setting.of(defaults)
    return str(value).lower() if isinstance(value, bool) else str(value)


@app.command("check")
def check(file: File = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Find every fault of the configuration at once, as `serve` would: also in the schema, in
    certificates, in directories that cannot be used, and in the recorder's settings if it may run.
    Exit 78 if there is one. Warnings are for a certificate that expires soon, for a PostgreSQL role
    with rights that it does not need, and for what a start would refuse without
    `--allow-widening`."""
    needs_sidecar()
    loaded = examine(one_file(file, config))
    from collector.server import preflight  # noqa: PLC0415 - imports all components

    checked = preflight.check(loaded)
    found = [*loaded.faults, *checked.faults, *_recorder_faults(loaded)]
    faults = list(dict.fromkeys(found))
    if as_json:
        parts = {"faults": faults, "warnings": checked.warnings}
        plain = {name: [each._asdict() for each in part] for name, part in parts.items()}
        print_json({"ok": not faults, **plain})
    for fault in [] if as_json else faults:
        err.print(str(fault), markup=False)
    for warning in [] if as_json else checked.warnings:
        err.print(f"warning: {warning}", markup=False)
    if not faults and not as_json:
        out.print("no faults")
        if loaded.lacks_grpc:
            err.print(NO_GRPC, markup=False, soft_wrap=True)
    raise typer.Exit(78 if faults else 0)


def _recorder_faults(loaded: Loaded) -> list[Fault]:
    """Return the faults of the recorder's settings, if one may run."""
    if not loaded.config.recorder.enabled:
        return []
    if not is_installed("joserfc"):
        return [loaded.fault("recorder.enabled", missing("recording", "recording").message, "E201")]
    from collector.recording.settings import find_faults  # noqa: PLC0415 - an extra

    return find_faults(loaded)


@app.command("reload")
def reload(
    config: ConfigFile = None,
    data: Data = None,
    allow_widening: _AllowWidening = False,
    as_json: AsJson = False,
) -> None:
    """Have the running sidecar read its own configuration again, and go on by it without a refused
    request. Exit 78 if it does not take it: then it goes on as before."""
    folder = settings_of_data(config, data).data or Path()
    from collector.server.control_client import Reload, ask  # noqa: PLC0415 - keeps others light

    answer = ask(folder, Reload(allow_widening))
    if answer is None:
        message = "no sidecar runs with this data directory; name it with `--data`"
        raise ConfigError("E203", message)
    faults = [Fault(**each) for each in answer.get("faults", ())]
    if as_json:
        print_json(answer)
    elif faults:
        for fault in faults:
            err.print(str(fault), markup=False)
        err.print("the sidecar goes on as before")
    else:
        out.print(_OUTCOMES[answer["outcome"]])
    raise typer.Exit(78 if faults else 0)


@app.command("show")
def show(file: File = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show every setting that is in force, and where its value comes from. Of secrets, only how
    many there are."""
    loaded = read(one_file(file, config))
    every = settings(loaded.config.sinks.sections())
    rows = [(one.name, one.of(loaded.config), loaded.origins[one.name]) for one in every]
    if as_json:
        print_json({name: {"value": value, "origin": origin} for name, value, origin in rows})
        return
    table = new_table("setting", "value", "comes from")
    for name, value, origin in rows:
        table.add_row(name, escape(_text(value)), escape(origin))
    out.print(table)


def _text(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


@app.command("flows")
def show_flows(
    file: File = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
    mermaid: _Mermaid = False,
) -> None:
    """Show which field of each schema reaches which sink, and for which purposes. The sidecar
    delivers by the very same matrix. Exit 78 where a sink would get what it may not."""
    loaded = read(one_file(file, config))
    found = _flows(loaded)
    if as_json:
        plain = [each.as_dict() for each in found]
        print_json(plain[0] if len(plain) == 1 else {"schemas": plain})
    elif mermaid:
        schemas = [each.schema for each in found]
        page = build(loaded.config, schemas, (), checked=None, now=datetime.now(UTC))
        write(flow_chart(page).encode())
    else:
        for each in found:
            wide().print(_matrix(each))


@app.command("diff")
def diff(
    old: _Old,
    new: _New,
    as_json: AsJson = False,
) -> None:
    """Say which flows NEW adds, widens, narrows or removes. Exit 1 where something widens.

    The files alone are compared, each with the schema that it names: the environment is left out.
    docs/claims.md is the list of what widens.
    """
    before, after = _flows_of_all(old, new)
    found = all_changes(before, after)
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


def _flows_of_all(*references: str) -> list[tuple[Flows, ...]]:
    """Return the flows of each file. Raises ``ConfigFaults`` with the faults of all of them."""
    found: list[tuple[Flows, ...]] = []
    faults: list[Fault] = []
    for reference in references:
        parts = git.split(reference)
        try:
            if parts is None:
                found.append(_flows(read(Path(reference), {})))
            else:
                source = git.read(*parts, Path(), reference)
                found.append(_flows(read(source, {}), parts[0]))
        except ConfigFaults as error:
            faults += error.faults
    if faults:
        raise ConfigFaults(dict.fromkeys(faults))
    return found


def _flows(loaded: Loaded, rev: str | None = None) -> tuple[Flows, ...]:
    """Return the flows of settings under each schema, at a revision if one is given.

    Faults between settings and schema are reported at the places of the settings.
    """
    try:
        schemas = configured(loaded.config, partial(_parsed, rev))
        return all_flows(loaded.config, schemas)
    except SchemaError as error:
        faults = loaded.schema_faults(error)
    except ConfigFaults as error:
        faults = [loaded.fault(one.field, one.message, one.code) for one in error.faults]
    raise ConfigFaults(faults)


def _parsed(rev: str | None, reference: str) -> tuple[Schema | None, list[Fault]]:
    if rev is None or not resources.is_path(reference):
        return parse(reference)
    return git.load_reference(f"{rev}:./{os.path.relpath(reference)}")


def _matrix(found: Flows) -> Table:
    sinks = (escape(f"{name} ({whose(sink)})") for name, sink in found.sinks.items())
    table = new_table(found.schema.id, *sinks, whole=(found.schema.id,))
    for field in found.schema.fields:
        cells = (found.to(name).get(field, ()) for name in found.sinks)
        table.add_row(field, *(", ".join(cell) or "-" for cell in cells))
    return table


def _table(found: list[Change]) -> Table:
    schema = ("schema",) if any(change.schema for change in found) else ()
    table = new_table("verdict", *schema, "what", "field", "sink", "old", "new")
    order = list(_STYLES)
    for change in sorted(found, key=lambda change: order.index(change.verdict)):
        named = (change.schema,) if schema else ()
        values = (_words(change.old), _words(change.new))
        words = (*named, change.what, change.field, change.sink, *values)
        table.add_row(change.verdict, *map(escape, words), style=_STYLES[change.verdict])
    return table


def _words(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else value or ""
