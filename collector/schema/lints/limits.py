"""Lints of limits: how long values are stored, how long keys live, how wide records are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from math import log2

from collector.documents import Loc
from collector.schema.kinds.ip import IpField
from collector.schema.kinds.pseudonym import PseudonymField
from collector.schema.kinds.time import TimeField
from collector.schema.kinds.token import TokenField
from collector.schema.model import Schema, record_bits
from collector.schema.pattern import MAX_BITS

_YEAR = timedelta(days=366)
_QUARTER = timedelta(days=92)
_MONTH = timedelta(days=31)
_SOON = timedelta(days=30)
_NETWORK_V4, _NETWORK_V6 = 24, 64
"""A network of many hosts; a longer prefix names a household or a machine."""


def long_retention(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find single records stored for over a year: they are seldom read, and always a risk."""
    for name, field in schema.fields.items():
        if field.retention > _YEAR:
            message = "kept for more than a year; shorten it, and keep sums instead of records"
            yield ("fields", name, "retention"), message


def address_kept_long(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find whole addresses stored for longer than access providers keep their assignment."""
    for name, field in schema.fields.items():
        if not isinstance(field, IpField):
            continue
        prefix = field.truncate
        is_whole = prefix.ipv4 > _NETWORK_V4 or prefix.ipv6 > _NETWORK_V6
        if is_whole and field.retention > _QUARTER:
            message = (
                "whole addresses are kept for more than 90 days; shorten it, or write"
                " `truncate: {ipv4: 24, ipv6: 48}`"
            )
            yield ("fields", name, "retention"), message


def slow_rotation(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find keys that outlive the values, or a month, and so make a pseudonym an identifier."""
    for name, field in schema.fields.items():
        if isinstance(field, PseudonymField) and field.rotate > min(field.retention, _MONTH):
            message = "the key outlives the retention, or 30 days; rotate it sooner"
            yield ("fields", name, "rotate"), message


def open_time(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find times without a window: eight thousand years of seconds can carry other data."""
    for name, field in schema.fields.items():
        if isinstance(field, TimeField) and field.within is None:
            yield ("fields", name), "any moment is taken; write `within`, for example ±7d"


def always_rejects(schema: Schema, today: date) -> Iterator[tuple[Loc, str]]:
    """Find required fields that have expired: every event is rejected for want of them."""
    for name, field in schema.fields.items():
        if field.required and field.expires is not None and field.expires <= today:
            message = "a required field has expired, so every event is rejected; take it out"
            yield ("fields", name, "expires"), message


def expired_field(schema: Schema, today: date) -> Iterator[tuple[Loc, str]]:
    """Find fields that are not collected any more, and need no entry any more."""
    for name, field in schema.fields.items():
        if field.expires is not None and field.expires <= today and not field.required:
            message = "it is not collected any more; take the field out, or set another date"
            yield ("fields", name, "expires"), message


def expires_soon(schema: Schema, today: date) -> Iterator[tuple[Loc, str]]:
    """Find fields that expire within a month, early enough to decide."""
    for name, field in schema.fields.items():
        if field.expires is not None and today < field.expires <= today + _SOON:
            days = (field.expires - today).days
            message = f"it ends in {days} days; take the field out then, or set another date"
            yield ("fields", name, "expires"), message


_WIDE_TOKEN = 40
"""Bits. A telephone number has 33, a UUID 122."""
_WIDE_RECORD = 64


def wide_token(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find patterns that could hold a telephone number and more."""
    for name, field in schema.fields.items():
        if isinstance(field, TokenField) and field.language is not None:
            bits = log2(field.size())
            if bits > _WIDE_TOKEN:
                message = f"the pattern has {bits:.0f} bits; narrow it to what the source really"
                yield ("fields", name, "pattern"), f"{message} writes, or write a catalogue"


def no_max_bits(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find wide schemas without a limit, whose records can grow unnoticed with every change."""
    if schema.max_bits is None and (bits := record_bits(schema)) > _WIDE_RECORD:
        yield (), f"a record holds up to {bits:.0f} bits; say with `max_bits` how many are meant"


def loose_max_bits(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find limits that leave room for one more pattern of any width, and so limit nothing."""
    if schema.max_bits is not None and schema.max_bits - record_bits(schema) > MAX_BITS:
        bits = record_bits(schema)
        yield ("max_bits",), f"a record holds {bits:.0f} bits at most; write a number nearer to it"


def loose_max_length(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Find greatest lengths that no text reaches, and that mislead readers."""
    for name, field in schema.fields.items():
        written = isinstance(field, TokenField) and "max_length" in field.model_fields_set
        if isinstance(field, TokenField) and written and field.longest() < field.max_length:
            message = f"the longest text has {field.longest()} characters; write that number"
            yield ("fields", name, "max_length"), message
