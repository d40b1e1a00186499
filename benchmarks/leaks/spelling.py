"""Spell with the values that a schema admits, as densely as it can be done.

A message is a number. It is written in a mixed radix, a digit for each field: its absence or one of
its values. The sender knows what arrives and adapts: a field that does not bring over every value
is left out of the code. What arrives, exactly, times what it says is the bits delivered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log2, prod
from random import Random

from benchmarks.leaks.values import Values, mutated, values_of
from collector import Schema
from collector.schema.scalars import condition_of, path_of

Record = dict[str, str]
"""The listed values of a record; without ``schema``, ``count`` and ``received``."""
Send = Callable[[Sequence[Record]], list[Record]]
"""Sends records as events and returns those that arrived, in any order."""
_PROBES = 400


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a schema lets through: bits per record that were ``stated`` and ``delivered``, how many
    records were sent, and how many values arrived that were not counted (``beyond``)."""

    schema: str
    stated: float
    delivered: float
    records: int
    beyond: int
    left_out: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Bits delivered over bits stated."""
        return self.delivered / self.stated


class Speller:
    """Writes numbers as records of some fields."""

    def __init__(self, values: dict[str, Values]) -> None:
        self._values = values
        self.codes: int = prod(each.size + 1 for each in values.values()) - 1
        """How many records there are; the one without any value is none."""

    @property
    def bits(self) -> float:
        """The bits of a record."""
        return log2(self.codes) if self.codes > 0 else 0.0

    def spell(self, number: int) -> Record:
        """Return the record of a number below ``codes``."""
        record, number = {}, number + 1
        for name, values in self._values.items():
            number, digit = divmod(number, values.size + 1)
            if digit:
                record[name] = values.nth(digit - 1)
        return record


def event(schema: Schema, records: Sequence[Record]) -> list[str]:
    """Return the records as events of the schema, one JSON text each."""
    found = [_as_read(schema, record) for record in records]
    if schema.ways and "." not in schema.ways:
        return [json.dumps({schema.ways[0]: [record]}) for record in found]
    return [json.dumps(record) for record in found]


def _as_read(schema: Schema, record: Record) -> dict[str, object]:
    """Return a record under the paths that are read, with what conditions ask for beside these."""
    found: dict[str, object] = {}
    for name, value in record.items():
        places = schema.fields[name].places(name)
        place = name if name in places else places[0]
        found[path_of(place)] = value
        for member, listed in condition_of(place):
            above = path_of(place).rpartition(".")[0]
            found[f"{above}.{member}" if above else member] = listed.written()[0]
    return found


def spelled(schema: Schema, stated: float, send: Send, number: int, random: Random) -> Delivered:
    """Send random messages of a schema's full width, and count what arrives.

    Every field is probed first, by itself, with values and with near values.
    """
    values = values_of(schema)
    probes = {
        name: {each.nth(random.randrange(each.size)) for _ in range(_PROBES)}
        for name, each in values.items()
    }
    tried = [
        {name: text}
        for name, texts in probes.items()
        for text in sorted(texts | _near(texts, random))
    ]
    arrived = {next(iter(record.items())) for record in send(tried)}
    beyond = sum(not values[name].has(text) for name, text in arrived)
    usable = {
        name: values[name]
        for name, texts in probes.items()
        if all((name, text) in arrived for text in texts)
    }
    speller = Speller(usable)
    sent = [speller.spell(random.randrange(speller.codes)) for _ in range(number)]
    arrived_whole = {_key(record) for record in send(sent)}
    right = sum(_key(record) in arrived_whole for record in sent)
    left_out = tuple(name for name in values if name not in usable)
    bits = speller.bits * right / len(sent)
    return Delivered(schema.name, stated, bits, len(sent), beyond, left_out)


def _near(texts: set[str], random: Random) -> set[str]:
    return {text for probe in sorted(texts)[:40] for text in mutated(probe, random)}


def _key(record: Record) -> str:
    return json.dumps(record, sort_keys=True)
