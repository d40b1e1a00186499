"""A plain reference of docs/sidecar.md on records that a filter has made already.

As ``reference``, whose parser it uses: a line is parsed whole, then looked at as a dictionary.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any

from collector.contracts import Drop, Scalar, Tally
from collector.errors import InputError
from collector.schema import Schema
from collector.schema.kinds import Circumstances
from tests.filter.reference import BOM, Outcome, Refused, _withheld, parse, types

_MINUTE = "%Y-%m-%dT%H:%M:00Z"
_MOST_TIMES = 1_000_000
_MOST_MINUTES = 60


class SdkRecordReference:
    """A schema at work on its own records."""

    def __init__(
        self,
        schema: Schema,
        *,
        purposes: Collection[str] | None = None,
        as_of: datetime,
        keys: Callable[[str, int], bytes],
    ) -> None:
        self._schema = schema
        self._now = as_of.replace(second=0, microsecond=0)
        self._keys = keys
        self._withheld = dict(_withheld(schema, purposes, as_of.date()))
        self._out: dict[str, Outcome] = {}
        self._unread: list[Any] = []

    def admit_records(self, payload: bytes) -> dict[str, Outcome]:
        """By minute; raises ``InputError``."""
        self._out, self._unread = {}, []
        for line in payload.removeprefix(BOM).split(b"\n"):
            if line.strip(b" \t\r"):
                try:
                    self._line(parse(line))
                except Refused as refused:
                    self._unread.append(refused.reason)
        for reason in self._unread:
            self._minute(self._now).reject(reason)
        for at, out in enumerate(self._out.values()):
            out.tally.bytes_in = 0 if at else len(payload)
            out.tally.bytes_out = len(out.encode())
        return self._out

    def _minute(self, minute: datetime) -> Outcome:
        return self._out.setdefault(minute.strftime(_MINUTE), Outcome())

    def _line(self, line: Any) -> None:
        if type(line) is not dict:
            raise Refused("not_an_object")
        if type(line.get("schema")) is not str:
            raise Refused("malformed")
        name, _, version = line["schema"].partition("/")
        if name != self._schema.name or not re.fullmatch("[0-9.]{1,40}", version):
            raise InputError("E429", "another schema")
        times = 1 if line.get("count") is None else line["count"]
        if type(times) is not int or not 1 <= times <= _MOST_TIMES:
            raise Refused("malformed")
        minute = self._now if line.get("received") is None else self._received(line["received"])
        if len(self._out) >= _MOST_MINUTES and minute.strftime(_MINUTE) not in self._out:
            raise Refused("too_large")
        self._settle(line, self._minute(minute), minute, times)

    def _received(self, text: Any) -> datetime:
        if type(text) is not str or not re.fullmatch("[-0-9T:]{17}00Z", text):
            raise Refused("malformed")
        try:
            minute = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")
        except ValueError:
            raise Refused("malformed") from None
        if minute.isoformat() != text.replace("Z", "+00:00"):
            raise Refused("malformed")
        if minute - self._now > timedelta(minutes=5):
            return self._now
        if self._now - minute > timedelta(days=31):
            raise Refused("malformed")
        is_exact = self._now - minute <= timedelta(hours=1)
        return minute if is_exact else minute.replace(minute=0)

    def _settle(self, line: dict[str, Any], out: Outcome, minute: datetime, times: int) -> None:
        names = self._schema.content_names.items()
        own = ("schema", "count", "received")
        met = {c for name, c in names if name not in own and line.get(name) is not None}
        tally = Tally(received=times)
        tally.content.update(dict.fromkeys(met, times))
        record: dict[str, Scalar] = {"schema": self._schema.id}
        is_other, refused = line["schema"] != self._schema.id, False
        for name in self._schema.fields:
            value, reason = self._judge(name, line.get(name), minute)
            if reason == "invalid_value" and is_other:
                coarser = self._schema.fields[name].coarsened(line[name])
                if coarser is not None:
                    value, reason = self._judge(name, coarser, minute)
            if reason is not None:
                tally.dropped[name] = Counter({reason: times})
                refused = refused or reason == "purpose_refused"
            if value is not None:
                record[name] = value
        fields = self._schema.fields.items()
        if any(listed.required and name not in record for name, listed in fields):
            tally.rejected["missing_required"] = times
        elif len(record) == 1:
            tally.rejected["consent_withheld" if refused else "nothing_admitted"] = times
        else:
            tally.admitted = times
            for power in (n for n in (2**bit for bit in range(20)) if times // n % 2):
                out.records.append(record | ({"count": power} if power > 1 else {}))
        out.tally += tally

    def _judge(self, name: str, value: Any, minute: datetime) -> tuple[Any, Drop | None]:
        if value is None:
            return None, None
        if name in self._withheld:
            return None, self._withheld[name]
        field = self._schema.fields[name]
        if type(value) not in types(field):
            return None, "wrong_type"
        if field.kind == "pseudonym":
            stored = re.fullmatch("[a-z2-7]{25}[aeimquy4]", value)
            return (value, None) if stored else (None, "invalid_value")
        is_hour = self._now - minute > timedelta(hours=1)
        span = timedelta(minutes=59 * is_hour, seconds=59.999999)
        for moment in (minute, minute + span, *_between(value, minute, minute + span)):
            around = Circumstances(lambda moment=moment: moment, self._keys)  # type: ignore[misc]
            result = field.canonical(around)(value)
            if result is not None and result == value:
                return result, None
        return None, "invalid_value"


def _between(value: Any, first: datetime, last: datetime) -> list[datetime]:
    """The moment between two that is nearest to a value, if that is a time."""
    try:
        found = datetime.strptime(str(value), "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return []
    return [min(max(found, first), last)]
