"""A ledger for an auditor: one file of JSON lines that stands for itself.

Each line holds a text, which is the very one that was hashed, and its hash: starts of chains,
receipts, entries (with their signatures), the documents that entries name, and at the end what the
last receipt and the last entry are. ``auditor`` reads it, on a machine without Collector.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import orjson

from collector.ledger.receipt import NOTHING, Tip
from collector.ledger.stored import Ledger

__all__ = ["auditor", "lines"]


def lines(ledger: Ledger) -> Iterator[bytes]:
    """The lines of an export, each with its newline. Raises ``DeliveryError`` E507 where the ledger
    cannot be read."""
    for _, start in sorted(ledger.starts.items()):
        yield _line(start=start.text.decode(), hash=start.hash.hex())
    for receipt in ledger.receipts():
        yield _line(receipt=receipt.text.decode(), hash=receipt.hash.hex())
    for entry in ledger.entries():
        signature = {"signature": entry.signature.hex()}
        yield _line(entry=entry.text.decode(), hash=entry.hash.hex(), **signature)
    for digest, document in ledger.documents():
        yield _line(document=(document or b"").decode(errors="replace"), hash=digest)
    none = Tip(0, NOTHING)
    ends = {"receipt": ledger.tip or none, "entry": ledger.last_entry or none}
    tips = "".join(f"{what} {tip.sequence} {tip.hash.hex()}\n" for what, tip in ends.items())
    yield _line(tips=tips, hash=hashlib.sha256(tips.encode()).hexdigest())


def auditor() -> str:
    """The script that verifies an export, which needs nothing of Collector."""
    return Path(__file__).with_name("auditor.py").read_text(encoding="utf-8")


def _line(**members: object) -> bytes:
    return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)
