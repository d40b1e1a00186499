"""The corpus: every payload, in every encoding, in every slot of every shape; seeded."""

from __future__ import annotations

import random
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import count, product
from typing import Any, NamedTuple

from benchmarks.leaks.classes import ENCODINGS, PAYLOADS, SLOTS
from benchmarks.leaks.encodings import as_number, encode
from benchmarks.leaks.events import ORDERED, SHAPES, TWICE, Body, Listed, Shape, write
from benchmarks.leaks.payloads import MAKERS, Payload
from benchmarks.leaks.permutations import MEMBER, ordered

_NUMERIC = ("number", "timestamp", "ordering")
"""Slots that take numbers, which have no encoding but their digits."""
_UNLISTED = ("note", "pc_name", "microphone", "message", "user_name", "location")


class Cell(NamedTuple):
    """One class of each axis, by name, and the shape."""

    shape: str
    slot: str
    encoding: str
    payload: str

    @property
    def wild(self) -> float:
        """The product of its classes' weights in the wild."""
        return _WILD[self.slot] * _WILD[self.encoding] * _WILD[self.payload]

    @property
    def attacker(self) -> float:
        """The product of its classes' weights for an attacker."""
        return _ATTACKER[self.slot] * _ATTACKER[self.encoding] * _ATTACKER[self.payload]


_CLASSES = {each.name: each for each in (*SLOTS, *ENCODINGS, *PAYLOADS)}
_WILD = {name: each.wild for name, each in _CLASSES.items()}
_ATTACKER = {name: each.attacker for name, each in _CLASSES.items()}


@dataclass(frozen=True)
class Attack:
    """The bodies of one attack, each of which is a record; and the payload in them."""

    cell: Cell
    payload: Payload
    bodies: list[Body]
    ascii_only: bool

    @cached_property
    def texts(self) -> list[str]:
        """The documents of the bodies, as JSON: one of them all, or one of each."""
        shape = SHAPES[self.cell.shape]
        groups = [self.bodies] if shape.several else [[body] for body in self.bodies]
        return [write(shape.wrap(group), ascii_only=self.ascii_only) for group in groups]


def _cells() -> Iterator[Cell]:
    for shape, slot, encoding, payload in product(SHAPES, SLOTS, ENCODINGS, PAYLOADS):
        cell = Cell(shape, slot.name, encoding.name, payload.name)
        if cell.slot in _NUMERIC and cell.encoding != "plain":
            continue
        if cell.encoding == "spelled" and cell.payload in ("chat", "name"):
            continue
        yield cell


CELLS: tuple[Cell, ...] = tuple(_cells())
"""Every class of attack that there is: a spelling of digits needs digits, a number no encoding."""


def attack(cell: Cell, rng: random.Random) -> Attack:
    """Make an attack of a class."""
    payload = MAKERS[cell.payload](rng)
    body, listed = SHAPES[cell.shape].draw(rng)
    target = listed[0] if cell.slot == "ordering" else rng.choice(listed)
    if cell.slot == "ordering":
        order = ordered(as_number(payload.text))
        bodies = _in_order(SHAPES[cell.shape], body, target, order, rng)
    elif cell.slot in _NUMERIC:
        bodies = [_planted(body, target, cell.slot, as_number(payload.text), rng)]
    elif cell.encoding != "split":
        (text,) = encode(cell.encoding, payload.text)
        bodies = [_planted(body, target, cell.slot, text, rng)]
    else:
        state, bodies = rng.getstate(), []
        for part in encode(cell.encoding, payload.text):
            rng.setstate(state)  # so that each part is in the same place
            bodies.append(_planted(deepcopy(body), target, cell.slot, part, rng))
    return Attack(cell, payload, bodies, rng.random() < 0.5)


def _in_order(
    shape: Shape, body: Body, target: Listed, order: list[int], rng: random.Random
) -> list[Body]:
    """Return copies of the body, each with an address of its own, in an order; or one body with an
    object whose members are in that order."""
    if not shape.several or rng.random() < 0.3:
        return [body | {"rates": {f"{MEMBER}{at}": 1 for at in order}}]
    (key,) = target.path
    return [body | {key: ORDERED[at]} for at in order]


def _planted(body: Body, target: Listed, slot: str, value: Any, rng: random.Random) -> Body:
    """Return the body with a payload in a slot; ``target`` is the listed value that it is about."""
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
        first, last = rng.choice(((given, value), (value, given)))
        inner[key], inner[key + TWICE] = first, last
    elif slot == "number":
        place, name = rng.choice(((inner, key), (body, "count"), (body, "size")))
        place[name] = value
    else:
        fraction = f"2026-11-24T10:20:30.{value}Z"
        key, written = rng.choice((("time", value), ("time", fraction), ("joined", fraction)))
        body[key] = written
    return body


def attacks(rounds: int, seed: int, step: int = 1) -> Iterator[Attack]:
    """Yield one attack of every ``step``-th class, as often as there are rounds."""
    rng = random.Random(seed)
    for round_ in range(rounds):
        for cell in CELLS[round_ % step :: step]:
            yield attack(cell, rng)


def clean(shape: Shape, seed: int) -> Iterator[tuple[str, list[Listed]]]:
    """Yield clean documents of a shape without end, each with its listed values."""
    for number in count():
        body, listed = shape.draw(random.Random(f"{seed} {shape.name} {number}"))
        yield write(shape.wrap([body])), listed
