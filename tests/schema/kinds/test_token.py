"""``token``: a pattern or a catalogue, never both, never cut."""

from __future__ import annotations

from pathlib import Path
from string import ascii_lowercase
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from collector.schema.kinds.token import TokenField
from tests.support.make_schemas import canonical, field, refuses
from tests.support.rows import for_each


@given(st.text(alphabet="SMsm-0123456789 \n", max_size=8) | st.text())
def test_patterns(text: str) -> None:
    make = canonical(field("token", pattern="SM-[0-9]{3}"))
    member = len(text) == 6 and text.startswith("SM-") and text[3:].isascii() and text[3:].isdigit()
    assert make(text) == (text if member else None)


def test_catalogues(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("# source: made up\niPhone 15\niPhone 15 Pro\n")
    of = field("token", tmp_path, catalogue="mine")
    make = canonical(of)
    assert make("iPhone 15") == "iPhone 15"
    for text in ("iphone 15", "iPhone 15 ", "iPhone", "iPhone 15 Pro Max", "", "# source: made up"):
        assert make(text) is None
    assert isinstance(of, TokenField)
    assert of.entries == {"iPhone 15", "iPhone 15 Pro"}
    assert of.longest() == len("iPhone 15 Pro")
    assert of.language is None


@for_each(("most", "code"), [(5, "E116"), (6, None), (64, None)])
def test_max_length(tmp_path: Path, most: int, code: str | None) -> None:
    """``max_length`` is a promise about the whole set; it cuts no text."""
    (tmp_path / "mine.txt").write_text("# source: made up\na\nlonger\n")
    assert refuses("token", tmp_path, catalogue="mine", max_length=most) == code
    assert refuses("token", pattern="a|longer", max_length=most) == code


@for_each(
    ("code", "tried"),
    [
        ("E122", [{}, {"pattern": "a", "catalogue": "os-names"}]),
        ("E116", [{"pattern": text} for text in (".*", "[a-z]{14}", "a{65}", "a{64}a")]),
        ("E101", [{"catalogue": "nowhere"}]),
        ("E107", [{"catalogue": "../catalogues/os-names"}]),
        ("greater_than_equal", [{"catalogue": "os-names", "max_length": 0}]),
        ("less_than_equal", [{"catalogue": "os-names", "max_length": 65}]),
        (None, [{"catalogue": "os-names", "max_length": 64}, {"catalogue": "os-names"}]),
    ],
)
def test_options(code: str | None, tried: list[dict[str, Any]]) -> None:
    assert [refuses("token", **options) for options in tried] == [code] * len(tried)


@for_each(
    ("written", "bits"),
    [("{}", 4.7), ("{}.", 4.7), ("-{}7", 4.7), ("v{}", 4.7), ("word{}", 0.0)],
)
def test_an_alphabet_is_letters_in_a_catalogue_as_in_an_enum(
    written: str, bits: float, tmp_path: Path
) -> None:
    """Several fields with letters can spell a word."""
    entries = [written.format(letter) for letter in ascii_lowercase]
    (tmp_path / "mine.txt").write_text("\n".join(["# source: made up", *entries]))
    for of in (field("token", tmp_path, catalogue="mine"), field("enum", values=entries)):
        assert round(of.letter_bits(), 1) == bits, of.kind
        assert of.is_text() == of.can_spell() == bool(bits)


def test_what_is_no_alphabet(tmp_path: Path) -> None:
    """Numbered classes and grades are none."""
    classes = [f"{letter}{number}" for letter in "abcdefgh" for number in range(7)]
    assert field("enum", values=classes).letter_bits() == 0
    for name in ("device-manufacturers", "device-models", "os-names"):
        assert field("token", catalogue=name).letter_bits() == 0


def test_an_alphabet_in_a_long_list(tmp_path: Path) -> None:
    words = [f"word number {number}" for number in range(100)]
    (tmp_path / "mine.txt").write_text("\n".join(["# source: made up", *ascii_lowercase, *words]))
    of = field("token", tmp_path, catalogue="mine")
    assert of.letter_bits() > 4.7
    assert of.is_text()
    assert of.can_spell()
