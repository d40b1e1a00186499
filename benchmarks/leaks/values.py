"""The values of a field, counted anew: ``nth`` gives each of them for a number, ``has`` knows them.

They are counted by other means than those of the package, so that a width that it states too small
or too large is seen: addresses as whole numbers without ranges, versions by the lengths of their
numbers, patterns by the texts that lead from each state to an end.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
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

_NETWORKS_4 = ("224.0.0.0/4", "169.254.0.0/16")
_NETWORKS_6 = ("ff00::/8", "fe80::/10", "2002::/16", "::ffff:0:0/96", "64:ff9b::/96")


class Values(NamedTuple):
    """The values of a field: how many there are, the one of each number, whether a text is one."""

    size: int
    nth: Callable[[int], str]
    has: Callable[[str], bool]


def values_of(schema: Schema) -> dict[str, Values]:
    """Return the values of each field of a schema."""
    return {name: values(field) for name, field in schema.fields.items()}


def values(field: Field) -> Values:
    """Return the values of a field of a shipped schema."""
    if isinstance(field, EnumField):
        return _listed(field.values)
    if isinstance(field, VersionField):
        return _version(field)
    if isinstance(field, IpField):
        return _address(field)
    if isinstance(field, TokenField):
        return (
            _listed(sorted(field.entries)) if field.language is None else _pattern(field.language)
        )
    raise TypeError(f"no shipped schema has a field of kind {field.kind}")


def _listed(entries: Sequence[str]) -> Values:
    return Values(len(entries), entries.__getitem__, frozenset(entries).__contains__)


def _version(field: VersionField) -> Values:
    """Return versions of one part, of two, and so on; a part is any digits up to its maximum."""
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
        if not re.fullmatch(r"[0-9]+(\.[0-9]+){0,3}", text):
            return False
        parts = text.split(".")
        return len(parts) <= len(maxima) and all(
            len(part) <= len(str(most)) and int(part) <= most
            for part, most in zip(parts, maxima, strict=False)
        )

    return Values(sum(totals), nth, has)


def _lengths(most: int) -> list[int]:
    """Return how many numbers up to a greatest one there are of one digit, of two and so on."""
    return [*(10**digits for digits in range(1, len(str(most)))), most + 1]


def _padded(most: int, number: int) -> str:
    """Return the number of that place: those of one digit first; others may begin with zeros."""
    for digits, size in enumerate(_lengths(most), 1):
        if number < size:
            return f"{number:0{digits}}"
        number -= size
    raise IndexError(number)


_LOCAL_4 = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8"),
    *("172.16.0.0/12", "192.168.0.0/16", "255.255.255.255/32"),
]
_LOCAL_6 = ["::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "fc00::/7", "fec0::/10"]


def _address(field: IpField) -> Values:
    """Return networks of IPv4, then of IPv6, without those that are never admitted."""
    is_global = field.scope == "global"
    four = _Prefixes(32, field.truncate.ipv4, [*_NETWORKS_4, *_LOCAL_4 * is_global])
    six = _Prefixes(128, field.truncate.ipv6, [*_NETWORKS_6, *_LOCAL_6 * is_global])

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
    """Numbers of so many leading bits, without those of which every address, or the very first,
    lies in one of some networks."""

    def __init__(self, bits: int, kept: int, networks: Sequence[str]) -> None:
        self._lost = bits - kept
        self._gaps: list[tuple[int, int]] = []
        for text in networks:
            network = ipaddress.ip_network(text)
            first, length = int(network.network_address), network.num_addresses
            if length >> self._lost:
                self._gaps.append((first >> self._lost, length >> self._lost))
            elif not first & ((1 << self._lost) - 1):
                self._gaps.append((first >> self._lost, 1))
        self._gaps.sort()
        self.size = (1 << kept) - sum(length for _, length in self._gaps)

    def nth(self, number: int) -> int:
        """Return the address of a number."""
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
    counts: dict[int, int] = {}

    def count(state: int) -> int:
        if state not in counts:
            counts[state] = final[state] + sum(map(count, moves[state].values()))
        return counts[state]

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


def mutated(text: str, random: Random) -> Iterator[str]:
    """Yield texts that are nearly a value."""
    at = random.randrange(len(text))
    yield text[:at] + text[at + 1 :]
    yield text[:at] + random.choice("0123456789abcdefABCDEFxyzXYZ.:, -") + text[at + 1 :]
    yield text[:at] + random.choice("0123456789.: ") + text[at:]
    yield text.upper()
    yield text.lower()
    yield f"0{text}"
    yield f"{text}0"
    yield f" {text}"
