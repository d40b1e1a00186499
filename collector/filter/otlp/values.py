"""Attributes in OTLP/JSON: which of them are looked for, and what their values are.

A value that protobuf could not carry (of another type, out of range, two in one) is not read, which
makes it one of the wrong type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from collector.filter.compile import Mark
from collector.filter.otlp.attributes import UNREAD, Name
from collector.filter.otlp.body import Refused
from collector.filter.records import listed
from collector.filter.tolerant import FAILURES, NULL, leaf

__all__ = ["Attribute", "Raw", "begins", "each_attribute", "value"]

Raw = msgspec.Raw

_OBJECT, _LIST = ord("{"), ord("[")
_TEXT, _TRUTH = frozenset([str]), frozenset([bool])
_WHOLE, _REAL = frozenset([int, str]), frozenset([int, float, str])
_DIGITS = re.compile(r"-?(0|[1-9][0-9]{0,18})", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_NO_NUMBERS = frozenset(["NaN", "Infinity", "-Infinity"])


class Attribute(msgspec.Struct, frozen=True, gc=False):
    """A ``KeyValue`` whose value is not decoded."""

    key: str = ""
    value: Raw = NULL


class _Value(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    string_value: Raw = NULL
    bool_value: Raw = NULL
    int_value: Raw = NULL
    double_value: Raw = NULL
    kvlist_value: Raw = NULL
    array_value: Raw = NULL
    bytes_value: Raw = NULL


class _Pairs(msgspec.Struct, frozen=True, gc=False):
    values: Raw = NULL


_decode_attribute = msgspec.json.Decoder(Attribute).decode
_decode_value = msgspec.json.Decoder(_Value).decode
_decode_pairs = msgspec.json.Decoder(_Pairs).decode


def begins(raw: Raw, opening: int = _OBJECT) -> bool:
    """Whether a member begins as an object does, or as ``opening`` says."""
    return memoryview(raw)[0] == opening


def each_attribute(raw: Raw) -> Iterator[Attribute]:
    """The attributes in an undecoded list. What is none is passed over. Raises ``Refused``."""
    if not begins(raw, _LIST):
        return
    found = listed(raw)
    if isinstance(found, int):
        raise Refused("too_large")
    for one in found:
        attribute = _attempt(_decode_attribute, one)
        if attribute is not None:
            yield attribute


def value(raw: Raw, sought: Name) -> Any:
    """A value; of a list of keys and values, those that are looked for."""
    if raw == NULL:
        return None
    if not begins(raw):
        return UNREAD
    forms = _forms(_decode_value(raw))
    if len(forms) != 1:
        return UNREAD if forms else None
    ((form, inner),) = forms
    if form == "kvlist_value" and sought.below:
        return _pairs(inner, sought.below)
    return _READERS[form](inner) if sought.is_read and form in _READERS else UNREAD


def _forms(found: _Value) -> list[tuple[str, Raw]]:
    """The forms of a value that are there; of a sound one it is one at most."""
    values = zip(_Value.__struct_fields__, msgspec.structs.astuple(found), strict=True)
    return [(form, raw) for form, raw in values if raw != NULL]


def _text(raw: Raw) -> Any:
    text = leaf(raw, _TEXT)
    return text if type(text) is str else UNREAD


def _truth(raw: Raw) -> Any:
    truth = leaf(raw, _TRUTH)
    return UNREAD if type(truth) is Mark else (bool, truth)


def _whole(raw: Raw) -> Any:
    """A number, or the same as a text, of 64 bits."""
    number = leaf(raw, _WHOLE)
    if type(number) is str:
        number = int(number) if _DIGITS.fullmatch(number) else None
    is_whole = type(number) is int and -(1 << 63) <= number < 1 << 63
    return (int, number) if is_whole else UNREAD


def _real(raw: Raw) -> Any:
    """A number, or the same as a text, or one of three words for what is none."""
    number = leaf(raw, _REAL)
    if type(number) is Mark:
        return UNREAD
    if type(number) is str and number not in _NO_NUMBERS and not _NUMBER.fullmatch(number):
        return UNREAD
    try:
        return float, float(number)
    except OverflowError:
        return UNREAD


def _pairs(raw: Raw, names: dict[str, Name]) -> Any:
    if not begins(raw):
        return UNREAD
    found = each_attribute(_decode_pairs(raw).values)
    last = {attribute.key: attribute.value for attribute in found if attribute.key in names}
    return dict, tuple((name, value(raw, names[name])) for name, raw in last.items())


_READERS = {
    "string_value": _text,
    "bool_value": _truth,
    "int_value": _whole,
    "double_value": _real,
}


def _attempt(decode: Any, raw: Raw) -> Any:
    try:
        return decode(raw)
    except FAILURES:
        return None
