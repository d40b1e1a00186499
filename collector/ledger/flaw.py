"""A flaw: what is wrong with the ledger, and where."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["MINUTE", "Flaw", "Flaws", "between"]

What = Literal["receipt", "entry"]

MINUTE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:00Z", re.ASCII).fullmatch
"""A minute, RFC 3339 UTC."""
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with the ledger, and with which receipt or entry."""

    sequence: int
    message: str
    what: What = "receipt"

    def __str__(self) -> str:
        return f"{self.what} {self.sequence}: {self.message}"


class Flaws(list[Flaw]):
    """What is wrong with all receipts, or with all entries; of very many, the first thousand."""

    def __init__(self, what: What) -> None:
        super().__init__()
        self._what = what

    def report(self, sequence: int, message: str) -> None:
        """Note one more."""
        if len(self) < _MOST:
            self.append(Flaw(sequence, message, self._what))


def between(one: str, many: str, last: int, sequence: int) -> str:
    """The numbers that lie between two, in words."""
    if sequence - last == 2:
        return f"{one} {last + 1} is"
    return f"{many} {last + 1} to {sequence - 1} are"
