"""Records that wait in memory, in the order in which they came; the first may be on their way."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from collector.contracts import Granted

__all__ = ["Taken", "Waiting"]


@dataclass(frozen=True, slots=True, repr=False)
class Taken:
    """Records of one minute that are on their way: their lines, when they came, what they may be
    used for, and the id under which they go, however often it is tried."""

    received: str
    lines: list[bytes]
    granted: Granted
    id: bytes


class Waiting:
    """The lines that wait, each with its minute and what it may be used for, and those ``taken``.
    ``entered`` counts all that came, but those that were taken out. Knows no lock."""

    def __init__(self) -> None:
        self.lines: deque[tuple[str, Granted, bytes]] = deque()
        self.taken: Taken = _nothing("", None)
        self.entered: int = 0
        self._taken_from = 0

    def __repr__(self) -> str:
        return f"<Waiting of {len(self)}>"

    def __len__(self) -> int:
        return len(self.lines) + len(self.taken.lines)

    def take(self, most: int) -> Taken:
        """The next lines, at most so many, which have their minute and what is granted in common.
        They stay here until they are ``let_go``."""
        lines = self.lines
        received, granted = lines[0][:2] if lines else ("", None)
        self._taken_from = self.entered - len(lines)
        self.taken = taken = _nothing(received, granted)
        while lines and len(taken.lines) < most and lines[0][:2] == (received, granted):
            taken.lines.append(lines.popleft()[2])
        return taken

    def let_go(self) -> None:
        """What was taken is not here any more."""
        self.taken = _nothing("", None)

    def clear(self) -> None:
        """Nothing waits, and nothing is on its way."""
        self.let_go()
        self.lines.clear()

    def is_past(self, mark: int) -> bool:
        """Whether all that had come when ``entered`` was ``mark`` is gone."""
        first = self._taken_from if self.taken.lines else self.entered - len(self.lines)
        return first >= min(mark, self.entered)

    def here(self) -> list[tuple[str, bytes]]:
        """Every line that is here, with its minute."""
        received, taken = self.taken.received, self.taken.lines
        return [*((each[0], each[2]) for each in self.lines), *((received, line) for line in taken)]

    def shorten(self, less: Mapping[tuple[str, int], bytes]) -> None:
        """Put what is left in the place of some lines; a line of which nothing is left goes. They
        are told by their minute and by ``id``: whoever asks for that keeps them alive."""
        taken = self.taken
        left = [less.get((taken.received, id(line)), line) for line in taken.lines]
        taken.lines[:] = filter(None, left)
        number = len(self.lines)
        new = [(at, to, less.get((at, id(line)), line)) for at, to, line in self.lines]
        self.lines.clear()
        self.lines.extend(each for each in new if each[2])
        self.entered -= number - len(self.lines)


def _nothing(received: str, granted: Granted) -> Taken:
    return Taken(received, [], granted, secrets.token_bytes(16))
