"""A projection written by hand on orjson; without checks, or with them, and with records sorted."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import orjson

from benchmarks.leaks.contenders.base import Contender, Spec, allowed, at, each, lines, rows


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
            return lines(projected(shape, document, spec[shape], checks), sort=checks)
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, IndexError):
            return ""

    source = inspect.getsource(projected)
    if checks:
        source += f"{inspect.getsource(allowed)}; records are sorted"
    return Contender(each(one), source, orjson.__version__)
