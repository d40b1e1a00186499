"""The ledger: receipts of what was received, admitted and rejected, in a chain."""

from __future__ import annotations

from collector.ledger.receipt import Receipt, Start, Tip
from collector.ledger.stored import Ledger, opened
from collector.ledger.verification import Break, Flaw, Verification, verify

__all__ = [
    "Break",
    "Flaw",
    "Ledger",
    "Receipt",
    "Start",
    "Tip",
    "Verification",
    "opened",
    "verify",
]
