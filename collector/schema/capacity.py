"""How much a schema could let through at most: the size of its set of records, in bits.

It is the ceiling for one record, presence of fields included. When records are sent, in which order
and how many is outside it.
"""

from __future__ import annotations

from math import log2

from collector.schema.kinds import FieldBase
from collector.schema.model import Schema

__all__ = ["field_bits", "record_bits"]


def field_bits(field: FieldBase) -> float:
    """Bits of one field: its values and its absence, or its values only where it is required."""
    return log2(field.size() + (not field.required))


def record_bits(schema: Schema) -> float:
    """Bits of one record."""
    return sum(field_bits(field) for field in schema.fields.values())
