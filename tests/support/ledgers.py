"""Ledgers of tests, which must hold."""

from __future__ import annotations

from pathlib import Path

from collector.ledger import Audit, Entry, opened


def check_ledger(path: Path) -> Audit:
    """Verify the ledger of a spool's file: it has no flaw. Return what was found."""
    with opened(path) as ledger:
        found = ledger.verify()
    assert found.flaws == []
    return found


def entries_of(path: Path, *kinds: str) -> list[Entry]:
    """Return the entries of a ledger that holds: all, or those of some kinds."""
    check_ledger(path)
    with opened(path) as ledger:
        return [entry for entry in ledger.entries() if not kinds or entry.kind in kinds]
