"""The filter: bytes or mappings in, minimised records and a tally out. No I/O.

Deny by default: a record is built up from empty, so nothing has to be removed. Whatever comes in is
accounted for; no library exception leaves the filter, and none stays referenced.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, date, datetime, time
from functools import partial
from traceback import clear_frames
from typing import TYPE_CHECKING, Any, TypeVar, cast

from collector.consent import granted
from collector.contracts import SIGNALS, Form, Granted, Record, Signal
from collector.errors import ConfigError
from collector.filter.admission import Admission
from collector.filter.choices import Choices
from collector.filter.compile import Fills, Plan, compile_plan, next_expiry
from collector.filter.draft import Draft
from collector.filter.events import Events
from collector.filter.minutes import Share
from collector.filter.text import BOM
from collector.schema.kinds import Circumstances
from collector.schema.model import Schema

if TYPE_CHECKING:
    from collector.filter.otlp.items import Items

__all__ = ["Filter", "Payload"]

_T = TypeVar("_T")

Payload = bytes | bytearray | memoryview | str
_MOST_NARROWER = 64
_Read = Callable[[Events, Draft, Any], int]
"""Reads a payload into a draft, and says how many bytes it has."""


def _no_keys(reference: str, period: int) -> bytes:
    raise ConfigError("E202", "the schema has pseudonyms: give the filter a `Keyring` as `keys`")


class Filter:
    """A schema at work. Safe to use from several threads.

    ``purposes`` are the granted ones (``None``: all), out of which an event may refuse the optional
    ones, if the schema says where. ``as_of`` fixes the present, for expiry and
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
        if purposes is not None and not set(purposes) <= set(schema.purposes):
            raise ConfigError("E205", "a granted purpose is not defined in the schema")
        self._granted = granted(schema, (), None if purposes is None else tuple(purposes))
        self._fixed = as_of
        self._keys = keys
        self._narrower: dict[Granted, Filter] = {}
        self._around = Circumstances(self._now, keys or _no_keys)
        self._events, self._until = self._compile()
        for column in self._events.plan.columns:
            if schema.fields[column.name].kind == "pseudonym" and column.withheld is None:
                column.accept("-")  # a key that cannot be had is found before the first event

    def __repr__(self) -> str:
        return f"<Filter {self.schema.id}>"

    def without(self, refused: Collection[str]) -> Filter:
        """The same filter where some purposes are refused, of which the optional ones count. The
        last few dozen are kept."""
        left = granted(self.schema, refused, self._granted)
        if left == self._granted:
            return self
        found = self._narrower.get(left)
        if found is None:
            if len(self._narrower) >= _MOST_NARROWER:
                self._narrower.clear()
            found = Filter(
                self.schema,
                purposes=self.schema.purposes if left is None else left,
                as_of=self._fixed,
                merge=self.merge,
                keys=self._keys,
            )
            self._narrower[left] = found
        return found

    @property
    def plan(self) -> Plan:
        """What is looked for today, compiled."""
        return self._today().plan

    @property
    def paths(self) -> Events:
        """How events are read today."""
        return self._today()

    def admit(
        self,
        event: Payload | dict[str, Any],
        *,
        peer: str | None = None,
        user_agent: str | None = None,
    ) -> Admission:
        """Filter one JSON document (an object, or an array of events), or one mapping.

        ``peer`` is the address of the sender, ``user_agent`` what it calls itself. They fill fields
        where the schema says so and the event says nothing, if it is the only one.
        """
        try:
            if type(event) is dict:
                admission = self._alone(event, peer, user_agent)
                if admission is not None:
                    return admission
            return self._filled(self._admit, event, _fills(peer, user_agent))[0]
        except BaseException as error:  # an interrupt, or ``keys`` that fail
            del event, peer, user_agent
            clear_frames(error.__traceback__)
            raise

    def admit_lines(
        self,
        payload: Payload,
        *,
        first: bool = True,
        peer: str | None = None,
        user_agent: str | None = None,
    ) -> Admission:
        """Filter NDJSON: each line that is not blank is one event, and is decoded alone.

        ``first`` says that the payload begins a stream: a byte order mark is skipped only there.
        ``peer`` and ``user_agent`` are used if it holds one event.
        """
        read = partial(self._admit_lines, first=first)
        try:
            return self._filled(read, payload, _fills(peer, user_agent))[0]
        except BaseException as error:
            del payload, peer, user_agent
            clear_frames(error.__traceback__)
            raise

    def admit_records(self, payload: Payload) -> list[Share]:
        """Filter NDJSON that a filter of the same schema has made: the records come out as they
        are, by the minute in which they were received.

        Raises ``InputError`` E429 if a record is of another schema or version; never for other
        input.
        """
        try:
            text = _text(payload)
            relay, now = self._today().relay, self._now()
            return relay.admit(b"\0" if text is None else bytes(text), now)
        except BaseException as error:
            text = None
            del payload
            clear_frames(error.__traceback__)
            raise

    def admit_otlp(
        self,
        signal: Signal,
        payload: Payload,
        *,
        protobuf: bool,
        peer: str | None = None,
        user_agent: str | None = None,
    ) -> Admission:
        """Filter one OTLP body, as protobuf or as JSON. Its log records, spans or data points are
        the events, and their attributes, with those of scope and resource, the members.

        Identical records always become one with their ``count``. ``peer`` and ``user_agent`` are
        used if there is one event. Raises ``ConfigError`` for an unknown signal (E204) and if
        protobuf is needed but not installed (E201); never for input.
        """
        if signal not in SIGNALS:
            raise ConfigError("E204", f"the signal must be one of {', '.join(SIGNALS)}")
        try:
            return self._admit_otlp(signal, payload, protobuf, _fills(peer, user_agent))[0]
        except BaseException as error:
            del payload, peer, user_agent
            clear_frames(error.__traceback__)
            raise

    def apart(
        self,
        form: Form,
        payload: Payload | dict[str, Any],
        *,
        protobuf: bool = False,
        first: bool = True,
        peer: str | None = None,
        user_agent: str | None = None,
    ) -> list[Admission]:
        """What the other methods do with events of a form, but an admission for each set of
        purposes that is granted in them, which each says. Records have ``admit_records``."""
        fills = _fills(peer, user_agent)
        try:
            if type(payload) is dict:
                alone = self._alone(payload, peer, user_agent)
                if alone is not None:
                    return [alone]
            elif form in SIGNALS:
                body = cast("Payload", payload)
                return self._admit_otlp(form, body, protobuf, fills, apart=True)
            lines = form == "ndjson"
            read = partial(self._admit_lines, first=first) if lines else self._admit
            return self._filled(read, payload, fills, apart=True)
        except BaseException as error:
            payload = body = None  # type: ignore[assignment]
            del peer, user_agent, fills
            clear_frames(error.__traceback__)
            raise

    def otlp_items(self, make: Callable[[Record], _T]) -> Items[_T]:
        """An empty batch of OpenTelemetry items that are Python objects already; ``make`` makes a
        resource of what is admitted of one."""
        return self._today().otlp.items(make)

    def _alone(self, event: dict[Any, Any], peer: Any, user_agent: Any) -> Admission | None:
        """The admission of one mapping, if nothing about it is rare."""
        events = self._today()
        if events.plan.fills and not (peer is None and user_agent is None):
            return None
        if events.choices is None:
            return events.alone(event)
        return events.hearing(event) or events.taker(event).alone(event)

    def _filled(
        self, read: _Read, payload: Any, fills: Fills | None, *, apart: bool = False
    ) -> list[Admission]:
        """Filter a payload; once more, with what the request says, if it holds one event. One
        admission, or with ``apart`` one for each set of purposes that is granted."""
        events = self._today()
        draft = events.draft(apart=apart)
        size = read(events, draft, payload)
        if fills is not None and draft.received == 1 and events.plan.fills:
            draft = events.draft(fills, apart=apart)
            read(events.slow, draft, payload)
        return draft.finish_all(size, self.merge)

    @staticmethod
    def _admit(events: Events, draft: Draft, event: Payload | dict[str, Any]) -> int:
        if type(event) is dict:
            events.mapping(event, draft)
            return 0
        text = _text(event)
        if text is None:
            draft.rejected.append("malformed" if _is_text(event) else "not_an_object")
            return 0
        events.document(text, draft)
        return len(text)

    @staticmethod
    def _admit_lines(events: Events, draft: Draft, payload: Payload, *, first: bool) -> int:
        text = _text(payload)
        if text is None:
            draft.rejected.append("malformed")
            return 0
        text = bytes(text)
        events.lines(text.removeprefix(BOM) if first else text, draft)
        return len(text)

    def _admit_otlp(
        self,
        signal: Signal,
        payload: Payload,
        protobuf: bool,
        fills: Fills | None,
        *,
        apart: bool = False,
    ) -> list[Admission]:
        events, text = self._today(), _text(payload)
        if text is None:
            draft = events.draft()
            draft.rejected.append("malformed")
            return [draft.finish(0, merge=True)]
        if not events.plan.fills:
            fills = None
        return events.otlp.admit(signal, text, protobuf=protobuf, fills=fills, apart=apart)

    def _now(self) -> datetime:
        if self._fixed is None:
            return datetime.now(UTC)
        if isinstance(self._fixed, datetime):
            return self._fixed.astimezone(UTC)
        return datetime.combine(self._fixed, time(), UTC)

    def _compile(self) -> tuple[Events, date | None]:
        today = self._now().date()
        made: dict[Granted, Events] = {}

        def other(most: Granted, refused: frozenset[str]) -> Events:
            left = granted(self.schema, refused, most)
            if left not in made:  # as many as the loader lets there be choices
                plan = compile_plan(self.schema, left, today, self._around)
                optional = self.schema.optional
                can_refuse = plan.choices and (left is None or not set(optional).isdisjoint(left))
                choices = Choices(plan, optional) if can_refuse else None
                made[left] = Events(plan, choices, other)
            return made[left]

        return other(self._granted, frozenset()), next_expiry(self.schema, today)

    def _today(self) -> Events:
        """The compiled paths, made anew on the day a field expires."""
        if self._until is not None and self._now().date() >= self._until:
            self._events, self._until = self._compile()
        return self._events


def _fills(peer: Any, user_agent: Any) -> Fills | None:
    """What a request says, if it says anything."""
    if peer is None and user_agent is None:
        return None
    return Fills(*(text if type(text) is str else None for text in (peer, user_agent)))


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
