"""``schemas``: random valid schema documents, checked as those of files are.

Paths are drawn from few segments, so that they overlap: a path is a value and the way to another,
fields of different kinds read the same path, one field's source is another one's name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from itertools import permutations, product
from random import Random
from typing import Any

from hypothesis import strategies as st

from collector.documents import Document
from collector.errors import SchemaError
from collector.schema import Schema
from collector.schema.kinds import KINDS
from collector.schema.load import parse_source
from collector.schema.scalars import beside, keys, levels, lies_in
from collector.testing._values import randoms, weighted
from tests.strategies.options import draw_options

PURPOSES = ("operations", "planning", "security")
"""The purposes of generated schemas; a schema defines all of them."""

_Document = dict[str, Any]
_Part = st.SearchStrategy[_Document]

_USES = (
    "essential.service.operations",
    "analytics.reporting.system.performance",
    "essential.service.security",
)
_SEGMENTS = ("a", "b", "os")
_PATHS = (
    *("a b", '"é"', '"𠀀".b', "A", 'a."é"', "schema", "count", "r.b"),
    *("a'b", "{}", "%s", "a/b", "0", "b.0.c"),
    *("[0]", "[1].a", "[1].a.b", "[2].os", '[1].a b."é"'),
    *(
        '"a.b"',
        'a."b"',
        'os."b.a"',
        "a[0]",
        "a[1].b",
        "os.b[0].a",
        '[1]."a.b"',
        "[1][0]",
        "a[0][1]",
    ),
)
_RECORDS = (
    *(["."], ["items"], ["r.items"], ["a.b.items"], ["r.items.*"], ["items", "."]),
    *(["[1].*", "."], ["[0]", "items"], ["[1].r.*", "r", "r.b.*", "."], [".", "items"]),
    *(
        ["items[].r[]"],
        ["r.items[].b.more[].c.*", "."],
        ['"é.x"[].items', "items[]"],
        ["[1][].r", "items"],
        ["*"],
    ),
)
_AGENTS = (["ua"], ["a.ua", "[1].ua"], ["os.b"], ["a"], ["[0]", "ua"])
_CHOICES = (
    *("choices", "a.choices", "r.told.b", '"wünsche/é"', "[1].choices", "[3]", "os", "b.a"),
)
_DERIVED: dict[str, _Document] = {
    "os.type": {"kind": "enum", "values": ["windows", "linux", "ios"]},
    "os.name": {"kind": "token", "catalogue": "os-names"},
    "os.version": {"kind": "version", "parts": 2, "maximum": [99, 99]},
    "device.type": {"kind": "enum", "values": ["desktop", "phone"]},
    "device.model.identifier": {"kind": "token", "pattern": "SM-[AS][0-9]{3}[BU]"},
}
_FIGURES: dict[str, list[str]] = {
    "audio.jitter": ["audio.jitter"],
    "chat.count": ["a", "chat.count"],
    "os.load": ["video.rtt", "os.load"],
    "b.count": ["b", "messages.a.count"],
}
"""Numbers below names of content, each by its field, with the paths that it reads."""
_STEPS: tuple[_Document, ...] = (
    {"kind": "integer", "minimum": 0, "maximum": 100, "step": 1},
    {"kind": "integer", "minimum": 0, "maximum": 60, "step": 5, "text": True},
    {"kind": "number", "minimum": 0, "maximum": 1, "step": 0.1},
)
_CONTENT = {"audio": ["hum", "a.hum"], "chat": ["backchannel", "шёпот"], "file": ["fax sheet"]}


def _kind(kind: str, random: Random) -> _Document:
    return {"kind": kind, **draw_options(kind, random)}


def _kinds(*names: str) -> _Part:
    """A kind with options of its own."""
    return st.builds(_kind, st.sampled_from(names), randoms())


_DAYS = ("2020-01-01", "2026-06-01", "2026-06-02", "2030-01-01")
_USED: list[_Document] = [
    {"category": category, "purposes": list(purposes), "retention": "30d", "reason": "For a test"}
    for purposes, category in product(
        [*permutations(PURPOSES, 1), *permutations(PURPOSES, 2)],
        ["user.device", "user.telemetry", "system.operations"],
    )
]
_LIMITED: list[_Document] = [
    *32 * [{}],
    *6 * [{"required": True}],
    *3 * [{"expires": day} for day in _DAYS],
]
"""Parts of fields, each as often as it is to be drawn: one draw of at most 127 choices, up to which
Hypothesis has no favourites, is faster than one for each part."""


@cache
def _names() -> st.SearchStrategy[str]:
    """Names of up to three segments."""
    names = ([".".join(each) for each in product(_SEGMENTS, repeat=length)] for length in (1, 2, 3))
    return weighted(*zip((3, 3, 1), map(st.sampled_from, names), strict=True))


@cache
def _rest() -> _Part:
    """What a field has besides its kind."""
    path = weighted((4, _names()), (1, st.sampled_from(_PATHS)))
    sources = st.lists(path, min_size=1, max_size=3, unique=True)
    listed = weighted(
        (4, sources.map(lambda paths: {"from": paths})),
        (1, st.builds(_conditional, sources, randoms())),
    )
    used, limited = st.sampled_from(_USED), st.sampled_from(_LIMITED)
    return st.builds(_merged, used, limited, weighted((1, st.just({})), (3, listed)))


_COMPARED: tuple[Any, ...] = ("b", "x", "linux", "", "é", True, False, 1, 0, 1.5, -3, 2**53)


def _conditional(paths: list[str], random: Random) -> _Document:
    """Paths, some of which count only under a condition."""
    listed: list[Any] = []
    for path in paths:
        is_plain = type(keys(path)[-1]) is int or random.random() < 0.3
        when = _when(random, ["a", "b", "os", "kind", "é.x"])
        listed.append(path if is_plain else {"path": path, "when": when})
    return {"from": listed}


def _when(random: Random, names: list[str]) -> _Document:
    """A condition on one or two members of these names."""
    members = random.sample(names, min(len(names), random.choice([1, 1, 2])))
    return {name: random.sample(_COMPARED, random.choice([1, 2, 6])) for name in members}


def _read_paths(name: str, field: _Document) -> set[str]:
    """Return the paths that a field reads, with those of conditions."""
    found = {name}
    for source in field.get("from", []):
        if isinstance(source, str):
            found.add(source)
        else:
            path = source["path"]
            found |= {path, *(beside(path, member) for member in source["when"])}
    return found


@cache
def _fields() -> _Part:
    field = st.builds(_merged, _kinds(*KINDS), _rest())
    return st.dictionaries(_names(), field, min_size=1, max_size=4)


@cache
def _derived() -> _Part:
    """No fields, or some that a user agent may fill."""
    each = {
        name: _rest().map(lambda rest, own=own: {"derive": "user_agent", **own, **rest})  # type: ignore[misc]
        for name, own in _DERIVED.items()
    }
    names = st.sets(st.sampled_from(sorted(_DERIVED)), min_size=1, max_size=3)
    some = names.flatmap(lambda names: st.fixed_dictionaries({n: each[n] for n in sorted(names)}))
    return weighted((2, st.just({})), (1, some))


@cache
def _figures() -> _Part:
    """No field, or numbers that lie below names of content."""
    rest = st.builds(_merged, st.sampled_from(_STEPS), st.sampled_from(_USED))
    each = {
        name: st.builds(_merged, rest, st.just({"from": paths})) for name, paths in _FIGURES.items()
    }
    names = st.sets(st.sampled_from(sorted(_FIGURES)), min_size=1, max_size=2)
    some = names.flatmap(lambda names: st.fixed_dictionaries({n: each[n] for n in sorted(names)}))
    return weighted((5, st.just({})), (1, some))


@cache
def _addressed() -> _Part:
    """No field, or one that the address of the sender may fill."""
    field = st.builds(_merged, _kinds("ip", "pseudonym"), _rest(), st.just({"source": "peer"}))
    return weighted((4, st.just({})), (1, field.map(lambda field: {"client.address": field})))


def _merged(*parts: _Document) -> _Document:
    return {key: value for part in parts for key, value in part.items()}


@cache
def _purposes() -> _Part:
    """All of them, some of which may be refused."""
    optional = weighted((1, st.just(())), (2, st.sets(st.sampled_from(PURPOSES), min_size=1)))
    return optional.map(
        lambda names: {
            name: {"use": use, "basis": "consent", "reason": "Needed for a test"}
            | ({"optional": True} if name in names else {})
            for name, use in zip(PURPOSES, _USES, strict=True)
        }
    )


def _clashes(path: str, records: str) -> bool:
    ways = [(level, level.removesuffix(".*")) for level in levels(records)]
    return any(lies_in(w, path) or (w == level and lies_in(path, w)) for level, w in ways)


def _is_apart(path: str, others: Iterable[str]) -> bool:
    """Return whether a path leads neither to nor through any of the others, and none through it."""
    return not any(lies_in(path, other) or lies_in(other, path) for other in others)


def _selecting(ways: list[str]) -> st.SearchStrategy[list[Any]]:
    """Ways to records, some of which select those that meet a condition."""
    names = ["a", "b", "os", "kind", "é.x"]
    apart = [n for n in names if not any(_clashes(beside("", n), way) for way in ways)]

    def chosen(random: Random) -> list[Any]:
        return [
            {"path": way, "when": _when(random, apart)} if apart and random.random() < 0.4 else way
            for way in ways
        ]

    return randoms().map(chosen)


def _compared_in(way: Any) -> Iterable[str]:
    return way["when"] if isinstance(way, dict) else ()


@cache
def _categories() -> st.SearchStrategy[dict[str, None]]:
    return st.dictionaries(st.sampled_from(sorted(_CONTENT)), st.none())


@st.composite
def documents(draw: st.DrawFn) -> _Document:
    """The documents of ``schemas``."""
    fields = {**draw(_fields()), **draw(_derived()), **draw(_addressed()), **draw(_figures())}
    content = draw(_categories())
    document: _Document = {
        "schema": "generated",
        "version": "1.0.0",
        "title": "A generated schema",
        "owner": "tests",
        "purposes": draw(_purposes()),
        "fields": fields,
    }
    if content:
        document["content"] = {category: _CONTENT[category] for category in content}
    paths = {path for name, field in fields.items() for path in _read_paths(name, field)}
    if any("derive" in field for field in fields.values()):
        document["user_agent"] = draw(st.sampled_from(_AGENTS))
        paths |= {*document["user_agent"], "user_agent.original"}
    clash = [ways for ways in _RECORDS if any(_clashes(p, way) for p in paths for way in ways)]
    free = [ways for ways in _RECORDS if ways not in clash]
    records = draw(st.none() | st.sampled_from(free)) if free else None
    if records:
        document["records"] = draw(_selecting(records))
        paths |= {beside("", name) for way in document["records"] for name in _compared_in(way)}
    paths |= {level.removesuffix(".*") for way in records or () for level in levels(way)}
    has_lists = any(path.startswith("[") for path in paths)
    ways = [way for way in _CHOICES if has_lists or not way.startswith("[")]
    apart = [way for way in ways if _is_apart(way, paths)]
    if apart and any("optional" in each for each in document["purposes"].values()):
        consent = draw(weighted((1, st.none()), (3, st.sampled_from(apart))))
        document |= {"consent": consent} if consent else {}
    return document


_SCHEMAS: dict[str, Schema] = {}
_MOST_SCHEMAS = 4096


def loaded(document: dict[str, Any]) -> Schema:
    """Return the schema of a document, which is loaded once."""
    text = json.dumps(document, ensure_ascii=False)
    if text not in _SCHEMAS:
        schema, faults = parse_source(Document("generated.yaml", value=document))
        if schema is None:
            raise SchemaError(faults)
        if len(_SCHEMAS) >= _MOST_SCHEMAS:
            _SCHEMAS.clear()
        _SCHEMAS[text] = schema
    return _SCHEMAS[text]


def schemas() -> st.SearchStrategy[Schema]:
    """Valid schemas of a few fields of every kind, with and without ``records``, additional
    content names, required fields, fields that are derived or that a request may fill, fields that
    expire around 2026-06-01, numbers below names of content, and with purposes that a person may
    refuse, by what lies at a ``consent`` path too.

    A schema with a field of kind ``pseudonym`` needs a filter with ``keys``.
    """
    return documents().map(loaded)
