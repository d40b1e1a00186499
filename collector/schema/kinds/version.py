"""``version``: dotted decimal numbers, coarsened to the first ``parts`` of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field as Option
from pydantic import model_validator

from collector.schema.kinds.base import Canonical, Circumstances, FieldBase
from collector.schema.terms import fault
from collector.schema.verdict import Shift, stepped

__all__ = ["VersionField"]

_PARTS = 4
_DEFAULT_MAXIMUM = 99_999
_Maximum = Annotated[int, Option(ge=0, le=999_999_999)]


class VersionField(FieldBase):
    """A version number. Numbers are kept as written (``22.04``), within the digits of their
    maximum, so that leading zeros are a finite set too."""

    repeats = True

    kind: Literal["version"]
    parts: Annotated[int, Option(ge=1, le=_PARTS)] = _PARTS
    maximum: tuple[_Maximum, ...] | None = None

    @model_validator(mode="after")
    def _maximum_for_each_part(self) -> VersionField:
        if self.maximum is not None and not self.parts <= len(self.maximum) <= _PARTS:
            raise fault("E115", f"give one maximum for each of the `parts`, at most {_PARTS}")
        return self

    def _maxima(self) -> tuple[int, ...]:
        given = self.maximum or ()
        return given + (_DEFAULT_MAXIMUM,) * (_PARTS - len(given))

    def canonical(self, circumstances: Circumstances) -> Canonical:
        maxima = self._maxima()
        number = [rf"[0-9]{{1,{len(str(maximum))}}}" for maximum in maxima]
        accepts = re.compile(rf"{number[0]}(?:\.{number[1]}(?:\.{number[2]}(?:\.{number[3]})?)?)?")
        keep = self.parts

        def canonical(text: str) -> str | None:
            if not accepts.fullmatch(text):
                return None
            numbers = text.split(".")
            if any(int(n) > most for n, most in zip(numbers, maxima, strict=False)):
                return None
            return ".".join(numbers[:keep])

        return canonical

    def size(self) -> int:
        total, combined = 0, 1
        for maximum in self._maxima()[: self.parts]:
            digits = len(str(maximum))
            combined *= sum(10**n for n in range(1, digits)) + maximum + 1
            total += combined
        return total

    def shifts(self, new: Self) -> Iterator[Shift]:
        yield from stepped("parts", self.parts, new.parts, "finer values", "coarser values")
        if self.maximum != new.maximum:
            old_maxima, new_maxima = self._maxima(), new._maxima()
            grown = any(a < b for a, b in zip(old_maxima, new_maxima, strict=True))
            smaller = "written differently" if old_maxima == new_maxima else "fewer values"
            yield Shift("maximum", "more values" if grown else smaller)
