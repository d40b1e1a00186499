"""Check and read the ledgers of tests."""

from __future__ import annotations

from pathlib import Path

from collector.ledger import Audit, Entry, opened


def check_ledger(path: Path) -> Audit:
    """Verify the ledger in a spool's file, and check that it has no flaw. Return the audit."""
    with opened(path) as ledger:
        found = ledger.verify()
    assert found.flaws == []
    return found


def entries_of(path: Path, *kinds: str) -> list[Entry]:
    """Verify a ledger, and return its entries: all, or only those of some kinds."""
    check_ledger(path)
    with opened(path) as ledger:
        return [entry for entry in ledger.entries() if not kinds or entry.kind in kinds]
