"""``collector schema new|jsonschema``: a schema to start from, and JSON Schemas for editors and
records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer

from collector.cli.console import (
    DEFAULT_SCHEMAS,
    Output,
    Schemas,
    complete_schema,
    err,
    refuse_other_format,
    write_file,
)
from collector.cli.stdout import write
from collector.errors import ConfigError
from collector.schema import load_schema, load_schemas, resources

__all__ = ["jsonschema", "new"]


def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Words of a-z and 0-9, joined by - or _.")
    ],
    template: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SCHEMA",
            help="Copy a shipped schema instead (`collector schema list`).",
            autocompletion=complete_schema,
        ),
    ] = None,
) -> None:
    """Write a commented schema `NAME.yaml` here, with samples in `NAME.samples/`.

    It passes `collector schema check --strict` and `collector schema test` as it stands. Nothing is
    overwritten.
    """
    from collector.schema.starter import EDITOR_FILE, copy, is_name, starter  # noqa: PLC0415

    if not is_name(name):
        message = "a name is lower case, at most 64 characters: words of a-z, 0-9 joined by - or _"
        raise typer.BadParameter(message, param_hint="NAME")
    if template is None:
        document, samples = starter(name)
    else:
        document, samples = copy(name, _shipped(template))
    _write(Path(f"{name}.yaml"), document, Path(f"{name}.samples"), samples)
    err.print(
        f"wrote {name}.yaml and {name}.samples/; next:\n"
        f"  collector schema check --strict {name}.yaml\n"
        f"  collector schema test {name}.yaml\n"
        f"  collector schema jsonschema -o {EDITOR_FILE}   # completion in your editor",
        markup=False,
    )


def _shipped(reference: str) -> Path:
    """Return the file of a shipped schema; raises ``typer.BadParameter`` for any other."""
    path = resources.schema(reference) if reference in resources.names() else None
    if path is None:
        message = "only shipped schemas are copied; see `collector schema list`"
        raise typer.BadParameter(message, param_hint="--from")
    load_schema(path)
    return path


def _write(path: Path, document: str, folder: Path, samples: dict[str, bytes]) -> None:
    """Write all files or, where a name is taken, none."""
    for place in (path, folder):
        if place.is_symlink() or place.exists():
            raise ConfigError("E203", f"{place} is already here; move it away, or use another name")
    written = False
    try:
        folder.mkdir()
        for file, data in samples.items():
            (folder / file).write_bytes(data)
        with path.open("x", encoding="utf-8", newline="\n") as handle:
            handle.write(document)
        written = True
    except OSError:
        pass
    if not written:
        raise ConfigError("E203", f"{path} cannot be written here; check the directory")


def jsonschema(
    schemas: Schemas = None,
    records: Annotated[
        bool, typer.Option("--records", help="Of the records of these schemas instead.")
    ] = False,
    output: Output = None,
) -> None:
    """Print a JSON Schema (2020-12) of schema documents, for editors: see docs/editors.md.

    With `--records` it is one of the records of the named schemas, each field with exactly its
    values. Named schemas are loaded first, and their faults reported.
    """
    from collector.schema.jsonschema import (  # noqa: PLC0415 - rarely needed
        document_schema,
        record_schema,
    )

    loaded = load_schemas(schemas or (DEFAULT_SCHEMAS if records else []))
    document = record_schema(loaded) if records else document_schema()
    data = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if output is None:
        write(data)
    else:
        refuse_other_format(output, ".json")
        write_file(output, data)
