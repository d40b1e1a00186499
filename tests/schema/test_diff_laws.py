"""The laws of the diff, as properties of random schemas, what becomes of them, and random events.

A schema is changed here and there at random; both are given the same events. If nothing of it is
called widening, then whatever comes out under the new one came out under the old one, the same or
coarser; if all of it is neutral, the same comes out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from copy import deepcopy
from datetime import UTC, date, datetime
from typing import Any

from hypothesis import assume, event, given
from hypothesis import strategies as st

from collector.errors import SchemaError
from collector.filter import Filter
from collector.schema import Schema
from collector.schema.diff import Comparison, compare
from collector.testing import events, schemas
from collector.testing.documents import PURPOSES, _documents, _loaded
from collector.testing.laws import fixed_key
from tests.schema.test_diff_kinds import OPTIONS

NOW = datetime(2026, 6, 1, tzinfo=UTC)
granted = st.none() | st.sets(st.sampled_from(PURPOSES), max_size=2)

Document = dict[str, Any]
Mutation = Callable[[st.DrawFn, Document], None]


def _some_field(draw: st.DrawFn, document: Document) -> Document:
    field: Document = document["fields"][draw(st.sampled_from(sorted(document["fields"])))]
    return field


def remove_field(draw: st.DrawFn, document: Document) -> None:
    if len(document["fields"]) > 1:
        del document["fields"][draw(st.sampled_from(sorted(document["fields"])))]


def add_field(draw: st.DrawFn, document: Document) -> None:
    document["fields"][draw(st.sampled_from(["a", "b.a", "x"]))] = deepcopy(
        _some_field(draw, document)
    )


def reorder(draw: st.DrawFn, document: Document) -> None:
    part = draw(st.sampled_from(["fields", "purposes"]))
    order = draw(st.permutations(sorted(document[part])))
    document[part] = {name: document[part][name] for name in order}


def reword(draw: st.DrawFn, document: Document) -> None:
    document[draw(st.sampled_from(["title", "owner"]))] = "Other words"
    _some_field(draw, document)["reason"] = "Other words"


def require(draw: st.DrawFn, document: Document) -> None:
    _some_field(draw, document)["required"] = draw(st.sampled_from([True, True, False]))


def expire(draw: st.DrawFn, document: Document) -> None:
    field = _some_field(draw, document)
    day = draw(st.sampled_from(["2020-01-01", "2026-06-01", "2026-06-02", None]))
    field.pop("expires", None)
    if day:
        field["expires"] = day


def resource(draw: st.DrawFn, document: Document) -> None:
    """Other sources: most often the same without the last."""
    name = draw(st.sampled_from(sorted(document["fields"])))
    field = document["fields"][name]
    listed = field.get("from", [])
    paths = listed if name in listed else [*listed, name]
    how = draw(st.integers(0, 5))
    if how == 0:
        paths = draw(st.permutations(paths))
    elif how == 1:
        paths = [path for path in paths if draw(st.booleans())]
    elif how == 2:
        paths = [*paths, draw(st.sampled_from(["a", "b", "os.a", "[0].a"]))]
    else:
        paths = paths[:-1]
    field["from"] = list(dict.fromkeys(paths)) or [name]


def purpose(draw: st.DrawFn, document: Document) -> None:
    field = _some_field(draw, document)
    chosen = st.lists(st.sampled_from(field["purposes"]), min_size=1, unique=True)
    other = st.lists(st.sampled_from(sorted(document["purposes"])), min_size=1, unique=True)
    field["purposes"] = draw(st.one_of(chosen, chosen, other))


def optional(draw: st.DrawFn, document: Document) -> None:
    name = draw(st.sampled_from(sorted(document["purposes"])))
    document["purposes"][name]["optional"] = draw(st.booleans())


def retain(draw: st.DrawFn, document: Document) -> None:
    _some_field(draw, document)["retention"] = draw(st.sampled_from(["1d", "30d", "4w", "1y"]))


def underive(draw: st.DrawFn, document: Document) -> None:
    for field in document["fields"].values():
        field.pop("derive", None)
    document.pop("user_agent", None)


def other_agent(draw: st.DrawFn, document: Document) -> None:
    if "user_agent" in document:
        document["user_agent"] = draw(st.sampled_from([["a"], ["user_agent.original"], ["b", "a"]]))


def other_records(draw: st.DrawFn, document: Document) -> None:
    document.pop("records", None)
    ways = draw(st.sampled_from([None, "items", ".", ["items", "."], ["a.b.items", "items"]]))
    if ways:
        document["records"] = ways


def content(draw: st.DrawFn, document: Document) -> None:
    document["content"] = {"chat": draw(st.sampled_from([["backchannel"], ["шёпот", "other"]]))}


def options(draw: st.DrawFn, document: Document) -> None:
    """Other options of the same kind, or another kind."""
    field = _some_field(draw, document)
    common = ("from", "category", "purposes", "retention", "reason", "expires", "required")
    kept = {key: field[key] for key in common if key in field}
    kind = draw(st.sampled_from([field["kind"]] * 4 + ["enum", "version"]))
    drawn: dict[str, st.SearchStrategy[Document]] = {
        "enum": st.sampled_from(
            [
                {"values": ["linux"], "aliases": {"Linux": "linux"}},
                {"values": ["linux"], "aliases": {"windows": "linux"}},
                {"values": ["linux", "windows"]},
                {"values": ["Yes"], "fold_case": True},
                {"values": ["1", "é", "true"]},
                {"values": ["no", "Yes"]},
            ]
        ),
        "version": st.sampled_from(
            [
                {"parts": 1},
                {"parts": 2, "maximum": [9, 9]},
                {"maximum": [9, 9, 9, 99]},
                {"parts": 3},
            ]
        ),
        "token": st.sampled_from(
            [
                *({"pattern": text} for text in ("[a-c]{1,2}", "abx|x", "[0-9]{2},[0-4]", "linux")),
                {"catalogue": "os-names"},
            ]
        ),
        "integer": st.sampled_from([(0, 100, 10), (0, 50, 1), (-7, 90, 14), (5, 5, 5)]).map(_range),
        "number": st.sampled_from([(0, 100, 0.3), (0, 5, 0.5), (-0.3, 0.3, 0.1), (1, 9, 1)]).map(
            _range
        ),
    }
    field.clear()
    field.update({"kind": kind, **draw((OPTIONS | drawn)[kind]), **kept})


def _range(of: tuple[float, float, float]) -> Document:
    return dict(zip(("minimum", "maximum", "step"), of, strict=True))


MUTATIONS: tuple[Mutation, ...] = (
    *(remove_field, add_field, reorder, reword, require, expire, resource, resource, purpose),
    *(optional, retain, underive, other_agent, other_records, content, options, options, options),
)


@st.composite
def revised(draw: st.DrawFn) -> tuple[Schema, Schema]:
    """A schema, and what became of it."""
    document = draw(_documents())
    changed = deepcopy(document)
    for mutation in draw(st.lists(st.sampled_from(MUTATIONS), min_size=1, max_size=3)):
        mutation(draw, changed)
    try:
        old, new = (_loaded(json.dumps(part, ensure_ascii=False)) for part in (document, changed))
    except SchemaError:
        assume(False)
        raise
    return old, new


def _records(schema: Schema, payload: str, purposes: Any, today: date) -> list[Document]:
    known = None if purposes is None else set(purposes) & set(schema.purposes)
    made = Filter(schema, purposes=known, as_of=today, keys=fixed_key).admit(payload)
    return [{k: v for k, v in record.items() if k != "schema"} for record in made.records]


def _matched(old: list[Document], new: list[Document]) -> Iterable[tuple[Document, Document]]:
    """Each new record with the old one of the same event; events are rejected, never reordered."""
    if len(old) == len(new):
        yield from zip(old, new, strict=True)
        return
    left = iter(old)
    for record in new:
        of = next((one for one in left if record.keys() <= one.keys()), None)
        assert of is not None, "a record where before there was none"
        yield of, record


def _nothing_more(pairs: Iterable[tuple[Document, Document]], became: dict[Any, Any]) -> None:
    """Fields of the new records are fields of the old ones, and what is in them depends on nothing
    but what was in them."""
    for old, new in pairs:
        for name, value in new.items():
            assert name in old, "a field where before there was none"
            key = (name, json.dumps(old[name]))
            assert became.setdefault(key, value) == value, "a value that is finer than before"


def _holds(data: st.DataObject, found: Comparison) -> None:
    old, new = found.old, found.new
    purposes = data.draw(granted)
    today = data.draw(st.sampled_from([NOW.date(), date(2026, 6, 2), date(2019, 1, 1)]))
    given_events = st.one_of(*(events(schema, plain=True, now=NOW) for schema in (old, new)))
    neutral = {change.verdict for change in found.changes} <= {"neutral"}
    became: dict[Any, Any] = {}
    for one in data.draw(st.lists(given_events, min_size=1, max_size=5)):
        payload = json.dumps(one)
        before, after = (_records(schema, payload, purposes, today) for schema in (old, new))
        if neutral:
            assert before == after
        assert len(after) <= len(before)
        if len(before) == len(after) or max(len(before), len(after)) == 1:
            _nothing_more(_matched(before, after), became)
        else:
            _nothing_more(_matched(before, after), {})


@given(st.data(), revised())
def test_what_does_not_widen_lets_nothing_more_through(
    data: st.DataObject, pair: tuple[Schema, Schema]
) -> None:
    """A record, a field or a finer value that was not there before is called widening; what only
    narrows adds nothing to any record; what is neutral changes none."""
    found = compare(*pair)
    assert found.changes or pair[0].digest == pair[1].digest
    event("widening" if found.widening else "narrowing" if found.changes else "the same")
    if not found.widening:
        _holds(data, found)


@given(st.data(), schemas(), schemas())
def test_any_two_schemas(data: st.DataObject, old: Schema, new: Schema) -> None:
    """The same for schemas that have nothing to do with each other."""
    found = compare(old, new)
    if not found.widening:
        _holds(data, found)
    assert compare(old, old).changes == ()
    assert found.changes or old.digest == new.digest
