"""Lint of a catalogue file: its faults in one pass, with lines; and insertion of entries.

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


class CatalogueFinding(NamedTuple):
    """A fault of a line, counted from 1, or a warning, whose ``code`` is ``""``."""

    line: int
    message: str
    code: str


@dataclass
class Block:
    """The entries below one ``# source:`` line, with their lines."""

    source: str
    entries: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class CatalogueFile:
    """The parsed file: its lines, and its entries by source."""

    lines: tuple[str, ...]
    blocks: tuple[Block, ...]

    @property
    def entries(self) -> dict[str, int]:
        """Map each entry to the first line that it is on."""
        found: dict[str, int] = {}
        for block in self.blocks:
            for line, entry in block.entries:
                found.setdefault(entry, line)
        return found

    @property
    def bits(self) -> float:
        """Compute the width of a field with these entries, its absence not counted."""
        return log2(len(self.entries)) if self.entries else 0.0

    @property
    def longest(self) -> int:
        """Return the length of the longest entry in characters."""
        return max(map(len, self.entries), default=0)


def fault_of(entry: str) -> str | None:
    """Explain why a text cannot be an entry, without quoting it; else return ``None``."""
    if is_comment(entry) or not is_entry(entry):
        return (
            f"an entry must be 1 to {MAX_LENGTH} printable characters that do not begin with `#`,"
            " without blanks around it"
        )
    for what, signs in _DEVICE_OR_PERSON:
        if signs.search(entry):
            return f"this looks like {what}; list what products are called, not one of them"
    return None


def examine(data: bytes) -> tuple[CatalogueFile, list[CatalogueFinding]]:
    """Parse a catalogue's bytes, and return the file with all findings, by line."""
    try:
        lines = tuple(text_of(data).splitlines())
    except CatalogueFault as fault:
        return CatalogueFile((), ()), [CatalogueFinding(1, str(fault), fault.code)]
    catalogue_file = CatalogueFile(lines, tuple(_blocks(lines)))
    checks: tuple[Callable[[CatalogueFile], Iterator[CatalogueFinding]], ...] = (
        _sourceless,
        _faulty,
        _repeated,
        _named,
        _alike,
        _unsorted,
    )
    return catalogue_file, sorted(finding for check in checks for finding in check(catalogue_file))


def insert(data: bytes, entries: list[str], source: str) -> bytes:
    """Insert entries into a catalogue's bytes in their order, in the block of that source.

    A block that is not there is begun at the end. An entry goes before the first that sorts after
    it where the block is sorted, else to its end. Lines that are there are not changed.

    Raises ``CatalogueFault`` E107 when the bytes are no text.
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
    """Yield line indexes to insert at, the last first, so that earlier ones stay valid."""
    keys = [_order(entry) for _, entry in block.entries]
    numbers = [number for number, _ in block.entries]
    end = numbers[-1] if numbers else _head(block, lines)
    tidy = keys == sorted(keys)
    for entry in sorted(entries, key=_order, reverse=True):
        index = bisect_left(keys, _order(entry)) if tidy else len(keys)
        yield (numbers[index] - 1 if index < len(numbers) else end), entry


def _head(block: Block, lines: list[str]) -> int:
    """Return the number of the source line of a block that has no entry yet."""
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


def _sourceless(catalogue_file: CatalogueFile) -> Iterator[CatalogueFinding]:
    if not catalogue_file.lines or source_of(catalogue_file.lines[0]) is None:
        yield CatalogueFinding(1, "the first line of a catalogue must be `# source: …`", "E107")
    for number, line in enumerate(catalogue_file.lines, 1):
        if source_of(line) == "":
            yield CatalogueFinding(number, "name the public source of the entries below", "E107")
    if not catalogue_file.entries:
        yield CatalogueFinding(max(1, len(catalogue_file.lines)), "list at least one entry", "E107")


def _faulty(catalogue_file: CatalogueFile) -> Iterator[CatalogueFinding]:
    for block in catalogue_file.blocks:
        for number, entry in block.entries:
            if why := fault_of(entry):
                yield CatalogueFinding(number, why, "E107")


def _repeated(catalogue_file: CatalogueFile) -> Iterator[CatalogueFinding]:
    first = catalogue_file.entries
    for block in catalogue_file.blocks:
        for number, entry in block.entries:
            if first[entry] != number:
                yield CatalogueFinding(
                    number, f"this entry is there already, in line {first[entry]}", "E107"
                )


def _named(catalogue_file: CatalogueFile) -> Iterator[CatalogueFinding]:
    """Warn of names of persons, which many products have too."""
    for entry, number in catalogue_file.entries.items():
        if looks_personal(entry) and fault_of(entry) is None:
            yield CatalogueFinding(
                number, "this entry has a person's name in it; is it a product?", ""
            )


def _alike(catalogue_file: CatalogueFile) -> Iterator[CatalogueFinding]:
    seen: dict[str, int] = {}
    for entry, number in catalogue_file.entries.items():
        alike = seen.setdefault("".join(entry.casefold().split()), number)
        if alike != number:
            message = f"this entry differs from that in line {alike} only in case or blanks"
            yield CatalogueFinding(number, message, "")


def _unsorted(catalogue_file: CatalogueFile) -> Iterator[CatalogueFinding]:
    """Warn of the first entry out of order in each block; others are likely to follow from it."""
    for block in catalogue_file.blocks:
        pairs = zip(block.entries, block.entries[1:], strict=False)
        for (_, before), (number, entry) in pairs:
            if _order(entry) < _order(before):
                message = "this entry sorts before the one above it; keep each block sorted"
                yield CatalogueFinding(number, message, "")
                break


_WORDS = re.compile(r"[^\W\d_]+").findall
_MARKS = re.compile(r"[@'’,]|^[+(0-9]").search
_HINTS = frozenset("mr mrs ms miss dr prof herr frau mme mlle sra von van de di do da of d".split())
"""Without such a mark or word the signs are not looked for: a catalogue may have many thousands."""
_SIGNS = re.compile(
    r"""
    \S@\S+\.\S                                          # an e-mail address
    | ^\+[ ]?(?:[0-9][ ()./-]*){7,}$                    # a telephone number
    | ^\(?(?:[0-9][ ()/-]*){9,}$
    | [^\W\d_]['’]s\b                                   # Ana's phone
    | (?:phone|pad|book|\bpc|laptop|tablet|computer|handy|galaxy|pixel)[ ]
      (?:von|van|de|di|do|da|of|d['’])[ ]?[^\W\d_]      # the phone of Ana, in several languages
    | \b(?:mr|mrs|ms|miss|dr|prof|herr|frau|mme|mlle|sra)\b\.?[ ][^\W\d_]{2}
    """,
    re.VERBOSE | re.IGNORECASE,
).search
_INVERTED = re.compile(r"[A-Z][a-z]+, [A-Z][a-z]+").fullmatch
"""Surname, Given"""
_GIVEN_NAMES = frozenset(
    """
    ahmed aisha alejandro alexander alexandra alice ali amelie amina ana andrea andreas andrew
    angela anja anna anne antonio barbara beatriz bernd bjorn brian camille carlos carmen carol
    catherine charles charlotte christian christina christine christopher claudia daniel david
    deborah dennis diego dimitri dmitri donald dorothy edward elena elisabeth elizabeth emily emma
    eric fatima felix fernando francesca francois frank fatma gabriel george giovanni giulia hannah
    hans hassan heike helen henry hiroshi ibrahim igor ines ingrid irina isabel isabella ivan jacob
    james jan jane javier jean jennifer jessica joao johannes john jonas jose joseph juan julia
    jurgen karen karin katarzyna katharina kenneth kevin khalid klaus krzysztof lars laura lena lisa
    louise lucas lucia luis lukas magdalena manuel marco margaret maria marie mario marta martin
    mary matthew mehmet mei melissa michael michelle miguel mohamed mohammed monika mustafa nancy
    natalia nicolas nicole nina nikolai olga olivia omar oliver pablo pamela patricia patrick paul
    pedro peter petra philip philippe pierre priya rachel rahul ramon rebecca richard robert ronald
    sabine samantha samuel sandra sarah sebastian sergei sharon silvia simon sofia sophie stefan
    stephanie stephen steven susan susanne svetlana tatiana teresa theresa thomas timothy ursula
    vladimir wei william wolfgang yusuf yuki yuri zainab
    """.split()
)


def looks_personal(text: str) -> bool:
    """Return whether a text looks like a person: a possessive, a title, a given name, a number.

    A guess, good enough to ask the author about it. Words that are also names of products or
    systems (Jordan, Mark, Max, Victoria, Leo, …) are left out of the list of names.
    """
    words = frozenset(_WORDS(text.casefold()))
    if not words.isdisjoint(_GIVEN_NAMES):
        return True
    if words.isdisjoint(_HINTS) and not _MARKS(text):
        return False
    return bool(_SIGNS(text) or _INVERTED(text))
