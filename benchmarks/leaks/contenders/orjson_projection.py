"""A projection written by hand on orjson, without checks and with them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import orjson

from benchmarks.leaks.contenders.base import Contender, Spec, each, lines, rows

__all__ = ["allowed", "make"]


def at(record: Any, path: list[str]) -> Any:
    """Return what lies at a path, if there is anything."""
    for key in path:
        record = record.get(key) if isinstance(record, dict) else None
    return record


def allowed(value: Any, field: dict[str, Any]) -> bool:
    """Return whether a value is one that the field may have."""
    if not isinstance(value, str):
        return False
    if "values" in field:
        return value in field["values"]
    if "pattern" in field:
        return re.fullmatch(field["pattern"], value) is not None
    with suppress(ValueError):
        address = ip_address(value)
        return not (address.is_multicast or address.is_link_local or "%" in value)
    return False


def projected(
    shape: str, document: Any, fields: dict[str, dict[str, Any]], checks: bool
) -> Iterator[dict[str, Any]]:
    """Yield the listed fields of each record."""
    for record in rows(shape, document):
        found = {}
        for name, field in fields.items():
            for path in field["paths"]:
                value = at(record, path)
                if value is not None and (not checks or allowed(value, field)):
                    found[name] = value
                    break
        yield found


def make(variant: str, spec: Spec) -> Contender:
    """Make it."""
    checks = variant == "strongest"

    def one(shape: str, text: str) -> str:
        try:
            document = orjson.loads(text)
            return lines(projected(shape, document, spec[shape], checks))
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, IndexError):
            return ""

    source = inspect.getsource(projected) + (inspect.getsource(allowed) if checks else "")
    return Contender(each(one), source, orjson.__version__)
