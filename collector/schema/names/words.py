"""Turn a dotted path into words, however it is spelled, and find the phrases that tell something.

``words.txt`` has the phrases. A name is folded (NFKC, no accents, no format characters), cut at
separators, changes of case and digits, and run-together words are taken apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

__all__ = ["Lexicon", "Match", "Name", "Word", "lexicon", "name_of", "without_numbers"]

_LONGEST_WORD = 64
_SHORT_WORDS = frozenset("os ip id ui hd".split())
"""Words of two letters that a run-together name is taken apart into."""
_NOT_PLURAL = frozenset(["bios", "gps"])
_LEET = str.maketrans("013457@$", "oieastas")
_ACCENTS = frozenset(map(chr, range(0x300, 0x370)))
_SEPARATORS = re.compile(r"[\W_]+")
_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_DIGITS = re.compile(r"(?<=[a-z])(?=[0-9])|(?<=[0-9])(?=[a-z])")
_INDEX = re.compile(r"\[[0-9]*\]")
_LOOKALIKES = str.maketrans(
    "аеорсухѕіјһԁԛԝмткнвгпαορνικτυχ"
    "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢɑɡɩɪʋɛɔ"
    "ꓐꓑꓒꓓꓔꓖꓗꓙꓚꓜꓝꓟꓠꓡꓢꓣꓦꓧꓪꓫꓬꓮꓰꓲꓳꓴ"
    "ᎠᎡᎢᎥᎩᎪᎫᎬᎳᎷᎻᎽᏀᏃᏏᏒᏕᏙᏚᏞᏟᏢᏦᏧᏂᏴ",
    "aeopcyxsijhdqwmtkhbrnaopviktux"
    "abcdefghijklmnoprstuvwyzagiiveo"
    "bpddtgkjczfmnlsrvhwxyaeiou"
    "drtiyajewmhygzbrsvslcpkdhb",
)
"""Letters of Cyrillic and Greek, small capitals and phonetic ones, of Lisu and of Cherokee, and the
Latin ones that they look like."""
_BARRED = str.maketrans("ıłøđħŧɨʉ", "ilodhtiu")
"""Latin letters with a stroke, or without a dot, which Unicode does not take apart."""
_SYMBOLS = 0x2000
"""From here on, symbols are pictures, arrows and letters in boxes, which stand for words."""
_SCRIPTS = (
    "LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "ARABIC", "HEBREW", "DEVANAGARI", "HANGUL",
    "LISU", "CHEROKEE",
)  # fmt: skip


class Word(NamedTuple):
    """A word in its folded singular, and the number of its segment in the path."""

    text: str
    segment: int


class Match(NamedTuple):
    """A phrase in a name. ``categories`` is empty for one that tells nothing."""

    phrase: str
    categories: frozenset[str]
    segment: int
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Name:
    """A path as words. ``last`` is the number of its last segment; ``is_mixed`` says that letters
    of two scripts, such as look like others, or symbols stand in one segment."""

    words: tuple[Word, ...]
    matches: tuple[Match, ...]
    last: int
    is_mixed: bool

    def texts(self, segment: int = 0) -> frozenset[str]:
        """Return the words of this segment and of those after it."""
        return frozenset(word.text for word in self.words if word.segment >= segment)


@dataclass(frozen=True, slots=True)
class Lexicon:
    """The words of ``words.txt``: categories of phrases, and plain sets of words."""

    phrases: Mapping[tuple[str, ...], frozenset[str]]
    sets: Mapping[str, frozenset[str]]
    vocabulary: frozenset[str]
    longest: int

    def unless(self, word: str) -> frozenset[str]:
        """Return the words beside which this one tells nothing."""
        return self.sets.get(f"unless {word}", frozenset())


@cache
def lexicon() -> Lexicon:
    """Load the words once per process."""
    phrases: dict[tuple[str, ...], set[str]] = {}
    sets: dict[str, set[str]] = {}
    for section, entries in _sections(Path(__file__).with_name("words.txt").read_text("utf-8")):
        category, _, language = section.partition(" ")
        is_category = bool(language) and category not in ("unless", "positive")
        for words in entries:
            if is_category or section == "safe":
                phrases.setdefault(words, set()).update([category] if is_category else [])
            else:
                sets.setdefault(section, set()).update(words)
    safe = (words for words, categories in phrases.items() if not categories)
    sets["safe"] = {word for words in safe for word in words}
    vocabulary = {word for words in phrases for word in words}.union(*sets.values())
    return Lexicon(
        {words: frozenset(categories) for words, categories in phrases.items()},
        {name: frozenset(words) for name, words in sets.items()},
        frozenset(vocabulary),
        max(map(len, phrases)),
    )


def _sections(text: str) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Yield each section's name and its phrases in words; lines break anywhere between words."""
    for part in text.split("\n[")[1:]:
        head, _, body = part.partition("]\n")
        yield head, [tuple(map(_singular, _folded(entry).split())) for entry in body.split(",")]


@lru_cache(maxsize=4096)
def name_of(path: str) -> Name:
    """Return the words and phrases of a dotted path."""
    segments = path.split(".")
    words: list[Word] = []
    is_mixed = False
    for number, segment in enumerate(segments):
        folded = _folded(_INDEX.sub(" ", segment))
        is_mixed |= _is_mixed(folded) or _is_pictured(segment)
        words += (Word(text, number) for text in _split(folded))
    spelled = tuple(_joined(words))
    last = max((word.segment for word in spelled), default=len(segments) - 1)
    return Name(spelled, tuple(_matches(spelled)), last, is_mixed)


def without_numbers(path: str) -> str:
    """Return the path in one spelling, with each number in it as a zero."""
    return re.sub(r"\d+", "0", _folded(path).casefold())


def _folded(text: str) -> str:
    """Fold width, ligatures and accents; drop characters that are not seen, and leave a blank for
    what is neither letter, mark nor digit."""
    if text.isascii():
        return text
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text))
    letters = (_plain(c) for c in plain if unicodedata.category(c) != "Cf" and c not in _ACCENTS)
    return unicodedata.normalize("NFC", "".join(letters)).translate(_BARRED)


def _plain(char: str) -> str:
    return char if char.isalnum() or unicodedata.category(char).startswith("M") else " "


def _is_mixed(text: str) -> bool:
    if text.isascii():
        return False
    scripts = {_script(char) for char in text if char.isalpha()}
    return len(scripts) > 1 or any(map(_is_imitated, _SEPARATORS.split(text)))


def _is_imitated(part: str) -> bool:
    """Return whether a part of a name looks like known Latin words, and is none."""
    plain = part.casefold()
    alike = plain.translate(_LOOKALIKES).casefold()
    if alike == plain or not alike.isascii():
        return False
    return _singular(alike) in lexicon().vocabulary or bool(_taken_apart(alike[:_LONGEST_WORD]))


def _is_pictured(segment: str) -> bool:
    """Return whether symbols that are no punctuation stand in a segment for words."""
    if segment.isascii():
        return False
    plain = unicodedata.normalize("NFKC", segment)
    return any(
        ord(c) >= _SYMBOLS and unicodedata.category(c) in ("So", "Sk", "Co", "Cn") for c in plain
    )


def _script(char: str) -> str:
    name = unicodedata.name(char, "")
    return next((script for script in _SCRIPTS if name.startswith(script)), "OTHER")


def _split(segment: str) -> Iterator[str]:
    """Yield the words of a segment."""
    parts = _SEPARATORS.split(segment) if segment.isascii() else segment.split()
    for part in parts:
        whole = part.casefold()
        if not whole:
            continue
        if _singular(whole) in lexicon().vocabulary:
            yield _singular(whole)
            continue
        for piece in _CASE.split(part):
            yield from _known_words(piece.casefold())


def _known_words(piece: str) -> Iterator[str]:
    """Yield a piece as known words if it is made of them, else as it is."""
    vocabulary = lexicon().vocabulary
    if _singular(piece) in vocabulary or piece.isdigit() or len(piece) > _LONGEST_WORD:
        yield _singular(piece)
        return
    plain = _singular(piece.translate(_LEET))
    if not piece.isalpha() and plain.isalpha() and plain in vocabulary:
        yield plain
        return
    for part in _DIGITS.split(piece):
        yield from _taken_apart(part) or (_singular(part),)


@lru_cache(maxsize=4096)
def _taken_apart(text: str) -> tuple[str, ...]:
    """Return the fewest known words that make up a text; none if it is not made of such."""
    vocabulary = lexicon().vocabulary
    best: list[tuple[str, ...] | None] = [()] + [None] * len(text)
    for end in range(1, len(text) + 1):
        for start in range(end):
            before, word = best[start], text[start:end]
            if before is None or (len(word) < 3 and word not in _SHORT_WORDS):
                continue
            if _singular(word) in vocabulary:
                found = (*before, _singular(word))
                known = best[end]
                if known is None or len(found) < len(known):
                    best[end] = found
    return best[-1] or ()


def _joined(words: list[Word]) -> Iterator[Word]:
    """Yield the words, with single letters in a row as one: ``m.e.s.s.a.g.e``."""
    at = 0
    while at < len(words):
        end = at
        while end < len(words) and len(words[end].text) == 1 and words[end].text.isalpha():
            end += 1
        if end - at >= 3:
            spelled = "".join(word.text for word in words[at:end])
            for text in _known_words(spelled):
                yield Word(text, words[end - 1].segment)
            at = end
        else:
            yield words[at]
            at += 1


def _matches(words: tuple[Word, ...]) -> Iterator[Match]:
    """Yield the longest phrase at each place."""
    known = lexicon()
    present = {word.text for word in words}
    at = 0
    while at < len(words):
        for length in range(min(known.longest, len(words) - at), 0, -1):
            phrase = tuple(word.text for word in words[at : at + length])
            categories = known.phrases.get(phrase)
            if categories is not None:
                if not present.isdisjoint(known.unless(phrase[0])) and length == 1:
                    categories = frozenset()
                yield Match(" ".join(phrase), categories, words[at + length - 1].segment, phrase)
                at += length
                break
        else:
            at += 1


def _singular(word: str) -> str:
    if (
        len(word) <= 3
        or word in _NOT_PLURAL
        or not word.endswith("s")
        or word.endswith(("ss", "us", "is"))
    ):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-2] if word.endswith(("sses", "xes")) else word[:-1]
