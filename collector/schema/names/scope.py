"""Compare a schema with the sentences that are said in public: which of its fields the sentence of
``needed-only`` speaks of, and which patterns could keep a word that somebody says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from collector.schema.conditions import Condition
from collector.schema.kinds.enum import EnumField
from collector.schema.kinds.token import TokenField
from collector.schema.model import Schema
from collector.schema.names import CLAIMS, positive_from
from collector.schema.names.words import lexicon, name_of
from collector.schema.pattern import Pattern
from collector.schema.scalars import RecordsPath, Source, condition_of, spoken

__all__ = [
    "POSITIVE",
    "Conditions",
    "Homonym",
    "Scope",
    "common_words",
    "conditions",
    "homonyms",
    "scope",
    "spelling_fields",
]

POSITIVE: Mapping[str, frozenset[str]] = {
    name: frozenset(kinds.split())
    for name, kinds in {
        "client.address": "ip",
        "device.type": "enum",
        "device.manufacturer": "token enum",
        "device.brand": "token enum",
        "device.model.identifier": "token",
        "device.model.name": "token",
        "device.class": "enum",
        "device.form_factor": "enum",
        "device.memory.size": "integer number",
        "device.screen.width": "integer",
        "device.screen.height": "integer",
        "device.screen.density": "integer number",
        "device.battery": "boolean",
        "os.type": "enum",
        "os.name": "token enum",
        "os.version": "version",
        "os.build_id": "token",
        "os.edition": "enum",
        "os.patch": "token version",
        "host.arch": "enum",
        "host.type": "enum",
        "host.cpu.vendor.id": "enum token",
        "host.cpu.family": "enum token",
        "host.cpu.model.id": "enum token",
        "host.cpu.model.name": "token",
        "host.cpu.cores": "integer",
        "system.memory.size": "integer",
        "hw.model": "token",
        "hw.vendor": "enum token",
        "hw.bios_version": "version",
        "hw.firmware_version": "version",
        "hw.driver_version": "version",
        "android.os.api_level": "integer enum",
        "user_agent.os.name": "enum token",
        "user_agent.os.version": "version",
    }.items()
}
"""The fields that are exactly address, device or operating system, with their kinds."""


_NUMBERED = frozenset(
    "api build core cpu kernel level logical model patch physical product release".split()
)
"""Words before `number` of a device or a system; any other may be one to call, or a person's."""
_BETWEEN = frozenset(["context", "info"])

_WORDS_OF_A_PATTERN = 2
"""The most common words between other characters of a pattern: editions of systems have one."""
_WORDS_OF_A_LIST = 8
"""The most common words in a long list: catalogues of brands and models have two."""


class Scope(NamedTuple):
    """What a schema collects beyond address, device and operating system: for each such field the
    sentence that says so in public, or ``None``."""

    outside: Mapping[str, str | None]

    @property
    def without_sentence(self) -> tuple[str, ...]:
        """Return the fields outside that no sentence speaks of."""
        return tuple(name for name, text in self.outside.items() if text is None)

    @property
    def sentences(self) -> tuple[str, ...]:
        """Return the sentences to publish besides ``needed-only``, each once."""
        return tuple(dict.fromkeys(text for text in self.outside.values() if text is not None))

    @property
    def verdict(self) -> Literal["holds", "amended", "broken"]:
        """Return the verdict on ``needed-only``: ``amended`` where its sentence must be published
        with others."""
        if self.without_sentence:
            return "broken"
        return "amended" if self.outside else "holds"


class Homonym(NamedTuple):
    """A word that a schema declares to tell something else, and the claims that the word
    protects."""

    word: str
    meaning: str
    claims: tuple[str, ...]


def scope(schema: Schema) -> Scope:
    """Find the fields outside the sentence of ``needed-only``."""
    return Scope(
        {
            name: None if field.also is None else schema.also_collected.get(field.also)
            for name, field in schema.fields.items()
            if field.also is not None or not _is_inside(name, field.kind, field.paths(name))
        }
    )


def _is_inside(name: str, kind: str, paths: tuple[str, ...]) -> bool:
    return kind in POSITIVE.get(name, ()) and all(map(_is_positive, map(spoken, paths)))


def _is_positive(path: str) -> bool:
    """Return whether a path speaks of the address, the device or the system, and not of a place or
    of how to reach a person, nor of the name or number of a client."""
    name = name_of(path)
    if positive_from(name) is None:
        return False
    categories = {category for match in name.matches for category in match.categories}
    *_, before, last = ["", "", *(word.text for word in name.words if word.text not in _BETWEEN)]
    is_of_client = last == "name" and before in ("client", "uidevice")
    is_number = last == "number" and before not in _NUMBERED
    return categories.isdisjoint(["contact", "location"]) and not (is_of_client or is_number)


class Conditions(NamedTuple):
    """The conditions on records, and those on the values of each field: of several, one must hold.
    None are given where something is read without any."""

    of_records: tuple[Condition, ...]
    of_fields: Mapping[str, tuple[Condition, ...]]


def conditions(schema: Schema) -> Conditions:
    """Find what must be listed in a record, or beside a value, for these to be read."""
    of_fields = {name: _each(field.places(name)) for name, field in schema.fields.items()}
    return Conditions(
        _each(schema.records or ()), {name: each for name, each in of_fields.items() if each}
    )


def _each(sources: Iterable[Source | RecordsPath]) -> tuple[Condition, ...]:
    found = tuple(dict.fromkeys(map(condition_of, sources)))
    return () if () in found else found


def homonyms(schema: Schema) -> tuple[Homonym, ...]:
    """Return the homonyms of a schema, with the claims beside whose verdict they must stand."""
    return tuple(Homonym(word, text, _claims(word)) for word, text in schema.homonyms.items())


def _claims(word: str) -> tuple[str, ...]:
    found = {
        CLAIMS.get(category, "needed-only")
        for phrase, categories in lexicon().phrases.items()
        for category in categories
        if word in phrase
    }
    return tuple(sorted(found))


@cache
def common_words() -> tuple[str, ...]:
    """Load the words that people say most often."""
    lines = Path(__file__).with_name("common.txt").read_text("utf-8").splitlines()
    return tuple(" ".join(line for line in lines if not line.startswith("#")).split())


def spelling_fields(schema: Schema) -> Iterator[str]:
    """Yield the fields that could keep common words: whose pattern accepts one, in any of three
    spellings, or has several between other characters, or whose list has many."""
    for name, field in schema.fields.items():
        if isinstance(field, TokenField) and field.language is not None:
            if _says_words(field.language):
                yield name
        elif isinstance(field, TokenField | EnumField) and field.carries() == "spells":
            entries = field.entries if isinstance(field, TokenField) else field.values
            words = {"".join(filter(str.isalpha, entry)).lower() for entry in entries}
            if len(words.intersection(common_words())) > _WORDS_OF_A_LIST:
                yield name


def _says_words(language: Pattern) -> bool:
    return (
        any(
            language.fullmatch(spelled)
            for word in common_words()
            for spelled in (word, word.capitalize(), word.upper())
        )
        or len([*language.words_within(common_words())]) > _WORDS_OF_A_PATTERN
    )
