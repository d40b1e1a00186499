"""The ledger: receipts of what was received, admitted and rejected, and entries of what was done
beside that, each in a chain."""

from __future__ import annotations

from collector.ledger.entry import KINDS, Entry, Kind, Note
from collector.ledger.flaw import Flaw
from collector.ledger.receipt import Receipt, Start, Tip
from collector.ledger.stored import Ledger, opened
from collector.ledger.verification import Break, Verification, verify

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
    "opened",
    "verify",
]
