"""Export a ledger for an auditor, and write and parse checkpoints.

An export is one file of JSON lines that can be verified alone. Each line holds a text, exactly as
it was hashed, and its hash: starts of chains, entries (with their signatures), the documents that
entries name, receipts, and at the end the last receipt and the last entry. ``auditor.py`` verifies
it on a machine without Collector.

A checkpoint is the text of an entry and its signature, to be stored elsewhere. Its hash covers all
entries before it and, by the tip that it names, all receipts up to then.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson

from collector.errors import UsageError
from collector.ledger.auditor import Checkpoint, read_checkpoints
from collector.ledger.entry import Entry
from collector.ledger.signing import signature_check
from collector.ledger.stored import Ledger


def export_lines(ledger: Ledger) -> Iterator[bytes]:
    """Yield the lines of an export, each with its newline. Raises ``DeliveryError`` E507 if the
    ledger cannot be read."""
    for what, text, digest, signature in ledger.lines():
        line = {what: text, "hash": digest} | ({"signature": signature} if what == "entry" else {})
        yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def auditor_script() -> str:
    """Return the script that verifies an export without Collector. It includes the grammar."""
    texts = (Path(__file__).with_name(f"{name}.py") for name in ("auditor", "grammar"))
    script, grammar = (path.read_text(encoding="utf-8") for path in texts)
    shared = grammar[grammar.index("REJECTED =") :].rstrip()
    return script.replace("from collector.ledger.grammar import fits\n", f"\n{shared}\n")


def format_checkpoint(entry: Entry) -> str:
    """Return an entry as a checkpoint: its text and its signature."""
    return f"{entry.text.decode()}signature {entry.signature.hex() or '-'}\n"


def parse_checkpoints(text: str, name: str = "the file") -> list[Checkpoint]:
    """Parse a file with one or several entries; error messages use ``name``.

    Raises ``UsageError`` E422 for any other file, and for an invalid signature.
    """
    fault = ""
    try:
        return read_checkpoints(text, signature_check())
    except ValueError as error:
        fault = str(error)
    raise UsageError("E422", f"{name}: {fault}")
