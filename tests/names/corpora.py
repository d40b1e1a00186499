"""The two corpora, and what the rules say of each name in them.

``data/telling.txt`` has names that carry content, people, contact, location and so on;
``data/innocent.txt`` those of devices, systems, networks and quality. Each has its natural kind,
its half of the corpus (``dev`` or ``test``), and its source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from collector.schema import policy
from collector.schema.names import Holds, NameFault, objection

__all__ = ["Entry", "as_natural", "as_text", "corpus", "share"]

_DATA = Path(__file__).with_name("data")
_HOLDS: dict[str, Holds] = {
    "boolean": "bool",
    "enum": "closed",
    "integer": "count",
    "ip": "ip",
    "number": "count",
    "time": "time",
    "token": "text",
    "version": "version",
}


class Entry(NamedTuple):
    """A name with its natural kind, half and source."""

    name: str
    kind: str
    half: str
    source: str

    @property
    def project(self) -> str:
        """Return the first word of the source."""
        return self.source.partition(":")[0]


@cache
def corpus(name: str) -> tuple[Entry, ...]:
    """Read a corpus."""
    return tuple(_entries((_DATA / f"{name}.txt").read_text("utf-8").splitlines()))


def _entries(lines: Iterable[str]) -> Iterator[Entry]:
    for line in lines:
        if not line.startswith("#"):
            name, more = line.split("\t")
            yield Entry(name, *more.removeprefix("# ").split("; ", 2))


def _judged(name: str, holds: Holds, *, has_letters: bool) -> NameFault | None:
    above = name.rpartition(".")[0]
    is_leaf = not policy.name_on(above, policy.content_names({}))
    return objection(name, holds, has_letters=has_letters, is_leaf=is_leaf)


def as_text(entry: Entry, *, is_closed: bool = True) -> NameFault | None:
    """Judge a name as that of a token of under 16 letter bits; ``is_closed`` with the layer of the
    closed world, else by words alone."""
    return _judged(entry.name, "text", has_letters=is_closed)


def as_natural(entry: Entry) -> NameFault | None:
    """Judge a name as that of a field of its natural kind."""
    return _judged(entry.name, _HOLDS[entry.kind], has_letters=entry.kind == "token")


def share(part: int, whole: int) -> str:
    """Write a share in percent."""
    return f"{100 * part / whole:.1f} %" if whole else "-"
