"""The possible changes of a schema, and their verdicts.

``RULES`` is the only table of them; a test checks ``docs/schema-review.md`` against it. A doubtful
change is widening: one change too many in a review costs a look, one too few costs somebody's data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

Verdict = Literal["widening", "narrowing", "neutral"]

RULES: Mapping[str, Verdict] = {
    # the document
    "another schema": "widening",
    "records are found elsewhere": "widening",
    "records are selected otherwise": "widening",
    "only selected records": "narrowing",
    "user agent is found elsewhere": "widening",
    "choices are read no longer": "widening",
    "choices are found elsewhere": "widening",
    "choices are read": "narrowing",
    "ceiling raised": "widening",
    "ceiling lowered": "narrowing",
    "content name removed": "widening",
    "content name added": "narrowing",
    "content name counted elsewhere": "neutral",
    "test removed": "widening",
    "test weakened": "widening",
    "test added": "narrowing",
    "test strengthened": "narrowing",
    "test renamed": "neutral",
    "sentence added": "widening",
    "sentence changed": "widening",
    "sentence removed": "narrowing",
    "another version": "neutral",
    # purposes
    "purpose added": "widening",
    "purpose removed": "narrowing",
    "another use": "widening",
    "another legal basis": "widening",
    "cannot be refused": "widening",
    "can be refused": "narrowing",
    # fields
    "field added": "widening",
    "field removed": "narrowing",
    "required field removed": "widening",
    "another kind": "widening",
    "another category": "widening",
    "source added": "widening",
    "sources in another order": "widening",
    "deciding source removed": "widening",
    "source removed": "narrowing",
    "only under a condition": "narrowing",
    "used for more": "widening",
    "used for less": "narrowing",
    "kept longer": "widening",
    "kept shorter": "narrowing",
    "collected longer": "widening",
    "collected shorter": "narrowing",
    "no longer required": "widening",
    "required": "narrowing",
    "derived": "widening",
    "no longer derived": "narrowing",
    "another sentence": "widening",
    "filled from the peer": "widening",
    "no longer filled": "narrowing",
    # values
    "more values": "widening",
    "fewer values": "narrowing",
    "finer values": "widening",
    "coarser values": "narrowing",
    "other values": "widening",
    "more spellings": "widening",
    "fewer spellings": "narrowing",
    "linked longer": "widening",
    "linked shorter": "narrowing",
    "another key": "widening",
    # anything
    "reworded": "neutral",
    "written differently": "neutral",
    "not understood": "widening",
}
"""All possible changes, with their verdicts."""


class Shift(NamedTuple):
    """One option that differs between two parts of the same form.

    ``what`` is a key of ``RULES``. ``gone`` and ``added`` are words of the two documents; if both
    are ``None``, the values of the option are used.
    """

    option: str
    what: str
    gone: Any = None
    added: Any = None


def differing(old: Iterable[str], new: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the texts that are only in the old list, and those only in the new one."""
    before, after = dict.fromkeys(old), dict.fromkeys(new)
    return [t for t in before if t not in after], [t for t in after if t not in before]


def ordered_shifts(option: str, old: Any, new: Any, more: str, less: str) -> Iterator[Shift]:
    """Yield the shift of an option with ordered values: ``more`` if it increased, else ``less``."""
    if old != new:
        yield Shift(option, more if new > old else less)
