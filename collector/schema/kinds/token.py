"""``token``: a member of a catalogue, or a text of a counted pattern. Never cut, never changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field as Option
from pydantic import PrivateAttr, ValidationInfo, model_validator

from collector.schema import catalogue
from collector.schema.kinds.base import Canonical, Circumstances, FieldBase
from collector.schema.pattern import Pattern, PatternFault
from collector.schema.terms import Catalogue, fault
from collector.schema.verdict import Shift, stepped

__all__ = ["TokenField"]


class TokenField(FieldBase):
    """A short name of a thing, out of a closed set."""

    repeats = True

    kind: Literal["token"]
    pattern: str | None = None
    catalogue: Catalogue | None = None
    max_length: Annotated[int, Option(ge=1, le=64)] = 64
    _language: Pattern | None = PrivateAttr(None)
    _entries: frozenset[str] = PrivateAttr(frozenset())

    @model_validator(mode="after")
    def _closed_set(self, info: ValidationInfo) -> TokenField:
        """The context of validation is the directory of the schema file."""
        if (self.pattern is None) == (self.catalogue is None):
            raise fault("E119", "write either `pattern` or `catalogue`")
        caught: PatternFault | catalogue.CatalogueFault
        try:
            self._read(info.context if isinstance(info.context, Path) else None)
        except (PatternFault, catalogue.CatalogueFault) as error:
            caught = error
        else:
            if self.longest() > self.max_length:
                raise fault(
                    "E118", "the set holds texts longer than `max_length`; shorten them or raise it"
                )
            return self
        raise fault(caught.code, str(caught))

    def _read(self, beside: Path | None) -> None:
        if self.pattern is not None:
            self._language = Pattern(self.pattern)
        else:
            self._entries = catalogue.read(self.catalogue or "", beside)

    def longest(self) -> int:
        """The length of the longest member, in characters."""
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

    def hold(self, entries: frozenset[str]) -> None:
        """Let these be the members, whatever the catalogue says now."""
        self._language, self._entries = None, entries

    def canonical(self, circumstances: Circumstances) -> Canonical:
        if self._language is not None:
            matches = self._language.fullmatch
            return lambda text: text if matches(text) else None
        entries = self._entries
        return lambda text: text if text in entries else None

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
        yield from stepped("max_length", *limits, "ceiling raised", "ceiling lowered")

    def _within(self, other: Self) -> bool:
        """Whether every member is one of the other set too, as far as that can be proven."""
        if self._language is None:
            accepts = other._entries.__contains__
            return all(
                map(other._language.fullmatch if other._language else accepts, self._entries)
            )
        if other._language is not None:
            return self._language.within(other._language)
        few = self._language.size <= len(other._entries)
        return few and all(text in other._entries for text in self._language.texts())
