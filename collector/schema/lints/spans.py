"""Lints of time: how long values are kept, how long keys live, and when a field ends."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

from collector.schema.kinds.ip import IpField
from collector.schema.kinds.pseudonym import PseudonymField
from collector.schema.kinds.time import TimeField
from collector.schema.model import Schema
from collector.schema.source import Loc

__all__ = [
    "address_kept_long",
    "always_rejects",
    "expired_field",
    "expires_soon",
    "long_retention",
    "open_time",
    "slow_rotation",
]

_YEAR = timedelta(days=366)
_QUARTER = timedelta(days=92)
_MONTH = timedelta(days=31)
_SOON = timedelta(days=30)
_NETWORK_V4, _NETWORK_V6 = 24, 64
"""A network of many hosts; what is longer names a household or a machine."""


def long_retention(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """More than a year of single records is seldom read, and always a risk."""
    for name, field in schema.fields.items():
        if field.retention > _YEAR:
            message = "kept for more than a year; shorten it, and keep sums instead of records"
            yield ("fields", name, "retention"), message


def address_kept_long(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """A whole address leads to a person for as long as somebody keeps the lists for it."""
    for name, field in schema.fields.items():
        if not isinstance(field, IpField):
            continue
        kept = field.truncate
        is_whole = kept.ipv4 > _NETWORK_V4 or kept.ipv6 > _NETWORK_V6
        if is_whole and field.retention > _QUARTER:
            message = (
                "whole addresses are kept for more than 90 days; shorten it, or write"
                " `truncate: {ipv4: 24, ipv6: 48}`"
            )
            yield ("fields", name, "retention"), message


def slow_rotation(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """A key that outlives the values, or a month, makes a pseudonym an identifier."""
    for name, field in schema.fields.items():
        if isinstance(field, PseudonymField) and field.rotate > min(field.retention, _MONTH):
            message = "the key outlives the retention, or 30 days; rotate it sooner"
            yield ("fields", name, "rotate"), message


def open_time(schema: Schema, _: date) -> Iterator[tuple[Loc, str]]:
    """Eight thousand years of moments are room for anything but a moment."""
    for name, field in schema.fields.items():
        if isinstance(field, TimeField) and field.within is None:
            yield ("fields", name), "any moment is taken; write `within`, for example ±7d"


def always_rejects(schema: Schema, today: date) -> Iterator[tuple[Loc, str]]:
    """An event without a required field is rejected, and an expired field is never there."""
    for name, field in schema.fields.items():
        if field.required and field.expires is not None and field.expires <= today:
            message = "a required field has expired, so every event is rejected; take it out"
            yield ("fields", name, "expires"), message


def expired_field(schema: Schema, today: date) -> Iterator[tuple[Loc, str]]:
    """What is not collected any more need not be explained any more."""
    for name, field in schema.fields.items():
        if field.expires is not None and field.expires <= today and not field.required:
            message = "it is not collected any more; take the field out, or set another date"
            yield ("fields", name, "expires"), message


def expires_soon(schema: Schema, today: date) -> Iterator[tuple[Loc, str]]:
    """Said early enough to decide."""
    for name, field in schema.fields.items():
        if field.expires is not None and today < field.expires <= today + _SOON:
            days = (field.expires - today).days
            message = f"it ends in {days} days; take the field out then, or set another date"
            yield ("fields", name, "expires"), message
