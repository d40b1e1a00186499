"""``collector schema list|show|capacity``: the shipped schemas, what a schema collects, and how
wide its records are."""

from __future__ import annotations

from math import log2
from typing import Annotated, Any

import typer
from rich.markup import escape

from collector.cli.console import new_table, out, print_json
from collector.cli.options import DEFAULT_SCHEMAS, AsJson, Schemas
from collector.filter import Filter
from collector.filter.sdk_records import COUNT_VALUES, HOUR_SPAN, RECEIVED_VALUES
from collector.schema import Schema, load_schemas, resources
from collector.schema.kinds.time import TimeField
from collector.schema.model import field_bits, letter_bits, record_bits
from collector.schema.scalars import written_source

_BESIDE = {"count": log2(COUNT_VALUES), "received": log2(RECEIVED_VALUES)}
"""The bits that a sender of records (``/v1/records``) has in addition to the fields."""
_BAR = 24
_FULL_BITS = 128
"""A full bar stands for the bits of an IPv6 address, so the bars of all schemas compare."""
_EIGHTHS = " ▏▎▍▌▋▊▉"


def list_schemas(as_json: AsJson = False) -> None:
    """List the shipped schemas, and the templates for the telemetry of other products.

    `collector schema new NAME --from TEMPLATE` copies a template.
    """
    shipped = [_summary(each) for each in load_schemas(resources.names())]
    templates = [_summary(each) for each in load_schemas(resources.templates().values())]
    if as_json:
        print_json(
            [row | {"template": False} for row in shipped]
            + [row | {"template": True} for row in templates]
        )
        return
    numbers = ("fields", "bits at most")
    for heading, rows in (("schema", shipped), ("template", templates)):
        table = new_table(heading, "title", *numbers, numbers=numbers)
        for row in rows:
            name = row["schema"] if heading == "schema" else row["schema"].partition("/")[0]
            width = f"{row['bits']:.0f}"
            table.add_row(name, escape(row["title"]), str(len(row["fields"])), width)
        out.print(table)
        out.print()
    out.print("copy a template: collector schema new NAME --from TEMPLATE")


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


def show(
    schemas: Schemas = None,
    code: Annotated[
        bool, typer.Option("--code", help="Print the function that decides what an event becomes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a schema collects: each field, where it is found, why, and how long it is kept."""
    loaded = load_schemas(schemas or DEFAULT_SCHEMAS)
    for schema in loaded:
        if code:
            print(Filter(schema, keys=lambda _reference, _period: bytes(32)).router.code)
        elif as_json:
            dump = schema.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            print_json(dump | {"digest": schema.digest})
        else:
            _print_schema(schema)


def _print_schema(schema: Schema) -> None:
    out.print(f"[bold]{schema.id}[/] {escape(schema.title)}")
    headings = ("field", "kind", "found at", "purposes", "kept for", "because")
    table = new_table(*headings, whole=headings[:1])
    for name, field in schema.fields.items():
        table.add_row(
            name,
            field.kind,
            escape(", ".join(map(written_source, field.places(name)))),
            ", ".join(field.purposes),
            escape(str(field.retention).removesuffix(", 0:00:00")),
            escape(field.reason),
        )
    out.print(table)
    if schema.records is not None:
        ways = ", else ".join(map(written_source, schema.records))
        out.print(f"records: {ways}", markup=False)
    optional = [name for name, purpose in schema.purposes.items() if purpose.optional]
    refused = ", ".join(optional) or "none"
    where = f", by what an event says at {schema.consent}" if schema.consent else ""
    out.print(f"a person may refuse: {refused}{where}", markup=False)
    for name, text in schema.also_collected.items():
        out.print(f"also collected, {name}: {text}", markup=False)
    names = ", ".join(schema.content_names)
    out.print(f"content, counted and never decoded: {names}\n", markup=False)


def capacity(schemas: Schemas = None, as_json: AsJson = False) -> None:
    """Show how many bits a record can hold: each field, all of them, and what `max_bits` leaves.

    The width of a field is the binary logarithm of the number of its values; being absent is one of
    them unless the field is required. A column of its own counts the letters that a sender can
    choose freely, because words are made of them. The width is the limit for one record: it does
    not count when, in which order and how many records are sent. A client that sends records
    instead of events also states how many events each stands for and when they were received;
    `max_bits` does not cover that.
    """
    loaded = load_schemas(schemas or DEFAULT_SCHEMAS)
    if as_json:
        widths = [_width(schema) for schema in loaded]
        print_json(widths[0] if len(widths) == 1 else widths)
        return
    scale = max(_FULL_BITS, *(field_bits(each) for one in loaded for each in one.fields.values()))
    for index, schema in enumerate(loaded):
        if index:
            out.print()
        _print_width(schema, scale)


def _width(schema: Schema) -> dict[str, Any]:
    """Return bits to two decimals, with ``left`` if the schema has ``max_bits``."""
    bits = record_bits(schema)
    width: dict[str, Any] = {
        "schema": schema.id,
        "bits": round(bits, 2),
        "fields": {name: round(field_bits(field), 2) for name, field in schema.fields.items()},
        "letters": {name: round(bits, 2) for name, bits in letter_bits(schema).items()},
    }
    if schema.max_bits is not None:
        width |= {"max_bits": schema.max_bits, "left": round(schema.max_bits - bits, 2)}
    width["beside"] = {name: round(each, 2) for name, each in _beside(schema).items()}
    return width


def _beside(schema: Schema) -> dict[str, float]:
    """Return the bits that a sender of records has in addition to the fields: with ``times`` if
    fields have a window, which lies around each moment of the hour that ``received`` may be."""
    windows = [
        each for each in schema.fields.values() if isinstance(each, TimeField) and each.within
    ]
    times = sum(log2(each.size_between(HOUR_SPAN) + 1) - field_bits(each) for each in windows)
    return _BESIDE | ({"times": times} if windows else {})


def _print_width(schema: Schema, scale: float) -> None:
    letters = letter_bits(schema)
    table = new_table(
        schema.id, "kind", "bits", "letters", "", numbers=("bits", "letters"), whole=(schema.id,)
    )
    for name, field in schema.fields.items():
        bits = field_bits(field)
        spelled = f"{letters[name]:.1f}" if name in letters else ""
        table.add_row(name, field.kind, f"{bits:.1f}", spelled, f"[cyan]{_bar(bits, scale)}[/]")
    total, spelled = record_bits(schema), f"{sum(letters.values()):.1f}"
    table.add_section()
    table.add_row("[bold]a record at most[/]", "", f"[bold]{total:.1f}[/]", spelled, "")
    if schema.max_bits is None:
        table.add_row("[dim]max_bits[/]", "", "[dim]none[/]", "", "")
    else:
        table.add_row("max_bits", "", f"{schema.max_bits}.0", "", "")
        table.add_row("left", "", f"{schema.max_bits - total:.1f}", "", "")
    beside = _beside(schema)
    width = f"[dim]{sum(beside.values()):.1f}[/]"
    table.add_row(f"[dim]{', '.join(beside)}[/]", "", width, "", "[dim]of sent records[/]")
    out.print(table)


def _bar(bits: float, scale: float) -> str:
    """Draw a bar to an eighth of a character, or of ASCII where the output needs it."""
    if not out.encoding.lower().startswith("utf"):
        return "#" * round(_BAR * bits / scale)
    whole, eighth = divmod(round(8 * _BAR * bits / scale), 8)
    return "█" * whole + _EIGHTHS[eighth].strip()
