"""Strategies of a schema are made once: Hypothesis tries the same schema again and again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import TypeVar

from collector.schema import Schema

__all__ = ["once_per_schema"]

_MOST = 256
_T = TypeVar("_T")
_Make = Callable[[Schema, datetime], _T]


def once_per_schema(make: _Make[_T]) -> _Make[_T]:
    """Remember what was made last for a schema, which its digest names, and a time."""
    made: dict[tuple[str, datetime], _T] = {}

    @wraps(make)
    def remembered(schema: Schema, now: datetime) -> _T:
        key = (schema.digest, now)
        if key not in made:
            while len(made) >= _MOST:
                del made[next(iter(made))]
            made[key] = make(schema, now)
        return made[key]

    return remembered
