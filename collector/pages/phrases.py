"""The phrases of the privacy notice in one language, from ``schemas/notice/``.

The phrases about the precision of a field are data of its kind.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import timedelta
from functools import cache
from typing import Literal, get_args

from pydantic import Field

from collector.documents import Part, read, validate
from collector.errors import SchemaError
from collector.schema import resources
from collector.schema.kinds import FieldBase
from collector.schema.model import Basis

Language = Literal["en", "id"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

LETTERS: dict[Basis, str] = {
    "consent": "a",
    "contract": "b",
    "legal_obligation": "c",
    "vital_interests": "d",
    "public_interest": "e",
    "legitimate_interests": "f",
}
"""The letter in Art. 6(1) GDPR and in Art. 20(2) of Indonesia's UU PDP, which have the same six
bases in the same order."""

Terms = tuple[tuple[str, tuple[str | float, ...]], ...]
"""A condition: for each member, the values that satisfy it."""

_SENTENCES = re.compile(r"(?<=[.!?]) (?=[A-Z])")
_OTHERS = re.compile(r"(\d+) other checks")
_JOINT = re.compile(r", | and |$")
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60))


class PhraseBook(Part):
    """One language: phrases of the notice by key, and of the page; labels of fields, uses and legal
    bases; translated texts, and patterns of what checks say."""

    language: Language
    phrases: dict[str, str]
    page: dict[str, str]
    fields: dict[str, str]
    uses: dict[str, str]
    bases: dict[Basis, str]
    texts: dict[str, str] = Field(default_factory=dict)
    patterns: dict[str, str] = Field(default_factory=dict)

    def say(self, key: str, **parts: object) -> str:
        """Return a phrase with its parts filled in."""
        return self.phrases[key].format(**parts)

    def text(self, text: str) -> str:
        """Translate a text of a schema, if there is a translation."""
        return self.texts.get(text, text)

    def told(self, text: str) -> str:
        """Translate what a check says, sentence by sentence. A sentence is a known text, or a known
        pattern whose parts are numbers, lists of texts, or names between backquotes (``code``). If
        one sentence is unknown, the whole text stays untranslated."""
        found = [self._sentence(each) for each in _SENTENCES.split(text)]
        known = [each for each in found if each is not None]
        return " ".join(known) if len(known) == len(found) else text

    def _sentence(self, sentence: str) -> str | None:
        if sentence in self.texts:
            return self.texts[sentence]
        for pattern, phrase in self.patterns.items():
            match = _compiled(pattern).fullmatch(sentence)
            listed = {} if match is None else match.groupdict()
            parts = {
                name: self._name(part) if name.startswith("code") else self._list_of_texts(part)
                for name, part in listed.items()
            }
            if match is not None and None not in parts.values():
                said = phrase.format(**parts)
                return f"{said[:1].upper()}{said[1:]}"
        return None

    @staticmethod
    def _name(part: str) -> str | None:
        """Return the text between backquotes unchanged."""
        return None if "`" in part else part

    def _list_of_texts(self, listed: str) -> str | None:
        """Translate texts that are joined by commas and "and"; ``None`` if one is unknown."""
        if listed.isdecimal():
            return listed
        said, rest = "", listed
        while rest:
            plain = f"{rest[:1].lower()}{rest[1:]}"
            known = max(
                (text for text in self.texts if plain.startswith(text)), key=len, default=""
            )
            others = _OTHERS.match(rest)
            if others is not None:
                known, word = others[0], self.page["other_checks"].format(number=others[1])
            elif known:
                word = self.texts[known]
            else:
                return None
            joint = _JOINT.match(rest[len(known) :])
            if joint is None:
                return None
            said += word + (self.page["and"] if joint[0].startswith(" and") else joint[0])
            rest = rest[len(known) + len(joint[0]) :]
        return said

    def data(self, names: Iterable[str]) -> str:
        """Return the labels of fields, separated by commas."""
        return ", ".join(self.fields.get(name, name) for name in names)

    def purposes(self, names: Iterable[str]) -> str:
        """Return the names of purposes, translated and separated by commas."""
        return ", ".join(self.text(name.replace("_", " ")) for name in names)

    def use(self, use: str) -> str:
        """Return the label of a use, or of the nearest use above it."""
        label = nearest_above(use, self.uses)
        return use if label is None else label

    def basis(self, basis: Basis) -> str:
        """Return a legal basis with its article."""
        return self.say("basis", basis=self.bases[basis], letter=LETTERS[basis])

    def span(self, span: timedelta) -> str:
        """Write a span of whole minutes in the largest unit that divides it."""
        seconds = int(span.total_seconds())
        unit, size = next(pair for pair in _UNITS if seconds % pair[1] == 0)
        number = seconds // size
        return self.say(f"one_{unit}" if number == 1 else f"{unit}s", number=number)

    def any_of(self, alternatives: Iterable[Terms]) -> str:
        """Write alternative conditions, joined with *or*."""
        return self.say("or_where").join(
            self.say("and_member").join(
                self.say("member", name=name, values=self._listed(values)) for name, values in each
            )
            for each in alternatives
        )

    def _listed(self, values: Iterable[str | float]) -> str:
        return self.say("or_value").join(json.dumps(value, ensure_ascii=False) for value in values)

    def precision(self, field: FieldBase) -> str:
        """State how exactly a field is stored, by a phrase of its kind."""
        key, parts = field.phrase()
        written = {
            name: self.span(part) if isinstance(part, timedelta) else part
            for name, part in parts.items()
        }
        return field.phrases[key][self.language].format(**written)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern, whose parts are names in braces."""
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+?)", re.escape(pattern)))


def nearest_above(key: str, known: dict[str, str]) -> str | None:
    """Look up a key of the taxonomy, or the nearest one above it."""
    while key and key not in known:
        key = key.rpartition(".")[0]
    return known.get(key)


@cache
def phrase_book(language: Language) -> PhraseBook:
    """Load the phrases of a language. Raises ``SchemaError`` if its file is faulty."""
    path = resources.shipped() / "notice" / f"{language}.yaml"
    source = read(path)
    found = validate(PhraseBook, source.value, (), source)
    if found is None or source.faults:
        raise SchemaError(source.faults)
    return found
