"""The words of the privacy notice, in one language. They are data, ``schemas/notice/``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import cache
from typing import ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict

from collector.errors import SchemaError
from collector.schema import shelf
from collector.schema.kinds import FieldBase
from collector.schema.kinds.enum import EnumField
from collector.schema.kinds.ip import IpField, Truncation
from collector.schema.kinds.numeric import IntegerField, NumberField
from collector.schema.kinds.pseudonym import PseudonymField
from collector.schema.kinds.time import TimeField
from collector.schema.kinds.version import VersionField
from collector.schema.load import validate_part
from collector.schema.model import Basis
from collector.schema.source import read

__all__ = ["LANGUAGES", "LETTERS", "Language", "Words", "nearest_above", "words"]

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

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60))


class Words(BaseModel):
    """Phrases by key; labels of fields, uses and legal bases; translations of schemas' texts."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True)

    phrases: dict[str, str]
    fields: dict[str, str]
    uses: dict[str, str]
    bases: dict[Basis, str]
    texts: dict[str, str] = {}

    def say(self, key: str, **parts: object) -> str:
        """A phrase with its parts."""
        return self.phrases[key].format(**parts)

    def text(self, text: str) -> str:
        """A text of a schema: translated, if there is a translation."""
        return self.texts.get(text, text)

    def data(self, names: Iterable[str]) -> str:
        """Fields, as people call them."""
        return ", ".join(self.fields.get(name, name) for name in names)

    def purposes(self, names: Iterable[str]) -> str:
        """Purposes, as people call them."""
        return ", ".join(self.text(name.replace("_", " ")) for name in names)

    def use(self, use: str) -> str:
        """A use; one without a label has that of the nearest use above it."""
        label = nearest_above(use, self.uses)
        return use if label is None else label

    def basis(self, basis: Basis) -> str:
        """A legal basis with its place in the law."""
        return self.say("basis", basis=self.bases[basis], letter=LETTERS[basis])

    def span(self, span: timedelta) -> str:
        """A span of whole minutes, in the largest unit that it is made of."""
        seconds = int(span.total_seconds())
        unit, size = next(pair for pair in _UNITS if seconds % pair[1] == 0)
        number = seconds // size
        return self.say(f"one_{unit}" if number == 1 else f"{unit}s", number=number)

    def precision(self, field: FieldBase) -> str:
        """How exactly a field is kept."""
        match field:
            case IpField(truncate=Truncation(ipv4=ipv4, ipv6=ipv6)):
                part = field.truncate != Truncation()
                return self.say("ip_part" if part else "ip", ipv4=ipv4, ipv6=ipv6)
            case EnumField():
                return self.say("enum", size=field.size())
            case VersionField(parts=parts):
                return self.say("version", parts=parts)
            case IntegerField(step=step) | NumberField(step=step):
                return self.say("number", step=step)
            case TimeField(precision=precision):
                return self.say("time", precision=self.say(precision))
            case PseudonymField(rotate=rotate):
                return self.say("pseudonym", span=self.span(rotate))
        return self.say(getattr(field, "kind", "token"))


def nearest_above(key: str, known: dict[str, str]) -> str | None:
    """What is known of a key of the taxonomy, or of the nearest one above it."""
    while key and key not in known:
        key = key.rpartition(".")[0]
    return known.get(key)


@cache
def words(language: Language) -> Words:
    """The words of a language. Raises ``SchemaError`` if its file is faulty."""
    path = shelf.shipped() / "notice" / f"{language}.yaml"
    source = read(path, str(path))
    found = validate_part(Words, source.value, (), source)
    if found is None or source.faults:
        raise SchemaError(source.faults)
    return found
