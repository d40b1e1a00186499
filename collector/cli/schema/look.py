"""``collector schema list|show``: what there is, and what it collects."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from collector.cli.console import AsJson, out, print_json
from collector.cli.schema.options import DEFAULT, Schemas
from collector.schema import Schema, load_schemas, shelf
from collector.schema.capacity import record_bits

__all__ = ["list_schemas", "show"]


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


def show(schemas: Schemas = None, as_json: AsJson = False) -> None:
    """Show what a schema collects: each field, where it is found, why, and for how long."""
    loaded = load_schemas(schemas or DEFAULT)
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
    refused = ", ".join(optional) or "none"
    where = f", by what an event says at {schema.consent}" if schema.consent else ""
    out.print(f"a person may refuse: {refused}{where}", markup=False)
    names = ", ".join(schema.content_names)
    out.print(f"content, counted and never decoded: {names}\n", markup=False)
