"""``collector schema new|jsonschema``: begin a schema, and print JSON Schemas for editors and
records."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import orjson
import typer

from collector.cli.console import err
from collector.cli.hints import read_sample, refuse_unreadable
from collector.cli.inputs import input_name
from collector.cli.options import (
    DEFAULT_SCHEMAS,
    Output,
    Schemas,
    complete_schema,
    refuse_other_format,
    write_file,
)
from collector.cli.stdout import write
from collector.documents import nearest
from collector.errors import ConfigError, UsageError
from collector.samples import fitting, proposed
from collector.schema import load_schema, load_schemas, resources
from collector.schema.checks import TO_WRITE
from collector.schema.starter import EDITOR_FILE, copy, is_name

_NONE: Mapping[str, bytes] = {}


def new(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Lower-case words of a-z and 0-9, joined by - or _."),
    ],
    template: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SCHEMA|SAMPLE",
            help="Copy this shipped schema or template (`collector schema list`), or propose a"
            " schema for this file of events, in any form that `filter` reads; `-` is stdin.",
            autocompletion=complete_schema,
        ),
    ] = None,
) -> None:
    """Write a commented schema `NAME.yaml` here, with samples in `NAME.samples/`. Existing files
    are not overwritten.

    The new schema passes `collector schema check --strict` and `collector schema test`.

    For a file of events, the schema has the fields that are found under names which are common in
    telemetry, each with its kind and path. It does not load until you give a reason for each. Other
    names are only counted: they are neither printed nor written. If a shipped schema or a template
    fits, its name is printed.
    """
    if not is_name(name):
        message = "write 1 to 64 characters: lower-case words of a-z and 0-9, joined by - or _"
        raise typer.BadParameter(message, param_hint="NAME")
    if template is not None and _is_sample(template):
        _propose(name, Path(template))
        return
    path = resources.starter() if template is None else _template(template)
    document, samples = copy(name, path)
    folder = Path(f"{name}.samples") if samples else None
    _write(Path(f"{name}.yaml"), document, folder, samples)
    err.print(
        f"wrote {name}.yaml{f' and {name}.samples/' if samples else ''}; next:\n  collector schema"
        f" check --strict {name}.yaml\n  collector schema test {name}.yaml\n  collector schema"
        f" jsonschema -o {EDITOR_FILE}   # completion in your editor",
        markup=False,
    )


def _is_sample(reference: str) -> bool:
    """Return whether a reference names a file of events, or stdin."""
    if reference in resources.names() or reference in resources.templates():
        return False
    path = Path(reference)
    return reference == "-" or (path.is_file() and path.suffix not in (".yaml", ".yml"))


def _template(reference: str) -> Path:
    """Return the file of a shipped schema or a template. Raises ``typer.BadParameter`` for any
    other."""
    path = resources.templates().get(reference)
    if path is None and reference in resources.names():
        path = resources.schema(reference)
    if path is None:
        if resources.is_path(reference):
            message = "name a shipped schema, a template, or a file of events"
            raise typer.BadParameter(message, param_hint="--from")
        names = [*resources.names(), *resources.templates()]
        hint = nearest(reference, names) or "; `collector schema list` lists schemas and templates"
        message = f"no file, shipped schema or template has this name{hint}"
        raise typer.BadParameter(message, param_hint="--from")
    load_schema(path)
    return path


def _propose(name: str, file: Path) -> None:
    """Write a schema of what a sample has of the paths that shipped schemas know."""
    _refuse_taken(path := Path(f"{name}.yaml"))
    sample = read_sample(file)
    refuse_unreadable(file, sample)
    fits, made = fitting(sample), proposed(name, sample)
    if not made.fields:
        message = f"{input_name(file)} has no names that are common in telemetry"
        begin = f"run `collector schema new {name}`, and write the paths of your events"
        raise UsageError("E101", f"{message}; {begin} under `from`")
    _write(path, made.text)
    events, others = made.others()
    err.print(
        f"wrote {path} with {_number(made.fields, 'field')}, from {events:,} events; {others:,}"
        " other members are in no field",
        markup=False,
    )
    if fits:
        err.print(f"{fits[0]}: collector schema new OTHER --from {fits[0].name}", markup=False)
    err.print(
        f"next, replace each `{TO_WRITE}` with your own words, or delete the field, and run\n"
        f"  collector schema check --against {'FILE' if str(file) == '-' else file} {path}",
        markup=False,
    )


def _number(items: Sized, name: str) -> str:
    return f"{len(items)} {name}{'' if len(items) == 1 else 's'}"


def _refuse_taken(*places: Path) -> None:
    """Raise ``ConfigError`` E203 where a name is taken."""
    for place in places:
        if place.is_symlink() or place.exists():
            raise ConfigError("E203", f"{place} already exists; move it away, or use another name")


def _write(
    path: Path, document: str, folder: Path | None = None, samples: Mapping[str, bytes] = _NONE
) -> None:
    """Write all files or, where a name is taken, none."""
    _refuse_taken(path, *([] if folder is None else [folder]))
    written = False
    try:
        if folder is not None:
            folder.mkdir()
            for file, data in samples.items():
                (folder / file).write_bytes(data)
        with path.open("x", encoding="utf-8", newline="\n") as handle:
            handle.write(document)
        written = True
    except OSError:
        pass
    if not written:
        raise ConfigError(
            "E203", f"{path} cannot be written; check the directory and its permissions"
        )


_SCHEMAS = {
    "schema": "collector.schema.jsonschema",
    "configuration": "collector.config.jsonschema",
    "claims": "collector.claims.document",
}


def jsonschema(
    schemas: Schemas = None,
    records: Annotated[
        bool, typer.Option("--records", help="Print the schema of the records of these schemas.")
    ] = False,
    of: Annotated[
        Literal["schema", "configuration", "claims"],
        typer.Option("--of", help="Which documents it describes."),
    ] = "schema",
    output: Output = None,
) -> None:
    """Print a JSON Schema (2020-12) of schema documents, configurations or claims, for editors; see
    docs/schema-review.md.

    With `--records` it describes the records of the named schemas, with exactly the values that
    each field can have. If a named schema does not load, its faults are printed.
    """
    from collector.schema.jsonschema import record_schema  # noqa: PLC0415 - rarely needed

    loaded = load_schemas(schemas or (DEFAULT_SCHEMAS if records else []))
    document = record_schema(loaded) if records else import_module(_SCHEMAS[of]).document_schema()
    data = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if output is None:
        write(data)
    else:
        refuse_other_format(output, ".json")
        write_file(output, data)
