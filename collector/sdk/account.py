"""The account of a ``Collector``: counts of events, and where each admitted record is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, get_args

from collector.contracts import Tally

__all__ = ["LOSSES", "Account", "Loss"]

Loss = Literal["queue_full", "refused", "closed", "unsent", "withdrawn", "expired"]
"""Why an admitted record is lost: the queue was full; the receiver refused it for good; it came
after ``close``; it was still queued when ``close`` ran out of time; a withdrawal of consent or the
end of its retention left no field of it."""

LOSSES: tuple[Loss, ...] = get_args(Loss)


@dataclass(slots=True)
class Account(Tally):
    """A tally of all events, and the place of each admitted record.

    ``admitted + recovered == delivered + queued + spooled + sum(lost.values())`` always holds.
    ``queued`` records are in memory, ``spooled`` ones on disk; ``recovered`` ones were in the spool
    when it was opened. ``failures`` counts failed attempts to deliver; ``failing`` says that the
    last attempt failed, and ``why`` gives its code, with the reason for E514.
    """

    delivered: int = 0
    queued: int = 0
    spooled: int = 0
    recovered: int = 0
    lost: Counter[Loss] = field(default_factory=Counter)
    failures: int = 0
    failing: bool = False
    why: str = ""

    def as_dict(self) -> dict[str, object]:
        """Return the account in its JSON form, without zeros, except for the first three keys and
        ``delivered``."""
        lost = {reason: self.lost[reason] for reason in LOSSES if self.lost[reason]}
        optional = {
            "queued": self.queued,
            "spooled": self.spooled,
            "recovered": self.recovered,
            "lost": lost,
            "failures": self.failures,
            "failing": self.failing,
            "why": self.why,
        }
        # ``super()`` would find the class from before ``slots`` replaced it.
        counts = Tally.as_dict(self) | {"delivered": self.delivered}
        return counts | {key: value for key, value in optional.items() if value}
