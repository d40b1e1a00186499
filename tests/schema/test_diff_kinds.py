"""The law of every kind: what is not called widening lets nothing more through.

Pairs of options are drawn at random and tried on values that either accepts. A value may be refused
by the newer field; otherwise it was accepted before, and what is made of it depends on nothing but
what was made of it before.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from collector.schema.kinds import KINDS, FieldBase
from collector.schema.pattern import Pattern
from collector.schema.verdict import RULES
from collector.testing._values import accepted
from tests.schema.test_pattern import _PATTERNS, Counted
from tests.support.make_schemas import NOW, canonical, field

_CATALOGUES = {
    "few": ["a", "b"],
    "same": ["b", "a"],
    "some": ["a", "b", "ab", "ba"],
    "others": ["b", "c", "ab1"],
}


@pytest.fixture(scope="module")
def catalogues(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small catalogues."""
    folder = tmp_path_factory.mktemp("catalogues")
    for name, entries in _CATALOGUES.items():
        (folder / f"{name}.txt").write_text("\n".join(["# source: these tests", *entries]))
    return folder


def _one_of(*choices: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(choices)


_WORDS = ("a", "b", "A", "é", "x y")
_NAMES = (*_WORDS, "B", "x", "X", "É", "1")
_STEPS = (0.1, 0.2, 0.25, 0.3, 0.5, 1, 1.5, 2)
_READING = _one_of(
    *({"text": text, "unit": None} for text in (None, None, True, False)),
    *(
        {"text": text, "unit": unit}
        for text in (None, True, False)
        for unit in ("ms", "s", "%", "kHz")
    ),
)
_SET = st.fixed_dictionaries(
    {"catalogue": st.sampled_from(sorted(_CATALOGUES))}
) | st.fixed_dictionaries({"pattern": _one_of("[ab]", "a|b", "[ab]{1,2}", "[a-c]b?1?", "[abc]")})


_TEXTS = (
    *("0", "1", "-1", "7", "12.5", "0.05", "-0.001", "3000", "00", "1.", ".5", "+1", " 1", "1e1"),
    *("7 ms", "7ms", "7  ms", "0.007 s", "7000 us", "0.5 min", "7 %", "-1 %", "7 kHz", "7\n"),
)


def _range(
    step: float, low: int, steps: int, more: float, reading: dict[str, Any]
) -> dict[str, Any]:
    low_end = round(low * step, 9)
    highest = round(low_end + steps * step + more, 9)
    return {"minimum": low_end, "maximum": highest, "step": step, "text": None} | reading


OPTIONS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "ip": st.builds(
        lambda one, other, scope: {"truncate": one | other} | scope,
        _one_of(*({"ipv4": bits} for bits in (8, 12, 13, 14, 15, 16, 17, 24, 32))),
        _one_of({}, *({"ipv6": bits} for bits in (16, 20, 31, 32, 33, 48, 95, 96, 97, 128))),
        _one_of({}, {}, {"scope": "global"}),
    ),
    "enum": st.fixed_dictionaries(
        {
            "values": st.lists(st.sampled_from(_WORDS), min_size=1, unique=True),
            "aliases": st.dictionaries(st.sampled_from(_NAMES), st.sampled_from(_WORDS)),
            "fold_case": st.booleans(),
        }
    ),
    "version": st.fixed_dictionaries(
        {"parts": st.integers(1, 4)},
        optional={"maximum": st.lists(_one_of(0, 1, 9, 10, 99, 99_999), min_size=1, max_size=4)},
    ),
    "token": st.builds(lambda a, b: a | b, _SET, _one_of({}, {"max_length": 3})),
    "integer": st.builds(
        _range,
        *(st.integers(1, 6), st.integers(-2, 2), st.integers(0, 5), st.integers(0, 3)),
        _READING,
    ),
    "number": st.builds(
        _range,
        *(st.sampled_from(_STEPS), st.integers(-4, 4), st.integers(0, 9), _one_of(0, 0.05)),
        _READING,
    ),
    "boolean": st.just({}),
    "time": st.fixed_dictionaries(
        {"precision": _one_of("second", "minute", "hour", "day")},
        optional={"within": _one_of("1s", "60s", "90s", "59m", "1h", "2h", "24h", "2d", "7d")},
    ),
    "pseudonym": st.fixed_dictionaries(
        {"key": _one_of("env:A", "env:B"), "rotate": _one_of("2h", "3h", "4h", "6h", "9h")}
    ),
}

_PREFIXES = (
    *("169.254.0.1", "169.255.0.1", "169.252.9.9", "168.0.0.1", "64:ff9b::1", "64:ff9b::1:0:0"),
    *("64:ff9b:0:1::", "64:ff9b:1::", "64:ff80::1", "64:ff9b:0:0:0:0:1:0", "::ffff:1.2.3.4"),
    *("::fffe:0:0", "::1.2.3.4", "2002:102:304::1", "2002:a9fe::", "::", "64:ff9a:ffff::1"),
    *("2001:0:102:304:0:f227:fefd:fcfb", "64:ff9b:1:102:3:400::", "2001:db8::5efe:102:304"),
)


def _values(kind: str, fields: list[FieldBase], now: datetime) -> st.SearchStrategy[Any]:
    each = [accepted(one, now) for one in fields]
    special = {
        "enum": st.sampled_from(_NAMES),
        "integer": st.integers(-15, 45) | st.sampled_from(_TEXTS),
        "number": st.sampled_from(_TEXTS),
        "time": st.integers(-300_000, 300_000).map(lambda s: int(now.timestamp()) + s),
    }.get(kind)
    return st.one_of(*each, *([] if special is None else [special]))


@st.composite
def _revised(
    draw: st.DrawFn, options: st.SearchStrategy[dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options, and what becomes of them: most often only one is another."""
    old, new = draw(options), draw(options)
    changed = draw(st.sampled_from([*new, None, *new])) if new else None
    return old, (new if changed is None else old | {changed: new[changed]})


def _field(kind: str, beside: Path, options: dict[str, Any]) -> FieldBase:
    if "aliases" in options:  # those that fit the values
        values, listed = options["values"], options["aliases"].items()
        fitting = {name: value for name, value in listed if value in values and name not in values}
        options = options | {"aliases": fitting}
    try:
        return field(kind, beside, **options)
    except ValidationError:
        assume(False)
        raise


class Broken(NamedTuple):
    """What the newer field does with values: more than before, and other than before."""

    more: bool
    other: bool


def _tried(old: FieldBase, new: FieldBase, values: list[Any], now: datetime = NOW) -> Broken:
    both = [(canonical(of, now), of) for of in (old, new)]
    became: dict[Any, Any] = {}
    more = other = False
    for value in values:
        read = (one(value) if type(value) in of.reads() else None for one, of in both)
        was, made = read
        other = other or repr(was) != repr(made)
        if made is not None and (was is None or became.setdefault(was, made) != made):
            more = True
    return Broken(more, other)


def _verdicts(old: FieldBase, new: FieldBase) -> set[str]:
    return {RULES[shift.what] for shift in old.shifts(new)}


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
def test_what_does_not_widen_lets_nothing_more_through(
    catalogues: Path, kind: str, data: st.DataObject
) -> None:
    """A neutral change changes no value, and a field differs from itself in nothing."""
    old, new = (_field(kind, catalogues, options) for options in data.draw(_revised(OPTIONS[kind])))
    now = NOW + timedelta(seconds=data.draw(st.integers(0, 90_000)))
    values = data.draw(st.lists(_values(kind, [old, new], now), min_size=1, max_size=20))
    broken = _tried(old, new, [*values, *(_PREFIXES if kind == "ip" else ())], now)
    verdicts = _verdicts(old, new)
    if broken.more:
        assert "widening" in verdicts
    if broken.other:
        assert verdicts & {"widening", "narrowing"}
    assert not list(old.shifts(old))


def _everything(kind: str) -> list[Any]:
    """Every value that can make a difference, for kinds of few values."""
    if kind == "enum":
        return sorted({change(name) for name in _NAMES for change in (str, str.upper, str.lower)})
    if kind == "integer":
        return [*range(-20, 60), *_TEXTS]
    if kind == "number":
        return [*(n / 40 for n in range(-400, 1200)), *_TEXTS]
    if kind == "token":
        return ["".join(text) for n in range(1, 4) for text in product("abc1", repeat=n)]
    parts = ("0", "1", "9", "10", "99", "00", "100")
    return [".".join(text) for n in range(1, 5) for text in product(parts[: 8 - n], repeat=n)]


@pytest.mark.parametrize("kind", ["enum", "integer", "number", "token", "version"])
@given(st.data())
def test_every_value_of_small_kinds(catalogues: Path, kind: str, data: st.DataObject) -> None:
    """A token is called widening only if it is."""
    old, new = (_field(kind, catalogues, options) for options in data.draw(_revised(OPTIONS[kind])))
    broken = _tried(old, new, _everything(kind))
    verdicts = _verdicts(old, new)
    if broken.more:
        assert "widening" in verdicts
    if broken.other:
        assert verdicts & {"widening", "narrowing"}
    if kind == "token":
        sets = {RULES[s.what] for s in old.shifts(new) if s.option != "max_length"}
        assert ("widening" in sets) == broken.more
        assert ("narrowing" in sets) == (broken.other and not broken.more)


@given(_revised(OPTIONS["pseudonym"]), st.integers(0, 100), st.integers(0, 11))
def test_pseudonyms_link_no_longer(
    pair: tuple[dict[str, Any], dict[str, Any]], first: int, later: int
) -> None:
    """Two moments whose pseudonyms are the same were in one period before, too."""
    old, new = (field("pseudonym", **options) for options in pair)
    moments = [NOW + timedelta(hours=hours / 2) for hours in (first, first + later)]

    def linked(by: FieldBase) -> bool:
        def key(reference: str, period: int) -> bytes:
            return f"{reference} {period}".encode()

        return len({canonical(by, moment, key)("someone") for moment in moments}) == 1

    if linked(new) and not linked(old):
        assert "widening" in _verdicts(old, new)


def _case(kind: str, old: dict[str, Any], new: dict[str, Any], **what: str) -> Any:
    words = {key.replace("__", "."): rule for key, rule in what.items()}
    return pytest.param(kind, old, new, words, id=f"{kind}-{'-'.join(what.values())}")


def _between(low: float, high: float, step: float) -> dict[str, float]:
    return {"minimum": low, "maximum": high, "step": step}


def _cases() -> Iterator[Any]:
    ab = {"values": ["a", "b"]}
    yield _case("enum", ab, {"values": ["b", "a"]}, values="written differently")
    yield _case("enum", ab, {"values": ["a"]}, values="fewer values")
    yield _case("enum", ab, {"values": ["a", "c"]}, values="more values")
    yield _case("enum", ab, ab | {"aliases": {"x": "a"}}, aliases="more spellings")
    yield _case("enum", ab | {"aliases": {"x": "a"}}, ab, aliases="fewer spellings")
    pointed = [ab | {"aliases": {"x": value}} for value in "ab"]
    yield _case("enum", *pointed, aliases="other values")
    merged = {"values": ["a"], "aliases": {"b": "a"}}
    yield _case("enum", ab, merged, values="fewer values", aliases="coarser values")
    yield _case("enum", merged, ab, values="more values", aliases="other values")
    yield _case("enum", ab, ab | {"aliases": {"a": "a"}}, aliases="written differently")
    yield _case("enum", ab, ab | {"fold_case": True}, fold_case="more spellings")
    yield _case("enum", ab | {"fold_case": True}, ab, fold_case="fewer spellings")
    yield _case("version", {"parts": 2}, {"parts": 3}, parts="finer values")
    yield _case("version", {"parts": 2}, {"parts": 1}, parts="coarser values")
    one = {"parts": 1, "maximum": [9]}
    yield _case("version", one, one | {"maximum": [10]}, maximum="more values")
    yield _case("version", one, one | {"maximum": [8]}, maximum="fewer values")
    yield _case("version", one, one | {"maximum": [9, 9]}, maximum="fewer values")
    yield _case("version", one | {"maximum": [9, 9]}, one, maximum="more values")
    yield _case("version", one, one | {"maximum": [9, 99999]}, maximum="written differently")
    yield _case("integer", _between(0, 90, 10), _between(0, 90, 5), step="finer values")
    yield _case("integer", _between(0, 90, 10), _between(0, 90, 30), step="coarser values")
    yield _case("integer", _between(0, 90, 10), _between(0, 90, 15), step="finer values")
    wider = {"minimum": "more values", "maximum": "more values"}
    yield _case("integer", _between(0, 90, 10), _between(-10, 91, 10), **wider)
    fewer = {"minimum": "fewer values", "maximum": "fewer values"}
    yield _case("number", _between(0, 1, 0.1), _between(0.1, 0.95, 0.1), **fewer)
    yield _case("number", _between(0, 1, 0.1), _between(0, 1, 0.3), step="coarser values")
    yield _case("number", _between(0, 1, 0.1), _between(0, 1, 0.25), step="finer values")
    ten = _between(0, 10, 1)
    text, ms = ten | {"text": True}, ten | {"unit": "ms"}
    yield _case("integer", ten, text, text="more spellings")
    yield _case("integer", text, ten, text="fewer spellings")
    yield _case("number", ten, ms, unit="more spellings")
    yield _case("number", ms, ten, unit="fewer spellings")
    yield _case("number", ms, ms | {"text": True}, text="written differently")
    yield _case("number", text, ms, text="written differently", unit="more spellings")
    yield _case("number", ms, text, text="written differently", unit="fewer spellings")
    yield _case("integer", ms, ten | {"unit": "s"}, unit="other values")
    off = ms | {"text": False}
    yield _case("integer", ms, off, text="fewer spellings")
    yield _case("number", off, ms, text="more spellings")
    yield _case("number", off, off | {"unit": "s"}, unit="other values")
    yield _case("number", ten | {"text": False}, off, unit="written differently")
    both = {"text": "more spellings", "unit": "more spellings"}
    yield _case("integer", ten, ms | {"text": True}, **both)
    yield _case("ip", {}, {"truncate": {"ipv4": 24}}, truncate__ipv4="coarser values")
    yield _case("ip", {"truncate": {"ipv6": 48}}, {}, truncate__ipv6="finer values")
    short4 = [{"truncate": {"ipv4": bits}} for bits in (15, 14)]
    yield _case("ip", *short4, truncate__ipv4="more values")
    yield _case("ip", {}, {"scope": "global"}, scope="fewer values")
    yield _case("ip", {"scope": "global"}, {}, scope="more values")
    private = [{"truncate": {"ipv4": bits}, "scope": "global"} for bits in (13, 12)]
    yield _case("ip", *private, truncate__ipv4="more values")
    short6 = [{"truncate": {"ipv6": bits}} for bits in (48, 24)]
    yield _case("ip", *short6, truncate__ipv6="more values")
    day, hour = {"precision": "day"}, {"precision": "hour"}
    yield _case("time", day, hour, precision="finer values")
    yield _case("time", hour, day, precision="coarser values")
    week = {"within": "7d"}
    yield _case("time", hour | week, day | week, precision="more values")
    changed = {"precision": "coarser values", "within": "fewer values"}
    yield _case("time", hour | week, day | {"within": "6d"}, **changed)
    yield _case("time", hour, hour | week, within="fewer values")
    yield _case("time", hour | week, hour, within="more values")
    yield _case("time", hour | week, hour | {"within": "8d"}, within="more values")
    keyed = [{"key": "env:A", "rotate": rotate} for rotate in ("6h", "3h", "4h", "1d")]
    yield _case("pseudonym", keyed[0], keyed[1], rotate="linked shorter")
    yield _case("pseudonym", keyed[0], keyed[2], rotate="linked longer")
    yield _case("pseudonym", keyed[0], keyed[3], rotate="linked longer")
    yield _case("pseudonym", keyed[0], keyed[0] | {"key": "env:B"}, key="another key")
    yield _case("token", {"pattern": "[ab]"}, {"pattern": "a|b"}, pattern="written differently")
    yield _case("token", {"pattern": "[ab]"}, {"pattern": "[abc]"}, pattern="more values")
    yield _case("token", {"pattern": "[abc]"}, {"pattern": "[ab]"}, pattern="fewer values")
    closed = {"pattern": "fewer values", "catalogue": "fewer values"}
    yield _case("token", {"pattern": "[ab]{1,2}"}, {"catalogue": "few"}, **closed)
    same = {"pattern": "written differently", "catalogue": "written differently"}
    yield _case("token", {"catalogue": "few"}, {"pattern": "[ab]"}, **same)
    opened = {"pattern": "more values", "catalogue": "more values"}
    yield _case("token", {"catalogue": "few"}, {"pattern": "[a-z]{12}"}, **opened)
    yield _case("token", {"catalogue": "some"}, {"catalogue": "few"}, catalogue="fewer values")
    yield _case(
        "token", {"catalogue": "few"}, {"catalogue": "same"}, catalogue="written differently"
    )
    yield _case("token", {"catalogue": "some"}, {"catalogue": "others"}, catalogue="more values")
    long = [{"pattern": "a", "max_length": most} for most in (3, 4)]
    yield _case("token", *long, max_length="ceiling raised")
    yield _case("token", *long[::-1], max_length="ceiling lowered")


@pytest.mark.parametrize(("kind", "old", "new", "what"), list(_cases()))
def test_each_option(
    catalogues: Path, kind: str, old: dict[str, Any], new: dict[str, Any], what: dict[str, str]
) -> None:
    before, after = (field(kind, catalogues, **options) for options in (old, new))
    assert {shift.option: shift.what for shift in before.shifts(after)} == what


def test_a_catalogue_that_changed_under_its_name(tmp_path: Path) -> None:
    texts = ["# source: a\nold\nboth\n", "# source: a\nboth\nnew\n", "# source: b\nboth\n"]
    tokens = []
    for number, text in enumerate(texts):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "things.txt").write_text(text)
        tokens.append(field("token", folder, catalogue="things"))
    assert list(tokens[0].shifts(tokens[1])) == [("catalogue", "more values", ["old"], ["new"])]
    assert list(tokens[1].shifts(tokens[2])) == [("catalogue", "fewer values", ["new"], [])]


@given(_PATTERNS, _PATTERNS)
def test_a_language_within_another(one: Counted, other: Counted) -> None:
    first, second = Pattern(one.pattern), Pattern(other.pattern)
    both = Pattern(f"({one.pattern})|({other.pattern})")
    assert first.within(second) == (one.texts <= other.texts)
    assert first.within(both)
    assert second.within(both)
    assert both.within(first) == (other.texts <= one.texts)


def test_languages_too_wide_to_list() -> None:
    """2^60 texts take no time; what would take too much is not proven."""
    hexadecimal, digits = Pattern("[0-9a-f]{15}"), Pattern("[0-9]{15}")
    assert digits.within(hexadecimal)
    assert not hexadecimal.within(digits)
    tangled = Pattern("(a|b)?" * 24 + "c")
    assert tangled.within(Pattern("[ab]{0,24}c"))
