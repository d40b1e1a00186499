"""The filter: bytes or mappings in, minimised records and a tally out. No I/O.

Deny by default: a record is built up from empty, so nothing has to be removed. Whatever comes in is
accounted for; no library exception leaves the filter, and none stays referenced.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, date, datetime, time
from traceback import clear_frames
from typing import Any

from collector.errors import ConfigError
from collector.filter.compile import Plan, compile_plan, next_expiry
from collector.filter.draft import Admission, Draft
from collector.filter.events import Events
from collector.filter.text import BOM
from collector.schema.kinds import Circumstances
from collector.schema.model import Schema

__all__ = ["Filter", "Payload"]

Payload = bytes | bytearray | memoryview | str


def _no_keys(reference: str, period: int) -> bytes:
    raise ConfigError("E202", "the schema has pseudonyms: give the filter a `Keyring` as `keys`")


class Filter:
    """A schema at work. Safe to use from several threads.

    ``purposes`` are the granted ones (``None``: all). ``as_of`` fixes the present, for expiry and
    time windows; ``None`` follows the clock. With ``merge``, identical records of one call become
    one with their ``count``. ``keys`` resolves key references of pseudonyms.

    Raises ``ConfigError`` for an unknown purpose (E205) or missing keys (E202); never for input.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        purposes: Collection[str] | None = None,
        as_of: date | None = None,
        merge: bool = False,
        keys: Callable[[str, int], bytes] | None = None,
    ) -> None:
        self.schema = schema
        self.merge = merge
        self._purposes = None if purposes is None else frozenset(purposes)
        self._fixed = as_of
        self._around = Circumstances(self._now, keys or _no_keys)
        self._events, self._until = self._compile()
        for column in self._events.plan.columns:
            if schema.fields[column.name].kind == "pseudonym" and column.withheld is None:
                column.accept("-")  # a key that cannot be had is found before the first event

    def __repr__(self) -> str:
        return f"<Filter {self.schema.id}>"

    @property
    def plan(self) -> Plan:
        """What is looked for today, compiled."""
        return self._draft()[0].plan

    def admit(self, event: Payload | dict[str, Any]) -> Admission:
        """Filter one JSON document (an object, or an array of events), or one mapping."""
        try:
            return self._admit(event)
        except BaseException as error:  # an interrupt, or ``keys`` that fail
            del event
            clear_frames(error.__traceback__)
            raise

    def admit_lines(self, payload: Payload, *, first: bool = True) -> Admission:
        """Filter NDJSON: each line that is not blank is one event, and is decoded alone.

        ``first`` says that the payload begins a stream: a byte order mark is skipped only there.
        """
        try:
            return self._admit_lines(payload, first)
        except BaseException as error:
            del payload
            clear_frames(error.__traceback__)
            raise

    def _admit(self, event: Payload | dict[str, Any]) -> Admission:
        events, draft = self._draft()
        if type(event) is dict:
            events.mapping(event, draft)
            return draft.finish(0, self.merge)
        text = _text(event)
        if text is None:
            draft.rejected.append("malformed" if _is_text(event) else "not_an_object")
            return draft.finish(0, self.merge)
        events.document(text, draft)
        return draft.finish(len(text), self.merge)

    def _admit_lines(self, payload: Payload, first: bool) -> Admission:
        events, draft = self._draft()
        text = _text(payload)
        if text is None:
            draft.rejected.append("malformed")
            return draft.finish(0, self.merge)
        text = bytes(text)
        events.lines(text.removeprefix(BOM) if first else text, draft)
        return draft.finish(len(text), self.merge)

    def _now(self) -> datetime:
        if self._fixed is None:
            return datetime.now(UTC)
        if isinstance(self._fixed, datetime):
            return self._fixed.astimezone(UTC)
        return datetime.combine(self._fixed, time(), UTC)

    def _compile(self) -> tuple[Events, date | None]:
        today = self._now().date()
        plan = compile_plan(self.schema, self._purposes, today, self._around)
        return Events(plan), next_expiry(self.schema, today)

    def _draft(self) -> tuple[Events, Draft]:
        """The compiled paths, made anew on the day a field expires, and an empty draft."""
        if self._until is not None and self._now().date() >= self._until:
            self._events, self._until = self._compile()
        events = self._events
        return events, events.draft()


def _is_text(payload: Any) -> bool:
    """Whether it is of a type that can hold JSON. ``isinstance`` would ask a foreign object."""
    return issubclass(type(payload), str | bytes | bytearray | memoryview)


def _text(payload: Any) -> bytes | memoryview | None:
    """The payload as bytes, without a copy where that is possible; ``None`` if it is no text.

    A subclass is read through its base, so that nothing of a foreign class is called.
    """
    kind = type(payload)
    if kind is bytes:
        return payload  # type: ignore[no-any-return]
    try:
        if issubclass(kind, str):
            return str.encode(payload)
        if issubclass(kind, bytes):
            return bytes.__getitem__(payload, slice(None))
        if kind is memoryview and payload.c_contiguous:
            return payload.cast("B")  # type: ignore[no-any-return]
        if kind is bytearray or kind is memoryview:
            return bytes(payload)
    except (TypeError, ValueError):  # a lone surrogate, a view that is released
        pass
    return None
