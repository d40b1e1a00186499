"""``collector schema …``: look at schemas, check them, and test them."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from collector.cli.console import AsJson, complete_schema, err, out, print_json
from collector.errors import Fault, SchemaError
from collector.filter.trial import Outcome, run_samples, run_tests
from collector.schema import Schema, load_schemas, shelf
from collector.schema.capacity import record_bits
from collector.schema.load import parse

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look at schemas, check them and test them.",
)

_Schemas = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SCHEMA]...",
        help="Names of shipped schemas, or paths of schema files. Default: `conferencing`.",
        autocompletion=complete_schema,
        show_default=False,
    ),
]
_DEFAULT = ["conferencing"]


@app.command("list")
def list_schemas(as_json: AsJson = False) -> None:
    """List the schemas that are shipped with Collector."""
    rows = [_summary(schema) for schema in load_schemas(shelf.names())]
    if as_json:
        print_json(rows)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("schema", "title", "fields", "bits at most"):
        table.add_column(
            heading, justify="right" if heading in ("fields", "bits at most") else "left"
        )
    for row in rows:
        table.add_row(
            row["schema"], escape(row["title"]), str(len(row["fields"])), f"{row['bits']:.0f}"
        )
    out.print(table)


def _summary(schema: Schema) -> dict[str, Any]:
    return {
        "schema": schema.id,
        "title": schema.title,
        "owner": schema.owner,
        "fields": list(schema.fields),
        "purposes": list(schema.purposes),
        "bits": round(record_bits(schema), 1),
        "digest": schema.digest,
    }


@app.command()
def show(schemas: _Schemas = None, as_json: AsJson = False) -> None:
    """Show what a schema collects: each field, where it is found, why, and for how long."""
    loaded = load_schemas(schemas or _DEFAULT)
    for schema in loaded:
        if as_json:
            dump = schema.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            print_json(dump | {"digest": schema.digest})
        else:
            _print_schema(schema)


def _print_schema(schema: Schema) -> None:
    out.print(f"[bold]{schema.id}[/] {escape(schema.title)}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("field", "kind", "found at", "purposes", "kept for", "because"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "field")
    for name, field in schema.fields.items():
        table.add_row(
            name,
            field.kind,
            escape(", ".join(field.paths(name))),
            ", ".join(field.purposes),
            escape(str(field.retention).removesuffix(", 0:00:00")),
            escape(field.reason),
        )
    out.print(table)
    optional = [name for name, purpose in schema.purposes.items() if purpose.optional]
    out.print(f"a person may refuse: {', '.join(optional) or 'none'}")
    names = ", ".join(schema.content_names)
    out.print(f"content, counted and never decoded: {names}\n", markup=False)


@app.command()
def check(schemas: _Schemas = None, as_json: AsJson = False) -> None:
    """Check schema files and report every fault of all of them in one pass. Exit 78 on a fault.

    Each fault is `file:line:column: field: message [code]`; docs/errors.md explains the codes.
    """
    faults: list[Fault] = []
    for reference in schemas or _DEFAULT:
        schema, found = parse(reference)
        faults += found
        if schema is not None and not as_json:
            out.print(f"{reference}: ok, {schema.id}, {record_bits(schema):.0f} bits at most")
    if as_json:
        print_json([fault._asdict() for fault in faults])
        raise typer.Exit(78 if faults else 0)
    if faults:
        raise SchemaError(faults)


@app.command("test")
def test_schemas(schemas: _Schemas = None, as_json: AsJson = False) -> None:
    """Run the tests inside schemas and the samples beside them. Exit 1 if one fails.

    Samples lie in `NAME.samples/`: `*.pass.json` must be admitted with nothing dropped,
    `*.fail.json` must be rejected or lose a field.
    """
    outcomes: list[Outcome] = []
    faults: list[Fault] = []
    for reference in schemas or _DEFAULT:
        schema, found = parse(reference)
        faults += found
        path = shelf.schema(reference)
        if schema is not None and path is not None:
            outcomes += [*run_tests(schema), *run_samples(schema, shelf.samples(path))]
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if as_json:
        print_json(
            {
                "passed": len(outcomes) - len(failed),
                "failed": [outcome._asdict() for outcome in failed],
                "faults": [fault._asdict() for fault in faults],
            }
        )
    else:
        for fault in faults:
            err.print(str(fault), markup=False)
        _print_outcomes(outcomes)
    raise typer.Exit(1 if failed or faults else 0)


def _print_outcomes(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        if not outcome.passed:
            err.print(f"{outcome.schema}: {outcome.name}: failed", markup=False, style="red")
            for fault in outcome.faults:
                err.print(f"  {fault}", markup=False)
    passed = sum(outcome.passed for outcome in outcomes)
    out.print(f"{passed} passed, {len(outcomes) - passed} failed")
