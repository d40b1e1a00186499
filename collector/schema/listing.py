"""A catalogue file looked at closely: its faults in one pass, with lines, and how to add to it.

Loading a schema only asks whether a catalogue has the right form. This asks more: that nothing in
it is about a person or one single device, and that its readers find their way, for which entries
are sorted within each block under its ``# source:`` line. No message repeats an entry: what should
not stand in the file should not stand in a log either.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import log2
from typing import NamedTuple

from collector.schema.catalogue import (
    MAX_LENGTH,
    CatalogueFault,
    is_comment,
    is_entry,
    source_of,
    text_of,
)
from collector.schema.lints.personal import looks_personal

__all__ = ["Block", "Finding", "Listing", "blemish", "examine", "insert"]

_DEVICE_OR_PERSON: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "a possessive, as in names that people give",
        re.compile(r"[^\W\d_]['\u2019]s\b", re.IGNORECASE),
    ),
    ("an e-mail address", re.compile(r"\S@\S")),
    ("a web address", re.compile(r"://")),
    ("a telephone number", re.compile(r"(?<![\w.])(?:\+(?:[ ()./-]*\d){7}|(?:[ ()/-]*\d){9})")),
    (
        "a hardware address",
        re.compile(r"\b[0-9a-f]{2}([:-])[0-9a-f]{2}(?:\1[0-9a-f]{2}){4}\b", re.IGNORECASE),
    ),
    ("an IP address", re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")),
    ("a UUID", re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE)),
    ("a serial number", re.compile(r"\d{9}|\b(?=\w*\d)[0-9a-f]{12,}\b|\b(?=\w*\d)[0-9A-F]{12,}\b")),
    (
        "a serial number",
        re.compile(r"\b(?=(?:[A-Z]*\d){2})(?=(?:\d*[A-Z]){3})[A-Z0-9]{11,}\b"),
    ),
)


class Finding(NamedTuple):
    """One thing about a line, counted from 1; ``code`` is ``""`` if it is only a warning."""

    line: int
    message: str
    code: str


@dataclass
class Block:
    """The entries below one ``# source:`` line, with their lines."""

    source: str
    entries: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Listing:
    """What a catalogue file holds: its lines, and its entries by source."""

    lines: tuple[str, ...]
    blocks: tuple[Block, ...]

    @property
    def entries(self) -> dict[str, int]:
        """Entry → the first line that it is on."""
        found: dict[str, int] = {}
        for block in self.blocks:
            for line, entry in block.entries:
                found.setdefault(entry, line)
        return found

    @property
    def bits(self) -> float:
        """The width of a field that takes one of the entries, its absence not counted."""
        return log2(len(self.entries)) if self.entries else 0.0

    @property
    def longest(self) -> int:
        """Characters of the longest entry."""
        return max(map(len, self.entries), default=0)


def blemish(entry: str) -> str | None:
    """Why a text can be no entry, or ``None``. The sentence does not hold the text."""
    if is_comment(entry) or not is_entry(entry):
        return (
            f"an entry must be 1 to {MAX_LENGTH} printable characters that do not begin with `#`,"
            " without blanks around it"
        )
    for what, signs in _DEVICE_OR_PERSON:
        if signs.search(entry):
            return f"this looks like {what}; list what products are called, not one of them"
    return None


def examine(data: bytes) -> tuple[Listing, list[Finding]]:
    """The listing in a catalogue's bytes, and all that is to be said about it, by line."""
    try:
        lines = tuple(text_of(data).splitlines())
    except CatalogueFault as fault:
        return Listing((), ()), [Finding(1, str(fault), fault.code)]
    listing = Listing(lines, tuple(_blocks(lines)))
    checks: tuple[Callable[[Listing], Iterator[Finding]], ...] = (
        _sourceless,
        _faulty,
        _repeated,
        _named,
        _alike,
        _unsorted,
    )
    return listing, sorted(finding for check in checks for finding in check(listing))


def insert(data: bytes, entries: list[str], source: str) -> bytes:
    """A catalogue's bytes with entries added in their places, in the block of that source.

    A block that is not there is begun at the end. An entry goes before the first that sorts after
    it where the block is sorted, else to its end. Lines that are there are not changed.

    Raises ``CatalogueFault`` E121 when the bytes are no text.
    """
    text = text_of(data)
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines()
    block = next((block for block in _blocks(lines) if block.source == source), None)
    if block is None:
        lines += ["", f"# source: {source}"] if lines else [f"# source: {source}"]
        lines += sorted(entries, key=_order)
    else:
        for place, entry in _places(block, entries, lines):
            lines.insert(place, entry)
    mark = b"\xef\xbb\xbf" if data.startswith(b"\xef\xbb\xbf") else b""
    return mark + newline.join([*lines, ""]).encode()


def _places(block: Block, entries: list[str], lines: list[str]) -> Iterator[tuple[int, str]]:
    """Indexes of lines to insert at, the last first, so that each still holds when it is used."""
    keys = [_order(entry) for _, entry in block.entries]
    numbers = [number for number, _ in block.entries]
    end = numbers[-1] if numbers else _head(block, lines)
    tidy = keys == sorted(keys)
    for entry in sorted(entries, key=_order, reverse=True):
        index = bisect_left(keys, _order(entry)) if tidy else len(keys)
        yield (numbers[index] - 1 if index < len(numbers) else end), entry


def _head(block: Block, lines: list[str]) -> int:
    """The lines down to the source line of a block that has no entry yet."""
    return next(n for n, line in enumerate(lines, 1) if source_of(line) == block.source)


def _order(entry: str) -> tuple[str, str]:
    return entry.casefold(), entry


def _blocks(lines: tuple[str, ...] | list[str]) -> Iterator[Block]:
    block = Block("")
    for number, line in enumerate(lines, 1):
        source = source_of(line)
        if source is not None:
            if block.source or block.entries:
                yield block
            block = Block(source)
        elif not is_comment(line):
            block.entries.append((number, line))
    if block.source or block.entries:
        yield block


def _sourceless(listing: Listing) -> Iterator[Finding]:
    if not listing.lines or source_of(listing.lines[0]) is None:
        yield Finding(1, "the first line of a catalogue must be `# source: …`", "E121")
    for number, line in enumerate(listing.lines, 1):
        if source_of(line) == "":
            yield Finding(number, "name the public source of the entries below", "E121")
    if not listing.entries:
        yield Finding(max(1, len(listing.lines)), "list at least one entry", "E121")


def _faulty(listing: Listing) -> Iterator[Finding]:
    for block in listing.blocks:
        for number, entry in block.entries:
            if why := blemish(entry):
                yield Finding(number, why, "E121")


def _repeated(listing: Listing) -> Iterator[Finding]:
    first = listing.entries
    for block in listing.blocks:
        for number, entry in block.entries:
            if first[entry] != number:
                yield Finding(
                    number, f"this entry is there already, in line {first[entry]}", "E121"
                )


def _named(listing: Listing) -> Iterator[Finding]:
    """Only a warning: many a product is called like a person."""
    for entry, number in listing.entries.items():
        if looks_personal(entry) and blemish(entry) is None:
            yield Finding(number, "this entry has a person's name in it; is it a product?", "")


def _alike(listing: Listing) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for entry, number in listing.entries.items():
        alike = seen.setdefault("".join(entry.casefold().split()), number)
        if alike != number:
            message = f"this entry differs from that in line {alike} only in case or blanks"
            yield Finding(number, message, "")


def _unsorted(listing: Listing) -> Iterator[Finding]:
    """The first of each block; the others of it are likely to follow from it."""
    for block in listing.blocks:
        pairs = zip(block.entries, block.entries[1:], strict=False)
        for (_, before), (number, entry) in pairs:
            if _order(entry) < _order(before):
                message = "this entry sorts before the one above it; keep each block sorted"
                yield Finding(number, message, "")
                break
