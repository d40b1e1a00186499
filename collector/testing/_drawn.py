"""Random values for fields of each kind, for the laws and for the examples of a review.

``DRAWN`` has one line for each kind. With few exceptions, the field accepts a drawn value in any of
its spellings.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Context, Decimal
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from random import Random
from typing import Any

from collector.schema.kinds import FieldBase
from collector.schema.kinds.boolean import BooleanField
from collector.schema.kinds.enum import EnumField
from collector.schema.kinds.ip import IpField
from collector.schema.kinds.numeric import IntegerField, NumberField, factors
from collector.schema.kinds.pseudonym import PseudonymField
from collector.schema.kinds.time import TimeField
from collector.schema.kinds.token import TokenField
from collector.schema.kinds.version import VersionField

_Value = str | float | bool


def draw_value(field: FieldBase, random: Random, now: datetime) -> Any:
    """Draw a value for a field. ``now`` is the present, for fields of kind ``time``."""
    return DRAWN[field.kind](field, random, now)


# -- addresses -------------------------------------------------------------------------------------


def _any_ipv4(random: Random) -> IPv4Address:
    return IPv4Address(random.randrange(1 << 32))


def _any_ipv6(random: Random) -> IPv6Address:
    return IPv6Address(random.randrange(1 << 128))


_SPECIAL = ("::", "::1", "0.0.0.0", "255.255.255.255", "fe80::1", "ff02::1")  # noqa: S104 - data
_EMBEDDING = (
    *("::ffff:", "64:ff9b::", "::", "2001:db8::", "::ffff:0:", "64:ff9b:1::", "2001::"),
    *("2001:db8::5efe:", "2001:db8::200:5efe:"),
)
_ADDRESSES: tuple[Callable[[Random], str], ...] = (
    lambda random: str(_any_ipv4(random)),
    lambda random: str(_any_ipv6(random)),
    lambda random: _any_ipv6(random).exploded.upper(),
    lambda random: f"{random.choice(_EMBEDDING)}{_any_ipv4(random)}",
    lambda random: str(IPv6Address(0x2002 << 112 | int(_any_ipv4(random)) << 80 | 1)),
    lambda random: random.choice(_SPECIAL),
)


def _ip(_field: IpField, random: Random, _now: datetime) -> str:
    return random.choice(_ADDRESSES)(random)


# -- texts -----------------------------------------------------------------------------------------

_MOST_MEMBERS = 300
"""How many members of a large catalogue or pattern to draw from."""


def _enum(field: EnumField, random: Random, _now: datetime) -> str:
    text = random.choice([*field.values, *field.aliases])
    return text.swapcase() if field.fold_case and random.choice((False, True)) else text


def _version(field: VersionField, random: Random, _now: datetime) -> str:
    width, maxima = random.choice((0, 2)), field.maxima()
    count = random.randint(1, len(maxima))
    return ".".join(f"{random.randint(0, most + 1):0{width}d}" for most in maxima[:count])


def _token(field: TokenField, random: Random, _now: datetime) -> str:
    if field.language is not None:
        return random.choice(list(islice(field.language.texts(), _MOST_MEMBERS)))
    return random.choice(sorted(field.entries)[:_MOST_MEMBERS])


def _pseudonym(_field: PseudonymField, random: Random, _now: datetime) -> str:
    return "".join(random.choice("ab0-é😀") for _ in range(random.randint(1, 12)))


# -- numbers ---------------------------------------------------------------------------------------

_EXACT = Context(prec=2000, Emin=-9999, Emax=9999)


def _integer(field: IntegerField, random: Random, _now: datetime) -> _Value:
    low, high = field.minimum, field.maximum
    inside = random.randint(low, high)
    number = random.choice((inside, inside, inside, inside, low, high, low - 1, high + 1))
    return _perhaps_text(field, number, random)


def _number(field: NumberField, random: Random, _now: datetime) -> _Value:
    low, high = field.minimum, field.maximum
    number: float = random.choice((low, high))
    form = random.randrange(4)
    if form == 0:
        number = random.uniform(low, high)
    elif form == 1:
        number = low + random.randint(-5, 5) * field.step
    elif form == 2:
        number = random.randint(int(low), max(int(low), int(high)))
    return _perhaps_text(field, number, random)


def _perhaps_text(field: IntegerField | NumberField, number: float, random: Random) -> _Value:
    """Write a number as text in any of the units if the field reads text."""
    if str not in field.reads() or random.choice((True, False)):
        return number
    known = factors(field.unit)
    unit = random.choice([*known])
    exact = Fraction(repr(number)) / known[unit]
    digits = _EXACT.divide(Decimal(exact.numerator), Decimal(exact.denominator))
    text = f"{digits.normalize(Context(prec=random.randint(1, 20))):f}"
    return text if unit is None else f"{text}{random.choice(('', ' '))}{unit}"


def _boolean(_field: BooleanField, random: Random, _now: datetime) -> bool:
    return random.choice((False, True))


# -- moments ---------------------------------------------------------------------------------------

_FURTHEST = timedelta(days=10_000)
_UNUSUAL = (0, 0.5, 2**64 + 1, 10**20, "9999-12-31T23:59:59-12:00")


def _time(field: TimeField, random: Random, now: datetime) -> _Value:
    if random.randrange(7) == 6:
        return random.choice(_UNUSUAL)
    furthest = int(min(2 * (field.within or _FURTHEST), _FURTHEST).total_seconds())
    moment = now + timedelta(seconds=random.randint(-furthest, furthest))
    zone = timezone(timedelta(minutes=random.randint(-23 * 60, 23 * 60)))
    return random.choice(
        (
            moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            moment.astimezone(zone).isoformat(" ", "seconds"),
            int(moment.timestamp()),
            int(moment.timestamp() * 1000),
            int(moment.timestamp()) * 10**9 + 1,
            moment.timestamp(),
        )
    )


DRAWN: dict[str, Callable[[Any, Random, datetime], Any]] = {
    "ip": _ip,
    "enum": _enum,
    "version": _version,
    "token": _token,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "time": _time,
    "pseudonym": _pseudonym,
}
"""For each kind, a function that draws a value for a field of it."""
