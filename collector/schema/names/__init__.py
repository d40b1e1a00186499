"""Judge the names of texts, and report what the names of other values suggest.

A text whose values nobody listed one by one can hold anything. So a name or path is an error if one
of its words is on a list: content, people, how to reach them, and so on. If the text can spell, all
words of its names must be on the lists of things and properties. For a number, a list of values, a
version, a time or a flag, words decide nothing: the reviewer only sees them.

The lists are data of the package (``words.txt``), not configuration, so that no document can change
them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from math import log2
from pathlib import Path
from typing import Literal, NamedTuple, get_args

__all__ = [
    "CLOSED",
    "LETTER_BITS",
    "LETTER_BITS_SCHEMA",
    "Category",
    "NameFault",
    "Suggestion",
    "alphabet_bits",
    "refusal",
    "suggestions",
    "words",
]

LETTER_BITS = 16
"""The most bits that the letters of one pattern may carry."""
LETTER_BITS_SCHEMA = 48
"""The most bits that the letters of all patterns of a schema may carry together."""
CLOSED = 64
"""The most values of a list that does not count as text."""
_FEW_LETTERS = 8
"""The most single letters among the entries of a list: classes and grades have as many."""
_SHORT = 2
"""The most letters of an entry that is a piece of a word rather than a word."""

Category = Literal[
    "content", "person", "contact", "credential", "money", "health", "belief", "behaviour",
    "identifier",
]  # fmt: skip
"""What a word of a name can be about, in the order of messages."""

_WORD = re.compile(r"[A-Z]{2,}s(?![a-z])|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\x00-\x7f]+")
_ANY_CASE = re.compile(r"[A-Za-z]+|[^\x00-\x7f]+")
_ACRONYM = re.compile(r"([A-Z]{2,})([a-z]+)")


class Suggestion(NamedTuple):
    """A word of a name in lower case, and what it may be about."""

    word: str
    category: Category


class NameFault(NamedTuple):
    """Why a text may not have a name: the code of the fault, the deciding word, and its category
    (empty for an unknown word)."""

    code: str
    word: str
    category: Category | Literal[""] = ""


@cache
def _lists() -> tuple[Mapping[str, Category], frozenset[str], frozenset[str]]:
    """Load the words: telling words with their categories, things, and properties."""
    text = Path(__file__).with_name("words.txt").read_text("ascii")
    parts = (part.partition("]\n") for part in text.split("\n[")[1:])
    sections = {name: listed.split() for name, _, listed in parts}
    telling = {word: category for category in get_args(Category) for word in sections[category]}
    return telling, frozenset(sections["thing"]), frozenset(sections["property"])


def words(path: str) -> tuple[str, ...]:
    """Split a dotted path at characters other than letters and digits, at changes of case and at
    digits: ``a.osType2`` is ``a``, ``os``, ``type``, ``2``, and ``userIDs`` is ``user``, ``ids``.
    Letters beyond ASCII stay together."""
    return tuple(word.lower() for word in _WORD.findall(path))


def _forms(word: str) -> tuple[str, ...]:
    """Return a word, and its possible singular forms unless the word itself is known."""
    _, things, properties = _lists()
    if not word.endswith("s") or word in things or word in properties:
        return (word,)
    return (word, word[:-1], word.removesuffix("es"), word.removesuffix("ies") + "y")


def suggestions(name: str, paths: Iterable[str] = ()) -> tuple[Suggestion, ...]:
    """Return what the words of a name and of paths may be about, each word once, in their order."""
    return tuple(dict.fromkeys(each for path in (name, *paths) for each in _telling(path)))


@lru_cache(maxsize=4096)
def _telling(path: str) -> tuple[Suggestion, ...]:
    """Find telling words despite odd case: also in ``HIVstatus`` and ``chaTs``."""
    telling = _lists()[0]
    acronyms = (part for found in _ACRONYM.findall(path) for part in found)
    spoken = dict.fromkeys(map(str.lower, (*words(path), *acronyms, *_ANY_CASE.findall(path))))
    found = ((word, form) for word in spoken for form in _forms(word) if form in telling)
    return tuple(Suggestion(word, telling[form]) for word, form in found)


def refusal(path: str, *, can_spell: bool, is_pseudonym: bool = False) -> NameFault | None:
    """Return why a text, or a pseudonym of one, may not have a name or path; ``None`` if it may.

    With ``can_spell``, every word must be known, and one of them must name a thing.
    """
    found = _telling(path)
    for category in get_args(Category):
        for each in found:
            if each.category == category and not (is_pseudonym and category == "identifier"):
                code = {"content": "E305", "identifier": "E306"}.get(category, "E310")
                return NameFault(code, each.word, category)
    if can_spell and (word := _unknown(path)) is not None:
        return NameFault("E312", word)
    return None


def _unknown(path: str) -> str | None:
    """Return the first word that is neither a thing nor a property, or the last one if none is a
    thing."""
    _, things, properties = _lists()
    has_thing = False
    word = ""
    for word in words(path):
        forms = _forms(word)
        is_thing = not things.isdisjoint(forms)
        if not (is_thing or word.isdigit() or not properties.isdisjoint(forms)):
            return word
        has_thing |= is_thing
    return None if has_thing else word


def alphabet_bits(entries: Iterable[str]) -> float:
    """Compute the bits that an entry of a list carries if the entries include letters, so that
    several fields could spell a word; zero if there are no or few letters.

    Other characters in an entry (``a.``, ``-b7``) do not count.
    """
    spelled = {"".join(filter(str.isalpha, entry)) for entry in entries}
    letters = {text for text in spelled if 1 <= len(text) <= _SHORT}
    if len(letters) <= _FEW_LETTERS:
        return 0.0
    return log2(len(letters) + (len(letters) < len(spelled)))
