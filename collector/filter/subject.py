"""Whom a request is about: a field, a value of it, and a window of time.

A field is refused unless a value of it leads to one person at a time: to erase by any other would
erase what is of others, and to show it would show them.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from collector.contracts import Subject, to_minute
from collector.errors import InputError
from collector.schema.checks import nearest
from collector.schema.kinds import Circumstances
from collector.schema.kinds.base import utc_now
from collector.schema.kinds.ip import IpField
from collector.schema.model import Schema

__all__ = ["FEWEST", "find", "window"]

FEWEST = 1 << 32
"""A field with fewer values than there are addresses of IPv4 has too few for one each."""

_YEARS = range(1000, 9999)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
).fullmatch


def find(schema: Schema, field: str, value: str, since: str, until: str) -> Subject:
    """The subject of a request; the value is made canonical as that of an event is.

    Raises ``InputError``: E404 for a field that leads to nobody or to many, E405 for a value that
    the field cannot have, E406 for a window that is none.
    """
    start, end = window(since, until)
    _check(schema, field)
    around = Circumstances(utc_now, lambda *_: b"")
    canonical = schema.fields[field].canonical(around)(value)
    if not isinstance(canonical, str):
        message = f"the value is none that `{field}` can have; check how it is written"
        raise InputError("E405", message)
    return Subject(field, canonical, start, end)


def _check(schema: Schema, name: str) -> None:
    field = schema.fields.get(name)
    if field is None:
        hint = nearest(name, list(schema.fields)) or f"; there are {', '.join(schema.fields)}"
        raise InputError("E404", f"the schema has no such field{hint}")
    if field.kind == "pseudonym":
        why = "it is a pseudonym: its key is destroyed, so nobody can tell any more whose it is"
    elif isinstance(field, IpField) and field.truncate != type(field.truncate)():
        why = "it is truncated: each value of it stands for the addresses of many"
    elif field.kind not in ("ip", "token") or field.size() < FEWEST:
        why = "it is coarse: each value of it is shared by many"
    else:
        return
    raise InputError("E404", f"`{name}` does not lead to one person: {why}")


def window(since: str, until: str) -> tuple[str, str]:
    """The first minute of a window and the first after it, in UTC. Both ends are dates or moments
    (RFC 3339), and both belong to it: a day with all its minutes, a moment with its minute.

    Raises ``InputError`` E406.
    """
    start, end = _moment(since), _moment(until)
    if start is None or end is None:
        message = "write both ends of the window as 2026-11-24 or 2026-11-24T10:20:00Z"
        raise InputError("E406", message)
    end += timedelta(days=1) if _DAY(until) else timedelta(minutes=1)
    if end <= start:
        raise InputError("E406", "the window ends before it begins")
    return to_minute(start), to_minute(end)


def _moment(text: str) -> datetime | None:
    with suppress(ValueError, OverflowError):
        if _DAY(text):
            moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
        elif _MOMENT(text):
            moment = datetime.fromisoformat(text.upper()).astimezone(UTC)
        else:
            return None
        if moment.year in _YEARS:
            return moment.replace(second=0, microsecond=0)
    return None
