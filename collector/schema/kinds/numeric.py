"""``integer`` and ``number``: in range, rounded down to a multiple of ``step``."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field as Option
from pydantic import model_validator

from collector.schema.kinds.base import Canonical, Circumstances, FieldBase
from collector.schema.terms import fault

__all__ = ["IntegerField", "NumberField"]

_MOST_INT = 2**63 - 1
_MOST_STEPS = Decimal(10) ** 15
"""A double keeps 15 decimal digits (IEEE 754), so every multiple has one shortest spelling."""

_Int = Annotated[int, Option(ge=-_MOST_INT, le=_MOST_INT)]
_Finite = Annotated[float, Option(allow_inf_nan=False)]


def _exact(number: float) -> Decimal:
    return Decimal(repr(number))


class IntegerField(FieldBase):
    """A whole number."""

    wire = frozenset({int})
    column = "INTEGER"

    kind: Literal["integer"]
    minimum: _Int
    maximum: _Int
    step: Annotated[int, Option(ge=1, le=_MOST_INT)]

    @model_validator(mode="after")
    def _fits(self) -> IntegerField:
        if self.minimum > self.maximum or self.minimum % self.step:
            raise fault("E122", "`minimum` is a multiple of `step` and not above `maximum`")
        return self

    def canonical(self, circumstances: Circumstances) -> Canonical:
        low, high, step = self.minimum, self.maximum, self.step
        return lambda value: value - value % step if low <= value <= high else None

    def size(self) -> int:
        return (self.maximum - self.minimum) // self.step + 1


class NumberField(FieldBase):
    """A finite number; whole numbers count as numbers. Computed in decimal, so that 0.3 is three
    steps of 0.1 and rounding twice changes nothing."""

    wire = frozenset({int, float})
    column = "REAL"

    kind: Literal["number"]
    minimum: _Finite
    maximum: _Finite
    step: Annotated[float, Option(gt=0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _fits(self) -> NumberField:
        low, high, step = _exact(self.minimum), _exact(self.maximum), _exact(self.step)
        finest = Decimal(10) ** int(step.normalize().as_tuple().exponent)
        if low > high or max(abs(low), abs(high)) / finest > _MOST_STEPS or low % step:
            raise fault(
                "E122",
                "`minimum` is a multiple of `step`, not above `maximum`, and no more than 15 digits"
                " lie between the finest of `step` and the greatest of the range",
            )
        return self

    def canonical(self, circumstances: Circumstances) -> Canonical:
        low, high, step = self.minimum, self.maximum, _exact(self.step)

        def canonical(value: float) -> float | None:
            if not low <= value <= high:
                return None
            exact = _exact(value)
            steps = exact // step - (1 if exact < 0 and exact % step else 0)
            return float(steps * step) + 0.0  # + 0.0 makes a negative zero positive

        return canonical

    def size(self) -> int:
        low, high, step = _exact(self.minimum), _exact(self.maximum), _exact(self.step)
        return int((high - low) // step) + 1
