"""The phrases of the privacy notice in one language, from ``schemas/notice/``.

The phrases about the precision of a field are data of its kind.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from functools import cache
from typing import ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict

from collector.errors import SchemaError
from collector.schema import resources
from collector.schema.kinds import FieldBase
from collector.schema.load import validate_part
from collector.schema.model import Basis
from collector.schema.reading import read

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
"""The letter of Art. 6(1) GDPR, and of Art. 20(2) of Indonesia's UU PDP, which has the same six in
the same order."""

Terms = tuple[tuple[str, tuple[str | float, ...]], ...]
"""A condition: members, each with the values of which it must have one."""

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60))


class PhraseBook(BaseModel):
    """One language: phrases of the notice by key, and of the page; labels of fields, uses and legal
    bases; translated texts."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True)

    language: Language
    phrases: dict[str, str]
    page: dict[str, str]
    fields: dict[str, str]
    uses: dict[str, str]
    bases: dict[Basis, str]
    texts: dict[str, str] = {}

    def say(self, key: str, **parts: object) -> str:
        """Return a phrase with its parts filled in."""
        return self.phrases[key].format(**parts)

    def text(self, text: str) -> str:
        """Translate a text of a schema, if there is a translation."""
        return self.texts.get(text, text)

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
        """Write conditions of which one must hold."""
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


def nearest_above(key: str, known: dict[str, str]) -> str | None:
    """Look up a key of the taxonomy, or the nearest one above it."""
    while key and key not in known:
        key = key.rpartition(".")[0]
    return known.get(key)


@cache
def phrase_book(language: Language) -> PhraseBook:
    """Load the phrases of a language. Raises ``SchemaError`` if its file is faulty."""
    path = resources.shipped() / "notice" / f"{language}.yaml"
    source = read(path, str(path))
    found = validate_part(PhraseBook, source.value, (), source)
    if found is None or source.faults:
        raise SchemaError(source.faults)
    return found
