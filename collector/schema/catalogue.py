"""Catalogues: closed lists of tokens, one per line. The first line names the public source.

Loading a schema asks only whether a catalogue has the right form (``read``). ``examine`` checks
more and reports all faults at once: no entry may be about a person or a single device, and entries
must be sorted within each block under its ``# source:`` line, so that readers find them. No message
repeats an entry: what does not belong in the file does not belong in a log either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import log2
from pathlib import Path
from typing import NamedTuple

from collector.schema import resources
from collector.units import size_text

MAX_LENGTH = 64
"""The most characters of an entry."""
MAX_BYTES = 4 << 20
"""The most bytes of a catalogue."""
_SOURCE = "# source:"
_FIRST_LINE = "the first line of a catalogue must be `# source: …`"


class CatalogueFault(ValueError):
    """A catalogue that cannot be used; ``code`` is E101 or E107."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class CatalogueFinding(NamedTuple):
    """A fault of a line, counted from 1, or a warning, whose ``code`` is ``""``."""

    line: int
    message: str
    code: str


@dataclass
class Block:
    """The entries below one ``# source:`` line, with their lines."""

    source: str
    line: int
    entries: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class CatalogueFile:
    """The parsed file: its lines, and its entries by source."""

    lines: tuple[str, ...] = ()

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The entries by source. Before the first source line, the source is empty."""
        found = [Block("", 0)]
        for number, line in enumerate(self.lines, 1):
            if line.startswith(_SOURCE):
                found.append(Block(line.removeprefix(_SOURCE).strip(), number))
            elif not is_comment(line):
                found[-1].entries.append((number, line))
        return tuple(found[not found[0].entries :])

    @cached_property
    def listed(self) -> tuple[tuple[int, str], ...]:
        """Every entry, with its line."""
        return tuple(each for block in self.blocks for each in block.entries)

    @cached_property
    def entries(self) -> dict[str, int]:
        """Map each entry to the first line that has it."""
        return {entry: line for line, entry in reversed(self.listed)}

    @property
    def bits(self) -> float:
        """Compute the width of a field with these entries, not counting its absence."""
        return log2(len(self.entries)) if self.entries else 0.0

    @property
    def longest(self) -> int:
        """Return the length of the longest entry in characters."""
        return max(map(len, self.entries), default=0)


def read(name: str, directory: Path | None) -> frozenset[str]:
    """Read the entries of a catalogue beside the schema, or else of a shipped one.

    Raises ``CatalogueFault`` if there is no such catalogue, or if it is malformed.
    """
    path = resources.catalogue(name, directory)
    if path is None:
        message = "there is no such catalogue, neither beside the schema nor among the shipped ones"
        raise CatalogueFault("E101", message)
    try:
        found = path.stat()
        return _entries(path, found.st_mtime_ns, found.st_size)
    except OSError:
        pass
    raise CatalogueFault("E101", "the catalogue cannot be read; check its permissions")


@lru_cache(maxsize=64)
def _entries(path: Path, changed: int, size: int) -> frozenset[str]:
    """Read the entries; the file's time and size are cache keys that change with it."""
    parsed = _parsed(path.read_bytes() if size <= MAX_BYTES else b"\xff")
    for find in (_sourceless, _malformed, _repeated):
        for finding in find(parsed):
            raise CatalogueFault("E107", finding.message)
    return frozenset(parsed.entries)


def _parsed(data: bytes) -> CatalogueFile:
    """Parse a catalogue's bytes, without a byte order mark.

    Raises ``CatalogueFault`` E107 if they are not UTF-8, or too many.
    """
    text = data.decode("utf-8-sig", "replace") if len(data) <= MAX_BYTES else "\ufffd"
    if "\ufffd" in text:
        raise CatalogueFault(
            "E107", f"a catalogue must be UTF-8 text of at most {size_text(MAX_BYTES)}"
        )
    return CatalogueFile(tuple(text.splitlines()))


def is_comment(line: str) -> bool:
    """Return whether a line is empty or begins with ``#``."""
    return not line or line.startswith("#")


def is_entry(line: str) -> bool:
    """Return whether a line has the form of an entry."""
    return len(line) <= MAX_LENGTH and line.isprintable() and line == line.strip()


# -- lints -----------------------------------------------------------------------------------------

_DEVICE_OR_PERSON: tuple[tuple[str, str, int], ...] = (
    ("a possessive, as in names that people give", r"[^\W\d_]['\u2019]s\b", re.IGNORECASE),
    ("an e-mail address", r"\S@\S", 0),
    ("a web address", r"://", 0),
    ("a telephone number", r"(?<![\w.])(?:\+(?:[ ()./-]*\d){7}|(?:[ ()/-]*\d){9})", 0),
    (
        "a hardware address",
        r"\b[0-9a-f]{2}([:-])[0-9a-f]{2}(?:\1[0-9a-f]{2}){4}\b",
        re.IGNORECASE,
    ),
    ("an IP address", r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])", 0),
    ("a UUID", r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE),
    ("a serial number", r"\d{9}|\b(?=\w*\d)[0-9a-f]{12,}\b|\b(?=\w*\d)[0-9A-F]{12,}\b", 0),
    ("a serial number", r"\b(?=(?:[A-Z]*\d){2})(?=(?:\d*[A-Z]){3})[A-Z0-9]{11,}\b", 0),
)


def fault_of(entry: str) -> str | None:
    """Explain why a text cannot be an entry, without quoting it; else return ``None``."""
    if is_comment(entry) or not is_entry(entry):
        return _FORM
    for what, form, flags in _DEVICE_OR_PERSON:
        if re.search(form, entry, flags):
            return f"this looks like {what}; list what products are called, not one of them"
    return None


_FORM = (
    f"an entry must be 1 to {MAX_LENGTH} printable characters that do not begin with `#`, without"
    " blanks around it"
)


def examine(data: bytes) -> tuple[CatalogueFile, list[CatalogueFinding]]:
    """Parse a catalogue's bytes, and return the file with all findings, by line."""
    try:
        parsed = _parsed(data)
    except CatalogueFault as fault:
        return CatalogueFile(), [CatalogueFinding(1, str(fault), fault.code)]
    return parsed, sorted(finding for find in _LINTS for finding in find(parsed))


def _sourceless(parsed: CatalogueFile) -> Iterator[CatalogueFinding]:
    first = parsed.blocks[0] if parsed.blocks else None
    if first is None or first.line != 1:
        yield CatalogueFinding(1, _FIRST_LINE, "E107")
    for block in parsed.blocks:
        if block.line and not block.source:
            message = _FIRST_LINE if block.line == 1 else "name the public source after `# source:`"
            yield CatalogueFinding(block.line, message, "E107")
    if not parsed.entries:
        yield CatalogueFinding(max(1, len(parsed.lines)), "list at least one entry", "E107")


def _malformed(parsed: CatalogueFile) -> Iterator[CatalogueFinding]:
    for number, entry in parsed.listed:
        if not is_entry(entry):
            yield CatalogueFinding(number, _FORM, "E107")


def _telling(parsed: CatalogueFile) -> Iterator[CatalogueFinding]:
    for number, entry in parsed.listed:
        if is_entry(entry) and (why := fault_of(entry)):
            yield CatalogueFinding(number, why, "E107")


def _repeated(parsed: CatalogueFile) -> Iterator[CatalogueFinding]:
    for number, entry in parsed.listed:
        if (first := parsed.entries[entry]) != number:
            yield CatalogueFinding(number, f"line {first} already has this entry", "E107")


def _named(parsed: CatalogueFile) -> Iterator[CatalogueFinding]:
    """Warn of personal names, because many products have them too."""
    for entry, number in parsed.entries.items():
        if looks_personal(entry) and fault_of(entry) is None:
            message = "this entry contains a person's name; is it a product?"
            yield CatalogueFinding(number, message, "")


def _alike(parsed: CatalogueFile) -> Iterator[CatalogueFinding]:
    seen: dict[str, int] = {}
    for entry, number in sorted(parsed.entries.items(), key=lambda each: each[1]):
        alike = seen.setdefault("".join(entry.casefold().split()), number)
        if alike != number:
            message = f"this entry differs from that in line {alike} only in case or blanks"
            yield CatalogueFinding(number, message, "")


def _unsorted(parsed: CatalogueFile) -> Iterator[CatalogueFinding]:
    """Warn of the first entry out of order in each block; others are likely to follow from it."""
    for block in parsed.blocks:
        for (_, before), (number, entry) in zip(block.entries, block.entries[1:], strict=False):
            if _order(entry) < _order(before):
                message = "this entry sorts before the one above it; keep each block sorted"
                yield CatalogueFinding(number, message, "")
                break


_LINTS: tuple[Callable[[CatalogueFile], Iterator[CatalogueFinding]], ...] = (
    *(_sourceless, _malformed, _telling, _repeated),
    *(_named, _alike, _unsorted),
)


def _order(entry: str) -> tuple[str, str]:
    return entry.casefold(), entry


# -- names of people -------------------------------------------------------------------------------

_WORDS = re.compile(r"[^\W\d_]+").findall
_MARKS = re.compile(r"[@'’,]|^[+(0-9]").search
_HINTS = frozenset("mr mrs ms miss dr prof herr frau mme mlle sra von van de di do da of d".split())
"""Entries without such a mark or word are not examined further, because a catalogue may have many
thousands."""
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

    A guess, good enough for a question to the author. Words that are also names of products or
    systems (Jordan, Mark, Max, Victoria, Leo, …) are left out of the list of names.
    """
    words = frozenset(_WORDS(text.casefold()))
    if not words.isdisjoint(_GIVEN_NAMES):
        return True
    if words.isdisjoint(_HINTS) and not _MARKS(text):
        return False
    return bool(_SIGNS(text) or _INVERTED(text))
