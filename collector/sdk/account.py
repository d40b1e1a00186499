"""The account of a ``Collector``: what came in, what was kept of it, and where each record is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, get_args

from collector.contracts import Tally

__all__ = ["LOSSES", "Account", "Loss"]

Loss = Literal["queue_full", "refused", "closed", "unsent", "withdrawn", "expired"]
"""Why an admitted record is not delivered: the queue had no room for it; the receiver will never
take it; it came after ``close``; it still waited when the time for closing was over; nothing was
left of it when consent was withdrawn, or when its retention was over."""

LOSSES: tuple[Loss, ...] = get_args(Loss)


@dataclass(slots=True)
class Account(Tally):
    """A tally of all events, and how many of the admitted records are where.

    ``admitted + recovered == delivered + queued + spooled + sum(lost.values())`` always holds.
    ``queued`` are in memory, ``spooled`` on disk; ``recovered`` were found there when the spool
    was opened. ``failures`` counts attempts to deliver that failed; ``failing`` says that the last
    one did.
    """

    delivered: int = 0
    queued: int = 0
    spooled: int = 0
    recovered: int = 0
    lost: Counter[Loss] = field(default_factory=Counter)
    failures: int = 0
    failing: bool = False

    def as_dict(self) -> dict[str, object]:
        """The account in its JSON form: zero entries left out, except the first three keys and
        ``delivered``."""
        lost = {reason: self.lost[reason] for reason in LOSSES if self.lost[reason]}
        optional = {
            "queued": self.queued,
            "spooled": self.spooled,
            "recovered": self.recovered,
            "lost": lost,
            "failures": self.failures,
            "failing": self.failing,
        }
        # Without arguments ``super`` would look for the class that ``slots`` has replaced.
        counts = Tally.as_dict(self) | {"delivered": self.delivered}
        return counts | {key: value for key, value in optional.items() if value}
