"""What waits in a spool, and what was set aside beside it, with less in them: of somebody, or of a
time that is over.

The limits that no schema states are here.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from collector.contracts import to_minute
from collector.errors import ConfigError
from collector.filter.revision import Expiry, Reason, changing
from collector.schema import Schema
from collector.spool import Spool
from collector.spool.quarantine import discard
from collector.spool.revision import ALWAYS, Outcome, Revision

__all__ = ["ASIDE", "HOURS", "Cleared", "aside_for", "clear", "prune"]

HOURS = timedelta(days=90)
"""For so long the ledger's sums of hours stay: what was dropped, and how much came in."""
ASIDE = timedelta(days=7)
"""For so long damaged batches and files stay that were set aside, unless a field of the schema has
less time: what is in them nobody can tell."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """What was done in the spool, and how many files are gone that were set aside."""

    outcome: Outcome
    files: int

    def __bool__(self) -> bool:
        return bool(self.batches or self.files)

    @property
    def batches(self) -> int:
        """Batches that have less in them or are gone, damaged ones too."""
        return self.outcome.batches + self.outcome.damaged


def aside_for(schema: Schema) -> timedelta:
    """For so long damaged batches and files of a schema stay that were set aside."""
    return min(ASIDE, *schema.retentions.values())


def clear(spool: Spool, reason: Reason, *, since: datetime, wait: float) -> Cleared:
    """Take out what concerns somebody since a moment, and what nobody can tell of: damaged batches,
    and files that were set aside after it. Who is reading is waited for so many seconds.

    Raises ``DeliveryError`` E506, and ``ConfigError`` E203 when a file cannot be deleted.
    """
    revision = Revision(changing(reason), damaged=ALWAYS, always=True, wait=wait)
    return Cleared(spool.revise(revision).result(), discard(spool.path, since=since))


def prune(spool: Spool, schema: Schema, wait: float = 0.0) -> Cleared:
    """Take out what is older than it may be. Raises ``DeliveryError`` E506."""
    now = datetime.now(UTC)
    expiry, aside = Expiry(schema.retentions, now), now - aside_for(schema)
    revision = Revision(
        changing(expiry),
        before=expiry.until,
        damaged=to_minute(aside),
        hours=to_minute(now - HOURS),
        wait=wait,
    )
    outcome, files = spool.revise(revision).result(), 0
    with suppress(ConfigError):
        files = discard(spool.path, until=aside)
    return Cleared(outcome, files)
