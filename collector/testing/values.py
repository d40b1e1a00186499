"""Strategies for single values: what a field's kind accepts, what nearly looks like it, and junk.

All values here are plain JSON: ``None``, booleans, numbers, text, lists and dictionaries. What only
Python or only JSON text can say is in ``mappings`` and ``texts``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta, timezone
from functools import cache, singledispatch
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from typing import Any

from hypothesis import strategies as st

from collector.schema.kinds import FieldBase
from collector.schema.kinds.boolean import BooleanField
from collector.schema.kinds.enum import EnumField
from collector.schema.kinds.ip import IpField
from collector.schema.kinds.numeric import IntegerField, NumberField
from collector.schema.kinds.time import TimeField
from collector.schema.kinds.token import TokenField
from collector.schema.kinds.version import VersionField

__all__ = ["Values", "accepted", "agents", "choices", "clock", "junk", "values", "weighted"]

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
_SAMPLE = 300
"""Members of a large catalogue or pattern that are enough to draw from."""


def values(field: FieldBase, now: datetime) -> Values:
    """Values for a field: more than half of them are accepted by its kind."""
    good = accepted(field, now)
    return weighted((6, good), (2, good.flatmap(_nearly)), (2, junk()))


def agents() -> Values:
    """User-agent strings, with blanks around some of them, and what is none."""
    known = st.sampled_from(_AGENTS)
    return weighted((4, known), (2, known.map(lambda agent: f"{agent} ")), (1, junk()))


def choices(optional: Collection[str]) -> Values:
    """What a person may say who can refuse these purposes, and what nobody can read as that."""
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

    ``one_of`` takes strategies apart that are ``one_of`` themselves, so that a strategy with many
    branches would come up more often than its neighbours.
    """
    each = [choice for weight, choice in choices for _ in range(weight)]
    return st.sampled_from(range(len(each))).flatmap(each.__getitem__)


@singledispatch
def accepted(field: FieldBase, now: datetime) -> Values:
    """Values that the field's kind accepts, with few exceptions, in all their spellings."""
    return st.text(min_size=1, max_size=40)


@accepted.register
def _ip(field: IpField, now: datetime) -> Values:
    v4 = st.integers(0, 2**32 - 1).map(IPv4Address)
    v6 = st.integers(0, 2**128 - 1).map(IPv6Address)
    return st.one_of(
        v4.map(str),
        v6.map(str),
        v6.map(lambda address: address.exploded.upper()),
        st.tuples(st.sampled_from(["::ffff:", "64:ff9b::", "::", "2001:db8::"]), v4).map(
            lambda parts: f"{parts[0]}{parts[1]}"
        ),
        v4.map(lambda address: str(IPv6Address(0x2002 << 112 | int(address) << 80 | 1))),
        st.sampled_from(["::", "::1", "0.0.0.0", "255.255.255.255", "fe80::1", "ff02::1"]),  # noqa: S104
    )


@accepted.register
def _enum(field: EnumField, now: datetime) -> Values:
    known = st.sampled_from([*field.values, *field.aliases])
    return known.map(str.swapcase) | known if field.fold_case else known


@accepted.register
def _version(field: VersionField, now: datetime) -> Values:
    maxima = (*(field.maximum or ()), 99_999, 99_999, 99_999, 99_999)[:4]
    numbers = st.tuples(*(st.integers(0, most + 1) for most in maxima))
    padded = st.booleans()
    return st.builds(
        lambda parts, count, pad: ".".join(f"{n:02d}" if pad else str(n) for n in parts[:count]),
        numbers,
        st.integers(1, 4),
        padded,
    )


@accepted.register
def _token(field: TokenField, now: datetime) -> Values:
    if field.language is not None:
        return st.sampled_from(list(islice(field.language.texts(), _SAMPLE)))
    return st.sampled_from(sorted(field.entries)[:_SAMPLE])


@accepted.register
def _integer(field: IntegerField, now: datetime) -> Values:
    low, high = field.minimum, field.maximum
    return st.integers(low, high) | st.sampled_from([low, high, low - 1, high + 1])


@accepted.register
def _number(field: NumberField, now: datetime) -> Values:
    low, high, step = field.minimum, field.maximum, field.step
    multiples = st.integers(-5, 5).map(lambda n: low + n * step)
    whole = st.integers(int(low), max(int(low), int(high)))
    return st.one_of(st.floats(low, high), multiples, whole, st.sampled_from([low, high]))


@accepted.register
def _boolean(field: BooleanField, now: datetime) -> Values:
    return st.booleans()


@accepted.register
def _time(field: TimeField, now: datetime) -> Values:
    reach = 2 * (field.within or timedelta(days=10_000))
    most = int(min(reach, timedelta(days=10_000)).total_seconds())
    moments = st.integers(-most, most).map(lambda seconds: now + timedelta(seconds=seconds))
    zones = st.integers(-23 * 60, 23 * 60).map(lambda m: timezone(timedelta(minutes=m)))
    return st.one_of(
        moments.map(lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")),
        st.builds(lambda m, zone: m.astimezone(zone).isoformat(" ", "seconds"), moments, zones),
        moments.map(lambda moment: int(moment.timestamp())),
        moments.map(lambda moment: int(moment.timestamp() * 1000)),
        moments.map(lambda moment: int(moment.timestamp()) * 10**9 + 1),
        moments.map(datetime.timestamp),
        st.sampled_from([0, 0.5, 2**64 + 1, 10**20, "9999-12-31T23:59:59-12:00"]),
    )


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
    """A value that was accepted, changed a little."""
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
    """The present, to the second."""
    return datetime.now(UTC).replace(microsecond=0)
