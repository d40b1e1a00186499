"""The corpus: every payload, in every encoding, in every slot of every shape; seeded.

The three tables below are the classes of attacks. ``wild`` is how often a class occurs in telemetry
by accident. ``attacker`` is how often somebody would choose it to get content through an allowlist
or past a detector. Both are estimates, in parts of the whole; only their ratios matter. All
payloads of a kind share a stem of at least eight characters that occurs in no listed value, so raw
bytes can be searched for all of them at once.
"""

from __future__ import annotations

import random
import unicodedata
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import count, product
from math import factorial, prod
from typing import Any, NamedTuple

from benchmarks.leaks.events import ORDERED, SHAPES, TWICE, Body, Listed, Shape, write

# -- payloads --------------------------------------------------------------------------------------

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
"""Each payload has one of these texts; no value of a clean event has any."""


class Payload(NamedTuple):
    """A text. ``mark`` is the part that must not get through; ``personal`` is the personal data of
    a known kind in it, if any."""

    text: str
    mark: str
    personal: str | None = None


def _phrase(rng: random.Random) -> str:
    return f"{_STEM} {' '.join(rng.choices(WORDS, k=3))}"


def _chat(rng: random.Random) -> Payload:
    phrase = _phrase(rng)
    return Payload(f"please bring {phrase} tomorrow", phrase)


def _grouped(digits: str, size: int, between: str) -> str:
    return between.join(digits[at : at + size] for at in range(0, len(digits), size))


def _card(rng: random.Random) -> Payload:
    """Return 16 digits that pass the Luhn check, in one of two spellings."""
    digits = f"{_BIN}{rng.randrange(10**7):07}"
    total = sum(int(d) if at % 2 else sum(divmod(2 * int(d), 10)) for at, d in enumerate(digits))
    digits += str(-total % 10)
    return Payload(rng.choice((digits, _grouped(digits, 4, " "))), digits, digits)


def _phone(rng: random.Random) -> Payload:
    """Return an Indonesian mobile number, grouped so that no third of it is five digits, because
    those would be a build number."""
    end = f"{rng.randrange(10**7):07}"
    digits = f"{_DIALLED}{end}"
    grouped = f"+62 812 555{end[0]}-{end[1:4]}-{end[4:]}"
    return Payload(rng.choice((f"+{digits}", grouped)), digits, digits)


def _mac(rng: random.Random) -> Payload:
    digits = f"{_MAKER}{rng.randrange(1 << 16):04x}"
    return Payload(rng.choice((digits, _grouped(digits, 2, ":"))), digits, digits)


def _name(rng: random.Random) -> Payload:
    text = f"{rng.choice(_FIRST)} {rng.choice(_LAST)}"
    return Payload(text, text, text)


_INTRODUCED = (
    ("my card number is", _card),
    ("call me at", _phone),
    ("the MAC address is", _mac),
    ("this is", _name),
)


def _said(rng: random.Random) -> Payload:
    """Return a sentence that introduces personal data of a random kind as people do."""
    intro, make = rng.choice(_INTRODUCED)
    phrase, inner = _phrase(rng), make(rng)
    text = f"please bring {phrase} tomorrow, {intro} {inner.text}."
    return Payload(text, phrase, inner.personal)


# -- encodings -------------------------------------------------------------------------------------

DIGITS = "zero one two three four five six seven eight nine".split()
LATIN, ALIKE = "aceopxyiABCEHKMOPTX0123456789", "асеорхуіАВСЕНКМОРТХ٠١٢٣٤٥٦٧٨٩"
_TO_ALIKE = str.maketrans(LATIN, ALIKE)
_FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}


def _spelled(text: str) -> str:
    return "".join(f" {DIGITS[int(c)]} " if "0" <= c <= "9" else c for c in text)


def _thirds(text: str) -> list[str]:
    third = -(-len(text) // 3)
    return [text[:third], text[third : 2 * third], text[2 * third :]]


# -- the classes -----------------------------------------------------------------------------------

_Make = Callable[[random.Random], Payload]
_Encode = Callable[[str], list[str]]
"""Maps a text to the texts that carry it, one for each record."""


class Class(NamedTuple):
    """One value of one axis, and its weights; docs/leaks.md gives its meaning and source. A payload
    and an encoding have a function that makes them; ``attack`` knows the slots."""

    name: str
    wild: float
    attacker: float


SLOTS: tuple[Class, ...] = (
    *(Class("listed", 15, 30), Class("unlisted", 55, 10), Class("name", 5, 10)),
    *(Class("nested", 10, 10), Class("array", 5, 10), Class("duplicate", 1, 10)),
    *(Class("number", 6, 10), Class("timestamp", 3, 10), Class("ordering", 0.1, 5)),
)
ENCODINGS: dict[Class, _Encode] = {
    Class("plain", 86, 20): lambda text: [text],
    Class("base64", 6, 15): lambda text: [b64encode(text.encode()).decode()],
    Class("hex", 2, 10): lambda text: [text.encode().hex()],
    Class("utf16", 1, 5): lambda text: [text.encode("utf-16-le").decode("latin-1")],
    Class("nfkc", 2, 10): lambda text: [text.translate(_FULL_WIDTH)],
    Class("homoglyphs", 0.5, 10): lambda text: [text.translate(_TO_ALIKE)],
    Class("reversed", 0.5, 10): lambda text: [text[::-1]],
    Class("split", 1, 10): _thirds,
    Class("spelled", 1, 10): lambda text: [_spelled(text)],
}
PAYLOADS: dict[Class, _Make] = {
    Class("chat", 35, 35): _chat,
    Class("said", 20, 20): _said,
    Class("card", 3, 15): _card,
    Class("phone", 7, 10): _phone,
    Class("mac", 15, 10): _mac,
    Class("name", 20, 10): _name,
}
AXES: dict[str, tuple[Class, ...]] = {
    "slot": SLOTS,
    "encoding": tuple(ENCODINGS),
    "payload": tuple(PAYLOADS),
}
"""The axes by which attacks are classified."""

_BY_NAME = {axis: {each.name: each for each in classes} for axis, classes in AXES.items()}
_NUMERIC = ("number", "timestamp", "ordering")
"""Slots that take numbers, which have no encoding except digits."""


class Cell(NamedTuple):
    """One class of each axis, by name, and the shape."""

    shape: str
    slot: str
    encoding: str
    payload: str

    def weight(self, of: str) -> float:
        """Return the product of its classes' weights: ``wild`` or ``attacker``."""
        classes = (_BY_NAME[axis][getattr(self, axis)] for axis in AXES)
        return prod(float(getattr(each, of)) for each in classes)


CELLS: tuple[Cell, ...] = tuple(
    Cell(shape, slot.name, encoding.name, payload.name)
    for shape, slot, encoding, payload in product(SHAPES, SLOTS, ENCODINGS, PAYLOADS)
    if (slot.name not in _NUMERIC or encoding.name == "plain")
    and (encoding.name != "spelled" or payload.name not in ("chat", "name"))
)
"""Every possible class of attack: a spelling of digits needs digits, and a number has no
encoding."""


# -- numbers as an order ---------------------------------------------------------------------------

MEMBER = "rate_"
"""The prefix of the names of members whose order spells; their number follows."""
LEAST = 8
"""The order of fewer things than these does not count as spelling, because it may be accidental."""


def ordered(number: int) -> list[int]:
    """Return the order that stands for a number, of as few things as needed: each digit in the
    factorial number system picks one of the remaining things."""
    size = LEAST
    while factorial(size) <= number:
        size += 1
    left = list(range(size))
    order = []
    for at in range(size - 1, -1, -1):
        digit, number = divmod(number, factorial(at))
        order.append(left.pop(digit))
    return order


def rank(order: Sequence[int]) -> int | None:
    """Return the number that an order stands for; ``None`` if a thing is missing or repeated."""
    left = list(range(len(order)))
    if len(order) < LEAST or sorted(order) != left:
        return None
    number = 0
    for thing in order:
        digit = left.index(thing)
        number = number * len(left) + digit
        left.pop(digit)
    return number


def as_number(text: str) -> int:
    """Return a text as a number: its digits if it has no letters, otherwise its bytes."""
    digits = "".join(filter(str.isdigit, text))
    if digits and not any(map(str.isalpha, text)) and not digits.startswith("0"):
        return int(unicodedata.normalize("NFKC", digits))
    return int.from_bytes(text.encode())


# -- attacks ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attack:
    """The bodies of one attack, each of which is a record, and the payload in them."""

    cell: Cell
    payload: Payload
    bodies: list[Body]
    ascii_only: bool

    @cached_property
    def texts(self) -> list[str]:
        """The documents of the bodies as JSON: one for all, or one for each."""
        return [write(each, ascii_only=self.ascii_only) for each in self.documents()]

    def documents(self) -> list[Any]:
        """Return the documents of the bodies; ``write`` can write a key twice."""
        shape = SHAPES[self.cell.shape]
        groups = [self.bodies] if shape.several else [[body] for body in self.bodies]
        return [shape.wrap(group) for group in groups]


def attack(cell: Cell, rng: random.Random) -> Attack:
    """Make an attack of a class."""
    shape, payload = SHAPES[cell.shape], PAYLOADS[_BY_NAME["payload"][cell.payload]](rng)
    body, listed = shape.draw(rng)
    target = listed[0] if cell.slot == "ordering" else rng.choice(listed)
    if cell.slot == "ordering":
        bodies = _in_order(shape, body, target, ordered(as_number(payload.text)), rng)
    elif cell.slot in _NUMERIC:
        bodies = [_planted(body, target, cell.slot, as_number(payload.text), rng)]
    else:
        state, bodies = rng.getstate(), []
        for part in ENCODINGS[_BY_NAME["encoding"][cell.encoding]](payload.text):
            rng.setstate(state)  # so that each part is in the same place
            bodies.append(_planted(deepcopy(body), target, cell.slot, part, rng))
    return Attack(cell, payload, bodies, rng.random() < 0.5)


def _in_order(
    shape: Shape, body: Body, target: Listed, order: list[int], rng: random.Random
) -> list[Body]:
    """Return copies of the body in an order, each with its own address; or one body with an object
    whose members are in that order."""
    if not shape.several or rng.random() < 0.3:
        return [body | {"rates": {f"{MEMBER}{at}": 1 for at in order}}]
    (key,) = target.path
    return [body | {key: ORDERED[at]} for at in order]


_UNLISTED = ("note", "pc_name", "microphone", "message", "user_name", "location")


def _planted(body: Body, target: Listed, slot: str, value: Any, rng: random.Random) -> Body:
    """Return the body with a payload in a slot; ``target`` is the listed value that the slot refers
    to."""
    inner = body
    for key in target.path[:-1]:
        inner = inner[key]
    key = target.path[-1]
    if slot == "listed":
        inner[key] = value
    elif slot == "unlisted":
        rng.choice((inner, body))[rng.choice(_UNLISTED)] = value
    elif slot == "name":
        inner[value] = 1
    elif slot == "nested":
        if rng.random() < 0.5:
            inner[key] = {"value": value}
        else:
            body["meeting"] = {"room": {"people": {"host": value}}}
    elif slot == "array":
        inner[key] = rng.choice(([value, inner[key]], [inner[key], value], [[value]]))
    elif slot == "duplicate":
        given = inner.pop(key)
        inner[key], inner[key + TWICE] = rng.choice(((given, value), (value, given)))
    elif slot == "number":
        place, name = rng.choice(((inner, key), (body, "count"), (body, "size")))
        place[name] = value
    else:
        fraction = f"2026-11-24T10:20:30.{value}Z"
        key, written = rng.choice((("time", value), ("time", fraction), ("joined", fraction)))
        body[key] = written
    return body


def attacks(rounds: int, seed: int, step: int = 1) -> Iterator[Attack]:
    """Yield one attack of every ``step``-th class in each round."""
    rng = random.Random(seed)
    for round_ in range(rounds):
        for cell in CELLS[round_ % step :: step]:
            yield attack(cell, rng)


def clean(shape: Shape, seed: int) -> Iterator[tuple[str, list[Listed]]]:
    """Yield an endless sequence of clean documents of a shape, each with its listed values."""
    for number in count():
        body, listed = shape.draw(random.Random(f"{seed} {shape.name} {number}"))
        yield write(shape.wrap([body])), listed
