"""Compare two schema documents: every change, its verdict, and whether it may ship."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, NamedTuple

import orjson

from collector.schema.kinds import FieldBase
from collector.schema.model import Purpose, Schema, Trial
from collector.schema.scalars import RecordsPath, Source, condition_of, path_of, written_source
from collector.schema.verdict import RULES, Shift, Verdict, differing, ordered_shifts


class SchemaChange(NamedTuple):
    """A change of a part of the documents, or of one option of it; the part is empty for the head.

    ``what`` is a key of ``verdict.RULES``. ``old`` and ``new`` are words of the documents, ``None``
    if there are none. For lists without an order, they are the items that only one side has.
    ``reason`` is the document's own, for a field or a purpose.
    """

    part: str
    option: str
    what: str
    old: Any = None
    new: Any = None
    reason: str | None = None

    @property
    def at(self) -> str:
        """Return its place in the documents."""
        return ".".join(filter(None, (self.part, self.option)))

    @property
    def verdict(self) -> Verdict:
        """Look up the verdict in ``RULES``."""
        return RULES[self.what]


def changes(
    part: str,
    shifts: Iterable[Shift],
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    reason: str | None = None,
) -> Iterator[SchemaChange]:
    """Turn the shifts of a part into changes. ``old`` and ``new`` are the part as the documents
    write it.

    A difference without a shift is widening, because no kind has judged it.
    """
    spoken = set()
    for shift in shifts:
        option, what = shift.option, shift.what
        spoken.add(option.partition(".")[0])
        words = shift.gone, shift.added
        if words == (None, None):
            words = _word(old, option), _word(new, option)
        yield SchemaChange(part, option, what, words[0], words[1], reason)
    for option in dict.fromkeys([*old, *new]):
        if option not in spoken and old.get(option) != new.get(option):
            yield SchemaChange(
                part, option, "not understood", old.get(option), new.get(option), reason
            )


def _word(written: Any, option: str) -> Any:
    for key in option.split("."):
        written = written.get(key) if isinstance(written, Mapping) else None
    return written


def reordered(option: str, old: Iterable[str], new: Iterable[str]) -> Iterator[Shift]:
    """Yield the shift of a part whose common members are in another order."""
    before, after = list(old), list(new)
    both = set(before) & set(after)
    orders = [[name for name in names if name in both] for names in (before, after)]
    if orders[0] != orders[1]:
        yield Shift(option, "written differently", *orders)


def fields(old: Schema, new: Schema) -> Iterator[SchemaChange]:
    """Yield the changes of the new document's fields in its order, then the removed fields."""
    merged = old.records is not None or new.records is not None
    for name, field in new.fields.items():
        part = f"fields.{name}"
        if name in old.fields:
            before = old.fields[name]
            shifts = [*_own(before, field), *_common(name, before, field, merged)]
            alike = type(before) is type(field)
            written = _written(before, alike), _written(field, alike)
            yield from changes(part, shifts, *written, field.reason)
        else:
            yield SchemaChange(part, "", "field added", None, field.kind, field.reason)
    for name, field in old.fields.items():
        if name not in new.fields:
            what = "required field removed" if field.required else "field removed"
            yield SchemaChange(f"fields.{name}", "", what, field.kind, None, field.reason)


def _written(field: FieldBase, alike: bool) -> dict[str, Any]:
    """Return its options; between different kinds, only those that every kind has."""
    only = None if alike else set(FieldBase.model_fields)
    return field.model_dump(mode="json", by_alias=True, include=only)


def _own(old: FieldBase, new: FieldBase) -> Iterator[Shift]:
    if type(old) is type(new):
        yield from old.shifts(new)
    else:
        yield Shift("kind", "another kind")


def _common(name: str, old: FieldBase, new: FieldBase, merged: bool) -> Iterator[Shift]:
    if old.sources != new.sources:
        places = old.places(name), new.places(name)
        is_shadowed = merged or new.derive is not None or new.source is not None
        what = _reading(*places, shadowed=is_shadowed)
        yield Shift("from", what, *(list(map(written_source, each)) for each in places))
    gone, added = differing(old.purposes, new.purposes)
    if gone or added:
        yield Shift("purposes", "used for more" if added else "used for less", gone, added)
    elif old.purposes != new.purposes:
        yield Shift("purposes", "written differently")
    yield from ordered_shifts(
        "retention", old.retention, new.retention, "kept longer", "kept shorter"
    )
    if old.expires != new.expires:
        longer = (new.expires or date.max) >= (old.expires or date.max)
        yield Shift("expires", "collected longer" if longer else "collected shorter")
    yield from _plain(_FIELD, old, new)


_Whats = Mapping[str, str | tuple[str, str]]
_FIELD: _Whats = {
    "category": "another category",
    "required": ("no longer required", "required"),
    "derive": ("no longer derived", "derived"),
    "source": ("no longer filled", "filled from the peer"),
    "also": "another sentence",
    "reason": "reworded",
}
_PURPOSE: _Whats = {
    "use": "another use",
    "basis": "another legal basis",
    "optional": ("cannot be refused", "can be refused"),
    "reason": "reworded",
}
_HEAD: _Whats = {
    "schema": "another schema",
    "version": "another version",
    "title": "reworded",
    "owner": "reworded",
}
"""The name of each option's change; for a switch, one name for off and one for on."""


def _plain(whats: _Whats, old: Any, new: Any) -> Iterator[Shift]:
    for option, what in whats.items():
        name = "name" if option == "schema" else option
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield Shift(option, what if isinstance(what, str) else what[bool(after)])


def _reading(old: tuple[Source, ...], new: tuple[Source, ...], *, shadowed: bool) -> str:
    """Judge a changed list of sources. The first path with a value decides, valid or not. So only
    the last path can be removed without letting another value through; and not even that if
    something else is tried after it (``shadowed``): the document around a list of records, the user
    agent, or the peer."""
    if old == new:
        return "written differently"
    if len(new) == len(old) and all(map(_is_narrower, old, new)):
        return "only under a condition"
    if not set(new) <= set(old):
        return "source added"
    if set(new) == set(old):
        return "sources in another order"
    last = old[: len(new)] == new
    return "source removed" if last and not shadowed else "deciding source removed"


def _is_narrower(old: Source | RecordsPath, new: Source | RecordsPath) -> bool:
    """Return whether a source has the path of an older one, and the same or stricter conditions."""
    conditions = dict(condition_of(new))
    return path_of(new) == path_of(old) and all(
        name in conditions
        and conditions[name].texts <= listed.texts
        and conditions[name].numbers <= listed.numbers
        and conditions[name].flags <= listed.flags
        for name, listed in condition_of(old)
    )


def changed_tests(old: Schema, new: Schema) -> Iterator[SchemaChange]:
    """Yield the changes of the tests, only by name: events are never shown."""
    before, after = ({test.name: test for test in schema.tests} for schema in (old, new))
    added = [name for name in after if name not in before]
    for name, test in before.items():
        if name in after:
            yield from _changed(test, after[name], new)
            continue
        same = next((other for other in added if _same(test, after[other])), None)
        if same is None:
            yield SchemaChange("tests", "", "test removed", name)
        else:
            added.remove(same)
            yield SchemaChange("tests", "", "test renamed", name, same)
    for name in added:
        yield SchemaChange("tests", "", "test added", None, name)


def _changed(old: Trial, new: Trial, schema: Schema) -> Iterator[SchemaChange]:
    if _same(old, new):
        return
    stronger = (
        _text(old.event) == _text(new.event)
        and _keeps_no_more(old.keeps, new.keeps, schema)
        and all(any(less in text for less in new.never_contains) for text in old.never_contains)
    )
    what = "test strengthened" if stronger else "test weakened"
    yield SchemaChange("tests", "", what, old.name, new.name)


def _same(old: Trial, new: Trial) -> bool:
    return (
        _text(old.event) == _text(new.event)
        and _text(old.keeps) == _text(new.keeps)
        and set(old.never_contains) == set(new.never_contains)
    )


def _text(value: Any) -> bytes:
    """Write JSON, so that 1, 1.0 and true differ."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _keeps_no_more(old: Any, new: Any, schema: Schema) -> bool:
    """Return whether a new ``keeps`` allows nothing that the old one forbids: the same records or
    fewer, in order, with the same values or fewer, each unchanged or made coarser by the new
    fields."""
    if old is None:
        return True
    if new is None:
        return False
    before, after = (
        [record for record in (keeps if isinstance(keeps, list) else [keeps]) if record]
        for keeps in (old, new)
    )
    if not after:
        return True
    earlier = iter(before)
    return all(any(_is_less(each, less, schema) for each in earlier) for less in after)


def _is_less(old: Mapping[str, Any], new: Mapping[str, Any], schema: Schema) -> bool:
    """Return whether a record has only values of an older one, or coarser ones."""
    return all(
        name in old and _coarsened(schema.fields[name], old[name], value)
        for name, value in new.items()
    )


def _coarsened(field: FieldBase, old: Any, new: Any) -> bool:
    if _text(old) == _text(new):
        return True
    made = field.coarsened(old)
    return made is not None and _text(made) == _text(new)


_BY_PARTS = frozenset({"purposes", "fields", "tests"})


@dataclass(frozen=True)
class Comparison:
    """The differences of ``new``. ``changes`` are in the order of the document."""

    old: Schema
    new: Schema
    changes: tuple[SchemaChange, ...]

    @property
    def widening(self) -> bool:
        """Whether some event may yield more under the new schema, or is guarded less."""
        return any(change.verdict == "widening" for change in self.changes)

    @property
    def newer(self) -> bool:
        """Whether the version is higher."""
        return _version(self.new) > _version(self.old)

    @property
    def allowed(self) -> bool:
        """Whether the new schema may ship: a widening change needs a higher version."""
        return self.newer or not self.widening

    @cached_property
    def unexplained(self) -> tuple[str, ...]:
        """List existing fields and purposes that widen but have the same reason as before."""
        before, after = _reasons(self.old), _reasons(self.new)
        widened = dict.fromkeys(c.part for c in self.changes if c.verdict == "widening")
        return tuple(part for part in widened if part in before and before[part] == after.get(part))


def compare(old: Schema, new: Schema) -> Comparison:
    """Find every change from the old schema to the new one.

    If none of them is widening, no event yields a record, a field or a finer value under the new
    schema that it does not yield under the old one. If a value now counts only under a condition,
    compare with the event without the values whose conditions fail.
    """
    found = [*_head(old, new), *_purposes(old.purposes, new.purposes)]
    return Comparison(old, new, (*found, *fields(old, new), *changed_tests(old, new)))


def _reasons(schema: Schema) -> dict[str, list[str]]:
    """Return the words of the reasons, without their layout."""
    purposes, fields = schema.purposes.items(), schema.fields.items()
    return {f"purposes.{name}": purpose.reason.split() for name, purpose in purposes} | {
        f"fields.{name}": field.reason.split() for name, field in fields
    }


def _version(schema: Schema) -> tuple[int, ...]:
    return tuple(map(int, schema.version.split(".")))


def _head(old: Schema, new: Schema) -> Iterator[SchemaChange]:
    before, after = (
        schema.model_dump(mode="json", by_alias=True, exclude=set(_BY_PARTS))
        for schema in (old, new)
    )
    yield from changes("", _shifts(old, new), before, after)


def _shifts(old: Schema, new: Schema) -> Iterator[Shift]:
    yield from _plain(_HEAD, old, new)
    yield from _content(old, new)
    yield from _texts("also_collected", "sentence", old.also_collected, new.also_collected)
    if old.records != new.records:
        yield Shift("records", _found(old, new), *(_written_ways(each) for each in (old, new)))
    if old.user_agent != new.user_agent:
        same = not new.user_agent_paths or old.user_agent_paths == new.user_agent_paths
        what = "written differently" if same else "user agent is found elsewhere"
        yield Shift("user_agent", what)
    if old.consent != new.consent:
        yield Shift("consent", _choices(old, new))
    unlimited = 1 << 30
    limits = old.max_bits or unlimited, new.max_bits or unlimited
    yield from ordered_shifts("max_bits", *limits, "ceiling raised", "ceiling lowered")
    yield from reordered("purposes", old.purposes, new.purposes)
    yield from reordered("fields", old.fields, new.fields)


def _found(old: Schema, new: Schema) -> str:
    """Judge changed paths to records. If the paths are the same, their conditions only select
    records, because no other path is tried if none is selected."""
    before, after = (schema.records or (".",) for schema in (old, new))
    if list(map(path_of, before)) != list(map(path_of, after)):
        return "records are found elsewhere"
    if before == after:
        return "written differently"
    if all(map(_is_narrower, before, after)):
        return "only selected records"
    return "records are selected otherwise"


def _written_ways(schema: Schema) -> list[str] | None:
    return list(map(written_source, schema.records or ())) or None


def _texts(
    option: str, what: str, old: Mapping[str, str], new: Mapping[str, str]
) -> Iterator[Shift]:
    """Compare texts of a document by name."""
    gone, added = differing(old, new)
    for name in added:
        yield Shift(f"{option}.{name}", f"{what} added", None, new[name])
    for name in gone:
        yield Shift(f"{option}.{name}", f"{what} removed", old[name], None)
    for name in old.keys() & new.keys():
        if old[name].split() != new[name].split():
            yield Shift(f"{option}.{name}", f"{what} changed", old[name], new[name])
    if not (gone or added) and old != new:
        yield from reordered(option, old, new)


def _choices(old: Schema, new: Schema) -> str:
    if new.consent is None:
        return "choices are read no longer"
    return "choices are read" if old.consent is None else "choices are found elsewhere"


def _content(old: Schema, new: Schema) -> Iterator[Shift]:
    """Compare the names of content: fewer names guard less."""
    before, after = old.content_names, new.content_names
    gone, added = differing(before, after)
    if gone:
        yield Shift("content", "content name removed", gone)
    if added:
        yield Shift("content", "content name added", None, added)
    moved = [name for name in before if before[name] != after.get(name, before[name])]
    if moved:
        words = ([f"{name}: {names[name]}" for name in moved] for names in (before, after))
        yield Shift("content", "content name counted elsewhere", *words)
    if old.content != new.content and before == after:
        yield Shift("content", "written differently")


def _purposes(old: Mapping[str, Purpose], new: Mapping[str, Purpose]) -> Iterator[SchemaChange]:
    for name, purpose in new.items():
        part = f"purposes.{name}"
        if name not in old:
            yield SchemaChange(part, "", "purpose added", None, purpose.use, purpose.reason)
            continue
        before = old[name]
        written = before.model_dump(), purpose.model_dump()
        yield from changes(part, _plain(_PURPOSE, before, purpose), *written, purpose.reason)
    for name, purpose in old.items():
        if name not in new:
            words = purpose.use, None, purpose.reason
            yield SchemaChange(f"purposes.{name}", "", "purpose removed", *words)
