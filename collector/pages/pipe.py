"""The picture of the pipe: an invented event goes through the real filter. Each line of the event
says what happened to it, and by which rule.

The event is a synthetic meeting, with examples added for missing fields. The filter explains the
outcome; nothing here decides what is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from typing import Any, Literal

import orjson

from collector import synthetic
from collector.filter import Filter
from collector.filter.explain import Explanation, explain
from collector.schema.kinds import FieldBase
from collector.schema.model import Schema
from collector.schema.scalars import beside, condition_of, keys, levels, path_of

Outcome = Literal["open", "close", "kept", "refused", "unread", "compared", "unlisted", "content"]
"""``open`` and ``close`` are brackets. ``unread`` is a listed member that was not needed because
another path came first; ``compared`` is part of a condition; ``content`` is skipped and counted by
its category."""

_Keys = tuple[str | int, ...]
_MOST = 44
"""The most characters of a value that are shown."""
_ORDER = ("client", "device", "os", "network", "participant", "meeting")
_AGENT = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4_1 like Mac OS X) AppleWebKit/605.1.15"
    " (KHTML, like Gecko) Version/17.4.1 Mobile/15E148 Safari/604.1"
)


@dataclass(frozen=True)
class PipeLine:
    """A line of the event: its depth, name and value, and what the filter made of it. ``fields``
    are the fields that read it, ``detail`` is the category of content, or why the value was
    refused. ``size`` is the size of its value in the event, in bytes; the value of content is not
    shown."""

    depth: int
    name: str
    value: str
    outcome: Outcome
    fields: tuple[str, ...] = ()
    detail: str = ""
    size: int = 0


@dataclass(frozen=True)
class Pipe:
    """An event and its record: lines in, values out by field, and the size of both in bytes."""

    lines: tuple[PipeLine, ...]
    record: tuple[tuple[str, str], ...]
    bytes_in: int
    bytes_out: int


def pipe(schema: Schema, now: datetime) -> Pipe:
    """Send an example through the filter of a schema, as of the day of ``now``."""
    today = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    # The key needs no secrecy: the pseudonym of an example belongs to nobody.
    chosen = Filter(schema, as_of=today.date(), keys=lambda _reference, _period: bytes(32))
    event, inside = _event(schema)
    record = _at(event, inside)
    for name, each in schema.fields.items():
        _supply(record, name, each, today)
    found = _explained(chosen, event)
    for name, outcome in found.fields.items():
        if outcome.outcome != "kept":  # the record has something else there
            _supply(record, name, schema.fields[name], today, replaces=True)
    found, body = _explained(chosen, event), orjson.dumps(event)
    values = {name: value for name, value in (found.record or {}).items() if name in schema.fields}
    return Pipe(
        tuple(_Reading(schema, found, inside).lines(event)),
        tuple((name, plain_text(value)) for name, value in values.items()),
        len(body),
        len(chosen.admit(body).encode()),
    )


def _explained(chosen: Filter, event: Mapping[str, Any]) -> Explanation:
    every = explain(chosen.router, orjson.dumps(event), lines=False)
    return next(every, Explanation("malformed"))


# -- the event -------------------------------------------------------------------------------------


def _event(schema: Schema) -> tuple[dict[str, Any], _Keys]:
    """Make a meeting event, and return where in it the schema looks for a record."""
    made = next(each for each in synthetic.events(200) if each["os"]["name"] == "iOS")
    made["meeting"] = {"id": made["meeting"]["id"], "topic": "Figures of the third quarter"}
    made["participant"] = {"name": "Ana Lia", "email": "ana@example.org"}
    made["device"] |= {"type": "iPhone", "serial": "F2LX93QP", "microphone": "Ana's headset"}
    event: dict[str, Any] = {name: made.pop(name) for name in _ORDER} | made
    ways = schema.ways
    inside = () if "." in ways or not ways else _first(ways[0])
    if inside:
        content = {name: event.pop(name) for name in [*event] if name in schema.content_names}
        record, event = event, {}
        _put(event, inside, record)
        event |= content
    for member, listed in _selection(schema):
        _put(_at(event, inside), (member,), listed.written()[0])
    if agent := schema.user_agent_paths:
        _put(event, keys(agent[0]), _AGENT)
    return event, inside


def _selection(schema: Schema) -> Any:
    """Return the condition that the event's records meet."""
    ways = schema.records or ()
    chosen = [way for way in ways if path_of(way) == "."] or ways
    return condition_of(chosen[0]) if chosen else ()


def _first(way: str) -> _Keys:
    """Return the path of the first record on a way to records."""
    found: _Keys = ()
    for level in () if way == "*" else levels(way):
        found += (*keys(level.removesuffix(".*")), "1" if level.endswith(".*") else 0)
    return found or ("1",)


def _supply(
    record: dict[str, Any], name: str, each: FieldBase, today: datetime, *, replaces: bool = False
) -> None:
    """Add an example of a field at its first path, unless the record has a value for it, or even
    if it has one."""
    if each.derive or each.source:
        return
    first, *others = each.places(name)
    plain = [keys(path_of(place)) for place in (first, *others) if not condition_of(place)]
    if not replaces and any(_has(record, path) for path in plain):
        return
    _put(record, keys(path_of(first)), each.example(today))
    for member, listed in condition_of(first):
        _put(record, keys(beside(path_of(first), member)), listed.written()[0])


def _at(tree: Any, path: _Keys) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _has(tree: Any, path: _Keys) -> bool:
    for key in path:
        if not (isinstance(tree, dict) and key in tree):
            return False
        tree = tree[key]
    return not isinstance(tree, dict | list)


def _put(tree: Any, path: _Keys, value: Any) -> None:
    """Put a value at a path; make objects and lists as needed."""
    for key, after in zip(path, (*path[1:], None), strict=True):
        part: Any = value if after is None else ([] if isinstance(after, int) else {})
        if isinstance(tree, list):
            tree.extend({} for _ in range(int(key) + 1 - len(tree)))
            held: Any = tree[int(key)]
        else:
            held = tree.get(key)
        if after is not None and isinstance(held, type(part)):
            part = held
        tree[key] = part
        tree = part


# -- what became of it -----------------------------------------------------------------------------


@dataclass
class _Reading:
    """Looks up what the explanation says about the path of each member of an event."""

    schema: Schema
    found: Explanation
    inside: _Keys
    read: dict[_Keys, list[str]] = field(default_factory=dict)
    listed: dict[_Keys, list[str]] = field(default_factory=dict)
    compared: set[_Keys] = field(default_factory=set)

    def __post_init__(self) -> None:
        for name, outcome in self.found.fields.items():
            each = self.schema.fields[name]
            if outcome.source == "(the user agent)":
                self.read.setdefault(keys(self.schema.user_agent_paths[0]), []).append(name)
            elif outcome.source is not None and not outcome.source.startswith("("):
                self.read.setdefault((*self.inside, *keys(outcome.source)), []).append(name)
            for place in each.places(name):
                path = path_of(place)
                self.listed.setdefault((*self.inside, *keys(path)), []).append(name)
                for member, _ in condition_of(place):
                    self.compared.add((*self.inside, *keys(beside(path, member))))
        self.compared |= {(*self.inside, member) for member, _ in _selection(self.schema)}
        known = (*self.read, *self.listed, *self.compared)
        self.above = {path[:n] for path in known for n in range(len(path))}

    def lines(self, tree: Any, at: _Keys = ()) -> Iterator[PipeLine]:
        """Yield the lines of an object or a list. Members that a field reads are expanded; each
        other member is one line."""
        is_list = isinstance(tree, list)
        for key, value in enumerate(tree) if is_list else tree.items():
            path, name, depth = (*at, key), "" if is_list else str(key), len(at)
            if path in self.above and isinstance(value, dict | list):
                ends = "[]" if isinstance(value, list) else "{}"
                yield PipeLine(depth, name, ends[0], "open")
                yield from self.lines(value, path)
                yield PipeLine(depth, "", ends[1], "close")
            else:
                outcome = self._outcome(path, key)
                shown = "" if outcome[0] == "content" else _shown(value)
                yield PipeLine(depth, name, shown, *outcome, len(orjson.dumps(value)))

    def _outcome(self, path: _Keys, key: str | int) -> tuple[Outcome, tuple[str, ...], str]:
        names = tuple(self.read.get(path, ()))
        outcomes = {name: self.found.fields[name].outcome for name in names}
        kept = tuple(name for name, outcome in outcomes.items() if outcome == "kept")
        if kept:
            return "kept", kept, ""
        if names:
            return "refused", names, str(outcomes[names[0]])
        category = self.schema.content_names.get(str(key))
        if category in (self.found.content or ()) and path[:-1] in ((), self.inside):
            return "content", (), str(category)
        if path in self.compared:
            return "compared", (), ""
        if path in self.listed:
            return "unread", tuple(self.listed[path]), ""
        return "unlisted", (), ""


def plain_text(value: Any) -> str:
    """Write a value without quotes, cut to a readable length."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= _MOST else f"{text[: _MOST - 1]}…"


def _shown(value: Any) -> str:
    """Write a value as JSON on one line."""
    return plain_text(orjson.dumps(value).decode())
