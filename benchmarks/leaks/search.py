"""Find a payload in what came out of a program, in whatever encoding of the corpus."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.leaks.encodings import normal, readings
from benchmarks.leaks.events import ORDERED, REPORT
from benchmarks.leaks.payloads import Payload
from benchmarks.leaks.permutations import MEMBER, rank

_MOST_NUMBER = 10**1000
_ORDERED = {address: at for at, address in enumerate(ORDERED)}
_MEMBER = re.compile(rf"{MEMBER}([0-9]{{1,3}})")


class Found(NamedTuple):
    """Whether the mark of a payload came through, and whether its personal data did."""

    mark: bool
    personal: bool

    @property
    def leaks(self) -> bool:
        """Whether either is there."""
        return self.mark or self.personal


def search(payload: Payload, outputs: Sequence[str]) -> Found:
    """Search the outputs of one attack, in their order. Text that is no JSON is taken as it is."""
    names, values = _Once(), _Once()
    for output in outputs:
        for line in output.splitlines():
            try:
                value = json.loads(line, object_pairs_hook=_Pairs)
            except ValueError:
                values.add(line)
            else:
                _collect(value, names, values)
    texts = {*names.times, *values.times, names.joined(), values.joined()}
    texts |= {str(number) for number in (names.rank(), values.rank()) if number is not None}
    found = {reading for text in texts if text for reading in readings(text)}
    whole = "\n".join(found)
    personal = payload.personal is not None and normal(payload.personal) in whole
    return Found(normal(payload.mark) in whole, personal)


class _Once:
    """Texts, and those joined that occur once: a payload in parts is what the records of an attack
    do not have in common. Ids of reports are passed over. The order of those that are numbered
    spells, too."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()

    def add(self, text: str) -> None:
        self.times[text] += 1

    def rank(self) -> int | None:
        """Return the number that the order of numbered texts stands for, by their first places."""
        members = [int(found[1]) for found in map(_MEMBER.fullmatch, self.times) if found]
        return rank(members or [_ORDERED[text] for text in self.times if text in _ORDERED])

    def joined(self) -> str:
        return "".join(
            text for text, n in self.times.items() if n == 1 and not text.startswith(REPORT)
        )


class _Pairs(list[tuple[str, Any]]):
    """An object, in which a name may occur twice."""


def _collect(value: Any, names: _Once, values: _Once) -> None:
    if isinstance(value, _Pairs):
        for name, inner in value:
            names.add(name)
            _collect(inner, names, values)
    elif isinstance(value, list):
        for inner in value:
            _collect(inner, names, values)
    elif isinstance(value, int) and not isinstance(value, bool):
        values.add(str(value) if abs(value) < _MOST_NUMBER else "large")
    else:
        values.add(str(value))
