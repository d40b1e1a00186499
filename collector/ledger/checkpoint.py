"""A checkpoint as a file of a few lines: the entry's own text and its signature, to keep elsewhere.

Its hash binds all entries before it and, by the tip it names, all receipts up to then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from collector.errors import InputError
from collector.ledger.entry import Entry
from collector.ledger.receipt import Tip
from collector.ledger.signing import checker

__all__ = ["checkpoints", "written"]

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


def written(entry: Entry) -> str:
    """The lines of an entry."""
    return f"{entry.text.decode()}signature {entry.signature.hex() or '-'}\n"


def checkpoints(text: str) -> list[Entry]:
    """The entries that a file holds, one or several.

    Raises ``InputError`` E401 for a file that is none, or whose signature is not good.
    """
    text = text.replace("\r\n", "\n").strip() + "\n"
    found = list(_entries(text))
    if not found or "".join(map(written, found)) != text:
        raise InputError("E401", "a file given with --checkpoint is no checkpoint of a ledger")
    holds = checker()
    for entry in found:
        if entry.key and holds and not holds(entry.key, entry.text, entry.signature):
            raise InputError("E401", "the signature of a checkpoint is not good: it was changed")
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
        yield replace(entry, hash=entry.computed())
