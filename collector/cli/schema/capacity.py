"""``collector schema capacity``: how much one record could carry, field by field."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from collector.cli.console import AsJson, out, print_json
from collector.cli.schema.options import DEFAULT, Schemas
from collector.schema import Schema, load_schemas
from collector.schema.capacity import field_bits, record_bits

__all__ = ["capacity"]

_BAR = 32
_EIGHTHS = " ▏▎▍▌▋▊▉"


def capacity(schemas: Schemas = None, as_json: AsJson = False) -> None:
    """Show the width of a record in bits: of each field, in all, and what `max_bits` leaves.

    A field is as wide as the binary logarithm of the number of its values, its absence included
    unless it is required. It is the ceiling for one record; when, in which order and how many
    records are sent is outside it.
    """
    loaded = load_schemas(schemas or DEFAULT)
    if as_json:
        widths = [_width(schema) for schema in loaded]
        print_json(widths[0] if len(widths) == 1 else widths)
        return
    for index, schema in enumerate(loaded):
        if index:
            out.print()
        _print_width(schema)


def _width(schema: Schema) -> dict[str, Any]:
    """Bits to two decimals; ``left`` is there where ``max_bits`` is."""
    bits = record_bits(schema)
    width: dict[str, Any] = {
        "schema": schema.id,
        "bits": round(bits, 2),
        "fields": {name: round(field_bits(field), 2) for name, field in schema.fields.items()},
    }
    if schema.max_bits is not None:
        width |= {"max_bits": schema.max_bits, "left": round(schema.max_bits - bits, 2)}
    return width


def _print_width(schema: Schema) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim", title_justify="left")
    table.add_column(schema.id, no_wrap=True)
    table.add_column("kind")
    table.add_column("bits", justify="right")
    table.add_column("")
    widest = max(field_bits(field) for field in schema.fields.values())
    for name, field in schema.fields.items():
        bits = field_bits(field)
        table.add_row(name, field.kind, f"{bits:.1f}", f"[cyan]{_bar(bits, widest)}[/]")
    total = record_bits(schema)
    table.add_section()
    table.add_row("[bold]a record at most[/]", "", f"[bold]{total:.1f}[/]", "")
    if schema.max_bits is None:
        table.add_row("[dim]max_bits[/]", "", "[dim]none[/]", "")
    else:
        table.add_row("max_bits", "", f"{schema.max_bits}.0", "")
        table.add_row("left", "", f"{schema.max_bits - total:.1f}", "")
    out.print(table)


def _bar(bits: float, widest: float) -> str:
    """A bar to an eighth of a character, or of plain characters where others cannot be shown."""
    if not out.encoding.lower().startswith("utf"):
        return "#" * round(_BAR * bits / (widest or 1))
    whole, eighth = divmod(round(8 * _BAR * bits / (widest or 1)), 8)
    return "█" * whole + _EIGHTHS[eighth].strip()
