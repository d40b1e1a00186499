"""Export a ledger for an auditor, and write and parse checkpoints.

An export is one file of JSON lines that can be verified alone. Each line holds a text, exactly as
it was hashed, and its hash: starts of chains, receipts, entries (with their signatures), the
documents that entries name, and at the end the last receipt and the last entry. ``auditor.py``
verifies it on a machine without Collector.

A checkpoint is the text of an entry and its signature, to be stored elsewhere. Its hash covers all
entries before it and, by the tip that it names, all receipts up to then.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson

from collector.errors import UsageError
from collector.ledger.entry import Entry
from collector.ledger.receipt import NOTHING, Tip
from collector.ledger.signing import signature_check
from collector.ledger.stored import Ledger


def export_lines(ledger: Ledger) -> Iterator[bytes]:
    """Yield the lines of an export, each with its newline. Raises ``DeliveryError`` E507 where
    the ledger cannot be read."""
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


def auditor_script() -> str:
    """Return the script that verifies an export without Collector: the grammar is put into it."""
    texts = (Path(__file__).with_name(f"{name}.py") for name in ("auditor", "grammar"))
    script, grammar = (path.read_text(encoding="utf-8") for path in texts)
    shared = grammar[grammar.index("REJECTED =") :].rstrip()
    return script.replace("from collector.ledger.grammar import fits\n", f"\n{shared}\n")


def _line(**members: object) -> bytes:
    return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)


_FORM = re.compile(
    r"collector entry 1\n"
    r"sequence (?P<sequence>[0-9]{1,16})\n"
    r"minute (?P<minute>[^\n]*)\n"
    r"kind (?P<kind>[^\n]*)\n"
    r"(?P<facts>(?:fact [^\n]*\n)*)"
    r"receipt (?P<receipt>[0-9]{1,16}) (?P<tip>[0-9a-f]{64})\n"
    r"key (?P<key>-|[0-9a-f]{64})\n"
    r"previous (?P<previous>[0-9a-f]{64})\n"
    r"signature (?P<signature>-|[0-9a-f]{128})\n",
    re.ASCII,
)


def format_checkpoint(entry: Entry) -> str:
    """Return the lines of an entry."""
    return f"{entry.text.decode()}signature {entry.signature.hex() or '-'}\n"


def parse_checkpoints(text: str, name: str = "the file") -> list[Entry]:
    """Parse a file with one or several entries; faults call it by its name.

    Raises ``InputError`` E422 for any other file, and for an invalid signature.
    """
    text = text.replace("\r\n", "\n").strip() + "\n"
    found = list(_entries(text))
    if not found or "".join(map(format_checkpoint, found)) != text:
        raise UsageError(
            "E422", f"{name} is not a checkpoint; `collector ledger checkpoint` prints one"
        )
    is_valid = signature_check()
    for entry in found:
        if entry.key and is_valid and not is_valid(entry.key, entry.text, entry.signature):
            raise UsageError(
                "E422", f"a signature in {name} is not valid; use a copy that was not changed"
            )
    return found


def _entries(text: str) -> Iterator[Entry]:
    for match in _FORM.finditer(text):
        parts = match.groupdict()
        facts = (line.split(" ", 2) for line in parts["facts"].split("\n"))
        entry = Entry(
            int(parts["sequence"]),
            parts["minute"],
            parts["kind"],
            tuple((each[1], each[2]) for each in facts if len(each) == 3),
            Tip(int(parts["receipt"]), bytes.fromhex(parts["tip"])),
            parts["key"].strip("-"),
            bytes.fromhex(parts["previous"]),
            signature=bytes.fromhex(parts["signature"].strip("-")),
        )
        yield replace(entry, hash=entry.compute_hash())
