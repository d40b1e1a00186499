"""Whether a figure grows: the slope of samples over time, with an honest interval.

Samples that follow each other are alike, so that there are fewer of them than it seems. They are
put together into blocks; the means of blocks are nearly independent, and the line goes through
these.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from statistics import fmean
from typing import NamedTuple

BLOCKS = 12
"""So many blocks the samples become."""

# The 97.5 % point of Student's distribution, by degrees of freedom.
_STUDENT = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306}
_STUDENT |= {9: 2.262, 10: 2.228}


class Slope(NamedTuple):
    """Change per unit of time, by least squares, and its 95 % interval."""

    value: float
    low: float
    high: float


def slope(samples: Sequence[tuple[float, float]]) -> Slope:
    """The slope of values (second) over times (first). Raises ``ValueError`` for fewer than three.

    The interval is Student's with two degrees of freedom less than there are blocks.
    """
    number = min(BLOCKS, len(samples))
    if number < 3:
        raise ValueError("a slope with an interval needs three samples")
    edges = [len(samples) * at // number for at in range(number + 1)]
    blocks = [samples[a:b] for a, b in pairwise(edges)]
    times = [fmean(time for time, _ in block) for block in blocks]
    values = [fmean(value for _, value in block) for block in blocks]
    middle, level = fmean(times), fmean(values)
    spread = sum((time - middle) ** 2 for time in times)
    moved = sum((t - middle) * (v - level) for t, v in zip(times, values, strict=True))
    found = moved / spread
    residues = (v - level - found * (t - middle) for t, v in zip(times, values, strict=True))
    error = sqrt(sum(residue**2 for residue in residues) / (number - 2) / spread)
    reach = _STUDENT[number - 2] * error
    return Slope(found, found - reach, found + reach)
