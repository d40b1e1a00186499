"""How the tests inside documents differ. A test is a guard: one that says less guards less."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson

from collector.schema.diff.change import Change
from collector.schema.kinds import Circumstances, FieldBase
from collector.schema.kinds.pseudonym import PseudonymField
from collector.schema.kinds.time import TimeField
from collector.schema.model import Schema, Trial

__all__ = ["trials"]


def trials(old: Schema, new: Schema) -> Iterator[Change]:
    """The changes of the tests, which are called by their names alone: events are never shown."""
    before, after = ({test.name: test for test in schema.tests} for schema in (old, new))
    added = [name for name in after if name not in before]
    for name, test in before.items():
        if name in after:
            yield from _changed(test, after[name], new)
            continue
        same = next((other for other in added if _same(test, after[other])), None)
        if same is None:
            yield Change("tests", "", "test removed", name)
        else:
            added.remove(same)
            yield Change("tests", "", "test renamed", name, same)
    for name in added:
        yield Change("tests", "", "test added", None, name)


def _changed(old: Trial, new: Trial, schema: Schema) -> Iterator[Change]:
    if _same(old, new):
        return
    stronger = (
        _text(old.event) == _text(new.event)
        and _keeps_no_more(old.keeps, new.keeps, schema)
        and all(any(less in text for less in new.never_contains) for text in old.never_contains)
    )
    what = "test strengthened" if stronger else "test weakened"
    yield Change("tests", "", what, old.name, new.name)


def _same(old: Trial, new: Trial) -> bool:
    return (
        _text(old.event) == _text(new.event)
        and _text(old.keeps) == _text(new.keeps)
        and set(old.never_contains) == set(new.never_contains)
    )


def _text(value: Any) -> bytes:
    """JSON, so that 1, 1.0 and true are different."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _keeps_no_more(old: Any, new: Any, schema: Schema) -> bool:
    """Whether a new ``keeps`` allows nothing that the old one forbids: of each record the same
    values, or what the new fields make of them, or fewer."""
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
    return len(before) == len(after) and all(
        name in record and _coarsened(schema.fields[name], record[name], value)
        for record, kept in zip(before, after, strict=True)
        for name, value in kept.items()
    )


def _coarsened(field: FieldBase, old: Any, new: Any) -> bool:
    if _text(old) == _text(new):
        return True
    if type(old) not in field.wire or isinstance(field, PseudonymField):
        return False
    if isinstance(field, TimeField):  # a diff says the same on every day
        field = field.model_copy(update={"within": None})
    made = field.canonical(Circumstances(lambda: datetime.now(UTC), _no_key))(old)
    return made is not None and _text(made) == _text(new)


def _no_key(_reference: str, _period: int) -> bytes:
    raise NotImplementedError
