"""``enum``: one of a list of values; ``aliases`` say what a source calls them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from collector.schema.kinds.base import Canonical, Circumstances, FieldBase
from collector.schema.terms import fault, unique

__all__ = ["EnumField"]


def _value(text: str) -> str:
    if not 1 <= len(text) <= 64 or not text.isprintable() or text != text.strip():
        raise fault("E113", "a value must be 1 to 64 printable characters without blanks around it")
    return text


def _values(values: tuple[str, ...]) -> tuple[str, ...]:
    return unique(values, "E113", "value")


_Value = Annotated[str, AfterValidator(_value)]


class EnumField(FieldBase):
    """One of a closed list."""

    repeats = True

    kind: Literal["enum"]
    values: Annotated[tuple[_Value, ...], AfterValidator(_values)]
    aliases: Mapping[_Value, str] = {}
    fold_case: bool = False

    @model_validator(mode="after")
    def _aliases_lead_to_values(self) -> EnumField:
        values = set(self.values)
        for alias, value in self.aliases.items():
            if value not in values:
                raise fault("E114", "every alias must lead to one of the values")
            if alias in values and alias != value:
                raise fault("E114", "a value must not be an alias of another value")
        self._folded()
        return self

    def _folded(self) -> dict[str, str]:
        known = {value: value for value in self.values} | dict(self.aliases)
        if not self.fold_case:
            return known
        folded: dict[str, str] = {}
        for text, value in known.items():
            if folded.setdefault(_fold(text), value) != value:
                raise fault(
                    "E114", "two names differ only in case but mean different values; leave one out"
                )
        return folded

    def canonical(self, circumstances: Circumstances) -> Canonical:
        known = self._folded()
        if not self.fold_case:
            return known.get
        return lambda text: known.get(_fold(text))

    def size(self) -> int:
        return len(self.values)


def _fold(text: str) -> str:
    """ASCII case only: Unicode folding would let look-alikes such as the Kelvin sign through."""
    return text.lower() if text.isascii() else text
