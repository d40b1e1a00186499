"""Strategies for single values: accepted by a field's kind, nearly accepted, and arbitrary.

All values here are plain JSON: ``None``, booleans, numbers, text, lists and dictionaries. Values
that only JSON text can express are in ``_texts``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import cache
from random import Random
from typing import Any

from hypothesis import strategies as st

from collector.schema.kinds import FieldBase
from collector.testing._drawn import draw_value

Values = st.SearchStrategy[Any]

_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/124.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)",
    "Mozilla/5.0 (Linux; Android 13; SM-S918B) AppleWebKit/537.36 Chrome/112.0.0.0 Mobile",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8 Pro) AppleWebKit/537.36 Chrome/112.0.0.0 Mobile",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0",
    "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 Chrome/124.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0) " + "x" * 600,
    "curl/8.5.0",
)


def values(field: FieldBase, now: datetime) -> Values:
    """Values for a field: more than half of them are accepted by its kind."""
    good = accepted(field, now)
    return weighted((6, good), (2, good.flatmap(_nearly)), (2, junk()))


def agents() -> Values:
    """User-agent strings, with blanks around some of them, and other values."""
    known = st.sampled_from(_AGENTS)
    return weighted((4, known), (2, known.map(lambda agent: f"{agent} ")), (1, junk()))


def choices(optional: Collection[str]) -> Values:
    """Choices about these optional purposes, and values that cannot be read as choices."""
    names = st.sampled_from([*optional, *optional, "another"])
    flags = weighted((4, st.booleans()), (1, scalars()))
    return weighted(
        (4, st.dictionaries(names, flags, min_size=1, max_size=4)),
        (3, st.lists(names, min_size=1, max_size=4)),
        (1, st.lists(weighted((1, names), (1, scalars())), max_size=2)),
        (1, junk()),
    )


def weighted(*choices: tuple[int, Values]) -> Values:
    """One of several strategies, as often as its weight says; the first is the simplest.

    ``one_of`` flattens nested ``one_of`` strategies, so a strategy with many branches would come up
    more often than its neighbours.
    """
    each = [choice for weight, choice in choices for _ in range(weight)]
    return st.integers(0, len(each) - 1).flatmap(each.__getitem__)


def accepted(field: FieldBase, now: datetime) -> Values:
    """Values that the field's kind accepts, with few exceptions, in all their spellings."""
    return randoms().map(lambda random: draw_value(field, random, now))


@cache
def randoms() -> st.SearchStrategy[Random]:
    """Generators of random numbers whose draws Hypothesis records and shrinks."""
    return st.randoms(use_true_random=False)


_CHANGES: tuple[Callable[[Any], Any], ...] = (
    str,
    lambda value: f"{value} ",
    lambda value: f"\n{value}",
    lambda value: f"{value}\x00",
    lambda value: f"{value}. Nobody should read this",
    lambda value: str(value).upper(),
    lambda value: str(value).translate({ord("0") + n: ord("０") + n for n in range(10)}),
    lambda value: str(value)[:-1],
    lambda value: [value],
    lambda value: {"value": value},
    lambda value: -value if isinstance(value, int | float) else f"0{value}",
    lambda value: float(value) if isinstance(value, int) and abs(value) < 2**53 else f"[{value}]",
    lambda value: value + 0.5 if isinstance(value, int) and abs(value) < 2**53 else f"{value}%eth0",
)


def _nearly(value: Any) -> Values:
    """An accepted value with a small change."""
    return st.sampled_from(_CHANGES).map(lambda change: change(value))


_WORDS = (
    *("", "a", "linux", "phone", "203.0.113.7", "1.2", "true", "null", "0"),
    *("é", "😀", "\x00\x1f", "\\", '"', '"[[{{,', '\\"]}', "[,,,]", '\\\\"{"a":'),
)
_NUMBERS = (
    *(0, 1, -1, 2**31, 2**53 + 1, 2**63, 2**64, 10**20, 10**400),
    *(0.0, -0.0, 1.0, 1.5, 1e16, 5e-324, 1.7e308),
)


@cache
def scalars() -> Values:
    """Any JSON value that is neither a list nor an object."""
    return st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from(_WORDS),
        st.sampled_from(_NUMBERS),
        st.text(max_size=12),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
    )


@cache
def junk() -> Values:
    """Any JSON value, nested up to 60 levels."""
    inner = scalars()
    return st.one_of(
        inner,
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=5), inner, max_size=3),
        st.integers(2, 60).map(_nested),
    )


def _nested(depth: int) -> Any:
    value: Any = "deep"
    for level in range(depth):
        value = {"a": value} if level % 3 else [value]
    return value


def clock() -> datetime:
    """Read the clock, to the second."""
    return datetime.now(UTC).replace(microsecond=0)
