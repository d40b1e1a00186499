"""Two schema documents side by side: every change, its verdict, and whether it may ship."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from collector.schema.diff.change import Change, changes, differing, reordered
from collector.schema.diff.fields import fields
from collector.schema.diff.trials import trials
from collector.schema.model import Purpose, Schema
from collector.schema.verdict import Shift, stepped

__all__ = ["Comparison", "compare"]

_BY_PARTS = frozenset({"purposes", "fields", "tests"})


@dataclass(frozen=True)
class Comparison:
    """What is different in ``new``. ``changes`` are in the order of the document."""

    old: Schema
    new: Schema
    changes: tuple[Change, ...]

    @property
    def widening(self) -> bool:
        """Whether some event may give more under the new schema, or is guarded less."""
        return any(change.verdict == "widening" for change in self.changes)

    @property
    def newer(self) -> bool:
        """Whether the version is higher."""
        return _version(self.new) > _version(self.old)

    @property
    def allowed(self) -> bool:
        """Whether it may ship: what widens needs a higher version."""
        return self.newer or not self.widening

    @cached_property
    def unexplained(self) -> tuple[str, ...]:
        """Fields and purposes that were there, widen, and give the same reason as before."""
        before, after = _reasons(self.old), _reasons(self.new)
        widened = dict.fromkeys(c.part for c in self.changes if c.verdict == "widening")
        return tuple(part for part in widened if part in before and before[part] == after.get(part))


def compare(old: Schema, new: Schema) -> Comparison:
    """Every change from the old schema to the new one.

    If none of them is widening, no event gives a record, a field or a finer value under the new
    schema that it does not give under the old one.
    """
    found = [*_head(old, new), *_purposes(old.purposes, new.purposes)]
    return Comparison(old, new, (*found, *fields(old, new), *trials(old, new)))


def _reasons(schema: Schema) -> dict[str, list[str]]:
    """The words of the reasons; how they are laid out says nothing."""
    purposes, fields = schema.purposes.items(), schema.fields.items()
    return {f"purposes.{name}": purpose.reason.split() for name, purpose in purposes} | {
        f"fields.{name}": field.reason.split() for name, field in fields
    }


def _version(schema: Schema) -> tuple[int, ...]:
    return tuple(map(int, schema.version.split(".")))


def _head(old: Schema, new: Schema) -> Iterator[Change]:
    before, after = (
        schema.model_dump(mode="json", by_alias=True, exclude=set(_BY_PARTS))
        for schema in (old, new)
    )
    yield from changes("", _shifts(old, new), before, after)


def _shifts(old: Schema, new: Schema) -> Iterator[Shift]:
    if old.name != new.name:
        yield Shift("schema", "another schema")
    if old.version != new.version:
        yield Shift("version", "another version")
    for text in ("title", "owner"):
        if getattr(old, text) != getattr(new, text):
            yield Shift(text, "reworded")
    yield from _content(old, new)
    if old.records != new.records:
        yield Shift("records", "records are found elsewhere")
    if old.user_agent != new.user_agent:
        same = not new.user_agent_paths or old.user_agent_paths == new.user_agent_paths
        what = "written differently" if same else "user agent is found elsewhere"
        yield Shift("user_agent", what)
    if old.consent != new.consent:
        yield Shift("consent", _choices(old, new))
    unlimited = 1 << 30
    limits = old.max_bits or unlimited, new.max_bits or unlimited
    yield from stepped("max_bits", *limits, "ceiling raised", "ceiling lowered")
    yield from reordered("purposes", old.purposes, new.purposes)
    yield from reordered("fields", old.fields, new.fields)


def _choices(old: Schema, new: Schema) -> str:
    if new.consent is None:
        return "choices are read no longer"
    return "choices are read" if old.consent is None else "choices are found elsewhere"


def _content(old: Schema, new: Schema) -> Iterator[Shift]:
    """Names under which content is looked for: fewer of them guard less."""
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


def _purposes(old: Mapping[str, Purpose], new: Mapping[str, Purpose]) -> Iterator[Change]:
    for name, purpose in new.items():
        part = f"purposes.{name}"
        if name not in old:
            yield Change(part, "", "purpose added", None, purpose.use, purpose.reason)
            continue
        before = old[name]
        written = before.model_dump(), purpose.model_dump()
        yield from changes(part, _purpose_shifts(before, purpose), *written, purpose.reason)
    for name, purpose in old.items():
        part = f"purposes.{name}"
        if name not in new:
            yield Change(part, "", "purpose removed", purpose.use, None, purpose.reason)


def _purpose_shifts(old: Purpose, new: Purpose) -> Iterator[Shift]:
    if old.use != new.use:
        yield Shift("use", "another use")
    if old.basis != new.basis:
        yield Shift("basis", "another legal basis")
    if old.optional != new.optional:
        yield Shift("optional", "can be refused" if new.optional else "cannot be refused")
    if old.reason != new.reason:
        yield Shift("reason", "reworded")
