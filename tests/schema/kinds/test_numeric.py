"""``integer`` and ``number``: in range, rounded down, exact."""

from __future__ import annotations

import decimal
import re
from fractions import Fraction
from math import inf, nan
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from collector.schema.kinds import FieldBase
from tests.filter.canonical import UNITS, of_integer, of_number
from tests.support.make_schemas import canonical, field, refuses
from tests.support.rows import for_each

_INTEGERS = st.builds(
    lambda low, steps, more, step: field(
        "integer", minimum=low * step, maximum=low * step + steps * step + more % step, step=step
    ),
    st.integers(-20, 20),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(1, 7),
)


@given(_INTEGERS, st.integers(-300, 300) | st.integers())
def test_integers(of: FieldBase, value: int) -> None:
    """A whole number in range becomes the greatest multiple of the step that is not above it."""
    found = canonical(of)(value)
    assert repr(found) == repr(of_integer(of, value))
    assert found is None or canonical(of)(found) == found


@for_each("value", [-(2**63), 2**63, 10**400, -(10**400)])
def test_huge_integers(value: int) -> None:
    most = 2**63 - 1
    make = canonical(field("integer", minimum=-most, maximum=most, step=1))
    assert make(value) is None
    assert (make(most), make(-most)) == (most, -most)


_STEPS = st.sampled_from([0.1, 0.25, 0.3, 1, 2.5, 7, 10, 1000, 0.001, 1e-6, 0.7])
_NUMBERS = st.builds(
    lambda step, low, steps: field(
        "number",
        minimum=float(Fraction(str(step)) * low),
        maximum=float(Fraction(str(step)) * (low + steps)),
        step=step,
    ),
    _STEPS,
    st.integers(-100, 100),
    st.integers(0, 300),
)


def _exact(value: float) -> Fraction:
    return Fraction(repr(value))


@given(_NUMBERS, st.floats() | st.floats(-100, 100) | st.integers(-1000, 1000))
def test_numbers(of: FieldBase, value: float) -> None:
    found = canonical(of)(value)
    assert repr(found) == repr(of_number(of, value))
    assert found is None or canonical(of)(found) == found


@given(_NUMBERS)
def test_every_multiple_is_itself(of: FieldBase) -> None:
    make, low, high, step = canonical(of), of.minimum, of.maximum, of.step  # type: ignore[attr-defined]
    count = (_exact(high) - _exact(low)) // _exact(step) + 1
    multiples = [float(_exact(low) + number * _exact(step)) for number in range(count)]
    assert [make(value) for value in multiples] == multiples
    assert of.size() == len(set(multiples)) == count


@for_each(
    ("value", "result"),
    [
        *((0.3, 0.3), (0.30000000000000004, 0.3), (0.29999999999999993, 0.2), (0.7, 0.7), (1, 1.0)),
        *((-0.05, -0.1), (-0.1, -0.1), (-0.0, 0.0), (5e-324, 0.0), (-5e-324, -0.1), (10, 10.0)),
        *((10.000000000000002, None), (-1.0000000000000002, None)),
        (10**400, None),
        (nan, None),
        (inf, None),
        (-inf, None),
    ],
)
def test_tenths(value: float, result: float | None) -> None:
    """Steps of 0.1 are tenths, not what doubles make of them."""
    make = canonical(field("number", minimum=-1, maximum=10, step=0.1))
    assert repr(make(value)) == repr(result)


@for_each("precision", [1, 3, 50])
def test_the_precision_of_the_program_does_not_matter(precision: int) -> None:
    """A program that embeds us may set its decimal context as it likes."""
    traps = [decimal.Inexact, decimal.Rounded, decimal.FloatOperation]
    with decimal.localcontext(decimal.Context(prec=precision, traps=traps)):
        of = field("number", minimum=-123.45, maximum=12345.65, step=0.05)
        assert of.size() == 249_383
        make = canonical(of)
        assert make(12345.67 - 0.02) == 12345.65
        assert make(1234.5678) == 1234.55
        assert make(-0.01) == -0.05


def test_extremes() -> None:
    fine = field("number", minimum=0, maximum=1, step=1e-15)
    assert fine.size() == 10**15 + 1
    assert canonical(fine)(0.123456789012345678) == 0.123456789012345
    coarse = field("number", minimum=-1e300, maximum=1e300, step=1e290)
    assert coarse.size() == 2 * 10**10 + 1
    assert canonical(coarse)(1.23456789012345678e299) == 1.23456789e299
    assert field("number", minimum=-1e15, maximum=-1e-25, step=1).size() == 10**15


@for_each(
    ("kind", "code", "limits"),
    [
        ("integer", "E122", [(1, 9, 2), (9, 1, 1)]),
        ("integer", "greater_than_equal", [(0, 9, 0), (-(2**63), 0, 1)]),
        ("integer", "less_than_equal", [(0, 2**63, 1)]),
        ("integer", "int_type", [(0, 1.0, 1), (0, "9", 1), (0, True, 1)]),
        ("integer", None, [(-4, -4, 2)]),
        ("number", "E122", [(0.05, 9, 0.1), (1, 0, 1), (0, 2e15, 1), (0, 1e-305, 1e-310)]),
        ("number", "greater_than", [(0, 1, 0)]),
        ("number", "float_type", [(0, "1", 1), (0, True, 1)]),
        ("number", None, [(-0.3, 0.35, 0.1), (0, 1e15, 1)]),
    ],
)
def test_options(kind: str, code: str | None, limits: list[tuple[Any, Any, Any]]) -> None:
    for low, high, step in limits:
        assert refuses(kind, minimum=low, maximum=high, step=step) == code, (low, high, step)


def test_all_limits_are_needed() -> None:
    assert refuses("integer", maximum=9, step=1) == "missing"
    assert refuses("number", minimum=0, maximum=1) == "missing"


def test_json_types() -> None:
    """An integer reads whole numbers only; a number reads both; a boolean is neither."""
    of = field("integer", minimum=0, maximum=1, step=1)
    assert of.wire == {int}
    assert field("number", minimum=0, maximum=1, step=1).wire == {int, float}


_UNITS = [None, *(unit for units in UNITS for unit in units)]
_DIGITS = st.text("0123456789", min_size=1, max_size=18)


@given(
    st.sampled_from(["integer", "number"]),
    st.sampled_from(_UNITS),
    st.from_regex(r"-?[0-9]{1,18}(\.[0-9]{1,18})? ?", fullmatch=True, alphabet="0123456789-. "),
    st.sampled_from(_UNITS),
    st.data(),
)
def test_texts(
    kind: str, of_field: str | None, number: str, of_text: str | None, data: st.DataObject
) -> None:
    """A text is exact to its last digit, in the field's unit."""
    step = data.draw(st.sampled_from([1, 3, 10**6] if kind == "integer" else [0.1, 1e-6, 2.5, 7]))
    low, high = (_exact(step) * data.draw(st.integers(0, 10**6)) for _ in range(2))
    as_number = int if kind == "integer" else float
    reading = {"text": True} if of_field is None else {"unit": of_field}
    of = field(kind, minimum=as_number(-low), maximum=as_number(high), step=step, **reading)
    text = number + (of_text or "")
    found = canonical(of)(text)
    assert repr(found) == repr((of_integer if kind == "integer" else of_number)(of, text))
    assert found is None or canonical(of)(found) == found


@given(_NUMBERS, st.floats(-1e6, 1e6, allow_subnormal=False) | st.integers(-1000, 1000))
def test_a_number_and_its_text(of: FieldBase, value: float) -> None:
    written = f"{decimal.Decimal(repr(value)):f}"
    reads = of.model_copy(update={"text": True})
    assert repr(canonical(reads)(value)) == repr(canonical(of)(value))
    if len(written) <= 32:
        assert repr(canonical(reads)(written)) == repr(canonical(of)(value))


@given(st.text(max_size=40) | st.text("0123456789.+-eE_ ,msh%٣３²\n\t\x00", max_size=40))
def test_any_text(text: str) -> None:
    plain = canonical(field("number", minimum=-1e15, maximum=1e15, step=1, text=True))
    timed = canonical(field("number", minimum=-1e9, maximum=1e9, step=1, unit="s"))
    number = r"-?[0-9]+(\.[0-9]+)?"
    if not re.fullmatch(number, text) or len(text) > 32:
        assert plain(text) is None
    if not re.fullmatch(rf"{number}( ?(us|ms|s|min|h))?", text) or len(text) > 32:
        assert timed(text) is None


@for_each(
    ("text", "result"),
    [
        *(("54 ms", 54.0), ("54ms", 54.0), ("54.96", 54.9), ("0.054 s", 54.0), ("54999 us", 54.9)),
        *(("0.001 h", None), ("0.01 min", 600.0), ("-0", 0.0), ("-0.0 ms", 0.0), ("0054", 54.0)),
        ("1000", 1000.0),
        ("1000.0000000000000000000000000", 1000.0),
        ("1000.0000000000000000000000001", None),
        ("0." + "0" * 30, 0.0),
        ("0." + "0" * 31, None),
        ("9" * 33, None),
        ("9" * 5000, None),
        ("0" * 5000, None),
        ("0." + "1" * 1_000_000, None),
        *((text, None) for text in ("", " ", "ms", " ms", "-", "-ms", ".", "5.", ".5", "5. ms")),
        *((text, None) for text in ("+5", "--5", "- 5", "5-", "5 -", "−5", "(5)", "5e1", "5E1")),
        *((text, None) for text in ("1,000", "1 000", "1_000", "1'0", "1.0.0", "0x5", "5/1")),
        *((text, None) for text in (" 5", "5 ", "5\n", "\n5", "5\x00", "5\u00a0ms", "5  ms")),
        *((text, None) for text in ("5\tms", "5 ms ", "5 MS", "5 Ms", "5 msec", "5 m", "5 %")),
        *(
            (text, None)
            for text in ("٥", "５", "5 ｍｓ", "²", "½", "5 µs", "5 μs", "\ud800", "5\ud800")
        ),
        *((text, None) for text in ("NaN", "Infinity", "inf", "true", "null", "ten", "5 5")),
    ],
)
def test_texts_in_milliseconds(text: str, result: float | None) -> None:
    make = canonical(field("number", minimum=0, maximum=1000, step=0.1, unit="ms"))
    assert repr(make(text)) == repr(result)


@for_each(
    ("text", "result"),
    [("7", 5), ("7.99", 5), ("-0.01", -5), ("-10", -10), ("-10.001", None), ("20.001", None)],
)
def test_texts_of_whole_numbers(text: str, result: int | None) -> None:
    """A fraction is rounded down as any number is, and has to be in range as it stands."""
    make = canonical(field("integer", minimum=-10, maximum=20, step=5, text=True))
    assert make(text) == result


def test_huge_steps() -> None:
    coarse = canonical(field("number", minimum=-1e300, maximum=1e300, step=1e290, text=True))
    assert (coarse("9" * 32), coarse("-1")) == (0.0, -1e290)
    fine = canonical(field("number", minimum=0, maximum=1e-285, step=1e-290, unit="us"))
    assert (fine("0.0"), fine("1"), fine("0." + "0" * 29 + "1")) == (0.0, None, None)
    most = 2**63 - 1
    wide = canonical(field("integer", minimum=-most, maximum=most, step=1, unit="us"))
    assert (wide(str(most)), wide(str(most + 1)), wide("9223372036854.775807 s")) == (
        *(most, None),
        most,
    )


def test_what_numbers_read() -> None:
    limits: dict[str, Any] = {"minimum": 0, "maximum": 100, "step": 1}
    kinds: tuple[tuple[str, set[type]], ...] = (("integer", {int}), ("number", {int, float}))
    for kind, types in kinds:
        plain = field(kind, **limits)
        text, unit = field(kind, **limits, text=True), field(kind, **limits, unit="%")
        assert plain.reads() == types
        assert text.reads() == unit.reads() == types | {str}
        assert plain.size() == text.size() == unit.size() == 101
        assert plain.value_schema() == text.value_schema() == unit.value_schema()
        assert text.recognised()("5") is None
        assert text.document() == plain.document() | {"text": True}
        assert unit.document() == plain.document() | {"unit": "%"}
        for of in (field(kind, **limits, text=False), field(kind, **limits, text=False, unit="%")):
            assert of.reads() == types
            assert of.document()["text"] is False


@for_each(
    ("options", "code"),
    [
        *(({"unit": "ms", "text": True}, None), ({"unit": "ms", "text": False}, None)),
        *(({"unit": "msec"}, "literal_error"), ({"unit": "MS"}, "literal_error")),
        *(({"unit": ""}, "literal_error"), ({"unit": 1}, "literal_error")),
        *(({"text": "true"}, "bool_type"), ({"text": 1}, "bool_type")),
    ],
)
def test_options_of_texts(options: dict[str, Any], code: str | None) -> None:
    assert refuses("integer", minimum=0, maximum=9, step=1, **options) == code


_PRINTED = "0123456789.- msh%kz:"


@given(
    st.text(_PRINTED, max_size=40) | st.text(st.characters(exclude_characters='"\\')), st.randoms()
)
def test_what_may_be_a_number_by_its_bytes(text: str, random: Random) -> None:
    """A JSON text may be escaped in any way."""
    of = field("number", minimum=-1e15, maximum=1e15, step=1, unit="h")
    escaped = [each if random.random() < 0.5 else f"\\u{ord(each):04x}" for each in text]
    raw = f'"{"".join(escaped)}"'.encode(errors="surrogatepass")
    number = r"-?[0-9]+(\.[0-9]+)?( ?(us|ms|s|min|h|bps|kbps|Mbps|fps|Hz|kHz|MHz|%))?"
    fits = len(text) <= 32 and re.fullmatch(number, text) is not None
    assert of.may_be_value(raw) == fits
    if canonical(of)(text) is not None:
        assert fits
