"""One change between two schema documents, and how changes are made of parts that differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from collector.schema.verdict import RULES, Shift, Verdict

__all__ = ["Change", "changes", "differing", "reordered"]


class Change(NamedTuple):
    """A change of a part of the documents, or of one option of it; the part is empty for the head.

    ``what`` is a key of ``verdict.RULES``. ``old`` and ``new`` are words of the documents, ``None``
    where there are none; of lists without an order, what is only in the one or the other.
    ``reason`` is the document's own, for a field or a purpose.
    """

    part: str
    option: str
    what: str
    old: Any = None
    new: Any = None
    reason: str | None = None

    @property
    def at(self) -> str:
        """Its place in the documents."""
        return ".".join(filter(None, (self.part, self.option)))

    @property
    def verdict(self) -> Verdict:
        """Widening, narrowing or neutral."""
        return RULES[self.what]


def changes(
    part: str,
    shifts: Iterable[Shift],
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    reason: str | None = None,
) -> Iterator[Change]:
    """The changes that shifts of a part mean, from the part as both documents write it.

    Whatever differs and that no shift speaks of is widening: nobody has said that it is not.
    """
    spoken = set()
    for shift in shifts:
        option, what = shift.option, shift.what
        spoken.add(option.partition(".")[0])
        words = shift.gone, shift.added
        if words == (None, None):
            words = _word(old, option), _word(new, option)
        yield Change(part, option, what, words[0], words[1], reason)
    for option in dict.fromkeys([*old, *new]):
        if option not in spoken and old.get(option) != new.get(option):
            yield Change(part, option, "not understood", old.get(option), new.get(option), reason)


def _word(written: Any, option: str) -> Any:
    for key in option.split("."):
        written = written.get(key) if isinstance(written, Mapping) else None
    return written


def differing(old: Iterable[str], new: Iterable[str]) -> tuple[list[str], list[str]]:
    """What is only in the one, and what is only in the other, in their orders."""
    before, after = dict.fromkeys(old), dict.fromkeys(new)
    return [t for t in before if t not in after], [t for t in after if t not in before]


def reordered(option: str, old: Iterable[str], new: Iterable[str]) -> Iterator[Shift]:
    """The shift of a part whose members are in another order, whatever else is different."""
    before, after = list(old), list(new)
    both = set(before) & set(after)
    orders = [[name for name in names if name in both] for names in (before, after)]
    if orders[0] != orders[1]:
        yield Shift(option, "written differently", *orders)
