"""``collector schema new|jsonschema``: a schema to start from, and JSON Schemas for editors and
records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer

from collector.cli.console import err
from collector.cli.options import (
    DEFAULT_SCHEMAS,
    Output,
    Schemas,
    complete_schema,
    refuse_other_format,
    write_file,
)
from collector.cli.sample import known_in, sampled
from collector.cli.stdout import write
from collector.documents import Document, read, read_bytes
from collector.errors import ConfigError, UsageError, file_name
from collector.schema import load_schema, load_schemas, resources
from collector.schema.load import parse_source
from collector.schema.model import Schema
from collector.schema.policy import DERIVABLE
from collector.schema.starter import (
    AROUND,
    EDITOR_FILE,
    PLACES,
    copy,
    is_name,
    propose,
    starter,
)

_Fields = dict[str, tuple[dict[str, Any], list[Any]]]
"""Fields, each with the options of a shipped schema and the paths of its values."""
_NONE: Mapping[str, bytes] = {}


def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Words of a-z and 0-9, joined by - or _.")
    ],
    template: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SCHEMA|SAMPLE",
            help="Copy a shipped schema instead (`collector schema list`), or propose one after a"
            " file of events.",
            autocompletion=complete_schema,
        ),
    ] = None,
) -> None:
    """Write a commented schema `NAME.yaml` here, with samples in `NAME.samples/`.

    It passes `collector schema check --strict` and `collector schema test` as it stands. Nothing is
    overwritten.

    After a file of events it lists the fields that are found in them under names which are known in
    telemetry, each with its kind, where it was found, and a reason to fill in; all other names are
    counted, and neither printed nor written.
    """
    if not is_name(name):
        message = "a name is lower case, at most 64 characters: words of a-z, 0-9 joined by - or _"
        raise typer.BadParameter(message, param_hint="NAME")
    if template is not None and template not in resources.names() and Path(template).is_file():
        _propose(name, Path(template))
        return
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
        message = "there is no shipped schema and no file of that name; see `collector schema list`"
        raise typer.BadParameter(message, param_hint="--from")
    load_schema(path)
    return path


def _propose(name: str, sample: Path) -> None:
    """Write a schema of what a sample has of the paths that shipped schemas know."""
    if sample.suffix in (".yaml", ".yml"):
        message = "a schema file is copied by hand; this takes a shipped schema or a file of events"
        raise typer.BadParameter(message, param_hint="--from")
    _refuse_taken(path := Path(f"{name}.yaml"))
    fields, records = _found(sample)
    user_agent: tuple[str, ...] = ()
    if records is None:
        fields, user_agent = _named(sample, fields)
        fields = {name: fields[name] for name in [*PLACES, *fields] if name in fields}
    if not fields:
        sampled(load_schema("conferencing"), sample)  # it says so, if nothing of it can be read
        message = f"{file_name(sample)} has nothing that is known in telemetry"
        raise UsageError("E101", f"{message}; begin with `collector schema new {name}`")
    _write(path, propose(name, fields, records, user_agent))
    explained = sampled(load_schema(path), sample)
    others = sum(each.unlisted or 0 for each in explained)
    err.print(
        f"wrote {path} with {len(fields)} fields, after {len(explained):,} events, which have"
        f" {others:,} other members; next, write a reason for each field that you need, and\n"
        f"  collector schema check --against {file_name(sample)} {path}",
        markup=False,
    )


def _found(sample: Path) -> tuple[_Fields, Any]:
    """Find the fields of shipped schemas that admit values of a sample, each with its paths. One
    that reads lists of records stands alone, where it finds more than all the others."""
    plain: _Fields = {}
    best, records = plain, None
    for reference in sorted(resources.names(), key=lambda each: each != "conferencing"):
        schema = load_schema(reference)
        document = _document(reference)
        found: _Fields = {}
        for name, source in _kept(schema, sample):
            paths = found.setdefault(name, (document["fields"][name], []))[1]
            options = document["fields"][name].get("from", ())
            conditional = (one for one in options if isinstance(one, dict))
            is_here: list[Any] = [one for one in conditional if one["path"] == source]
            paths += [one for one in is_here or [source] if one not in paths]
        if schema.records is None:
            for name, (options, paths) in found.items():
                plain.setdefault(name, (options, paths))
        elif len(found) > len(best):
            best, records = found, document["records"]
    return (best, records) if len(best) > len(plain) else (plain, None)


def _named(sample: Path, fields: _Fields) -> tuple[_Fields, tuple[str, ...]]:
    """Add what is found under other names that are known in telemetry, and a user agent that says
    anything."""
    known = known_in(sample, {place for places in PLACES.values() for place in places}, AROUND)
    documents = _document("conferencing")["fields"]
    at = {
        name: [path for path, found in known.items() if not found.isdisjoint(places)]
        for name, places in PLACES.items()
    }
    user_agent = tuple(at.pop("user_agent"))
    for name, paths in at.items():
        options, listed = fields.get(name, (documents[name], []))
        tried = [path for path in paths if path not in listed]
        schema = _loaded({name: (options, [*listed, *tried])}) if tried else None
        if schema is None:
            continue
        admitted = dict.fromkeys(source for _, source in _kept(schema, sample))
        if admitted:
            fields[name] = options, [*listed, *(path for path in admitted if path not in listed)]
    return _derived(sample, fields, user_agent)


def _derived(
    sample: Path, fields: _Fields, user_agent: tuple[str, ...]
) -> tuple[_Fields, tuple[str, ...]]:
    """Add the fields that a user agent fills, if there is one that does."""
    web = _document("web")["fields"]
    everything: _Fields = {name: (web[name], []) for name in DERIVABLE if name in web}
    everything |= fields
    schema = _loaded(everything, user_agent) if user_agent else None
    if schema is None:
        return fields, ()
    outcomes = [each.fields for each in sampled(schema, sample, required=False)]
    filled = {name for each in outcomes for name, one in each.items() if one.outcome == "kept"}
    found = {name: each for name, each in everything.items() if name in filled}
    return (found, user_agent) if len(found) > len(fields) else (fields, ())


def _loaded(fields: _Fields, user_agent: tuple[str, ...] = ()) -> Schema | None:
    """Load a proposed schema; ``None`` if it has any fault."""
    source = Document("proposed")
    text = propose("proposed", fields, user_agent=user_agent)
    return parse_source(read_bytes(text.encode(), source))[0]


def _kept(schema: Schema, sample: Path) -> Iterator[tuple[str, str]]:
    """Yield each field that is kept of an event, with the path of its value."""
    for explanation in sampled(schema, sample, required=False):
        for name, each in explanation.fields.items():
            if each.outcome == "kept" and each.source in schema.fields[name].paths(name):
                yield name, each.source


def _document(reference: str) -> dict[str, Any]:
    """Return the document of a shipped schema."""
    path = resources.shipped() / f"{reference}.yaml"
    return dict(read(path).value)


def _refuse_taken(*places: Path) -> None:
    """Raise ``ConfigError`` E203 where a name is taken."""
    for place in places:
        if place.is_symlink() or place.exists():
            raise ConfigError("E203", f"{place} is already here; move it away, or use another name")


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
        raise ConfigError("E203", f"{path} cannot be written here; check the directory")


_SCHEMAS = {
    "schema": "collector.schema.jsonschema",
    "configuration": "collector.config.jsonschema",
    "claims": "collector.claims.document",
}


def jsonschema(
    schemas: Schemas = None,
    records: Annotated[
        bool, typer.Option("--records", help="Of the records of these schemas instead.")
    ] = False,
    of: Annotated[
        Literal["schema", "configuration", "claims"],
        typer.Option("--of", help="The documents that it is of."),
    ] = "schema",
    output: Output = None,
) -> None:
    """Print a JSON Schema (2020-12) of schema documents, configurations or claims, for editors: see
    docs/lint.md.

    With `--records` it is one of the records of the named schemas, each field with exactly its
    values. Named schemas are loaded first, and their faults reported.
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
