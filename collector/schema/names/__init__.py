"""Judge a name by what a value under it can hold: words × kind, and the closed world.

The matrix is code and not configuration, so that no document can widen it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from math import log2
from typing import Literal, NamedTuple, get_args

from collector.schema.names.words import Match, Name, lexicon, name_of

__all__ = [
    "CLAIMS",
    "CLOSED",
    "LETTER_BITS",
    "LETTER_BITS_SCHEMA",
    "SERIES",
    "Category",
    "Holds",
    "NameFault",
    "alphabet_bits",
    "content_word",
    "named_person",
    "objection",
    "positive_from",
]

Holds = Literal["spells", "text", "closed", "bool", "count", "time", "version", "ip", "pseudonym"]
"""What the values of a field can carry. ``spells``: letters of more than ``LETTER_BITS``, or a list
of more than ``CLOSED`` entries; ``text``: any other pattern."""

LETTER_BITS = 16
LETTER_BITS_SCHEMA = 48
CLOSED = 64
SERIES = 3
_FEW_LETTERS = 8
"""The most letters among the entries of a list: classes and grades have as many."""
_SHORT = 2
"""The most letters of an entry that is a piece of a word rather than a word."""

Category = Literal[
    "special", "credential", "government", "finance", "contact", "location", "behaviour",
    "person", "content", "freetext", "identifier",
]  # fmt: skip

CLAIMS: Mapping[str, str] = {
    "content": "no-content",
    "freetext": "no-content",
    "behaviour": "no-monitoring",
    "special": "no-monitoring",
    "location": "no-monitoring",
}
"""Which claim a category protects; the others protect ``needed-only``."""


class NameFault(NamedTuple):
    """Why a name may not have such values: the code of the fault, the words of the name that
    decide, and their category (empty for the closed world)."""

    code: str
    word: str
    category: str = ""


_Note = Callable[[Name, Match], bool]


def _never(_name: Name, _match: Match) -> bool:
    return False


def _always(_name: Name, _match: Match) -> bool:
    return True


def _measured(name: Name, match: Match) -> bool:
    """A word of the name says what is measured of the content, or which property it is."""
    return bool(_other_words(name, match, 0) & (_set("measure") | _set("attribute")))


def _measured_last(name: Name, match: Match) -> bool:
    """The last segment says what is measured."""
    return bool(_other_words(name, match, name.last) & (_set("measure") | _set("attribute")))


def _versioned(name: Name, match: Match) -> bool:
    """The last segment says that this is a version or an address of something."""
    return bool(name.texts(name.last) & _VERSIONS)


def _flagged(name: Name, match: Match) -> bool:
    """The name asks a question that yes or no answers."""
    return bool(name.texts() & _FLAGS)


def _counted_last(name: Name, match: Match) -> bool:
    """The last word is a count of the thing."""
    return bool(name.words) and name.words[-1].text in _COUNTS


def _names_person(name: Name, match: Match) -> bool:
    """The name leads to a person, as a name or a number does, and tells nothing about them."""
    return bool(name.texts() & _NAMES)


def _other_words(name: Name, match: Match, segment: int) -> frozenset[str]:
    return name.texts(segment) - set(match.words)


_ENVELOPES = frozenset("payload body content message text document".split())
"""Words under which systems put events of any kind."""
_ADDRESSES = frozenset(["address", "addr"])
"""Those of networks are of the kind ``ip``; a text under such a name is one of a person."""
_FLAGS = frozenset(
    "enabled supported granted available allowed required configured has is can".split()
)
_COUNTS = frozenset("count total num number".split())
_VERSIONS = frozenset("version protocol address addr ip ipv4 ipv6 release".split())
_NAMES = frozenset("id uid name user username login participant account member attendee".split())

_PERSONAL: Mapping[Holds, _Note] = {
    "spells": _never, "text": _never, "closed": _never, "bool": _flagged, "count": _never,
    "time": _never, "version": _never, "ip": _never, "pseudonym": _never,
}  # fmt: skip
_CONTENT: Mapping[Holds, _Note] = {
    "spells": _never, "text": _measured, "closed": _measured, "bool": _always, "count": _always,
    "time": _always, "version": _versioned, "ip": _versioned, "pseudonym": _never,
}  # fmt: skip
_MATRIX: Mapping[Category, Mapping[Holds, _Note]] = {
    "special": {**_PERSONAL, "bool": _never},
    "credential": _PERSONAL,
    "government": _PERSONAL,
    "finance": _PERSONAL,
    "contact": {**_PERSONAL, "count": _counted_last},
    "location": _PERSONAL,
    "behaviour": _PERSONAL,
    "person": {**_PERSONAL, "count": _counted_last, "pseudonym": _names_person},
    "content": _CONTENT,
    "freetext": _CONTENT,
    "identifier": {
        "spells": _never, "text": _never, "closed": _measured_last, "bool": _always,
        "count": _measured_last, "time": _always, "version": _versioned, "ip": _versioned,
        "pseudonym": _always,
    },
}  # fmt: skip
"""Category → values → when they may stand under a word of it. The order is that of messages."""

_ABOVE: frozenset[str] = frozenset(["content", "special", "behaviour", "location", "contact"])
"""Categories that tell something in any segment; the others do in the last one alone."""
_CODES = {"content": "E305", "freetext": "E305", "identifier": "E306"}


def _set(name: str) -> frozenset[str]:
    return lexicon().sets[name]


@lru_cache(maxsize=4096)
def objection(
    path: str,
    holds: Holds,
    *,
    has_letters: bool = False,
    is_leaf: bool = False,
    homonyms: frozenset[str] = frozenset(),
) -> NameFault | None:
    """Return why values that ``holds`` says may not stand under a path; ``None`` if they may.

    ``has_letters`` asks that every word is known; ``is_leaf`` says that what stands above an
    address, a device or a system (``payload.ip``) does not count; ``homonyms`` are words that mean
    something else here.
    """
    name = name_of(path)
    if name.is_mixed:
        return NameFault("E316", "")
    start = positive_from(name) if is_leaf else None
    excused = homonyms if holds not in ("spells", "text") else frozenset()
    for category in get_args(Category):
        for match in name.matches:
            if category not in match.categories or not excused.isdisjoint(match.words):
                continue
            if match.segment < name.last and category not in _ABOVE:
                continue
            if start is not None and match.segment < start and not _is_reach(category, name):
                continue
            if _refuses(category, name, match, holds):
                code = _CODES.get(category, "E310")
                return NameFault(code, match.phrase, category)
    if has_letters and (unknown := _unknown(name, start or 0)):
        return NameFault("E312", unknown)
    return None


def _is_reach(category: str, name: Name) -> bool:
    """Return whether an address is one of a person or a place, as in ``email.from.address``."""
    return category in ("contact", "location") and name.words[-1].text in _ADDRESSES


def _refuses(category: Category, name: Name, match: Match, holds: Holds) -> bool:
    if category == "content" and match.segment < name.last:
        below = name.texts(match.segment) - set(match.words)
        if not below & (_set("measure") | _set("attribute") | _FLAGS):
            return True
    return not _MATRIX[category][holds](name, match)


def _unknown(name: Name, start: int) -> str:
    """Return the first word, of this segment or later, that names nothing of a device, a system or
    a medium."""
    taken = {text for match in name.matches if not match.categories for text in match.words}
    known = taken.union(*map(_set, _KNOWN)) - (_ADDRESSES - taken)
    unknown = (
        word.text
        for word in name.words
        if word.segment >= start and word.text not in known and not word.text.isdigit()
    )
    return next(unknown, "")


_KNOWN = ("thing", "measure", "attribute", "media_measure", "positive words", "positive first")


def positive_from(name: Name) -> int | None:
    """Return the first segment from which on a name speaks of nothing but the address, the device
    or the system; ``None`` if its end does not."""
    allowed = _set("positive words")
    found: int | None = None
    for segment in range(name.last, -1, -1):
        words = [word.text for word in name.words if word.segment == segment]
        if not all(text in allowed or text.isdigit() for text in words):
            break
        if words and words[0] in _set("positive first"):
            found = segment
    return found


def content_word(path: str, *, is_way: bool = False) -> str:
    """Return the first words of a path under which content lies, if it has any.

    ``is_way`` says that the path leads to objects: there an envelope (``payload``, ``body``) is
    none, and what measures content (``video.stats``) is none either.
    """
    name = name_of(path)
    for match in name.matches:
        if "content" not in match.categories:
            continue
        if is_way and (_ENVELOPES.issuperset(match.words) or _measured(name, match)):
            continue
        return match.phrase
    return ""


def named_person(path: str) -> NameFault | None:
    """Return why a path that ends at the name or the number of a person may not be compared;
    ``None`` if it does not."""
    name = name_of(path)
    if not name.words or name.words[-1].text not in _NAMES | {"number"}:
        return None
    for match in name.matches:
        if "person" in match.categories and match.segment >= name.last - 1:
            return NameFault("E310", match.phrase, "person")
    return None


def alphabet_bits(entries: Iterable[str]) -> float:
    """Compute the bits that an entry of a list carries, where the list has letters among its
    entries, so that several fields spell a word; zero where it has none, or few.

    What is no letter in an entry (``a.``, ``-b7``) does not count.
    """
    spelled = {"".join(filter(str.isalpha, entry)) for entry in entries}
    letters = {text for text in spelled if 1 <= len(text) <= _SHORT}
    if len(letters) <= _FEW_LETTERS:
        return 0.0
    return log2(len(letters) + (len(letters) < len(spelled)))
