"""``token``: a member of a catalogue, or a text of a counted pattern. Never cut, never changed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field as Option
from pydantic import PrivateAttr, ValidationInfo, model_validator

from collector.documents import Hint, fault
from collector.schema import catalogue
from collector.schema.kinds.base import Canonical, Circumstances, ColumnCheck, FieldBase, Phrases
from collector.schema.names import CLOSED, alphabet_bits
from collector.schema.pattern import Pattern, PatternFault
from collector.schema.scalars import Catalogue
from collector.schema.verdict import Shift, ordered_shifts

_letter_bits = cache(alphabet_bits)


class TokenField(FieldBase):
    """A short name of a thing, out of a closed set."""

    description = (
        "A text of a counted pattern, or an entry of a catalogue. Never cut, never changed."
    )
    constraints: ClassVar[Mapping[str, Any]] = {
        "oneOf": [{"required": ["pattern"]}, {"required": ["catalogue"]}]
    }
    phrases: ClassVar[Phrases] = {
        "values": {
            "en": "a value of a closed list or form",
            "id": "nilai dari daftar atau pola yang telah ditentukan",
        }
    }
    repeats = True
    remembers = True

    kind: Literal["token"]
    pattern: Annotated[str, Hint(minLength=1, maxLength=4096)] | None = Option(
        None,
        description="A finite regular expression for the whole text: literals, classes, groups,"
        " `|`, `?`, `{n}`, `{n,m}`. Put it in single quotes.",
        examples=["[0-9]{2}[A-Z][0-9]{1,5}[a-z]?"],
    )
    catalogue: Catalogue | None = Option(
        None,
        description="A closed list: the file NAME.txt beside the schema or in `catalogues/`, or a"
        " shipped one.",
        examples=["device-manufacturers", "device-models", "os-names"],
    )
    max_length: Annotated[int, Option(ge=1, le=64)] = Option(
        64, description="The greatest length in characters that is meant."
    )
    _language: Pattern | None = PrivateAttr(None)
    _entries: frozenset[str] = PrivateAttr(frozenset())

    @model_validator(mode="after")
    def _closed_set(self, info: ValidationInfo) -> TokenField:
        """Read the set; the context of validation is the directory of the schema file."""
        if (self.pattern is None) == (self.catalogue is None):
            raise fault("E122", "a token needs either `pattern` or `catalogue`, not both")
        about = "pattern" if self.catalogue is None else "catalogue"
        caught: PatternFault | catalogue.CatalogueFault
        try:
            self._read(info.context if isinstance(info.context, Path) else None)
        except (PatternFault, catalogue.CatalogueFault) as error:
            caught = error
        else:
            if self.longest() > self.max_length:
                message = "some texts are longer than `max_length`; raise it, or shorten the texts"
                raise fault("E116", message, about)
            return self
        raise fault(caught.code, str(caught), about)

    def _read(self, directory: Path | None) -> None:
        if self.pattern is not None:
            self._language = _compiled(self.pattern)
        else:
            self._entries = catalogue.read(self.catalogue or "", directory)

    def longest(self) -> int:
        """Return the length of the longest member, in characters."""
        if self._language is not None:
            return self._language.longest
        return max(map(len, self._entries), default=0)

    @property
    def entries(self) -> frozenset[str]:
        """The members of the catalogue; empty for a pattern."""
        return self._entries

    @property
    def language(self) -> Pattern | None:
        """The compiled pattern; ``None`` for a catalogue."""
        return self._language

    def with_entries(self, name: str, entries: frozenset[str]) -> Self:
        """Return the field with a catalogue of these entries, without reading a file."""
        field = self.model_copy(update={"catalogue": name, "pattern": None})
        field._language, field._entries = None, entries  # noqa: SLF001 - of this class
        return field

    def document(self) -> dict[str, Any]:
        """Add the entries of the catalogue, which may change while its name stays."""
        options = super().document()
        return options | ({"entries": sorted(self._entries)} if self._entries else {})

    def canonical(self, circumstances: Circumstances) -> Canonical:
        if self._language is not None:
            matches = self._language.fullmatch
            return lambda text: text if matches(text) else None
        entries = self._entries
        return lambda text: text if text in entries else None

    def column_check(self, first: datetime, last: datetime) -> ColumnCheck:
        if self._language is not None:
            matches = self._language.fullmatch
            return lambda values: all(map(matches, set(values) - {None}))
        return (self._entries | {None}).issuperset

    def size(self) -> int:
        return self._language.size if self._language is not None else len(self._entries)

    def shifts(self, new: Self) -> Iterator[Shift]:
        what = "fewer values" if new._within(self) else "more values"
        if what == "fewer values" and self._within(new):
            what = "written differently"
        if self.pattern != new.pattern:
            yield Shift("pattern", what)
        if self.catalogue != new.catalogue:
            yield Shift("catalogue", what)
        elif self._entries != new._entries:
            gone, added = self._entries - new._entries, new._entries - self._entries
            yield Shift("catalogue", what, sorted(gone), sorted(added))
        limits = self.max_length, new.max_length
        yield from ordered_shifts("max_length", *limits, "ceiling raised", "ceiling lowered")

    def _within(self, other: Self) -> bool:
        """Return whether every member is proven to be in the other set too."""
        if self._language is None:
            accepts = other._entries.__contains__
            return all(
                map(other._language.fullmatch if other._language else accepts, self._entries)
            )
        if other._language is not None:
            return self._language.within(other._language)
        few = self._language.size <= len(other._entries)
        return few and all(text in other._entries for text in self._language.texts())

    def example(self, now: datetime) -> str:
        return min(self._entries) if self._language is None else next(self._language.texts())

    def value_schema(self) -> dict[str, Any]:
        if self.pattern is None:
            return {"enum": sorted(self._entries)}
        return {"type": "string", "pattern": f"^({_escaped(self.pattern)})$"}

    def is_text(self) -> bool:
        """Return whether the set is large, or can spell. A shipped catalogue lists products, so it
        is closed however long it is."""
        if self._language is None and self._is_shipped():
            return False
        return self.size() > CLOSED or self.can_spell()

    def can_spell(self) -> bool:
        if self._language is not None:
            return self._language.can_spell
        is_large = len(self._entries) > CLOSED and not self._is_shipped()
        return is_large or self.letter_bits() > 0

    def letter_bits(self) -> float:
        if self._language is not None:
            return self._language.letter_bits
        bits = _letter_bits(self._entries)
        return 0.0 if bits and self._is_shipped() else bits

    def _is_shipped(self) -> bool:
        """Return whether the shipped catalogue of this name has the same entries."""
        try:
            shipped = catalogue.read(self.catalogue or "", None)
        except catalogue.CatalogueFault:
            return False
        return self._entries is shipped or self._entries == shipped

    def overlaps(self, other: FieldBase) -> bool:
        """Tokens that share a source but no member take different words from it, on purpose."""
        if not isinstance(other, TokenField):
            return False
        if self._language is None and other.language is None:
            return not self._entries.isdisjoint(other.entries)
        return self.pattern == other.pattern


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Pattern:
    """Compile a pattern once for all fields that have it."""
    return Pattern(pattern)


def _escaped(pattern: str) -> str:
    """Return the pattern for ECMAScript, where only syntax characters may follow a backslash."""

    def escape(match: re.Match[str]) -> str:
        char = match[1]
        return match[0] if char in "^$\\.*+?()[]{}|/" else f"\\x{ord(char):02x}"

    return re.sub(r"\\(.)", escape, pattern)
