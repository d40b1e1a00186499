"""``integer`` and ``number``: in range, rounded down to a multiple of ``step``."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Context, Decimal
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field as Option
from pydantic import model_validator

from collector.schema.kinds.base import Canonical, Circumstances, FieldBase
from collector.schema.terms import fault
from collector.schema.verdict import Shift, stepped

__all__ = ["IntegerField", "NumberField"]

_MOST_INT = 2**63 - 1
_MOST_DIGITS = 15
"""A double keeps 15 decimal digits (IEEE 754), so every multiple has one shortest spelling."""
_LEAST_STEP = 1e-290
"""Below 2.2e-308 a double keeps fewer."""
_EXACT = Context(prec=2000, Emin=-9999, Emax=9999)
"""Our own, because an embedding program may set its thread's precision as it likes."""

_Int = Annotated[int, Option(ge=-_MOST_INT, le=_MOST_INT)]
_Finite = Annotated[float, Option(allow_inf_nan=False)]


def _exact(number: float) -> Decimal:
    return Decimal(repr(number))


class IntegerField(FieldBase):
    """A whole number."""

    wire: ClassVar[frozenset[type]] = frozenset({int})
    column = "INTEGER"

    kind: Literal["integer"]
    minimum: _Int
    maximum: _Int
    step: Annotated[int, Option(ge=1, le=_MOST_INT)]

    @model_validator(mode="after")
    def _fits(self) -> IntegerField:
        if self.minimum > self.maximum or self.minimum % self.step:
            raise fault("E122", "`minimum` must be a multiple of `step` and not above `maximum`")
        return self

    def canonical(self, circumstances: Circumstances) -> Canonical:
        low, high, step = self.minimum, self.maximum, self.step
        return lambda value: value - value % step if low <= value <= high else None

    def size(self) -> int:
        return (self.maximum - self.minimum) // self.step + 1

    def shifts(self, new: Self) -> Iterator[Shift]:
        yield from _range_shifts(self, new, new.step % self.step == 0)


class NumberField(FieldBase):
    """A finite number; whole numbers count as numbers. Computed in decimal, so that 0.3 is three
    steps of 0.1 and rounding twice changes nothing."""

    wire: ClassVar[frozenset[type]] = frozenset({int, float})
    column = "REAL"

    kind: Literal["number"]
    minimum: _Finite
    maximum: _Finite
    step: Annotated[float, Option(gt=0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _fits(self) -> NumberField:
        low, high, step = _exact(self.minimum), _exact(self.maximum), _exact(self.step)
        finest = step.normalize(_EXACT).as_tuple().exponent
        most = max(low.copy_abs(), high.copy_abs()).scaleb(-int(finest), _EXACT)
        is_wide = most > 10**_MOST_DIGITS or self.step < _LEAST_STEP
        if low > high or is_wide or _EXACT.remainder(low, step):
            raise fault(
                "E122",
                "`minimum` must be a multiple of `step`, not above `maximum`, and no more than"
                f" {_MOST_DIGITS} digits may lie between the finest of `step` and the widest value",
            )
        return self

    def canonical(self, circumstances: Circumstances) -> Canonical:
        low, high, step = self.minimum, self.maximum, _exact(self.step)

        def canonical(value: float) -> float | None:
            if not low <= value <= high:
                return None
            exact = _exact(value)
            return float(_EXACT.multiply(_steps(exact, step), step)) + 0.0  # no negative zero

        return canonical

    def size(self) -> int:
        low, high, step = _exact(self.minimum), _exact(self.maximum), _exact(self.step)
        return int(_steps(_EXACT.subtract(high, low), step)) + 1

    def shifts(self, new: Self) -> Iterator[Shift]:
        rest = _EXACT.remainder(_exact(new.step), _exact(self.step))
        yield from _range_shifts(self, new, not rest)


def _range_shifts(
    old: IntegerField | NumberField, new: IntegerField | NumberField, is_multiple: bool
) -> Iterator[Shift]:
    """``is_multiple``: of the old step. Any other step falls between the multiples of the old."""
    yield from stepped("minimum", old.minimum, new.minimum, "fewer values", "more values")
    yield from stepped("maximum", old.maximum, new.maximum, "more values", "fewer values")
    if old.step != new.step:
        yield Shift("step", "coarser values" if is_multiple else "finer values")


def _steps(exact: Decimal, step: Decimal) -> Decimal:
    """How many whole steps lie between zero and a number, counted downwards."""
    steps, rest = _EXACT.divmod(exact, step)
    return _EXACT.subtract(steps, Decimal(rest < 0))
