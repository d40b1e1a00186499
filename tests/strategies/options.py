"""Options of each kind, without those that all kinds share."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from collector.schema.kinds.numeric import QUANTITIES

_Options = dict[str, Any]


def draw_options(kind: str, random: Random) -> _Options:
    """Draw options of a kind, as a schema document has them."""
    return OPTIONS[kind](random)


def _ip(random: Random) -> _Options:
    lengths = (None, {"ipv4": 24, "ipv6": 48}, {"ipv4": 12}, {"ipv6": 20})
    options = {"truncate": random.choice(lengths), "scope": random.choice([None, None, "global"])}
    return {name: option for name, option in options.items() if option is not None}


def _token(random: Random) -> _Options:
    patterns = ("[0-9a-c]{1,3}", "(ab|cd)?x", "[0-9]{2},[0-9]", "linux|1\\.2")
    if random.choice((False, True)):
        return {"catalogue": "os-names"}
    return {"pattern": random.choice(patterns)}


def _one_of(*choices: _Options) -> Callable[[Random], _Options]:
    return lambda random: random.choice(choices)


_UNITS = [unit for quantity in QUANTITIES for unit in quantity]


def _range(*ranges: tuple[float, float, float]) -> Callable[[Random], _Options]:
    """One of these ranges (minimum, maximum and step), read as numbers only or as text too."""

    def drawn(random: Random) -> _Options:
        limits = dict(zip(("minimum", "maximum", "step"), random.choice(ranges), strict=True))
        return limits | random.choice(({}, {"text": True}, {"unit": random.choice(_UNITS)}))

    return drawn


def _time(random: Random) -> _Options:
    precision: _Options = random.choice(({}, {"precision": "minute"}, {"precision": "day"}))
    return precision | random.choice(({}, {"within": "±7d"}, {"within": "1h"}))


_MOST_INT = 2**63 - 1
OPTIONS: dict[str, Callable[[Random], _Options]] = {
    "ip": _ip,
    "enum": _one_of(
        {"values": ["linux", "windows"], "aliases": {"Linux": "linux", "GNU/Linux": "linux"}},
        {"values": ["Yes", "no"], "aliases": {"ja": "Yes"}, "fold_case": True},
        {"values": ["1", "1.2", "a", "é", "😀 x", "203.0.113.7", "true"]},
    ),
    "version": _one_of(
        {},
        {"parts": 1},
        {"parts": 2, "maximum": [9, 99]},
        {"parts": 3, "maximum": [9, 9, 9, 99]},
    ),
    "token": _token,
    "integer": _range((0, 100, 1), (-7, 90, 7), (0, _MOST_INT, 1), (-_MOST_INT, 0, 1), (5, 5, 5)),
    "number": _range(
        (0.0, 100.0, 0.1),
        (-5, 5, 0.25),
        (0, 1e300, 1e290),
        (-1e-3, 1e-3, 1e-6),
        (0, 1e15, 1),
        (-0.3, 0.3, 0.3),
    ),
    "boolean": _one_of({}),
    "time": _time,
    "pseudonym": _one_of(
        {"key": "env:DAILY_KEY_OF_TESTS", "rotate": "1d"},
        {"key": "env:HOURLY_KEY_OF_TESTS", "rotate": "1h"},
    ),
}
"""For each kind, a function that draws its options."""
