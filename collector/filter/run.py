"""The filter: bytes or mappings in, minimised records and a tally out. No I/O.

Deny by default: a record is built up from empty, so nothing has to be removed. All input is
counted; no exception of a library leaves the filter or stays referenced.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any, TypeVar

from collector.consent import granted
from collector.contracts import SIGNALS, Form, Granted, PendingBatch, Record, Signal
from collector.errors import ConfigError
from collector.filter.admission import Admission, AdmissionBuilder, Bounds
from collector.filter.event_consent import EventConsent
from collector.filter.frames import clear, clearing
from collector.filter.members import FAILURES
from collector.filter.plan import Plan, SenderInfo, compile_plan, next_expiry
from collector.filter.records import OBJECTS, TEXTS
from collector.filter.router import EventRouter
from collector.filter.text import BOM, refusal
from collector.schema.kinds import Circumstances
from collector.schema.model import Schema

if TYPE_CHECKING:
    from collector.filter.otlp.items import ItemBatch
    from collector.filter.sdk_records import Minutes

_T = TypeVar("_T")

_Read = Callable[[EventRouter, Any, AdmissionBuilder], None]
Payload = bytes | bytearray | memoryview | str
_MAX_NARROWER = 64


def _no_keys(reference: str, period: int) -> bytes:
    raise ConfigError("E202", "the schema has pseudonyms: give the filter a `Keyring` as `keys`")


class Filter:
    """A schema, ready to filter events. Safe to use from several threads.

    ``purposes`` are the granted ones (``None``: all); an event may refuse the optional ones of
    them, if the schema says where. ``as_of`` fixes the present, for expiry and time windows;
    ``None`` follows the clock. With ``merge``, identical records of one call become one with their
    ``count``. ``keys`` resolves key references of pseudonyms.

    Raises ``ConfigError`` for an unknown purpose (E132) or missing keys (E202); never for input.
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
            known = ", ".join(schema.purposes)
            raise ConfigError(
                "E132", f"the schema does not define a granted purpose; it has {known}"
            )
        self._granted = granted(schema, (), None if purposes is None else tuple(purposes))
        self._fixed = as_of
        self._keys = keys
        self._narrower: dict[Granted, Filter] = {}
        self._circumstances = Circumstances(self._now, keys or _no_keys)
        self._router, self._until = self._compile()
        for column in self._router.plan.columns:
            if schema.fields[column.name].kind == "pseudonym" and column.withheld is None:
                column.accept("-")  # finds a missing key before the first event

    def __repr__(self) -> str:
        return f"<Filter {self.schema.id}>"

    def without(self, refused: Collection[str]) -> Filter:
        """Return the same filter with some purposes refused; only optional ones count.

        The last few dozen are cached.
        """
        purposes = granted(self.schema, refused, self._granted)
        if purposes == self._granted:
            return self
        found = self._narrower.get(purposes)
        if found is None:
            if len(self._narrower) >= _MAX_NARROWER:
                self._narrower.clear()
            found = Filter(
                self.schema,
                purposes=purposes,
                as_of=self._fixed,
                merge=self.merge,
                keys=self._keys,
            )
            self._narrower[purposes] = found
        return found

    @property
    def plan(self) -> Plan:
        """Today's plan."""
        return self.router.plan

    @property
    def router(self) -> EventRouter:
        """Today's router of events; compiled again on the day when a field expires."""
        if self._until is not None and self._now().date() >= self._until:
            self._router, self._until = self._compile()
        return self._router

    def admit(
        self,
        event: Payload | dict[str, Any] | Sequence[Any],
        *,
        peer: str | None = None,
        user_agent: str | None = None,
    ) -> Admission:
        """Filter one JSON document (an object, or an array of events), or one mapping. If the
        schema reads lists, a list or a tuple is one event.

        ``peer`` is the address of the sender, ``user_agent`` its user agent. If there is a single
        event, they fill fields that it has no value for and that the schema allows.
        """
        try:  # like ``clearing``, without another call, because this is the most frequent one
            return (
                self._admit_one(event, peer, user_agent)
                or self._admissions("json", event, peer, user_agent)[0]
            )
        except BaseException as error:
            del event, peer, user_agent
            clear(error)
            raise

    @clearing
    def admit_lines(
        self,
        payload: Payload,
        *,
        first: bool = True,
        peer: str | None = None,
        user_agent: str | None = None,
    ) -> Admission:
        """Filter NDJSON: each line that is not blank is one event, decoded alone.

        ``first`` says that the payload begins a stream: a byte order mark is skipped only there.
        ``peer`` and ``user_agent`` are used if it holds one event.
        """
        return self._admissions("ndjson", payload, peer, user_agent, first=first)[0]

    @clearing
    def admit_records(self, payload: Payload, minutes: Minutes | None = None) -> list[PendingBatch]:
        """Filter NDJSON that a filter of the same schema has made.

        The records come out unchanged, by the minute in which they were received. Records of
        another version are filtered by this one. For a body in parts, pass the same ``minutes``
        (from the method of that name) each time. Raises ``InputError`` E429 for a record of another
        schema; never for other input.
        """
        text = _as_bytes(payload)
        return self.router.sdk_records.admit(
            b"\0" if text is None else bytes(text),
            self.minutes() if minutes is None else minutes,
            self.schema.layout,
        )

    def minutes(self) -> Minutes:
        """Make the minutes of one body of records. All its parts count as received now."""
        return self.router.sdk_records.minutes(self._now())

    @clearing
    def admit_otlp(
        self,
        signal: Signal,
        payload: Payload,
        *,
        protobuf: bool,
        peer: str | None = None,
        user_agent: str | None = None,
    ) -> Admission:
        """Filter one OTLP body, as protobuf or as JSON.

        Its log records, spans or data points are the events; their attributes, with those of scope
        and resource, are the members. Identical records always become one with their ``count``.
        ``peer`` and ``user_agent`` are used if there is one event. Raises ``ConfigError`` for an
        unknown signal (E107) and if protobuf is needed but not installed (E201); never for input.
        """
        if signal not in SIGNALS:
            raise ConfigError("E107", f"the signal must be one of {', '.join(SIGNALS)}")
        return self._admissions(signal, payload, peer, user_agent, protobuf=protobuf)[0]

    @clearing
    def admit_by_grant(
        self,
        form: Form,
        payload: Payload | dict[str, Any] | Sequence[Any],
        *,
        protobuf: bool = False,
        first: bool = True,
        peer: str | None = None,
        user_agent: str | None = None,
        bounds: Bounds | None = None,
    ) -> list[Admission]:
        """Filter events of any form into one admission for each set of purposes that they grant.

        Each admission names its set (``granted``). Parameters are those of the other methods; for
        records use ``admit_records``. Raises ``InputError`` E416 beyond ``bounds``; without them
        only the limit of a list applies.
        """
        if form == "json" or type(payload) is dict:
            admission = self._admit_one(payload, peer, user_agent)
            if admission is not None:
                if bounds is not None:
                    bounds.check_bytes(len(admission.encode()))
                return [admission]
            form = "json"
        return self._admissions(
            form,
            payload,
            peer,
            user_agent,
            protobuf=protobuf,
            first=first,
            by_grant=True,
            bounds=bounds,
        )

    def otlp_items(self, make: Callable[[Record], _T]) -> ItemBatch[_T]:
        """Make an empty batch for OpenTelemetry items that are Python objects already.

        ``make`` makes a resource from its admitted attributes.
        """
        return self.router.otlp.items(make)

    def _admit_one(self, event: Any, peer: Any, user_agent: Any) -> Admission | None:
        """Admit an ordinary single event; ``None`` leaves it to ``_admissions``."""
        router = self._router if self._until is None else self.router
        kind = type(event)
        if not (peer is None and user_agent is None) and router.plan.uses_sender:
            return None
        if kind is dict:
            if router.consent is not None:
                router = router.router_for(event, OBJECTS)
            return None if router.single is None else router.single(router.read_mapping(event), 0)
        if kind is not bytes or refusal(event) is not None:
            return None
        if router.consent is not None and router.consent.may_occur_in(event):
            router = router.router_for(event, TEXTS)
        if router.single is None:
            return None
        try:
            found = router.read_text(event)
        except FAILURES:
            return None
        return router.single(found, len(event))

    def _admissions(
        self,
        form: Form,
        payload: Any,
        peer: Any,
        user_agent: Any,
        *,
        protobuf: bool = False,
        first: bool = True,
        by_grant: bool = False,
        bounds: Bounds | None = None,
    ) -> list[Admission]:
        """Filter events of any form into one admission, or one for each set of purposes.

        A payload that holds a single event is read again if the schema uses sender values.
        """
        router = self.router
        sender = _sender_info(peer, user_agent)
        if sender is not None and not router.plan.uses_sender:
            sender = None
        is_object = form == "json" and router.readers.of_value(payload) is not None
        text = None if is_object else _as_bytes(payload)
        if form in SIGNALS and text is not None:
            return router.otlp.admit(
                form, text, protobuf=protobuf, sender=sender, by_grant=by_grant, bounds=bounds
            )
        builder = router.builder(by_grant=by_grant, bounds=bounds)
        read: _Read
        if is_object:
            read, text, event = EventRouter.add_object, b"", payload
        elif text is None:
            is_text = form != "json" or _is_text(payload)
            builder.rejected.append("malformed" if is_text else "not_an_object")
            return builder.finish_all(0, self.merge)
        elif form == "ndjson":
            text = bytes(text)
            read, event = EventRouter.add_lines, text.removeprefix(BOM) if first else text
        else:
            read, event = EventRouter.add_document, text
        elements = bounds.elements[0] if bounds is not None else 0
        read(router, event, builder)
        if sender is not None and builder.received == 1:
            if bounds is not None:
                bounds.elements[0] = elements  # the same elements are counted again
            builder = router.builder(sender, by_grant=by_grant, bounds=bounds)
            read(router, event, builder)
        return builder.finish_all(len(text), self.merge)

    def _now(self) -> datetime:
        if self._fixed is None:
            return datetime.now(UTC)
        if isinstance(self._fixed, datetime):
            return self._fixed.astimezone(UTC)
        return datetime.combine(self._fixed, time(), UTC)

    def _compile(self) -> tuple[EventRouter, date | None]:
        today = self._now().date()
        routers: dict[Granted, EventRouter] = {}

        def narrow(within: Granted, refused: frozenset[str]) -> EventRouter:
            purposes = granted(self.schema, refused, within)
            if purposes not in routers:  # the loader limits the number of sets of choices
                plan = compile_plan(self.schema, purposes, today, self._circumstances)
                optional = self.schema.optional
                can_refuse = plan.choices and (
                    purposes is None or not set(optional).isdisjoint(purposes)
                )
                consent = EventConsent(plan, optional) if can_refuse else None
                routers[purposes] = EventRouter(plan, consent, narrow)
            return routers[purposes]

        return narrow(self._granted, frozenset()), next_expiry(self.schema, today)


def _sender_info(peer: Any, user_agent: Any) -> SenderInfo | None:
    if peer is None and user_agent is None:
        return None
    return SenderInfo(*(text if type(text) is str else None for text in (peer, user_agent)))


def _is_text(payload: Any) -> bool:
    """Return whether a payload is of a text type; ``isinstance`` would call a foreign class."""
    return issubclass(type(payload), str | bytes | bytearray | memoryview)


def _as_bytes(payload: Any) -> bytes | memoryview | None:
    """Return a payload as bytes, if possible without a copy; ``None`` if it is not a text.

    A subclass is read through its base, so that no method of a foreign class is called.
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
    except (TypeError, ValueError):  # a lone surrogate, a released view
        pass
    return None
