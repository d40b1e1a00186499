"""The words of a page in one language, as mark-up. Each part from a document is escaped and
isolated from the surrounding text direction."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Self

from markupsafe import Markup, escape

from collector.pages.phrases import Language, PhraseBook, Terms, phrase_book

_CODE = re.compile("`([^`]*)`")
_ICONS = {"holds": "✓", "amended": "+", "unproven": "?", "broken": "✗", "missing": "–"}


@dataclass(frozen=True)
class Words:
    """A phrase book that templates of HTML use."""

    book: PhraseBook

    @classmethod
    def of(cls, language: Language) -> Self:
        """Return the words of a language."""
        return cls(phrase_book(language))

    def say(self, key: str, **parts: object) -> str:
        """Return a phrase of the page, or else of the notice."""
        phrase = self.book.page.get(key) or self.book.phrases[key]
        isolated = {name: self.apart(part) for name, part in parts.items()}
        return Markup(escape(phrase)).format(**isolated)  # noqa: S704 - escaped

    def plain(self, key: str, **parts: object) -> str:
        """Return a phrase for an attribute or a picture, which cannot contain elements."""
        return (self.book.page.get(key) or self.book.phrases[key]).format(**parts)

    def count(self, key: str, number: int, **parts: object) -> str:
        """Return the phrase for one, or for any other number."""
        is_one = number == 1 and f"{key}_one" in self.book.page
        return self.say(f"{key}_one" if is_one else key, number=number, **parts)

    def apart(self, part: object) -> Markup:
        """Escape a part and isolate its direction; our own mark-up stays as it is."""
        if isinstance(part, Markup):
            return part
        if isinstance(part, int | float):
            return escape(self.number(part))
        return Markup("<bdi>{}</bdi>").format(part)

    def joined(self, sentences: Iterable[str]) -> str:
        """Put sentences together."""
        return Markup(" ").join(sentences)

    def text(self, text: str) -> str:
        """Translate a text of a document. Without a translation, mark which language it is in."""
        return self._translated(text, self.book.text(text))

    def _translated(self, text: str, found: str) -> Markup:
        if found == text and self.book.language != "en":
            return Markup('<bdi lang="en">{}</bdi>').format(found)
        return self.apart(found)

    def told(self, text: str) -> str:
        """Translate what a check says; text between backquotes becomes code."""
        found = self._translated(text, self.book.told(text))
        # As a ``str``: a ``Markup`` would escape the parts once more.
        return Markup(_CODE.sub(r"<code>\1</code>", str(found)))  # noqa: S704 - escaped

    def label(self, field: str) -> str:
        """Return what a person calls a field."""
        return self.book.data([field])

    def number(self, number: float) -> str:
        """Write a number in the style of the language, with at most one decimal."""
        text = f"{number:,}" if isinstance(number, int) else f"{number:,.1f}".removesuffix(".0")
        return text if self.book.language == "en" else text.translate({44: 46, 46: 44})

    def day(self, day: date | str) -> Markup:
        """Write a day."""
        found = date.fromisoformat(day) if isinstance(day, str) else day
        months = self.book.page["months"].split()
        parts = {"number": found.day, "month": months[found.month - 1], "year": str(found.year)}
        words = self.book.page["day"].format(**parts)
        return Markup('<time datetime="{}">{}</time>').format(found.strftime("%Y-%m-%d"), words)

    def moment(self, key: str, moment: datetime, **parts: object) -> str:
        """Return a phrase about a moment, which is in UTC."""
        return self.say(key, day=self.day(moment), time=f"{moment:%H:%M}", **parts)

    def span(self, span: timedelta) -> str:
        """Write a span."""
        return self.book.span(span)

    def purposes(self, names: tuple[str, ...]) -> str:
        """Write the names of purposes."""
        return self.book.purposes(names)

    def terms(self, terms: tuple[Terms, ...]) -> str:
        """Write alternative conditions, joined with *or*."""
        return self.book.any_of(terms)

    def icon(self, verdict: str) -> str:
        """Return the sign of a verdict."""
        return _ICONS[verdict]


class PlainWords(Words):
    """The same for formats other than HTML: texts without mark-up, which ``markdown`` escapes."""

    def say(self, key: str, **parts: object) -> str:
        """Return a phrase."""
        return self.plain(key, **parts)

    def text(self, text: str) -> str:
        """Translate a text of a document, if there is a translation."""
        return self.book.text(text)

    def joined(self, sentences: Iterable[str]) -> str:
        """Put sentences together."""
        return " ".join(sentences)


def cut(text: str, most: int) -> str:
    """Return a text, cut to ``most`` characters with an ellipsis, so that a picture has room for
    it."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


_MARKS = re.compile(r"([\\`*_\[\]<>|~&])")
_AT_START = re.compile(r"^([-+=#]|\d+(?=[.)]))")


def markdown(text: str) -> str:
    """Escape a text, on one line, so that GitHub's Markdown takes no character of it as mark-up."""
    line = _MARKS.sub(r"\\\1", " ".join(text.split()))
    return _AT_START.sub(lambda found: _at_start(found[1]), line)


_CHARACTERS = str.maketrans({mark: f"#{ord(mark)};" for mark in '"#<>&;|'})


def mermaid(text: str) -> str:
    """Escape a text so that Mermaid takes no character of it as mark-up."""
    return text.translate(_CHARACTERS)


def _at_start(mark: str) -> str:
    """Escape the start of a list or a rule; in a numbered list, escape the dot."""
    return f"{mark}\\" if mark[0].isdigit() else f"\\{mark}"
