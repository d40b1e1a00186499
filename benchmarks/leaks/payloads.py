"""What an attack tries to get through: seeded, made up, each with the marks that give it away.

All payloads of a kind share a stem, of at least eight characters, that occurs in no listed value,
so that raw bytes can be searched for any of them at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

WORDS = (
    *("harbour", "lantern", "meadow", "orchard", "pebble", "quarry", "ribbon", "saddle"),
    *("timber", "velvet", "walnut", "anchor", "basket", "candle", "drawer", "feather"),
)
_STEM = "our violet contract"
_FIRST = ("Wulandari", "Thaddeus", "Xiomaria", "Ingeborg")
_LAST = ("Brinkmann", "Okonkwo", "Vasquez", "Lindqvist")
_BIN, _DIALLED, _MAKER = "45390551", "62812555", "9d9bf67c"

STEMS: tuple[str, ...] = (
    *(_STEM, _BIN, f"{_BIN[:4]} {_BIN[4:]}", _DIALLED, "+62 812 555", _MAKER, "9d:9b:f6:7c"),
    *_FIRST,
    *(name for name in _LAST if len(name) >= 8),
)
"""Texts one of which is in every payload, and in no value of a clean event."""


class Payload(NamedTuple):
    """A text. ``mark`` is the part that must not come through; ``personal`` is the personal data of
    a known kind in it, if there is any."""

    text: str
    mark: str
    personal: str | None = None


def _phrase(rng: random.Random) -> str:
    return f"{_STEM} {' '.join(rng.choices(WORDS, k=3))}"


def chat(rng: random.Random) -> Payload:
    """Return a sentence without personal data."""
    phrase = _phrase(rng)
    return Payload(f"please bring {phrase} tomorrow", phrase)


def card(rng: random.Random) -> Payload:
    """Return a card number of 16 digits that passes the check of Luhn, in one of two spellings."""
    digits = f"{_BIN}{rng.randrange(10**7):07}"
    total = sum(int(d) if at % 2 else sum(divmod(2 * int(d), 10)) for at, d in enumerate(digits))
    digits += str(-total % 10)
    text = " ".join(digits[at : at + 4] for at in range(0, 16, 4))
    return Payload(rng.choice((digits, text)), digits, digits)


def phone(rng: random.Random) -> Payload:
    """Return an Indonesian mobile number, whose digits after 555 are random.

    Its groups are such that no third of it is five digits, which a build number is.
    """
    end = f"{rng.randrange(10**7):07}"
    digits = f"{_DIALLED}{end}"
    grouped = f"+62 812 555{end[0]}-{end[1:4]}-{end[4:]}"
    return Payload(rng.choice((f"+{digits}", grouped)), digits, digits)


def mac(rng: random.Random) -> Payload:
    """Return a hardware address, with colons or without."""
    digits = f"{_MAKER}{rng.randrange(1 << 16):04x}"
    colons = ":".join(digits[at : at + 2] for at in range(0, 12, 2))
    return Payload(rng.choice((digits, colons)), digits, digits)


def name(rng: random.Random) -> Payload:
    """Return a person's first and last name."""
    text = f"{rng.choice(_FIRST)} {rng.choice(_LAST)}"
    return Payload(text, text, text)


def said(rng: random.Random) -> Payload:
    """Return a sentence with personal data of a random kind, introduced as people do."""
    intro, make = rng.choice(
        (
            ("my card number is", card),
            ("call me at", phone),
            ("the MAC address is", mac),
            ("this is", name),
        )
    )
    phrase, inner = _phrase(rng), make(rng)
    text = f"please bring {phrase} tomorrow, {intro} {inner.text}."
    return Payload(text, phrase, inner.personal)


MAKERS: dict[str, Callable[[random.Random], Payload]] = {
    "chat": chat,
    "said": said,
    "card": card,
    "phone": phone,
    "mac": mac,
    "name": name,
}
"""By the name of the class."""
