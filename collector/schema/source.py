"""A document as plain values, with the line and column of every key and value."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collector.errors import Fault

_MAX_SHOWN = 80

Loc = tuple[str | int, ...]
"""Where something is in the document: keys and list indices from the top."""


@dataclass(slots=True)
class Source:
    """A schema document as plain values (``None`` if it could not be read), with positions:
    ``places`` of keys and of items of lists, ``values`` of what stands behind the keys."""

    file: str
    directory: Path | None = None
    value: Any = None
    places: dict[Loc, tuple[int, int]] = field(default_factory=dict)
    values: dict[Loc, tuple[int, int]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    unread: set[Loc] = field(default_factory=set)

    def fault(self, loc: Loc, code: str, message: str) -> Fault:
        """Make a fault at a place, or at the nearest enclosing place that is known."""
        known = loc = self._written(loc)
        while known and known not in self.places:
            known = known[:-1]
        line, column = self.places.get(known, (1, 1))
        return Fault(self.file, line, column, ".".join(map(_shown, loc)), message, code)

    def _written(self, loc: Loc) -> Loc:
        """Return a place without the index of an only item that is written without a list."""
        is_item = len(loc) > 1 and type(loc[1]) is int and isinstance(self.value, dict)
        if is_item and not isinstance(self.value.get(loc[0]), list):
            return (loc[0], *loc[2:])
        return loc

    def report(self, loc: Loc, code: str, message: str) -> None:
        """Record a fault, unless the value there could not be read in the first place."""
        if loc not in self.unread:
            self.faults.append(self.fault(loc, code, message))

    def refuse(self, loc: Loc, code: str, message: str) -> None:
        """Record the one fault of a value that cannot be read."""
        self.report(loc, code, message)
        self.unread.add(loc)


def _shown(part: str | int) -> str:
    """Clean a key for a message: on one line, without control characters."""
    text = str(part)
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
