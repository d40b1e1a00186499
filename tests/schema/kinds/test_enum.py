"""``enum``: values, aliases, case."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tests.filter.canonical import of_enum
from tests.support.make_schemas import canonical, field, refuses
from tests.support.rows import for_each

_WORDS = st.text(alphabet="aAbBkKſİ é", min_size=1, max_size=3).filter(lambda w: w == w.strip())


@st.composite
def _options(draw: st.DrawFn) -> dict[str, Any]:
    values = draw(st.lists(_WORDS, min_size=1, max_size=4, unique=True))
    aliases = draw(st.dictionaries(_WORDS, st.sampled_from(values), max_size=4))
    return {"values": values, "aliases": aliases, "fold_case": draw(st.booleans())}


@example({"values": ["İ"], "aliases": {}, "fold_case": True}, "İ")
@given(_options(), _WORDS | st.text())
def test_against_the_lists(options: dict[str, Any], text: str) -> None:
    if refuses("enum", **options):
        return
    of = field("enum", **options)
    make = canonical(of)
    found = make(text)
    assert found == of_enum(of, text)
    assert found is None or make(found) == found


@given(_options())
def test_size(options: dict[str, Any]) -> None:
    if refuses("enum", **options):
        return
    of = field("enum", **options)
    make = canonical(of)
    everything = [*options["values"], *options["aliases"]]
    everything += [text.swapcase() for text in everything] + [text.upper() for text in everything]
    assert {made for text in everything if (made := make(text))} == set(options["values"])
    assert of.size() == len(options["values"])


def test_aliases() -> None:
    """An alias leads to its value and never comes out."""
    make = canonical(field("enum", values=["desktop", "phone"], aliases={"Windows": "desktop"}))
    assert [make(text) for text in ("desktop", "Windows", "windows", "Desktop", "tablet", "")] == [
        *("desktop", "desktop", None, None, None, None),
    ]


def test_folding_is_ascii_only() -> None:
    """Case is folded for ASCII; look-alikes (the Kelvin sign, the long s) stay strangers."""
    make = canonical(field("enum", values=["kiosk", "É"], fold_case=True))
    assert make("KIOSK") == make("kIosk") == "kiosk"
    assert make("\u212aiosk") is None
    assert make("kio\u017fk") is None
    assert make("É") == "É"
    assert make("é") is None


@for_each("text", [" kiosk", "kiosk ", "kiosk\n", "ki osk", "kiosk\0", "ｋiosk", "kiosk" * 99])
def test_nothing_is_trimmed(text: str) -> None:
    assert canonical(field("enum", values=["kiosk"], fold_case=True))(text) is None


_AB = {"values": ["a", "b"]}


@for_each(
    ("code", "tried"),
    [
        ("E107", [{"values": []}, {"values": ["a", "a"]}, {"values": [""]}, {"values": [" a"]}]),
        ("E107", [{"values": ["a\nb"]}, {"values": ["x" * 65]}]),
        ("E107", [{"values": ["a"], "aliases": {"": "a"}}]),
        ("E122", [{"values": ["a"], "aliases": {"b": "c"}}, _AB | {"aliases": {"a": "b"}}]),
        ("E122", [{"values": ["a", "A"], "fold_case": True}]),
        ("E122", [_AB | {"aliases": {"A": "b"}, "fold_case": True}]),
        ("E122", [_AB | {"aliases": {"X": "a", "x": "b"}, "fold_case": True}]),
        (None, [{"values": ["a", "A"]}, {"values": ["a"], "aliases": {"a": "a"}}]),
        (None, [_AB | {"aliases": {"X": "a", "x": "a"}, "fold_case": True}]),
        ("tuple_type", [{"values": "abc"}]),
        ("bool_type", [{"values": ["a"], "fold_case": 1}]),
    ],
)
def test_options(code: str | None, tried: list[dict[str, Any]]) -> None:
    assert [refuses("enum", **options) for options in tried] == [code] * len(tried)
