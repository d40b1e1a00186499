"""``version``: dotted decimal numbers, coarsened to the first ``parts`` of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field as Option
from pydantic import model_validator

from collector.documents import Hint, fault
from collector.schema.kinds.base import Canonical, Circumstances, ColumnCheck, FieldBase, Phrases
from collector.schema.verdict import Shift, ordered_shifts

_PARTS = 4
_EXAMPLE = (17, 4, 1, 2)
_DEFAULT_MAXIMUM = 99_999
_Maximum = Annotated[int, Option(ge=0, le=999_999_999)]


class VersionField(FieldBase):
    """A version number. Numbers stay as written (``22.04``), with at most the digits of their
    maximum, so that leading zeros are finite too."""

    description = "Numbers joined by dots, cut to the first parts."
    phrases: ClassVar[Phrases] = {
        "values": {"en": "a version, to {parts} numbers", "id": "versi, sampai {parts} angka"}
    }
    repeats = True
    remembers = True
    is_closed = True

    kind: Literal["version"]
    parts: Annotated[int, Option(ge=1, le=_PARTS)] = Option(
        _PARTS, description="How many parts are kept, 1 to 4."
    )
    maximum: Annotated[tuple[_Maximum, ...], Hint(minItems=1, maxItems=_PARTS)] | None = Option(
        None,
        description="The greatest number of each part, at least for those that are kept; 99999 if"
        " left out.",
        examples=[[99, 99, 99999]],
    )

    @model_validator(mode="after")
    def _maximum_for_each_part(self) -> VersionField:
        if self.maximum is not None and not self.parts <= len(self.maximum) <= _PARTS:
            message = f"give one maximum for each of the `parts`, at most {_PARTS}"
            raise fault("E122", message, "maximum")
        return self

    def maxima(self) -> tuple[int, ...]:
        """Return the greatest number of each of the four parts."""
        given = self.maximum or ()
        return given + (_DEFAULT_MAXIMUM,) * (_PARTS - len(given))

    def canonical(self, circumstances: Circumstances) -> Canonical:
        maxima = self.maxima()
        number = [rf"[0-9]{{1,{len(str(maximum))}}}" for maximum in maxima]
        accepts = re.compile(rf"{number[0]}(?:\.{number[1]}(?:\.{number[2]}(?:\.{number[3]})?)?)?")
        parts = self.parts

        def canonical(text: str) -> str | None:
            if not accepts.fullmatch(text):
                return None
            numbers = text.split(".")
            if any(int(n) > most for n, most in zip(numbers, maxima, strict=False)):
                return None
            return ".".join(numbers[:parts])

        return canonical

    def column_check(self, first: datetime, last: datetime) -> ColumnCheck:
        matches = re.compile(self.value_schema()["pattern"]).fullmatch
        return lambda values: all(map(matches, set(values) - {None}))

    def size(self) -> int:
        total, combined = 0, 1
        for maximum in self.maxima()[: self.parts]:
            digits = len(str(maximum))
            combined *= sum(10**n for n in range(1, digits)) + maximum + 1
            total += combined
        return total

    def shifts(self, new: Self) -> Iterator[Shift]:
        yield from ordered_shifts("parts", self.parts, new.parts, "finer values", "coarser values")
        if self.maximum != new.maximum:
            old_maxima, new_maxima = self.maxima(), new.maxima()
            grown = any(a < b for a, b in zip(old_maxima, new_maxima, strict=True))
            smaller = "written differently" if old_maxima == new_maxima else "fewer values"
            yield Shift("maximum", "more values" if grown else smaller)

    def example(self, now: datetime) -> str:
        numbers = zip(_EXAMPLE, self.maxima()[: self.parts], strict=False)
        return ".".join(str(min(number, most)) for number, most in numbers)

    def value_schema(self) -> dict[str, Any]:
        pattern = ""
        for maximum in reversed(self.maxima()[: self.parts]):
            pattern = _padded_up_to(maximum) + (rf"(\.{pattern})?" if pattern else "")
        return {"type": "string", "pattern": f"^{pattern}$"}

    def phrase(self) -> tuple[str, Mapping[str, Any]]:
        return "values", {"parts": self.parts}

    def coarser(self) -> Iterator[tuple[str, Self]]:
        for parts in range(self.parts - 1, 0, -1):
            yield f"parts: {parts}", self.model_copy(update={"parts": parts})


def _padded_up_to(maximum: int) -> str:
    """Return a pattern of the numbers to a maximum, with leading zeros to its length or less."""
    digits = str(maximum)
    if maximum + 1 == 10 ** len(digits):
        return f"[0-9]{{1,{len(digits)}}}"
    choices = [digits]
    for index, digit in enumerate(digits):
        if digit != "0":
            rest = "[0-9]" * (len(digits) - index - 1)
            choices.append(f"{digits[:index]}[0-{int(digit) - 1}]{rest}")
    choices += ["[0-9]" * length for length in range(1, len(digits))]
    return f"({'|'.join(choices)})"
