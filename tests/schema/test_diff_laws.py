"""The laws of the diff, as properties of random schemas, what becomes of them, and random events.

A schema is changed here and there at random; both are given the same events. If nothing of it is
called widening, then whatever comes out under the new one came out under the old one, the same or
coarser; if all of it is neutral, the same comes out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from datetime import UTC, date, datetime
from random import Random
from typing import Any

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from collector.errors import SchemaError
from collector.filter import Filter
from collector.schema import Schema
from collector.schema.diff import Comparison, compare
from collector.testing.laws import fixed_key
from tests.schema.test_diff_kinds import OPTIONS
from tests.strategies import events, schemas
from tests.strategies.documents import PURPOSES, documents, loaded

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DATES = st.sampled_from([NOW.date(), date(2026, 6, 2), date(2019, 1, 1)])
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
    """Other sources, none with a condition: most often the same without the last."""
    name = draw(st.sampled_from(sorted(document["fields"])))
    field = document["fields"][name]
    listed = [path for path in field.get("from", []) if isinstance(path, str)]
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


def select_records(draw: st.DrawFn, document: Document) -> None:
    """Another condition of the same ways, mostly a stricter one."""
    ways = document.get("records", ["."])
    listed = ways if isinstance(ways, list) else [ways]
    document["records"] = [_selecting(draw, way) for way in listed]


def _selecting(draw: st.DrawFn, way: Any) -> Any:
    path, when = (way["path"], dict(way["when"])) if isinstance(way, dict) else (way, {})
    for name in [*when]:
        listed = when[name] if isinstance(when[name], list) else [when[name]]
        when[name] = draw(st.sampled_from([listed, listed, listed[:1], [*listed, "more"]]))
    if draw(st.booleans()):
        when[draw(st.sampled_from(["kind", "a", "sort"]))] = draw(
            st.sampled_from([["b"], ["x", 1], [True, "linux", 0]])
        )
    return {"path": path, "when": when} if when else path


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
        "integer": st.builds(
            _range,
            st.sampled_from([(0, 100, 10), (0, 50, 1), (-7, 90, 14), (5, 5, 5)]),
            st.sampled_from(_READING),
        ),
        "number": st.builds(
            _range,
            st.sampled_from([(0, 100, 0.3), (0, 5, 0.5), (-0.3, 0.3, 0.1), (1, 9, 1)]),
            st.sampled_from(_READING),
        ),
    }
    field.clear()
    field.update({"kind": kind, **draw((OPTIONS | drawn)[kind]), **kept})


_READING: tuple[Document, ...] = (
    *({}, {"text": True}, {"unit": "ms"}, {"unit": "s"}, {"text": False, "unit": "s"}),
)


def _range(of: tuple[float, float, float], reading: Document) -> Document:
    return dict(zip(("minimum", "maximum", "step"), of, strict=True)) | reading


MUTATIONS: tuple[Mutation, ...] = (
    *(remove_field, add_field, reorder, reword, require, expire, resource, resource, purpose),
    *(optional, retain, underive, other_agent, other_records, select_records, select_records),
    *(content, options, options, options),
)


@st.composite
def revised(draw: st.DrawFn) -> tuple[Schema, Schema]:
    """A schema, and what became of it."""
    document = draw(documents())
    changed = deepcopy(document)
    for mutation in draw(st.lists(st.sampled_from(MUTATIONS), min_size=1, max_size=3)):
        mutation(draw, changed)
    try:
        old, new = (loaded(part) for part in (document, changed))
    except SchemaError:
        assume(False)
        raise
    return old, new


Records = Callable[[Any], list[Document]]


def _made(schema: Schema, purposes: Any, today: date) -> Records:
    """What a schema makes of an event, as records without its name."""
    known = None if purposes is None else set(purposes) & set(schema.purposes)
    admit = Filter(schema, purposes=known, as_of=today, keys=fixed_key).admit

    def records(one: Any) -> list[Document]:
        listed = admit(json.dumps(one)).records
        return [{k: v for k, v in record.items() if k != "schema"} for record in listed]

    return records


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


def _nothing_more(pairs: Iterable[tuple[Document, Document]], known: dict[Any, Any] | None) -> None:
    """Fields of the new records are fields of the old ones, and what is in them depends on nothing
    but what was in them, as far as it is known which was which."""
    for old, new in pairs:
        became = {} if known is None else known
        for name, value in new.items():
            assert name in old, "a field where before there was none"
            key = (name, json.dumps(old[name]))
            assert became.setdefault(key, value) == value, "a value that is finer than before"


def _holds(found: Comparison, purposes: Any, today: date, some_events: Iterable[Any]) -> None:
    old, new = (_made(schema, purposes, today) for schema in (found.old, found.new))
    neutral = {change.verdict for change in found.changes} <= {"neutral"}
    became: dict[Any, Any] = {}
    for one in some_events:
        before, after = old(one), new(one)
        if neutral:
            assert before == after
        assert len(after) <= len(before), "a record where before there was none"
        same = len(before) == len(after) or len(before) == 1
        _nothing_more(_matched(before, after), became if same else None)


@given(st.data(), revised())
def test_what_does_not_widen_lets_nothing_more_through(
    data: st.DataObject, pair: tuple[Schema, Schema]
) -> None:
    """A narrowing change adds nothing to any record, and a neutral one changes none."""
    found = compare(*pair)
    assert found.changes or pair[0].digest == pair[1].digest
    event("widening" if found.widening else "narrowing" if found.changes else "the same")
    if not found.widening:
        each = st.one_of(*(events(schema, plain=True, now=NOW) for schema in pair))
        some_events = st.lists(each, min_size=1, max_size=12)
        _holds(found, data.draw(granted), data.draw(DATES), data.draw(some_events))


IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15"
WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36"
PATHS = ("p", "q", "os.type")
DAYS = ("2026-06-01", "2026-06-02", "2030-01-01")


def _some(random: Random, of: Sequence[Any]) -> list[Any]:
    return random.sample(of, random.randint(1, len(of)))


KEYS: dict[str, Callable[[Random], Any]] = {
    "from": lambda random: _some(random, PATHS),
    "purposes": lambda random: _some(random, PURPOSES[:2]),
    "required": lambda random: random.choice([True, None]),
    "expires": lambda random: random.choice([*DAYS, None]),
    "derive": lambda random: random.choice(["user_agent", None]),
    "kind": lambda random: random.choice(["enum", "enum", "boolean"]),
    "fields": lambda random: random.choice([True, None, None]),
    "records": lambda random: random.choice([None, None, None, "items", ["items", "."]]),
    "user_agent": lambda random: random.choice([None, _some(random, ["p", "ua", "va"])]),
}
"""What a small schema may say, each key at random; ``fields`` takes one of its fields out."""
OF_A_DOCUMENT = ("records", "user_agent")


def small(random: Random) -> tuple[Schema, Schema]:
    """Two fields that read few paths, and the same with one or two keys changed or left out.
    Raises ``SchemaError`` where they do not fit together."""
    old = {name: make(random) for name, make in KEYS.items()}
    new = dict(old)
    while new == old:
        for name in random.choices(["from", "from", *KEYS], k=random.choice([1, 1, 2])):
            new[name] = KEYS[name](random)
    if random.random() < 0.3:
        new["from"] = old["from"][: random.randint(1, len(old["from"]))]
    first, second = (loaded(_small(chosen)) for chosen in (old, new))
    return first, second


def _small(chosen: Document) -> Document:
    set_ones = {key: value for key, value in chosen.items() if value is not None}
    common = {"category": "user.device", "purposes": [PURPOSES[0]], "reason": "For a test"}
    enum = {"kind": "enum", "values": ["ios", "windows"], "retention": "1d", **common}
    own = {key: value for key, value in set_ones.items() if key not in (*OF_A_DOCUMENT, "fields")}
    field = enum | own
    if field["kind"] == "boolean":
        field.pop("values")
    if "derive" not in field:
        set_ones.pop("user_agent", None)
    fields = {"os.type": field, "other": enum | {"from": ["q"]}}
    if chosen["fields"]:
        del fields["os.type"]
        set_ones.pop("user_agent", None)
    purposes = {
        name: {"use": "essential.service.operations", "basis": "contract", "reason": "For a test"}
        for name in PURPOSES
    }
    head = {"schema": "small", "version": "1.0.0", "title": "Small", "owner": "tests"}
    of_document = {key: set_ones[key] for key in OF_A_DOCUMENT if key in set_ones}
    return head | {"purposes": purposes, "fields": fields} | of_document


def _flat(random: Random) -> Document:
    values = ("ios", "windows", "no", True, {"type": "ios"})
    agents = ("ua", "va", "user_agent.original")
    said = {path: random.choice(values) for path in (*PATHS, "other") if random.random() < 0.5}
    return said | {
        path: random.choice([IPHONE, WINDOWS]) for path in agents if random.random() < 0.5
    }


def small_event(random: Random) -> Document:
    """An event of values and user agents, refused ones among them, at the few paths."""
    items = [_flat(random) for _ in range(random.randint(0, 2))]
    return _flat(random) | ({"items": items} if items else {})


@settings(max_examples=3 * settings().max_examples)
@given(st.integers(0, 2**64))
def test_where_few_things_are_read(seed: int) -> None:
    """A random generator spreads its choices more evenly than a strategy."""
    random = Random(seed)
    try:
        pair = small(random)
    except SchemaError:
        assume(False)
        raise
    found = compare(*pair)
    event("widening" if found.widening else "narrowing" if found.changes else "the same")
    if not found.widening:
        purposes = random.choice([None, PURPOSES[:1], PURPOSES[1:2]])
        today = random.choice([NOW.date(), date(2026, 6, 2), date(2019, 1, 1)])
        _holds(found, purposes, today, [small_event(random) for _ in range(20)])


@settings(max_examples=max(1, settings().max_examples // 3))
@given(st.data(), schemas(), schemas())
def test_any_two_schemas(data: st.DataObject, old: Schema, new: Schema) -> None:
    found = compare(old, new)
    if not found.widening:
        some_events = st.lists(events(new, plain=True, now=NOW), min_size=1, max_size=12)
        _holds(found, data.draw(granted), data.draw(DATES), data.draw(some_events))
    assert compare(old, old).changes == ()
    assert found.changes or old.digest == new.digest
