"""The reference filter: what docs/schema.md says, written down once more with nothing clever in it.

It shares no code with the paths of ``collector.filter``. A payload is parsed as a whole by the
standard library, then looked at with dictionaries; only the kinds' canonical functions, and what a
user agent says, are the product's own. It is slow, keeps everything in memory, and is obviously
correct, which is all it is for.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any, NoReturn

import msgspec

from collector.contracts import Drop, Record, Rejection, Scalar, Tally
from collector.filter.derive import parse_user_agent
from collector.schema import Schema
from collector.schema.kinds import Circumstances, FieldBase
from collector.schema.kinds.numeric import IntegerField, NumberField
from collector.schema.scalars import ConditionalPath, ConditionalRecords, Source, path_of

BOM = b"\xef\xbb\xbf"
MOST_LEVELS = 1000
MOST_ITEMS = 50_000
MAX_CHOICES = 4096

_TYPES: dict[str, tuple[type, ...]] = {
    "ip": (str,),
    "enum": (str,),
    "version": (str,),
    "token": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "time": (str, int, float),
    "pseudonym": (str,),
}
_Event = dict[Any, Any]
Sender = dict[str, str | None]
SIZES: dict[int, int] = {}
"""How many members the objects of the last text had, equal keys counted each."""


class Refused(Exception):
    """A text that is not read; ``reason`` says why."""

    def __init__(self, reason: Rejection) -> None:
        super().__init__(reason)
        self.reason: Rejection = reason


@dataclass
class Outcome:
    """Records and tally of one call."""

    records: list[Record] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def reject(self, reason: Rejection, times: int = 1) -> None:
        self.tally.received += times
        self.tally.rejected[reason] += times

    def admit(self, record: Record) -> None:
        self.tally.received += 1
        self.tally.admitted += 1
        self.records.append(record)

    def drop(self, name: str, reason: Drop) -> None:
        self.tally.dropped.setdefault(name, Counter())[reason] += 1

    def encode(self) -> bytes:
        """NDJSON, in the encoder's spelling of numbers (1e16, where others write 1e+16)."""
        return b"".join(msgspec.json.encode(record) + b"\n" for record in self.records)


class Reference:
    """A schema at work, as slowly as it takes to be sure."""

    def __init__(
        self,
        schema: Schema,
        *,
        purposes: Collection[str] | None = None,
        as_of: date,
        keys: Callable[[str, int], bytes],
        most_items: int = MOST_ITEMS,
        most_levels: int = MOST_LEVELS,
    ) -> None:
        self._schema = schema
        self._most_items = most_items
        self._most_levels = most_levels
        self._granted = set(schema.purposes) if purposes is None else set(purposes)
        self._today = as_of
        self._withheld = dict(_withheld(schema, self._granted, as_of))
        self._agents = schema.user_agent_paths
        sources = [path for field in schema.fields.values() for path in field.sources or ()]
        self._choices = [schema.consent] if schema.consent else []
        self._ways = [
            (way, None) if isinstance(way, str) else (way.path, way) for way in schema.records or ()
        ]
        every = [*map(path_of, sources), *(way for way, _ in self._ways), *self._agents]
        self._reads_lists = any(path.startswith("[") for path in every)
        now = datetime.combine(as_of, time(), UTC)
        around = Circumstances(lambda: now, keys)
        self._sender: Sender | None = None
        self._is_text = False
        self._canonical = {name: listed.canonical(around) for name, listed in schema.fields.items()}

    def admit(self, event: bytes | _Event, **sender: str | None) -> Outcome:
        """One JSON document, or one mapping; ``peer`` and ``user_agent`` if it is one event."""
        return self._read_twice(lambda: self._admit(event), sender)

    def admit_lines(self, payload: bytes, **sender: str | None) -> Outcome:
        """NDJSON."""
        return self._read_twice(lambda: self._admit_lines(payload), sender)

    def _read_twice(self, admit: Callable[[], Outcome], sender: Sender) -> Outcome:
        out = admit()
        if out.tally.received == 1:
            self._sender = sender
            out = admit()
            self._sender = None
        return out

    def _admit(self, event: bytes | _Event) -> Outcome:
        out = Outcome()
        SIZES.clear()
        self._is_text = isinstance(event, bytes)
        if isinstance(event, bytes):
            self._document(event.removeprefix(BOM), out)
        else:
            self._event(event, out, self._most_items)
        return self._finished(out, len(event) if isinstance(event, bytes) else 0)

    def _admit_lines(self, payload: bytes) -> Outcome:
        out, self._is_text = Outcome(), True
        for line in payload.removeprefix(BOM).split(b"\n"):
            if line.strip(b" \t\r"):
                self._line(line, out)
        return self._finished(out, len(payload))

    def _finished(self, out: Outcome, bytes_in: int) -> Outcome:
        out.tally.bytes_in = bytes_in
        out.tally.bytes_out = len(out.encode())
        return out

    def _line(self, line: bytes, out: Outcome) -> None:
        try:
            value = parse(line, self._most_levels)
        except Refused as refused:
            out.reject(refused.reason)
            return
        self._event(value, out, self._most_items)

    def _document(self, text: bytes, out: Outcome) -> None:
        try:
            value = parse(text, self._most_levels)
        except Refused as refused:
            out.reject(refused.reason)
            return
        if type(value) is not list:
            self._event(value, out, self._most_items)
        elif len(value) > self._most_items:
            out.reject("too_large", len(value))
        else:
            for event in value:
                self._event(event, out, self._most_items - out.tally.received)

    def _event(self, event: Any, out: Outcome, room: int) -> None:
        """One event, a map of events, or a document around at most ``room`` of them."""
        if type(event) is dict and [way for way, _ in self._ways] == ["*"]:
            self._map(event, self._ways[0][1], out)
        elif not self._is_event(event):
            out.reject("not_an_object")
        elif self._schema.records is None:
            self._settle([event], out)
        else:
            self._records(event, out, room)

    def _map(
        self, found: dict[Any, Any], selecting: ConditionalRecords | None, out: Outcome
    ) -> None:
        """Each object in a map is an event; content is counted."""
        size = SIZES.get(id(found), len(found))
        if size > self._most_items:
            return out.reject("too_large", size)
        names = self._schema.content_names
        there = {names[name] for name in names if member(found, name) is not None}
        out.tally.content.update(there)
        events = [
            each
            for key, each in found.items()
            if type(key) is str and key not in names and type(each) is dict
        ]
        if not events:
            return out.reject("not_an_object")
        for each in events:
            self._settle_selected([each], selecting, out)
        return None

    def _records(self, event: Any, out: Outcome, room: int) -> None:
        """The records that the first way leads to, each of them together with the event."""
        for way, selecting in self._ways:
            if way in (".", "*"):
                return self._settle_selected([event], selecting, out)
            levels = [level.strip(".") for level in way.split("[]") if level]
            if len(levels) > 1:
                listed = look(event, levels[0])
                if listed is None:
                    continue
                return self._levels(event, listed, levels[1:], selecting, out, room)
            value = look(event, levels[0].removesuffix(".*"))
            if value is None:
                continue
            if way.endswith(".*"):
                if type(value) is not dict:
                    continue
                if SIZES.get(id(value), len(value)) > self._most_items:
                    return out.reject("too_large")
                texts = [inner for key, inner in value.items() if type(key) is str]
                value = [inner for inner in texts if type(inner) is dict]
                if not value:
                    continue
            if type(value) not in (list, tuple):
                return out.reject("not_an_object")
            if len(value) > room:
                return out.reject("too_large", len(value))
            for record in value:
                if self._is_event(record):
                    self._settle_selected([record, event], selecting, out)
                else:
                    out.reject("not_an_object")
            return None
        return out.reject("not_an_object")

    def _levels(
        self,
        event: _Event,
        listed: Any,
        levels: list[str],
        selecting: ConditionalRecords | None,
        out: Outcome,
        room: int,
    ) -> None:
        """The records of lists within lists, level by level, each with all that is around it. All
        that a level has, and what was no list above it, must not be too much."""
        if type(listed) not in (list, tuple):
            return out.reject("not_an_object")
        if len(listed) > room:
            return out.reject("too_large", len(listed))
        layers = [[element, event] for element in listed]
        missing: Counter[Rejection] = Counter()
        for level in levels:
            inner: list[list[Any]] = []
            for element, *around in layers:
                found = self._listed_in(element, level)
                missing.update(found[1])
                inner += [[each, element, *around] for each in found[0]]
            if len(inner) + missing.total() > room:
                return out.reject("too_large", len(inner) + missing.total())
            layers = inner
        out.tally.received += missing.total()
        out.tally.rejected.update(missing)
        for record, *around in layers:
            if self._is_event(record):
                self._settle_selected([record, *around], selecting, out)
            else:
                out.reject("not_an_object")
        return None

    def _listed_in(self, element: Any, level: str) -> tuple[Sequence[Any], list[Rejection]]:
        """The elements of the list in an element, or why it has none."""
        value: Any = None
        if self._is_event(element):
            value = look(element, level.removesuffix(".*"))
        if level.endswith(".*"):
            if type(value) is not dict:
                return [], ["not_an_object"]
            if SIZES.get(id(value), len(value)) > self._most_items:
                return [], ["too_large"]
            texts = [each for key, each in value.items() if type(key) is str]
            objects = [each for each in texts if type(each) is dict]
            return objects, [] if objects else ["not_an_object"]
        return (value, []) if type(value) in (list, tuple) else ([], ["not_an_object"])

    def _is_event(self, value: Any) -> bool:
        return type(value) is dict or (self._reads_lists and type(value) in (list, tuple))

    def _settle_selected(
        self, layers: Sequence[_Event], selecting: ConditionalRecords | None, out: Outcome
    ) -> None:
        """One record, if its own members have the values that it must have; else nothing of it is
        counted but that it is not selected."""
        if self._is_selected(layers[0], selecting):
            self._settle(layers, out)
        else:
            out.reject("not_selected")

    def _is_selected(self, record: _Event, selecting: ConditionalRecords | None) -> bool:
        return selecting is None or _hold(record, selecting.model_dump(mode="json")["when"], "")

    def _settle(self, layers: Sequence[_Event], out: Outcome) -> None:
        """One record from an event, or from an element and then the document around it. What one
        of them refuses is refused."""
        refused_here = {name for layer in layers for name in self._refused(layer)}
        self._withheld = dict(_withheld(self._schema, self._granted - refused_here, self._today))
        out.tally.content.update(
            {
                category
                for name, category in self._schema.content_names.items()
                for layer in layers
                if member(layer, name) is not None
            }
        )
        record: Record = {"schema": self._schema.id}
        refused = has_own = False
        derived = self._says(first(layers, self._agents))
        asked = self._asked(layers)
        for name in self._schema.fields:
            found = first(layers, self._sources(name))
            own = derived.get(name) if found is None else found
            value, reason = self._judge(name, asked.get(name) if own is None else own)
            has_own = has_own or (own is not None and value is not None)
            if reason is not None:
                out.drop(name, reason)
                refused = refused or reason == "purpose_refused"
            if value is not None:
                record[name] = value
        fields = self._schema.fields.items()
        if any(listed.required and name not in record for name, listed in fields):
            out.reject("missing_required")
        elif has_own:
            out.admit(record)
        else:
            out.reject("consent_withheld" if refused else "nothing_admitted")

    def _refused(self, layer: _Event) -> set[str]:
        """The purposes that an event, or an element, refuses: all that can be, if what it says is
        neither purposes with yes or no, nor a list of names, or is too long."""
        optional = {name for name, each in self._schema.purposes.items() if each.optional}
        choices = first([layer], self._choices)
        if choices is None:
            return set()
        if self._is_readable(choices):
            if type(choices) is dict:
                flags = {
                    name: member(choices, name) for name in optional if has_member(choices, name)
                }
                if all(type(flag) is bool for flag in flags.values()):
                    return {name for name, flag in flags.items() if not flag}
            elif all(type(name) is str for name in choices):
                return optional & set(choices)
        return optional

    def _is_readable(self, choices: Any) -> bool:
        is_long = self._is_text and len(json.dumps(choices)) > MAX_CHOICES
        return type(choices) in (dict, list, tuple) and not is_long

    def _sources(self, name: str) -> tuple[Source, ...]:
        listed = self._schema.fields[name].sources or ()
        is_conditional = any(not isinstance(source, str) for source in listed)
        return listed if name in listed or is_conditional else (*listed, name)

    def _asked(self, layers: Sequence[_Event]) -> dict[str, str]:
        """What the request says, where the event says nothing: its user agent only if the event
        has none."""
        if self._sender is None:
            return {}
        has_agent = first(layers, self._agents) is not None
        asked = {} if has_agent else self._says(self._sender.get("user_agent"))
        peer = self._sender.get("peer")
        if peer is not None:
            fields = self._schema.fields.items()
            filled = {name for name, listed in fields if listed.source == "peer"}
            asked |= dict.fromkeys(filled - set(self._withheld), peer)
        return asked

    def _says(self, agent: Any) -> dict[str, str]:
        """What a user agent says for the fields that are derived from it."""
        derived = parse_user_agent(agent) if type(agent) is str else {}
        return {
            name: derived[name]
            for name, listed in self._schema.fields.items()
            if listed.derive and name in derived and name not in self._withheld
        }

    def _judge(self, name: str, value: Any) -> tuple[Scalar | None, Drop | None]:
        if value is None:
            return None, None
        if name in self._withheld:
            return None, self._withheld[name]
        if type(value) not in types(self._schema.fields[name]):
            return None, "wrong_type"
        canonical = self._canonical[name](value)
        return canonical, "invalid_value" if canonical is None else None


def types(listed: FieldBase) -> tuple[type, ...]:
    """What a field reads: of numbers, texts too where it says so."""
    of_kind = _TYPES[listed.kind]
    if not isinstance(listed, IntegerField | NumberField):
        return of_kind
    is_text = listed.unit if listed.text is None else listed.text
    return (*of_kind, str) if is_text else of_kind


def _withheld(
    schema: Schema, purposes: Collection[str] | None, today: date
) -> Iterator[tuple[str, Drop]]:
    for name, listed in schema.fields.items():
        if listed.expires is not None and listed.expires <= today:
            yield name, "expired"
        elif purposes is not None and set(purposes).isdisjoint(listed.purposes):
            yield name, "purpose_refused"


def first(layers: Sequence[_Event], sources: Sequence[Source]) -> Any:
    """The first value that is there, in the element before the document around it."""
    found = (
        look(layer, source) if isinstance(source, str) else look_beside(layer, source)
        for layer in layers
        for source in sources
    )
    return next((value for value in found if value is not None), None)


def look_beside(event: Any, source: ConditionalPath) -> Any:
    """The value at a path, nested and then as one key, each only where what is beside it has the
    values that it must have, in the same form."""
    when = source.model_dump(mode="json")["when"]
    steps = _STEPS.findall(source.path)
    holder = event
    for step in steps[:-1]:
        holder = one_step(holder, step)
    value = one_step(holder, steps[-1])
    if value is not None and _hold(holder, when, ""):
        return value
    if _is_exact(steps):
        return None
    base = one_step(event, steps[0]) if steps[0][1] else event
    *above, last = [name for _, _, name in steps if name]
    prefix = "".join(f"{name}." for name in above)
    value = member(base, prefix + last)
    return value if value is not None and _hold(base, when, prefix) else None


def one_step(value: Any, step: tuple[str, str, str]) -> Any:
    """The member or the element that a part of a path names."""
    quoted, index, name = step
    if not index:
        return member(value, quoted or name)
    return value[int(index)] if type(value) in (list, tuple) and int(index) < len(value) else None


def _is_exact(steps: Sequence[tuple[str, str, str]]) -> bool:
    return any(quoted or index for quoted, index, _ in steps[1:]) or bool(steps[0][0])


def _hold(around: Any, when: dict[str, list[Any]], flat: str) -> bool:
    """Whether members have listed values; true is not one, and other types are nothing."""
    for name, listed in when.items():
        value = member(around, flat + name)
        if type(value) not in (str, bool, int, float):
            return False
        if not any(value == one and (type(value) is bool) == (type(one) is bool) for one in listed):
            return False
    return True


_STEPS = re.compile(
    r"""
    (?:^|\.) "([^"]+)"
    | \[([0-9]+)\] (?=\[|\.|$)
    | (?:^|\.) ((?: (?!\[[0-9]+\](?:\[|\.|$)) [^.] )+)
    """,
    re.VERBOSE,
)


def look(event: Any, path: str) -> Any:
    """The value at a dotted path, nested first, then under the path as one key; in a list, only
    what lies in the element that the path names. Not as one key if a name is quoted, or if an
    element follows a name."""
    steps = _STEPS.findall(path)
    value: Any = event
    for step in steps:
        value = one_step(value, step)
    if value is not None or _is_exact(steps):
        return value
    if path.startswith("["):
        index, _, rest = path[1:].partition("].")
        element = look(event, f"[{index}]") if rest else None
        return member(element, rest)
    return member(event, path)


def member(event: Any, key: str) -> Any:
    """The member under a key that is exactly this text; ``None`` if there is none."""
    if type(event) is not dict:
        return None
    return next((value for k, value in event.items() if type(k) is str and k == key), None)


def has_member(event: Any, key: str) -> bool:
    """Whether there is a member under a key that is exactly this text."""
    return any(type(k) is str and k == key for k in event)


def parse(text: bytes, most_levels: int = MOST_LEVELS) -> Any:
    """A JSON text as RFC 8259 has it, and stricter than the standard library reads it.

    Raises ``Refused``: first for what is not UTF-8, then for what is too deep, then for syntax.
    """
    try:
        plain = text.decode()
    except UnicodeDecodeError:
        raise Refused("malformed") from None
    if levels(plain) > most_levels:
        raise Refused("too_deep")
    SIZES.clear()
    try:
        value = json.loads(
            plain, object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_whole
        )
        _no_surrogates(value)
    except ValueError:
        raise Refused("malformed") from None
    return value


def levels(text: str) -> int:
    """How deep the text nests, by its brackets outside strings. An escaped quote is no border of a
    string, also where no string is: such a text is malformed anyway."""
    depth = deepest = 0
    for token in re.findall(r'\\[\\"]|"(?:[^"\\]|\\.)*"?|[\[\]{}]', text, re.DOTALL):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token, 0)
        deepest = max(deepest, depth)
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> _Event:
    """Of equal keys the last one counts, but all of them have to be well formed."""
    for key, value in pairs:
        _no_surrogates(key)
        _no_surrogates(value)
    event = dict(pairs)
    SIZES[id(event)] = len(pairs)
    return event


def _no_surrogates(value: Any) -> None:
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, list):
        for item in value:
            _no_surrogates(item)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _whole(digits: str) -> int:
    """A whole number; one of more digits than ``int`` reads is only known to be too large."""
    return int(digits) if len(digits) <= 4300 else 10**4299 * (-1 if digits[0] == "-" else 1)
