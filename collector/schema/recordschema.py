"""A JSON Schema of the records of a schema: each field with exactly the values it can have.

What JSON Schema cannot tell exactly it tells as narrowly as it can: IPv6 addresses by their
canonical form, fractions of a finely stepped range by its ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import singledispatch
from typing import Any

from collector.schema.jsonschema import DIALECT
from collector.schema.kinds import FieldBase
from collector.schema.kinds.base import Circumstances, utc_now
from collector.schema.kinds.boolean import BooleanField
from collector.schema.kinds.enum import EnumField
from collector.schema.kinds.ip import IpField
from collector.schema.kinds.numeric import IntegerField, NumberField
from collector.schema.kinds.pseudonym import PseudonymField
from collector.schema.kinds.time import TimeField
from collector.schema.kinds.token import TokenField
from collector.schema.kinds.version import VersionField
from collector.schema.model import Schema

__all__ = ["record_schema"]

_Node = dict[str, Any]

_LISTED = 1024
"""A range of fractions with at most so many steps is listed: ``multipleOf`` is computed in binary
by most validators, where 0.3 is no multiple of 0.1."""
_UNTIL = {"second": "[0-5][0-9]:[0-5][0-9]", "minute": "[0-5][0-9]:00", "hour": "00:00"}
_HOUR = "([01][0-9]|2[0-3])"
_DATE = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_GROUP = "(0|[1-9a-f][0-9a-f]{0,3})"


def record_schema(schemas: Iterable[Schema]) -> _Node:
    """The JSON Schema (2020-12) of a record of one of these schemas, as plain data.

    ``received`` and ``count`` are there where a receiver adds them.
    """
    records = [_record(schema) for schema in schemas]
    if len(records) == 1:
        return {"$schema": DIALECT, **records[0]}
    return {"$schema": DIALECT, "title": "A record", "anyOf": records}


def _record(schema: Schema) -> _Node:
    fields = {
        name: {"description": field.reason, **_values(field)}
        for name, field in schema.fields.items()
    }
    required = [name for name, field in schema.fields.items() if field.required]
    return {
        "title": f"A record of {schema.id}",
        "description": schema.title,
        "type": "object",
        "properties": {
            "schema": {"const": schema.id},
            "received": {
                "description": "When it was received, in UTC, truncated to the minute.",
                "type": "string",
                "format": "date-time",
                "pattern": f"^{_DATE}T{_HOUR}:[0-5][0-9]:00Z$",
            },
            "count": {
                "description": "How many records like this one it stands for.",
                "type": "integer",
                "minimum": 2,
            },
            **fields,
        },
        "required": ["schema", *required],
        "additionalProperties": False,
        "anyOf": [{"required": [name]} for name in schema.fields],
    }


@singledispatch
def _values(field: FieldBase) -> _Node:
    """The values of a field; a kind that is not known here may have any of its column's type."""
    return {"type": ["string", "number", "boolean"]}


@_values.register
def _(field: IpField) -> _Node:
    ipv4, ipv6 = field.truncate.ipv4, field.truncate.ipv6
    return {
        "type": "string",
        "anyOf": [
            {"format": "ipv4", "pattern": f"^{_ipv4(ipv4)}$"},
            {"format": "ipv6", "pattern": f"^{_ipv6(ipv6)}$"},
        ],
    }


def _ipv4(kept: int) -> str:
    """The networks of so many bits: octets that are kept, one that is kept in part, and zeros."""
    octets = []
    for index in range(4):
        bits = min(8, max(0, kept - 8 * index))
        step = 1 << (8 - bits)
        octets.append(_up_to(255) if step == 1 else _either(range(0, 256, step)))
    refused = r"(22[4-9]|23[0-9])\.|169\.254\."
    return rf"(?!{refused})" + r"\.".join(octets)


def _ipv6(kept: int) -> str:
    """Compressed lower case; what is truncated to 64 bits or less ends in zeros, so in ``::``."""
    refused = "(?!ff[0-9a-f]{2}:|fe[89ab][0-9a-f]:|2002:)"
    groups = -(-kept // 16)
    if groups <= 4:
        return rf"{refused}({_GROUP}(:{_GROUP}){{0,{groups - 1}}})?::"
    seven = "(?!(:{0,2}[0-9a-f]{1,4}(?![0-9a-f])){7})"
    part = f"({_GROUP}(:{_GROUP}){{0,5}})?"
    return f"{refused}({_GROUP}(:{_GROUP}){{7}}|{seven}{part}::{part})"


@_values.register
def _(field: EnumField) -> _Node:
    return {"enum": list(field.values)}


@_values.register
def _(field: TokenField) -> _Node:
    if field.pattern is None:
        return {"enum": sorted(field.entries)}
    return {"type": "string", "pattern": f"^({_escaped(field.pattern)})$"}


def _escaped(pattern: str) -> str:
    """The pattern as ECMAScript reads it too: there only syntax may be escaped by a backslash."""

    def escape(match: re.Match[str]) -> str:
        char = match[1]
        return match[0] if char in "^$\\.*+?()[]{}|/" else f"\\x{ord(char):02x}"

    return re.sub(r"\\(.)", escape, pattern)


@_values.register
def _(field: VersionField) -> _Node:
    maxima = ((*(field.maximum or ()), *[99_999] * 4))[: field.parts]
    pattern = ""
    for maximum in reversed(maxima):
        pattern = _up_to(maximum, padded=True) + (rf"(\.{pattern})?" if pattern else "")
    return {"type": "string", "pattern": f"^{pattern}$"}


def _up_to(maximum: int, padded: bool = False) -> str:
    """A group of the decimal numbers to a maximum; padded with zeros to its length, if wanted."""
    digits = str(maximum)
    least = 0 if padded or len(digits) == 1 else 1
    if padded and maximum + 1 == 10 ** len(digits):
        return f"[0-9]{{1,{len(digits)}}}"
    choices = [digits]
    for index, digit in enumerate(digits):
        low, high = 0 if index else least, int(digit) - 1
        if low <= high:
            choices.append(f"{digits[:index]}[{low}-{high}]" + "[0-9]" * (len(digits) - index - 1))
    for length in range(1, len(digits)):
        first = "[0-9]" if padded or length == 1 else "[1-9]"
        choices.append(first + "[0-9]" * (length - 1))
    return f"({'|'.join(choices)})"


def _either(numbers: Iterable[int]) -> str:
    return f"({'|'.join(map(str, numbers))})"


@_values.register
def _(field: IntegerField) -> _Node:
    greatest = field.maximum - field.maximum % field.step
    limits = {"minimum": field.minimum, "maximum": greatest}
    return {"type": "integer", **limits, "multipleOf": field.step}


@_values.register
def _(field: NumberField) -> _Node:
    make = field.canonical(Circumstances(utc_now, lambda _reference, _period: b""))
    if field.size() <= _LISTED:
        return {"enum": _multiples(field)}
    limits: _Node = {"type": "number", "minimum": field.minimum, "maximum": make(field.maximum)}
    is_whole = field.step.is_integer() and max(-field.minimum, field.maximum) < 2**53
    return limits | ({"multipleOf": int(field.step)} if is_whole else {})


def _multiples(field: NumberField) -> list[float]:
    """Every value of a short range: the steps between its ends, each made canonical from its
    middle, where rounding down in decimal cannot miss it."""
    make = field.canonical(Circumstances(utc_now, lambda _reference, _period: b""))
    middles = (field.minimum + (index + 0.5) * field.step for index in range(field.size()))
    found = (make(min(middle, field.maximum)) for middle in middles)
    return [value for value in found if isinstance(value, float)]


@_values.register
def _(_field: BooleanField) -> _Node:
    return {"type": "boolean"}


@_values.register
def _(field: TimeField) -> _Node:
    time = f"{_HOUR}:{_UNTIL[field.precision]}" if field.precision in _UNTIL else "00:00:00"
    return {"type": "string", "format": "date-time", "pattern": f"^{_DATE}T{time}Z$"}


@_values.register
def _(_field: PseudonymField) -> _Node:
    """128 bits in base32: the last character carries three of them."""
    return {"type": "string", "pattern": "^[a-z2-7]{25}[aeimquy4]$"}
