"""How fields differ: which there are, where they are read, what for, how long, and their values."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

from collector.schema.diff.change import Change, changes, differing
from collector.schema.kinds import FieldBase
from collector.schema.model import Schema
from collector.schema.verdict import Shift, stepped

__all__ = ["fields"]


def fields(old: Schema, new: Schema) -> Iterator[Change]:
    """The changes of all fields: those of the new document in its order, then those removed."""
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
            yield Change(part, "", "field added", None, field.kind, field.reason)
    for name, field in old.fields.items():
        if name not in new.fields:
            what = "required field removed" if field.required else "field removed"
            yield Change(f"fields.{name}", "", what, field.kind, None, field.reason)


def _written(field: FieldBase, alike: bool) -> dict[str, Any]:
    """Its options; between different kinds only those that every kind has, and the kind."""
    only = None if alike else {*FieldBase.model_fields, "kind"}
    return field.model_dump(mode="json", by_alias=True, include=only)


def _own(old: FieldBase, new: FieldBase) -> Iterator[Shift]:
    if type(old) is type(new):
        yield from old.shifts(new)
    else:
        yield Shift("kind", "another kind")


def _common(name: str, old: FieldBase, new: FieldBase, merged: bool) -> Iterator[Shift]:
    if old.sources != new.sources:
        paths = old.paths(name), new.paths(name)
        what = _reading(*paths, shadowed=merged or new.derive is not None or new.source is not None)
        yield Shift("from", what, *map(list, paths))
    if old.category != new.category:
        yield Shift("category", "another category")
    gone, added = differing(old.purposes, new.purposes)
    if gone or added:
        yield Shift("purposes", "used for more" if added else "used for less", gone, added)
    elif old.purposes != new.purposes:
        yield Shift("purposes", "written differently")
    yield from stepped("retention", old.retention, new.retention, "kept longer", "kept shorter")
    ends = old.expires or date.max, new.expires or date.max
    if old.expires != new.expires:
        longer = ends[1] >= ends[0]
        yield Shift("expires", "collected longer" if longer else "collected shorter")
    if old.required != new.required:
        yield Shift("required", "required" if new.required else "no longer required")
    if old.derive != new.derive:
        yield Shift("derive", "derived" if new.derive else "no longer derived")
    if old.source != new.source:
        yield Shift("source", "filled from the peer" if new.source else "no longer filled")
    if old.reason != new.reason:
        yield Shift("reason", "reworded")


def _reading(old: tuple[str, ...], new: tuple[str, ...], *, shadowed: bool) -> str:
    """What another list of paths means. The first path where something stands decides, valid or
    not, so that only what is tried last can be left out without letting another value through; and
    not even that where something else is tried after it (``shadowed``): the document around a list
    of records, the user agent, or the peer."""
    if old == new:
        return "written differently"
    if not set(new) <= set(old):
        return "source added"
    if set(new) == set(old):
        return "sources in another order"
    last = old[: len(new)] == new
    return "source removed" if last and not shadowed else "deciding source removed"
