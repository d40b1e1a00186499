"""``schemas``: random valid schema documents, loaded as a file would be.

Paths are drawn from few segments, so that they overlap: a path is a value and the way to another,
fields of different kinds read the same path, one field's source is another one's name.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from collector.schema import Schema, load_schema
from collector.testing.values import weighted

__all__ = ["PURPOSES", "schemas"]

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
    *("a b", "é", "😀.b", "A", "a.é", "schema", "count", "r.b"),
    *("a'b", "{}", "%s", "a/b", "0", "b.0.c"),
    *("[0]", "[1].a", "[1].a.b", "[2].os", "[1].a b.é"),
)
_RECORDS = (
    *(["items"], ["r.items"], ["a.b.items"], ["r.items.*"], ["items", "."]),
    *(["[1].*", "."], ["[0]", "items"], ["[1].r.*", "r", "r.b.*", "."], [".", "items"]),
)
_AGENTS = (["ua"], ["a.ua", "[1].ua"], ["os.b"], ["a"], ["[0]", "ua"])
_CHOICES = ("choices", "a.choices", "r.told.b", "wünsche/é", "[1].choices", "[3]", "os", "b.a")
_DERIVED: dict[str, _Document] = {
    "os.type": {"kind": "enum", "values": ["windows", "linux", "ios"]},
    "os.name": {"kind": "token", "catalogue": "os-names"},
    "os.version": {"kind": "version", "parts": 2, "maximum": [99, 99]},
    "device.type": {"kind": "enum", "values": ["desktop", "phone"]},
    "device.model.identifier": {"kind": "token", "pattern": "SM-[A-Z][0-9]{3}[A-Z]"},
}
_CONTENT = {"audio": ["hum", "a.hum"], "chat": ["backchannel", "шёпот"], "file": ["fax sheet"]}


def _kind(kind: str, **options: st.SearchStrategy[Any]) -> _Part:
    """A field's own options; each may be left out where it is ``None``."""
    return st.fixed_dictionaries({"kind": st.just(kind), **options}).map(
        lambda field: {key: value for key, value in field.items() if value is not None}
    )


def _options(*choices: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(choices)


_ENUMS: tuple[_Document, ...] = (
    {"values": ["linux", "windows"], "aliases": {"Linux": "linux", "GNU/Linux": "linux"}},
    {"values": ["Yes", "no"], "aliases": {"ja": "Yes"}, "fold_case": True},
    {"values": ["1", "1.2", "a", "é", "😀 x", "203.0.113.7", "true"]},
)
_VERSIONS: tuple[_Document, ...] = (
    {},
    {"parts": 1},
    {"parts": 2, "maximum": [9, 99]},
    {"parts": 3, "maximum": [9, 9, 9, 99]},
)
_PSEUDONYMS: tuple[_Document, ...] = (
    {"key": "env:DAILY_KEY_OF_TESTS", "rotate": "1d"},
    {"key": "env:HOURLY_KEY_OF_TESTS", "rotate": "1h"},
)
_INTEGERS = ((0, 100, 1), (-7, 90, 7), (0, 2**63 - 1, 1), (-(2**63) + 1, 0, 1), (5, 5, 5))
_NUMBERS = (
    (0.0, 100.0, 0.1),
    (-5, 5, 0.25),
    (0, 1e300, 1e290),
    (-1e-3, 1e-3, 1e-6),
    (0, 1e15, 1),
    (-0.3, 0.3, 0.3),
)


def _ranges(kind: str, ranges: tuple[tuple[float, float, float], ...]) -> _Part:
    return st.sampled_from(ranges).map(
        lambda r: {"kind": kind, "minimum": r[0], "maximum": r[1], "step": r[2]}
    )


_KINDS: tuple[_Part, ...] = (
    _kind("ip", truncate=_options(None, {"ipv4": 24, "ipv6": 48}, {"ipv4": 12}, {"ipv6": 20})),
    st.sampled_from(_ENUMS).map(lambda options: {"kind": "enum", **options}),
    st.sampled_from(_VERSIONS).map(lambda options: {"kind": "version", **options}),
    _kind("token", pattern=_options("[a-c]{1,3}", "(ab|cd)?x", "[0-9]{2},[0-9]", "linux|1\\.2")),
    _kind("token", catalogue=st.just("os-names")),
    _ranges("integer", _INTEGERS),
    _ranges("number", _NUMBERS),
    _kind("boolean"),
    _kind("time", precision=_options(None, "minute", "day"), within=_options(None, "±7d", "1h")),
    st.sampled_from(_PSEUDONYMS).map(lambda options: {"kind": "pseudonym", **options}),
)


@cache
def _names(most: int) -> st.SearchStrategy[str]:
    length = weighted((3, st.just(1)), (3, st.just(2)), (1, st.just(most)))
    return length.flatmap(lambda n: st.tuples(*[st.sampled_from(_SEGMENTS)] * n)).map(".".join)


@cache
def _field() -> _Part:
    path = weighted((4, _names(3)), (1, st.sampled_from(_PATHS)))
    sources = st.lists(path, min_size=1, max_size=3, unique=True)
    common = st.fixed_dictionaries(
        {
            "category": _options("user.device", "user.telemetry", "system.operations"),
            "purposes": st.lists(st.sampled_from(PURPOSES), min_size=1, max_size=2, unique=True),
            "retention": st.just("30d"),
            "reason": st.just("Needed for a test"),
        },
        optional={"from": sources},
    )
    days = _options("2020-01-01", "2026-06-01", "2026-06-02", "2030-01-01")
    more = weighted(
        (8, st.just({})), (1, st.just({"required": True})), (3, days.map(lambda d: {"expires": d}))
    )
    return st.builds(_merged, weighted(*((1, kind) for kind in _KINDS)), common, more)


@cache
def _derived() -> st.SearchStrategy[dict[str, _Document]]:
    """Fields that a user agent may fill."""
    more = st.fixed_dictionaries({name: _field() for name in _DERIVED})
    names = st.sets(st.sampled_from(sorted(_DERIVED)), min_size=1, max_size=3)
    kept = ("category", "purposes", "retention", "reason", "from", "expires", "required")
    return st.builds(
        lambda names, fields: {
            name: {"derive": "user_agent", **_DERIVED[name]}
            | {key: fields[name][key] for key in kept if key in fields[name]}
            for name in sorted(names)
        },
        names,
        more,
    )


@cache
def _addressed() -> st.SearchStrategy[dict[str, _Document]]:
    """A field that the address of the sender may fill."""
    own = st.sampled_from([{"kind": "ip"}, {"kind": "ip", "truncate": {"ipv4": 24}}, *_PSEUDONYMS])
    kept = ("category", "purposes", "retention", "reason", "from", "expires", "required")
    return st.builds(
        lambda own, field: {
            "client.address": {"kind": "pseudonym", **own, "source": "peer"}
            | {key: field[key] for key in kept if key in field}
        },
        own,
        _field(),
    )


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
    way = records.removesuffix(".*")
    below = way == records and path.startswith(f"{way}.")
    return path == way or below or way.startswith(f"{path}.")


def _is_apart(path: str, others: Iterable[str]) -> bool:
    """Whether a path leads neither to nor through any of the others, and none through it."""
    ways = [(f"{path}.", f"{other}.") for other in others]
    return not any(one.startswith(other) or other.startswith(one) for one, other in ways)


@st.composite
def _documents(draw: st.DrawFn) -> _Document:
    fields = draw(st.dictionaries(_names(3), _field(), min_size=1, max_size=4))
    fields |= draw(weighted((4, st.just({})), (1, _derived())))
    fields |= draw(weighted((6, st.just({})), (1, _addressed())))
    content = draw(st.dictionaries(st.sampled_from(sorted(_CONTENT)), st.none()))
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
    paths = {path for name, field in fields.items() for path in [name, *field.get("from", [])]}
    if any("derive" in field for field in fields.values()):
        document["user_agent"] = draw(st.sampled_from(_AGENTS))
        paths |= {*document["user_agent"], "user_agent.original"}
    clash = [ways for ways in _RECORDS if any(_clashes(p, way) for p in paths for way in ways)]
    free = [ways for ways in _RECORDS if ways not in clash]
    records = draw(st.none() | st.sampled_from(free)) if free else None
    document |= {"records": records} if records else {}
    paths |= {way.removesuffix(".*") for way in records or ()}
    has_lists = any(path.startswith("[") for path in paths)
    ways = [way for way in _CHOICES if has_lists or not way.startswith("[")]
    apart = [way for way in ways if _is_apart(way, paths)]
    if apart and any("optional" in each for each in document["purposes"].values()):
        consent = draw(weighted((1, st.none()), (3, st.sampled_from(apart))))
        document |= {"consent": consent} if consent else {}
    return document


@lru_cache(maxsize=4096)
def _loaded(text: str) -> Schema:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "generated.yaml")
        path.write_text(text, encoding="utf-8")
        return load_schema(path)


def schemas() -> st.SearchStrategy[Schema]:
    """Valid schemas of a few fields of every kind, with and without ``records``, additional
    content names, required fields, fields that are derived or that a request may fill, fields that
    expire around 2026-06-01, and with purposes that a person may refuse, by what lies at a
    ``consent`` path too.

    A schema with a field of kind ``pseudonym`` needs a filter with ``keys``.
    """
    return _documents().map(lambda document: _loaded(json.dumps(document, ensure_ascii=False)))
