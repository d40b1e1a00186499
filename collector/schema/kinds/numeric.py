"""``integer`` and ``number``: in range, rounded down to a multiple of ``step``.

With ``text`` or ``unit`` a field also reads decimal texts, such as ``"19"`` and ``"54 ms"``. They
are computed in whole numbers, never as a double, so that rounding down is exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Context, Decimal
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field as Option
from pydantic import model_validator

from collector.documents import fault
from collector.schema.kinds.base import (
    WITHOUT_KEYS,
    Canonical,
    Circumstances,
    ColumnCheck,
    FieldBase,
    Phrases,
)
from collector.schema.verdict import Shift, ordered_shifts

_MOST_INT = 2**63 - 1
_MOST_DIGITS = 15
"""A double keeps 15 decimal digits (IEEE 754), so every multiple has one shortest spelling."""
_LEAST_STEP = 1e-290
"""Below 2.2e-308 a double keeps fewer digits."""
_EXACT = Context(prec=2000, Emin=-9999, Emax=9999)
"""Our own, because an embedding program may set its thread's precision as it likes."""
_COARSER_STEPS = (10, 100)
_LISTED = 1024
"""A range of fractions with at most this many steps is listed in a JSON Schema: most validators
compute ``multipleOf`` in binary, where 0.3 is not a multiple of 0.1."""

_MOST_TEXT = 32
"""The most characters of a text, checked before conversion."""
QUANTITIES: tuple[Mapping[str, Fraction], ...] = (
    {
        "us": Fraction(1, 10**6),
        "ms": Fraction(1, 10**3),
        "s": Fraction(1),
        "min": Fraction(60),
        "h": Fraction(3600),
    },
    {"bps": Fraction(1), "kbps": Fraction(10**3), "Mbps": Fraction(10**6)},
    {"fps": Fraction(1)},
    {"Hz": Fraction(1), "kHz": Fraction(10**3), "MHz": Fraction(10**6)},
    {"%": Fraction(1)},
)
"""The units of each quantity, expressed in one of them."""

_ESCAPE = re.compile(rb"\\u00([2-7][0-9a-fA-F])")

_Int = Annotated[int, Option(ge=-_MOST_INT, le=_MOST_INT)]
_Finite = Annotated[float, Option(allow_inf_nan=False)]
_Unit = Literal["us", "ms", "s", "min", "h", "bps", "kbps", "Mbps", "fps", "Hz", "kHz", "MHz", "%"]
_MINIMUM = "The least value, a multiple of `step`."
_MAXIMUM = "The greatest value."
_STEP = "Values are rounded down to a multiple of it."
_CountSteps = Callable[[str], int | None]
"""From a text to a number of whole steps from zero, downwards; ``None`` refuses it."""


def _exact(number: float) -> Decimal:
    return Decimal(repr(number))


def _unescaped(found: re.Match[bytes]) -> bytes:
    return bytes.fromhex(found[1].decode())


def _grammar(units: Iterable[str | None]) -> str:
    """Return the pattern of texts: a number as JSON has it, but without an exponent and with any
    number of zeros before it, then perhaps one blank, and a unit."""
    known = "|".join(re.escape(unit) for unit in units if unit) or "(?!)"
    return rf"(-?[0-9]+)(?:\.([0-9]+))?(?: ?({known}))?"


_WRITTEN = re.compile(f'"{_grammar(get_args(_Unit))}"'.encode()).fullmatch
"""Matches a text in JSON, with any unit."""


class _RangeField(FieldBase):
    """A range with a step, of whole numbers or of fractions."""

    phrases: ClassVar[Phrases] = {
        "values": {"en": "a number, in steps of {step}", "id": "angka, dalam kelipatan {step}"}
    }

    minimum: float
    maximum: float
    step: float
    text: bool | None = Option(
        None,
        description='Whether decimal text is read too: `"19"`, `"0.5"`. With a `unit` it is if this'
        " is left out.",
    )
    unit: _Unit | None = Option(
        None,
        description='The unit of the values. Text may state it: `"54 ms"`, or another of the same'
        ' quantity: `"0.054 s"`.',
    )

    def reads(self) -> frozenset[type]:
        return self.wire | {str} if self._reads_text else self.wire

    def may_be_value(self, raw: Any) -> bool:
        if len(memoryview(raw)) > 2 + 6 * _MOST_TEXT:  # longer than with every character escaped
            return False
        text = _ESCAPE.sub(_unescaped, bytes(raw))
        return len(text) <= 2 + _MOST_TEXT and _WRITTEN(text) is not None

    @property
    def _reads_text(self) -> bool:
        return self.unit is not None if self.text is None else self.text

    def _counts_steps(self) -> _CountSteps:
        """Return the function that reads a text, in whole numbers alone."""
        most, step = (Fraction(repr(number)) for number in (self.maximum, self.step))
        least = int(Fraction(repr(self.minimum)) / step)
        most_steps, most_parts = (most / step).as_integer_ratio()
        ratios = {
            unit: (factor / step).as_integer_ratio() for unit, factor in factors(self.unit).items()
        }
        match = re.compile(_grammar(ratios)).fullmatch

        def count_steps(text: str) -> int | None:
            found = match(text) if len(text) <= _MOST_TEXT else None
            if found is None:
                return None
            whole, fraction, unit = found.groups()
            times, parts = ratios[unit]
            if fraction is not None:
                whole += fraction
                parts *= 10 ** len(fraction)
            total = int(whole) * times
            steps = total // parts
            if steps < least or total * most_parts > most_steps * parts:
                return None
            return steps

        return count_steps

    def _shifts(self, new: _RangeField, is_multiple: bool) -> Iterator[Shift]:
        """Compare the ranges. A step that is not a multiple of the old one falls between its
        multiples, and so is finer."""
        yield from ordered_shifts(
            "minimum", self.minimum, new.minimum, "fewer values", "more values"
        )
        yield from ordered_shifts(
            "maximum", self.maximum, new.maximum, "more values", "fewer values"
        )
        if self.step != new.step:
            yield Shift("step", "coarser values" if is_multiple else "finer values")
        yield from self._text_shifts(new)

    def _text_shifts(self, new: _RangeField) -> Iterator[Shift]:
        """Compare which texts are read. Another unit gives other values for the same text."""
        if self.text != new.text:
            if self._reads_text == new._reads_text:
                what = "written differently"
            else:
                what = "more spellings" if new._reads_text else "fewer spellings"
            yield Shift("text", what)
        if self.unit != new.unit:
            if self.unit is not None and new.unit is not None:
                what = "other values"
            elif not (self._reads_text or new._reads_text):
                what = "written differently"
            else:
                what = "more spellings" if self.unit is None else "fewer spellings"
            yield Shift("unit", what)

    def phrase(self) -> tuple[str, Mapping[str, Any]]:
        return "values", {"step": f"{self.step} {self.unit}" if self.unit else self.step}

    def coarser(self) -> Iterator[tuple[str, Self]]:
        """Lengthen the step if the minimum is a multiple of the longer step, as the loader
        demands."""
        for times in _COARSER_STEPS:
            step = self.step * times
            if isinstance(step, float):
                step = float(f"{step:.15g}")  # 1e-6 * 100 is not quite 1e-4
            longer = self.model_copy(update={"step": step})
            fits = longer.canonical(WITHOUT_KEYS)(self.minimum) == self.minimum
            if fits and step <= self.maximum - self.minimum:
                yield f"step: {step}", longer


class IntegerField(_RangeField):
    """A whole number."""

    description = "A whole number in range, rounded down to a multiple of the step."
    wire: ClassVar[frozenset[type]] = frozenset({int})
    column = "INTEGER"

    kind: Literal["integer"]
    minimum: _Int = Option(description=_MINIMUM)
    maximum: _Int = Option(description=_MAXIMUM)
    step: Annotated[int, Option(ge=1, le=_MOST_INT)] = Option(description=_STEP)

    @model_validator(mode="after")
    def _fits(self) -> IntegerField:
        if self.minimum > self.maximum or self.minimum % self.step:
            raise fault(
                "E122", "`minimum` must be a multiple of `step`, and at most `maximum`", "minimum"
            )
        return self

    def canonical(self, circumstances: Circumstances) -> Canonical:
        low, high, step = self.minimum, self.maximum, self.step
        if not self._reads_text:
            return lambda value: value - value % step if low <= value <= high else None
        count_steps = self._counts_steps()

        def canonical(value: Any) -> int | None:
            if type(value) is str:
                steps = count_steps(value)
                return None if steps is None else steps * step
            number: int = value
            return number - number % step if low <= number <= high else None

        return canonical

    def column_check(self, first: datetime, last: datetime) -> ColumnCheck:
        """Check the ends, and that each number is a multiple."""
        low, high, step = self.minimum, self.maximum, self.step

        def check(values: Collection[Any]) -> bool:
            numbers = set(values) - {None}
            if not numbers:
                return True
            is_within = low <= min(numbers) and max(numbers) <= high
            return is_within and (step == 1 or not any(number % step for number in numbers))

        return check

    def size(self) -> int:
        return (self.maximum - self.minimum) // self.step + 1

    def shifts(self, new: Self) -> Iterator[Shift]:
        yield from self._shifts(new, new.step % self.step == 0)

    def example(self, now: datetime) -> int:
        return self.minimum + (self.size() // 2) * self.step

    def value_schema(self) -> dict[str, Any]:
        greatest = self.maximum - self.maximum % self.step
        limits = {"minimum": self.minimum, "maximum": greatest}
        return {"type": "integer", **limits, "multipleOf": self.step}


class NumberField(_RangeField):
    """A finite number; whole numbers count as numbers. Computed in decimal, so that 0.3 is three
    steps of 0.1 and rounding twice changes nothing."""

    description = "A number in range, rounded down to a multiple of the step."
    wire: ClassVar[frozenset[type]] = frozenset({int, float})
    remembers = True
    column = "REAL"

    kind: Literal["number"]
    minimum: _Finite = Option(description=_MINIMUM)
    maximum: _Finite = Option(description=_MAXIMUM)
    step: Annotated[float, Option(gt=0, allow_inf_nan=False)] = Option(description=_STEP)

    @model_validator(mode="after")
    def _fits(self) -> NumberField:
        low, high, step = _exact(self.minimum), _exact(self.maximum), _exact(self.step)
        finest = step.normalize(_EXACT).as_tuple().exponent
        most = max(low.copy_abs(), high.copy_abs()).scaleb(-int(finest), _EXACT)
        is_wide = most > 10**_MOST_DIGITS or self.step < _LEAST_STEP
        if low > high or is_wide or _EXACT.remainder(low, step):
            raise fault(
                "E122",
                "`minimum` must be a multiple of `step`, and at most `maximum`; from the last"
                f" digit of `step` to the first of the largest value there may be {_MOST_DIGITS}"
                " digits",
                "minimum",
            )
        return self

    def canonical(self, circumstances: Circumstances) -> Canonical:
        low, high, step = self.minimum, self.maximum, _exact(self.step)

        def canonical(value: float) -> float | None:
            if not low <= value <= high:
                return None
            exact = _exact(value)
            return float(_EXACT.multiply(_steps(exact, step), step)) + 0.0  # no negative zero

        if not self._reads_text:
            return canonical
        count_steps, (times, parts) = self._counts_steps(), step.as_integer_ratio()

        def canonical_of_either(value: Any) -> float | None:
            if type(value) is not str:
                return canonical(value)
            steps = count_steps(value)
            return None if steps is None else steps * times / parts  # rounded once

        return canonical_of_either

    def size(self) -> int:
        low, high, step = _exact(self.minimum), _exact(self.maximum), _exact(self.step)
        return int(_steps(_EXACT.subtract(high, low), step)) + 1

    def shifts(self, new: Self) -> Iterator[Shift]:
        rest = _EXACT.remainder(_exact(new.step), _exact(self.step))
        yield from self._shifts(new, not rest)

    def example(self, now: datetime) -> float:
        return self.minimum / 2 + self.maximum / 2

    def value_schema(self) -> dict[str, Any]:
        make = self.canonical(WITHOUT_KEYS)
        if self.size() <= _LISTED:
            return {"enum": self._multiples(make)}
        limits = {"type": "number", "minimum": self.minimum, "maximum": make(self.maximum)}
        is_whole = self.step.is_integer() and max(-self.minimum, self.maximum) < 2**53
        return limits | ({"multipleOf": int(self.step)} if is_whole else {})

    def _multiples(self, make: Canonical) -> list[float]:
        """List every value: each step between the ends is made canonical from its middle, so that
        rounding down cannot miss it."""
        middles = (self.minimum + (index + 0.5) * self.step for index in range(self.size()))
        found = (make(min(middle, self.maximum)) for middle in middles)
        return [value for value in found if isinstance(value, float)]


def factors(unit: str | None) -> dict[str | None, Fraction]:
    """Return the factor from each unit of the same quantity to this one; no unit means this one."""
    factors: dict[str | None, Fraction] = {None: Fraction(1)}
    for quantity in QUANTITIES:
        if unit is not None and unit in quantity:
            factors |= {name: of / quantity[unit] for name, of in quantity.items()}
    return factors


def _steps(exact: Decimal, step: Decimal) -> Decimal:
    """Count the whole steps between zero and a number, downwards."""
    steps, rest = _EXACT.divmod(exact, step)
    return _EXACT.subtract(steps, Decimal(rest < 0))
