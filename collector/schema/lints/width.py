"""Lints of width: room that nobody needs is room for what nobody meant."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from math import log2

from collector.schema.capacity import record_bits
from collector.schema.kinds.token import TokenField
from collector.schema.model import Schema
from collector.schema.pattern import MAX_BITS
from collector.schema.source import Loc

__all__ = ["loose_max_bits", "loose_max_length", "no_max_bits", "wide_token"]

_WIDE_TOKEN = 40
"""Bits. A telephone number has 33, a UUID 122."""
_WIDE_RECORD = 64


def wide_token(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """A pattern that could hold a telephone number and more."""
    for name, field in schema.fields.items():
        if isinstance(field, TokenField) and field.language is not None:
            bits = log2(field.size())
            if bits > _WIDE_TOKEN:
                message = f"the pattern has {bits:.0f} bits; narrow it to what the source really"
                yield ("fields", name, "pattern"), f"{message} writes, or write a catalogue"


def no_max_bits(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Without a limit a record can grow with every change, and nobody is told."""
    if schema.max_bits is None and (bits := record_bits(schema)) > _WIDE_RECORD:
        yield (), f"a record holds up to {bits:.0f} bits; say with `max_bits` how many are meant"


def loose_max_bits(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """A limit that leaves room for one more pattern of any width limits nothing."""
    if schema.max_bits is not None and schema.max_bits - record_bits(schema) > MAX_BITS:
        bits = record_bits(schema)
        yield ("max_bits",), f"a record holds {bits:.0f} bits at most; write a number nearer to it"


def loose_max_length(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Who reads it believes that such long texts are let through."""
    for name, field in schema.fields.items():
        written = isinstance(field, TokenField) and "max_length" in field.model_fields_set
        if isinstance(field, TokenField) and written and field.longest() < field.max_length:
            message = f"the longest text has {field.longest()} characters; write that number"
            yield ("fields", name, "max_length"), message
