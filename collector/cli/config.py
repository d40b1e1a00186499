"""``collector config``: write, check, show and compare configurations, with the loader of
``serve``."""

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

from collector.cli.console import (
    changes_table,
    err,
    group,
    new_table,
    out,
    print_faults,
    print_json,
    wide,
)
from collector.cli.data_dir import settings as settings_of_data
from collector.cli.options import AsJson, ConfigFile, Data, write_new
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

app: typer.Typer = group("Begin a configuration, check it, and show what is in force.")
_AllowWidening = Annotated[
    bool, typer.Option("--allow-widening", help="Reload even if more data would flow than before.")
]
_Mermaid = Annotated[bool, typer.Option("--mermaid", help="Print a Mermaid flow chart instead.")]
_Old = Annotated[
    str, typer.Argument(metavar="OLD", help="A file, or `REV:path` in a git repository.")
]
_New = Annotated[str, typer.Argument(metavar="NEW", help="Another one.")]
_OUTCOMES = {
    "unchanged": "nothing has changed",
    "reloaded": "reloaded; new workers have replaced the old ones",
}

_HEAD = """\
# Every setting of `collector serve --config FILE`, with its default. To change one, delete the `#`
# before its name. `collector config check --config FILE` reports every fault.
"""
_WIDTH = 90


@app.command("init")
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")] = Path(
        "collector.yaml"
    ),
) -> None:
    """Write a configuration that lists every setting with its meaning and its default, all of them
    commented out.

    An existing file is not overwritten.
    """
    text = "".join(f"{line}\n" for line in _lines(Config()))
    write_new(file, [_HEAD.encode(), text.encode()])
    err.print(
        f"wrote {file_name(file)}; next: collector serve --config {file_name(file)}",
        markup=False,
        soft_wrap=True,
    )


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
    """Return a default as YAML; an empty text if there is none."""
    if setting.info.get_default(call_default_factory=True) in (None, ()):
        return ""
    value = setting.of(defaults)
    return str(value).lower() if isinstance(value, bool) else str(value)


@app.command("check")
def check(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Find every fault of a configuration at once, by the checks of `serve`. Exit 78 if `serve`
    would not start.

    The command also checks the schemas, certificates, directories and sinks that the configuration
    names, and the recorder's settings if the recorder is on. It makes and changes nothing.

    It warns, with exit 0, of what does not keep a sidecar from starting: a sink whose server does
    not answer or refuses, a certificate that expires soon, a PostgreSQL role with rights that it
    does not need, and changes that need a restart. It also warns of changes for which `serve` needs
    `--allow-widening`.
    """
    needs_sidecar()
    loaded = examine(config)
    from collector.server import preflight  # noqa: PLC0415 - imports all components

    checked = preflight.check(loaded)
    found = [*loaded.faults, *checked.faults, *_recorder_faults(loaded)]
    faults = list(dict.fromkeys(found))
    if as_json:
        parts = {"faults": faults, "warnings": checked.warnings}
        plain = {name: [each._asdict() for each in part] for name, part in parts.items()}
        print_json({"ok": not faults, **plain})
    print_faults([] if as_json else faults)
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
    """Make the running sidecar read its configuration again. No request is refused meanwhile.

    Exit 78 if the new configuration is faulty: then the sidecar goes on as before.
    """
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
        print_faults(faults)
        err.print("the sidecar goes on as before")
    else:
        out.print(_OUTCOMES[answer["outcome"]])
    raise typer.Exit(78 if faults else 0)


@app.command("show")
def show(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show every setting in force, and where its value comes from: a line of the file, the
    environment, or the default. Of secrets, show only how many there are."""
    loaded = read(config)
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
    config: ConfigFile = None,
    as_json: AsJson = False,
    mermaid: _Mermaid = False,
) -> None:
    """Show which field reaches which sink, and for which purposes. The sidecar delivers by the same
    matrix. Exit 78 if a sink would receive a field that it may not have."""
    loaded = read(config)
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
    """Compare two configurations: which flows does NEW add, widen, narrow or remove? Exit 1 if one
    widens.

    Only the files are compared, each with the schema that it names; the environment is ignored.
    docs/claims.md lists what widens.
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
    return changes_table(
        (*schema, "what", "field", "sink", "old", "new"),
        [
            (
                change.verdict,
                *([change.schema] if schema else []),
                *(change.what, change.field, change.sink, _words(change.old), _words(change.new)),
            )
            for change in found
        ],
    )


def _words(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else value or ""
