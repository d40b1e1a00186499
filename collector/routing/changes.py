"""What a change of the configuration does to the flows: which it adds, widens, narrows, removes.

``RULES`` is the one table of it. As with schemas, what is in doubt is widening.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import orjson

from collector.config.model import PARTIES
from collector.routing import Flows
from collector.schema import Schema
from collector.schema.diff import compare, differing
from collector.schema.source import Source
from collector.schema.verdict import Verdict
from collector.schema.yaml_text import text_source

__all__ = [
    "RULES",
    "Change",
    "changes",
    "document",
    "reached",
    "reasons",
    "since",
    "verdict",
]

_Plain = Mapping[str, Any]
_Reasons = dict[str, list[str]]
_ORDER: tuple[Verdict, ...] = ("widening", "narrowing")

RULES: Mapping[str, Verdict] = {
    # the schema
    "schema widened": "widening",
    "schema changed": "neutral",
    # a sink
    "sink added": "widening",
    "sink removed": "narrowing",
    "further away": "widening",
    "nearer": "narrowing",
    "another recipient": "widening",
    "no recipient": "narrowing",
    "another country": "widening",
    "another safeguard": "widening",
    "safeguarded": "narrowing",
    "no longer limited": "widening",
    "limited": "narrowing",
    "other purposes": "neutral",
    "another place": "neutral",
    # a field at a sink
    "flow added": "widening",
    "flow removed": "narrowing",
    "used for more": "widening",
    "used for less": "narrowing",
}
"""Every change there is, with its verdict."""


class Change(NamedTuple):
    """A change of a sink, or of a field that reaches it; of the schema, where both are empty.

    ``what`` is a key of ``RULES``. ``old`` and ``new`` are words of the configuration, or purposes
    with their uses; of purposes, those that are only in the one or the other.
    """

    what: str
    field: str = ""
    sink: str = ""
    old: Any = None
    new: Any = None

    @property
    def verdict(self) -> Verdict:
        """Widening, narrowing or neutral."""
        return RULES[self.what]

    def as_dict(self) -> dict[str, Any]:
        """Return the change as plain data."""
        return {"verdict": self.verdict, **self._asdict()}


def changes(old: Flows, new: Flows) -> list[Change]:
    """Return every change from the old flows to the new ones: schema, sinks, fields.

    If none of them is widening, no sink receives anything that it did not receive before, nor for
    anything else, nor does another recipient.
    """
    return [*_schema(old.schema, new.schema), *_rerouted(old.as_dict(), new.as_dict())]


def document(flows: Flows) -> bytes:
    """Write the flows as a text that is the same for the same flows; for ``since``, later."""
    return orjson.dumps(flows.as_dict(), option=orjson.OPT_SORT_KEYS)


def since(before: bytes, flows: Flows) -> list[Change] | None:
    """Return every change from the flows of a document; the schemas are not compared.
    ``None`` for what is no document."""
    with suppress(UnicodeDecodeError, LookupError, TypeError, AttributeError, ValueError):
        old = text_source(before.decode(), Source("")).value  # JSON is YAML 1.2
        return list(_rerouted(old, flows.as_dict()))
    return None


def reached(before: bytes) -> dict[str, set[str]]:
    """Return the fields that reached each sink by the flows of a document, if it is one."""
    found: dict[str, set[str]] = {}
    with suppress(UnicodeDecodeError, LookupError, TypeError, AttributeError, ValueError):
        for flow in text_source(before.decode(), Source("")).value["flows"]:
            found.setdefault(flow["sink"], set()).add(flow["field"])
    return found


def verdict(found: Sequence[Change] | None) -> Verdict | Literal["unknown"]:
    """Judge all changes together: one that widens is enough. ``unknown`` for ``None``."""
    if found is None:
        return "unknown"
    verdicts = {change.verdict for change in found}
    return next((one for one in _ORDER if one in verdicts), "neutral")


def reasons(found: Iterable[Change] | None) -> list[str]:
    """Say what widens, at which sink, and of which fields; nothing of old or new values."""
    fields: dict[str, list[str]] = {}
    for change in found or ():
        if change.verdict == "widening":
            fields.setdefault(f"{change.sink}: {change.what}", []).append(change.field)
    return [f"{what} {', '.join(names)}".strip() for what, names in fields.items()]


def _schema(old: Schema, new: Schema) -> Iterator[Change]:
    if old.digest != new.digest:
        what = "schema widened" if compare(old, new).widening else "schema changed"
        yield Change(what, old=old.id, new=new.id)


def _rerouted(old: _Plain, new: _Plain) -> Iterator[Change]:
    """Yield the changes between two matrices as plain data."""
    before, after = old["sinks"], new["sinks"]
    for name in dict.fromkeys([*before, *after]):
        if name not in before:
            yield Change("sink added", sink=name, new=_owner(after[name]))
        elif name not in after:
            yield Change("sink removed", sink=name, old=_owner(before[name]))
        else:
            yield from _sink(name, before[name], after[name])
        yield from _fields(name, _reasons(old, name), _reasons(new, name))


def _owner(sink: _Plain) -> list[str]:
    """Return the party, the recipient and the country of a sink, as far as they are stated."""
    return [sink[key] for key in ("party", "recipient", "country") if sink[key] is not None]


def _sink(name: str, old: _Plain, new: _Plain) -> Iterator[Change]:
    if old["party"] != new["party"]:
        is_further = PARTIES.index(new["party"]) > PARTIES.index(old["party"])
        what = "further away" if is_further else "nearer"
        yield Change(what, "", name, old["party"], new["party"])
    if old["limited"] != new["limited"]:
        what = "limited" if new["limited"] else "no longer limited"
        yield Change(what, "", name, old["purposes"], new["purposes"])
    elif new["limited"] and (others := differing(old["purposes"], new["purposes"])) != ([], []):
        yield Change("other purposes", "", name, *others)
    for key in ("recipient", "safeguard", "country", "place"):
        was, is_now = old[key], new[key]
        what = f"another {key}"
        if key == "recipient" and is_now is None:
            what = "no recipient"
        elif key == "safeguard" and was is None:
            what = "safeguarded"
        if was != is_now:
            yield Change(what, "", name, was, is_now)


def _fields(sink: str, old: _Reasons, new: _Reasons) -> Iterator[Change]:
    for field in dict.fromkeys([*old, *new]):
        was, is_now = old.get(field, []), new.get(field, [])
        gone, added = differing(was, is_now)
        if added:
            yield Change("used for more" if was else "flow added", field, sink, new=added)
        if gone:
            yield Change("used for less" if is_now else "flow removed", field, sink, old=gone)


def _reasons(of: _Plain, sink: str) -> _Reasons:
    """Return the purposes of each field there; one that has got another use is another."""
    return {
        flow["field"]: [f"{name} ({use})" for name, use in flow["purposes"].items()]
        for flow in of["flows"]
        if flow["sink"] == sink
    }
