"""``version``: dotted numbers, coarsened."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.filter.canonical import of_version
from tests.support.make_schemas import canonical, field, refuses
from tests.support.rows import for_each

_OPTIONS = st.integers(1, 4).flatmap(
    lambda parts: st.tuples(
        st.just(parts),
        st.lists(st.sampled_from([0, 3, 9, 10, 99, 250]), min_size=parts, max_size=4),
    )
)
_TEXTS = st.lists(
    st.integers(0, 300).map(str) | st.sampled_from(["00", "007", "0"]), max_size=5
).map(".".join) | st.text(alphabet="0123456789. -+v١²", max_size=12)


@given(_OPTIONS, _TEXTS)
def test_against_splitting(options: tuple[int, list[int]], text: str) -> None:
    parts, maximum = options
    of = field("version", parts=parts, maximum=maximum)
    make = canonical(of)
    found = make(text)
    assert found == of_version(of, text)
    assert found is None or make(found) == found


def test_defaults() -> None:
    of = field("version")
    one = sum(10**digits for digits in range(1, 6))
    assert of.size() == one + one**2 + one**3 + one**4
    make = canonical(of)
    assert make("10.0.19045.4291") == "10.0.19045.4291"
    assert make("99999.99999.99999.99999") is not None
    assert make("100000") is None


@for_each(
    ("text", "result"),
    [
        *(("22.04", "22.04"), ("17.4.1", "17.4"), ("17", "17"), ("10.0.19045", "10.0")),
        *(("10.0.19045.99999", "10.0"), ("10.0.19045.100000", None), ("100.0", None)),
        *(("10.100", None), ("007", None), ("0.00", "0.00")),
    ],
)
def test_coarsening(text: str, result: str | None) -> None:
    """Parts that are cut off must be numbers within their maximum all the same."""
    assert canonical(field("version", parts=2, maximum=[99, 99]))(text) == result


@for_each(
    ("text", "result"),
    [
        *(("9.99.999.99999", "9.99.999"), ("0.00.000.00000", "0.00.000"), ("00.0.0", None)),
        *(("0.000.0", None), ("0.0.0000", None), ("0.0.0.000000", None), ("0.0.0.0.0", None)),
    ],
)
def test_leading_zeros_are_no_way_around_a_maximum(text: str, result: str | None) -> None:
    """A number is not longer than its maximum, so that leading zeros are a finite set too."""
    assert canonical(field("version", parts=3, maximum=[9, 99, 999]))(text) == result


@for_each(
    "text",
    [
        *("", ".", "1.", ".1", "1..2", "1.2.3.4.5", "v1", "1.0-rc1", "1.0 ", " 1.0", "1.0\n"),
        *("1,0", "-1", "+1", "1e3", "0x1", "１.0", "١.٠", "1.²", "1\u00a0", "1.0\0", "9" * 5000),
        "meet me at 9",
    ],
)
def test_refusals(text: str) -> None:
    assert canonical(field("version"))(text) is None


@for_each(
    ("code", "tried"),
    [
        ("E122", [{"parts": 3, "maximum": [9, 9]}, {"maximum": [9, 9, 9]}]),
        ("E122", [{"parts": 1, "maximum": []}, {"parts": 1, "maximum": [1, 2, 3, 4, 5]}]),
        ("greater_than_equal", [{"parts": 0}, {"parts": 1, "maximum": [-1]}]),
        ("less_than_equal", [{"parts": 5}, {"parts": 1, "maximum": [10**9]}]),
        ("int_type", [{"parts": 1, "maximum": [1.5]}]),
        (None, [{"parts": 2, "maximum": [99, 99, 99999]}]),
    ],
)
def test_options(code: str | None, tried: list[dict[str, Any]]) -> None:
    assert [refuses("version", **options) for options in tried] == [code] * len(tried)
