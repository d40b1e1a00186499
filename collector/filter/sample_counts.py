"""Outcomes of events as counts of closed vocabularies: the reasons of rejections, and for each
field of a schema an outcome and the JSON type of its value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from collector.contracts import DROPS, REJECTIONS, Tally

JsonType = Literal["string", "number", "boolean", "object", "array"]
VERDICTS: tuple[str, ...] = ("admitted", *REJECTIONS)
"""What an event becomes."""
OUTCOMES: tuple[str, ...] = ("kept", *DROPS, "near", "absent")
"""What a field becomes. ``near``: its paths have no value, but the event has another spelling, or
some of the members on the way."""
TYPES: tuple[str, ...] = (*get_args(JsonType), "")
"""The JSON type of its value; empty if the event itself has no value, or the type is unknown."""
CELLS = len(OUTCOMES) * len(TYPES)
"""The number of pairs of an outcome and a type."""
MOST_IN_SECOND = 1_000
"""The most events that are examined in a second."""
MOST_SEEN: int = 62 * MOST_IN_SECOND
"""The most events that are examined for one question, which covers a minute."""


def cell(outcome: str, json_type: str | None) -> int:
    """Return the number of a pair of outcome and type."""
    return OUTCOMES.index(outcome) * len(TYPES) + TYPES.index(json_type or "")


def pair(number: int) -> tuple[str, str]:
    """Return the outcome and the type of a number."""
    outcome, json_type = divmod(number, len(TYPES))
    return OUTCOMES[outcome], TYPES[json_type]


@dataclass
class Seen:
    """Counts of one schema's events: by verdict, and for each field by the number of a pair."""

    verdicts: Counter[str] = field(default_factory=Counter)
    fields: dict[str, Counter[int]] = field(default_factory=dict)

    @property
    def events(self) -> int:
        """The number of events that were examined."""
        return self.verdicts.total()

    def __add__(self, other: Seen) -> Seen:
        names = [*self.fields, *(name for name in other.fields if name not in self.fields)]
        fields = {
            name: self.fields.get(name, Counter()) + other.fields.get(name, Counter())
            for name in names
        }
        return Seen(self.verdicts + other.verdicts, fields)

    def add(self, verdict: str, fields: Mapping[str, tuple[str, JsonType | None]]) -> None:
        """Count an event, and the outcome and the type of each field."""
        self.verdicts[verdict] += 1
        for name, found in fields.items():
            self._count(name, cell(*found), 1)

    def add_tally(self, tally: Tally, kept: Mapping[str, int], names: Iterable[str]) -> None:
        """Count events from their tally and the number of records with each field."""
        self.verdicts.update(tally.rejected, admitted=tally.admitted)
        for name in names:
            left = tally.received
            drops = tally.dropped.get(name, Counter())
            for outcome, times in (*drops.items(), ("kept", kept.get(name, 0)), ("absent", left)):
                self._count(name, cell(outcome, None), min(times, left))
                left -= min(times, left)

    def _count(self, name: str, number: int, times: int) -> None:
        if times > 0:
            self.fields.setdefault(name, Counter())[number] += times
