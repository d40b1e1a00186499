"""Spell with the values that a schema admits, as densely as possible.

A message is a number. It is written in a mixed radix with a digit for each field: absence, or one
of its values. The sender knows what arrives and adapts: the code leaves out a field that does not
carry every value. The bits delivered are the share of exact arrivals times the bits of a record.

Values are counted independently of the package, so that a width that it states too small or too
large is noticed: addresses as whole numbers without ranges, versions by the lengths of their
numbers, patterns by the number of texts from each state to an end.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from math import log2, prod
from operator import mul
from random import Random
from typing import NamedTuple

from collector import Schema
from collector.schema.kinds import Field
from collector.schema.kinds.enum import EnumField
from collector.schema.kinds.ip import IpField
from collector.schema.kinds.token import TokenField
from collector.schema.kinds.version import VersionField
from collector.schema.pattern import Pattern
from collector.schema.scalars import condition_of, path_of

Record = dict[str, str]
"""The listed values of a record, without ``schema``, ``count`` and ``received``."""
Send = Callable[[Sequence[Record]], list[Record]]
"""Sends records as events, and returns those that arrived, in any order."""
_PROBES = 400


# -- values ----------------------------------------------------------------------------------------


class Values(NamedTuple):
    """The values of a field: their count, the value of each number, and whether a text is a
    value."""

    size: int
    nth: Callable[[int], str]
    has: Callable[[str], bool]


def values_of(schema: Schema) -> dict[str, Values]:
    """Return the values of each field of a shipped schema."""
    return {name: _values(field) for name, field in schema.fields.items()}


def _values(field: Field) -> Values:
    if isinstance(field, EnumField):
        return _listed(field.values)
    if isinstance(field, VersionField):
        return _version(field)
    if isinstance(field, IpField):
        return _address(field)
    if isinstance(field, TokenField):
        entries = sorted(field.entries)
        return _listed(entries) if field.language is None else _pattern(field.language)
    raise TypeError(f"no shipped schema has a field of kind {field.kind}")


def _listed(entries: Sequence[str]) -> Values:
    return Values(len(entries), entries.__getitem__, frozenset(entries).__contains__)


def _version(field: VersionField) -> Values:
    """Return versions of one part, of two, and so on; a part has any digits up to its maximum."""
    maxima = (*(field.maximum or ()), *[99_999] * 4)[: field.parts]
    sizes = [sum(_lengths(most)) for most in maxima]
    totals = list(accumulate(sizes, mul))

    def nth(number: int) -> str:
        for count, total in enumerate(totals, 1):
            if number < total:
                parts = []
                for at in reversed(range(count)):
                    number, own = divmod(number, sizes[at])
                    parts.append(_padded(maxima[at], own))
                return ".".join(reversed(parts))
            number -= total
        raise IndexError(number)

    def has(text: str) -> bool:
        parts = text.split(".")
        return (
            re.fullmatch(r"[0-9]+(\.[0-9]+){0,3}", text) is not None
            and len(parts) <= len(maxima)
            and all(
                len(part) <= len(str(most)) and int(part) <= most
                for part, most in zip(parts, maxima, strict=False)
            )
        )

    return Values(sum(totals), nth, has)


def _lengths(most: int) -> list[int]:
    """Return how many numbers up to the greatest have one digit, two digits and so on."""
    return [*(10**digits for digits in range(1, len(str(most)))), most + 1]


def _padded(most: int, number: int) -> str:
    """Return the number at a position: numbers of one digit come first; longer ones may begin with
    zeros."""
    for digits, size in enumerate(_lengths(most), 1):
        if number < size:
            return f"{number:0{digits}}"
        number -= size
    raise IndexError(number)


_NEVER = {
    4: ["224.0.0.0/4", "169.254.0.0/16"],
    6: ["ff00::/8", "fe80::/10", "2002::/16", "::ffff:0:0/96", "64:ff9b::/96"],
}
_LOCAL = {
    4: [
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8"),
        *("172.16.0.0/12", "192.168.0.0/16", "255.255.255.255/32"),
    ],
    6: ["::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "fc00::/7", "fec0::/10"],
}
"""Networks that are never admitted, and networks that a global scope excludes, by version."""


def _address(field: IpField) -> Values:
    """Return networks of IPv4, then of IPv6, without those that are not admitted."""
    kept, is_global = field.truncate, field.scope == "global"
    four, six = (
        _Prefixes(bits, length, [*_NEVER[version], *_LOCAL[version] * is_global])
        for version, bits, length in ((4, 32, kept.ipv4), (6, 128, kept.ipv6))
    )

    def nth(number: int) -> str:
        if number < four.size:
            return str(ipaddress.IPv4Address(four.nth(number)))
        return str(ipaddress.IPv6Address(six.nth(number - four.size)))

    def has(text: str) -> bool:
        with suppress(ValueError):
            address = ipaddress.ip_address(text)
            prefixes = four if address.version == 4 else six
            return str(address) == text and int(address) in prefixes
        return False

    return Values(four.size + six.size, nth, has)


class _Prefixes:
    """Numbers of the leading bits, without prefixes that lie in one of the networks or whose first
    address does."""

    def __init__(self, bits: int, kept: int, networks: Sequence[str]) -> None:
        self._lost = bits - kept
        self._gaps: list[tuple[int, int]] = []
        for network in map(ipaddress.ip_network, networks):
            first, length = int(network.network_address), network.num_addresses
            if length >> self._lost:
                self._gaps.append((first >> self._lost, length >> self._lost))
            elif not first & ((1 << self._lost) - 1):
                self._gaps.append((first >> self._lost, 1))
        self._gaps.sort()
        self.size = (1 << kept) - sum(length for _, length in self._gaps)

    def nth(self, number: int) -> int:
        """Return the address with a number."""
        for first, length in self._gaps:
            if number >= first:
                number += length
        return number << self._lost

    def __contains__(self, address: int) -> bool:
        number = address >> self._lost
        inside = any(first <= number < first + length for first, length in self._gaps)
        return number << self._lost == address and not inside


def _pattern(language: Pattern) -> Values:
    """Return the texts of a pattern in the order of its automaton."""
    moves, final = language._moves, language._final  # noqa: SLF001 - to count by other means

    @cache
    def count(state: int) -> int:
        return final[state] + sum(map(count, moves[state].values()))

    def nth(number: int) -> str:
        state, text = 0, ""
        while not (final[state] and number == 0):
            number -= final[state]
            for char, target in moves[state].items():
                if number < count(target):
                    state, text = target, text + char
                    break
                number -= count(target)
        return text

    accepts = re.compile(language.text)
    return Values(count(0), nth, lambda text: accepts.fullmatch(text) is not None)


def _mutated(text: str, random: Random) -> Iterator[str]:
    """Yield texts that are almost a value."""
    at = random.randrange(len(text))
    yield text[:at] + text[at + 1 :]
    yield text[:at] + random.choice("0123456789abcdefABCDEFxyzXYZ.:, -") + text[at + 1 :]
    yield text[:at] + random.choice("0123456789.: ") + text[at:]
    yield from (text.upper(), text.lower(), f"0{text}", f"{text}0", f" {text}")


# -- spelling --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a schema lets through: bits per record that were ``stated`` and ``delivered``, how many
    records were sent, and how many uncounted values arrived (``beyond``)."""

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
    """Writes numbers as records of certain fields."""

    def __init__(self, values: dict[str, Values]) -> None:
        self._values = values
        self.codes: int = prod(each.size + 1 for each in values.values()) - 1
        """The number of records, without the empty one, which is not a record."""

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
    """Return a record under the paths that are read, with the additional members that conditions
    ask for."""
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

    First, each field is probed on its own, with values and with near values.
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
    return {text for probe in sorted(texts)[:40] for text in _mutated(probe, random)}


def _key(record: Record) -> str:
    return json.dumps(record, sort_keys=True)
