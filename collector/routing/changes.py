"""How a change of the configuration affects the flows: which it adds, widens, narrows, removes.

``RULES`` is the only table of verdicts. As with schemas, doubtful changes are widening.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import orjson

from collector.config.sink_settings import PARTIES
from collector.routing import Flows
from collector.schema import Schema
from collector.schema.diff import Comparison, compare
from collector.schema.stored_document import load_plain, load_stored
from collector.schema.verdict import Verdict, differing

_Plain = Mapping[str, Any]
_Pair = tuple[str, _Plain | None, _Plain | None]
"""The name of a schema (empty if there is only one), and its matrices before and after."""
_Reasons = dict[str, list[str]]
_ORDER: tuple[Verdict, ...] = ("widening", "narrowing")

RULES: Mapping[str, Verdict] = {
    # the schemas
    "schema widened": "widening",
    "schema changed": "neutral",
    "schema added": "widening",
    "schema removed": "narrowing",
    "another default": "widening",
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
"""All possible changes, with their verdicts."""


class Change(NamedTuple):
    """A change of a sink, or of a field that reaches it; of the schema if both are empty.

    ``what`` is a key of ``RULES``. ``old`` and ``new`` are words of the configuration, or the
    purposes with their uses that only one side has. ``schema`` names the schema if there are
    several.
    """

    what: str
    field: str = ""
    sink: str = ""
    old: Any = None
    new: Any = None
    schema: str = ""

    @property
    def verdict(self) -> Verdict:
        """Widening, narrowing or neutral."""
        return RULES[self.what]

    def as_dict(self) -> dict[str, Any]:
        """Return the change as plain data."""
        plain = self._asdict()
        if not self.schema:
            del plain["schema"]
        return {"verdict": self.verdict, **plain}


def changes(old: Flows, new: Flows) -> list[Change]:
    """Return every change from the old flows to the new ones: schema, sinks, fields.

    If none of them is widening, no sink or recipient receives new data, or data for a new purpose.
    """
    return all_changes([old], [new])


def all_changes(old: Sequence[Flows], new: Sequence[Flows]) -> list[Change]:
    """Do the same for the flows of several schemas. If one schema replaces one other, they are
    compared whatever their names."""
    plain = [[each.as_dict() for each in matrices] for matrices in (old, new)]
    before, after = ({each.schema.id: each.schema for each in matrices} for matrices in (old, new))
    pairs = _pairs(*plain)
    compared = [
        change
        for label, was, is_now in pairs
        if was and is_now
        for change in _schema(before[was["schema"]], after[is_now["schema"]], label)
    ]
    return [*compared, *_rerouted(*plain)]


def document(*matrices: Flows) -> bytes:
    """Write the flows of schemas as a text for a later ``since``. Equal flows give equal texts."""
    plain = [each.as_dict() for each in matrices]
    return orjson.dumps(plain[0] if len(plain) == 1 else plain, option=orjson.OPT_SORT_KEYS)


def since(before: bytes, *matrices: Flows) -> list[Change] | None:
    """Return every change from the flows in a document; versions of schemas are not compared.
    ``None`` for an invalid document."""
    with suppress(LookupError, TypeError, AttributeError, ValueError):
        return list(_rerouted(_read(before), [each.as_dict() for each in matrices]))
    return None


def reached(before: bytes) -> dict[str, dict[str, set[str]]]:
    """Return the fields that reached each sink by the flows in a document, by the names of their
    schemas; empty for an invalid document."""
    found: dict[str, dict[str, set[str]]] = {}
    with suppress(LookupError, TypeError, AttributeError, ValueError):
        for each in _read(before):
            for flow in each["flows"]:
                fields = found.setdefault(flow["sink"], {}).setdefault(_name(each), set())
                fields.add(flow["field"])
    return found


def _read(document: bytes) -> list[_Plain]:
    found = load_plain(document)
    return found if isinstance(found, list) else [found]


def _name(plain: _Plain) -> str:
    name: str = plain["schema"].partition("/")[0]
    return name


def _pairs(old: Sequence[_Plain], new: Sequence[_Plain]) -> list[_Pair]:
    """Pair the matrices of each schema, with its name if there are several."""
    if len(old) == len(new) == 1:
        return [("", old[0], new[0])]
    before, after = ({_name(each): each for each in matrices} for matrices in (old, new))
    names = dict.fromkeys([*before, *after])
    return [(name, before.get(name), after.get(name)) for name in names]


def verdict(found: Sequence[Change] | None) -> Verdict | Literal["unknown"]:
    """Judge all changes together: a single widening one decides. ``unknown`` for ``None``."""
    if found is None:
        return "unknown"
    verdicts = {change.verdict for change in found}
    return next((one for one in _ORDER if one in verdicts), "neutral")


def reasons(found: Iterable[Change] | None) -> list[str]:
    """Say what widens, at which sink, and for which fields, without old or new values."""
    fields: dict[str, list[str]] = {}
    for change in found or ():
        if change.verdict == "widening":
            place = ": ".join(filter(None, (change.schema, change.sink, change.what)))
            fields.setdefault(place, []).append(change.field)
    return [f"{what} {', '.join(names)}".strip() for what, names in fields.items()]


def compared(old: bytes | None, new: bytes) -> Comparison | None:
    """Compare documents of the ledger; ``None`` if one is no longer a valid schema."""
    before, after = load_stored(old or b""), load_stored(new)
    return None if before is None or after is None else compare(before, after)


def strongest(found: Comparison | None) -> str:
    """Return the strongest verdict of all changes."""
    verdicts = set() if found is None else {change.verdict for change in found.changes}
    order = ("widening", "narrowing", "neutral")
    return "unknown" if found is None else next((v for v in order if v in verdicts), "neutral")


def widening_reasons(found: Comparison) -> list[str]:
    """List the schema's reasons for widening changes, each with its place."""
    widening = (change for change in found.changes if change.verdict == "widening")
    return list(dict.fromkeys(f"{c.part}: {c.reason}" for c in widening if c.reason))


def _schema(old: Schema, new: Schema, label: str) -> Iterator[Change]:
    if old.digest != new.digest:
        what = "schema widened" if compare(old, new).widening else "schema changed"
        yield Change(what, old=old.id, new=new.id, schema=label)


def _rerouted(old: Sequence[_Plain], new: Sequence[_Plain]) -> Iterator[Change]:
    """Yield the changes between matrices as plain data. All matrices of one configuration have the
    same sinks. Raises ``LookupError`` if there are no matrices."""
    pairs = _pairs(old, new)
    yield from _exchanged(pairs, old[0], new[0])
    before, after = old[0]["sinks"], new[0]["sinks"]
    for name in dict.fromkeys([*before, *after]):
        if name not in before:
            yield Change("sink added", sink=name, new=_owner(after[name]))
        elif name not in after:
            yield Change("sink removed", sink=name, old=_owner(before[name]))
        else:
            yield from _sink(name, before[name], after[name])
        for label, was, is_now in pairs:
            for change in _fields(name, _reasons(was, name), _reasons(is_now, name)):
                yield change._replace(schema=label)


def _exchanged(
    pairs: Sequence[_Pair], old_default: _Plain, new_default: _Plain
) -> Iterator[Change]:
    """Yield the schemas that were added or removed, and another default, which changes the schema
    of requests that name none."""
    if pairs[0][0] and _name(old_default) != _name(new_default):
        yield Change("another default", old=old_default["schema"], new=new_default["schema"])
    for label, old, new in pairs:
        if old is None and new is not None:
            yield Change("schema added", new=new["schema"], schema=label)
        elif new is None and old is not None:
            yield Change("schema removed", old=old["schema"], schema=label)


def _owner(sink: _Plain) -> list[str]:
    """Return the stated party, recipient and country of a sink."""
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


def _reasons(of: _Plain | None, sink: str) -> _Reasons:
    """Return the purposes of each field at a sink, with their uses: a purpose with another use
    counts as another purpose."""
    if of is None:
        return {}
    return {
        flow["field"]: [f"{name} ({use})" for name, use in flow["purposes"].items()]
        for flow in of["flows"]
        if flow["sink"] == sink
    }
