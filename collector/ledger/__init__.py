"""The ledger: receipts of received, admitted and rejected events, and entries of other actions,
each in a chain."""

from __future__ import annotations

from collector.ledger.auditor import Audit, Flaw
from collector.ledger.entry import KINDS, Entry, Kind, Note
from collector.ledger.receipt import Receipt, Start, Tip
from collector.ledger.stored import Ledger, earlier_schemas, opened

__all__ = [
    "KINDS",
    "Audit",
    "Entry",
    "Flaw",
    "Kind",
    "Ledger",
    "Note",
    "Receipt",
    "Start",
    "Tip",
    "earlier_schemas",
    "opened",
]
