"""What a change of the configuration does to the flows: which it adds, widens, narrows, removes.

``RULES`` is the one table of it. As with schemas, what is in doubt is widening.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from collector.config.sinks import PARTIES
from collector.proof.flows import Flows
from collector.schema.diff import compare
from collector.schema.verdict import Verdict

__all__ = ["RULES", "Change", "changes"]

RULES: Mapping[str, Verdict] = {
    # the schema
    "schema widened": "widening",
    "schema changed": "neutral",
    # a sink
    "further away": "widening",
    "nearer": "narrowing",
    "another recipient": "widening",
    "another country": "widening",
    "no longer limited": "widening",
    "limited": "narrowing",
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
        """The change as plain data."""
        return {"verdict": self.verdict, **self._asdict()}


def changes(old: Flows, new: Flows) -> list[Change]:
    """Every change from the old flows to the new ones: schema, sinks, fields.

    If none of them is widening, no sink receives anything that it did not receive before, nor for
    anything else, nor does anybody else.
    """
    found = list(_schema(old, new))
    for name in dict.fromkeys([*old.sinks, *new.sinks]):
        if name in old.sinks and name in new.sinks:
            found += _sink(old, new, name)
        found += _fields(old, new, name)
    return found


def _schema(old: Flows, new: Flows) -> Iterator[Change]:
    if old.schema.digest != new.schema.digest:
        widens = compare(old.schema, new.schema).widening
        what = "schema widened" if widens else "schema changed"
        yield Change(what, old=old.schema.id, new=new.schema.id)


def _sink(old: Flows, new: Flows, name: str) -> Iterator[Change]:
    before, after = old.sinks[name], new.sinks[name]
    if before.party != after.party:
        is_further = PARTIES.index(after.party) > PARTIES.index(before.party)
        what = "further away" if is_further else "nearer"
        yield Change(what, sink=name, old=before.party, new=after.party)
    for key in ("recipient", "country"):
        words = getattr(before, key), getattr(after, key)
        if words[0] != words[1]:
            yield Change(f"another {key}", "", name, *words)
    limits = before.purposes, after.purposes
    if limits[0] is None and limits[1] is not None:
        yield Change("limited", sink=name, new=list(limits[1]))
    elif limits[0] is not None and limits[1] is None:
        yield Change("no longer limited", sink=name, old=list(limits[0]))
    places = str(old.places[name]), str(new.places[name])
    if places[0] != places[1]:
        yield Change("another place", "", name, *places)


def _fields(old: Flows, new: Flows, sink: str) -> Iterator[Change]:
    before, after = _reasons(old, sink), _reasons(new, sink)
    for field in dict.fromkeys([*before, *after]):
        was, is_now = before.get(field, []), after.get(field, [])
        gone = [reason for reason in was if reason not in is_now]
        added = [reason for reason in is_now if reason not in was]
        if added:
            yield Change("used for more" if was else "flow added", field, sink, new=added)
        if gone:
            yield Change("used for less" if is_now else "flow removed", field, sink, old=gone)


def _reasons(of: Flows, sink: str) -> dict[str, list[str]]:
    """The purposes of each field there; one that has got another use is another."""
    uses = {name: f"{name} ({purpose.use})" for name, purpose in of.schema.purposes.items()}
    return {field: [uses[name] for name in names] for field, names in of.to(sink).items()}
