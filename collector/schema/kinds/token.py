"""``token``: a member of a catalogue, or a text of a counted pattern. Never cut, never changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field as Option
from pydantic import PrivateAttr, ValidationInfo, model_validator

from collector.schema import catalogue
from collector.schema.kinds.base import Canonical, Circumstances, FieldBase
from collector.schema.pattern import Pattern, PatternFault
from collector.schema.terms import Catalogue, fault

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

    def canonical(self, circumstances: Circumstances) -> Canonical:
        if self._language is not None:
            matches = self._language.fullmatch
            return lambda text: text if matches(text) else None
        entries = self._entries
        return lambda text: text if text in entries else None

    def size(self) -> int:
        return self._language.size if self._language is not None else len(self._entries)
