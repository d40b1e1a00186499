"""The ledger: receipts of received, admitted and rejected events, and entries of other actions,
each in a chain."""

from __future__ import annotations

from collector.ledger.entry import KINDS, Entry, Kind, Note
from collector.ledger.receipt import Receipt, Start, Tip
from collector.ledger.stored import Ledger, earlier_schemas, opened
from collector.ledger.verification import Break, Flaw, Verification, verify

__all__ = [
    "KINDS",
    "Break",
    "Entry",
    "Flaw",
    "Kind",
    "Ledger",
    "Note",
    "Receipt",
    "Start",
    "Tip",
    "Verification",
    "earlier_schemas",
    "opened",
    "verify",
]
