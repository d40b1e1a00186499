"""Notice that all events are rejected, so that the developer is told."""

from __future__ import annotations

from collections import Counter
from time import monotonic

from collector.contracts import Rejection
from collector.filter.admission import Admission

_IN_A_ROW = 100
_SECONDS = 60.0
_INTENDED: frozenset[Rejection] = frozenset(["consent_withheld", "not_selected"])
"""Rejections that a person or the schema asks for."""


class Rejections:
    """The events that were rejected since the last admitted record, by reason."""

    def __init__(self) -> None:
        self._reasons: Counter[Rejection] = Counter()
        self._since, self._admitted = 0.0, -1
        self.is_told: bool = False
        """Whether the developer was told."""

    def __repr__(self) -> str:
        return f"<Rejections, {self._reasons.total()} in a row>"

    def add(self, admission: Admission, admitted: int) -> None:
        """Count a rejected event; ``admitted`` is the number of events admitted so far."""
        if self.is_told:
            return
        if admitted != self._admitted:
            self._admitted, self._since = admitted, monotonic()
            self._reasons.clear()
        for reason, times in admission.tally.rejected.items():
            if reason not in _INTENDED:
                self._reasons[reason] += times

    def told(self, admitted: int, *, is_end: bool = False) -> Counter[Rejection]:
        """Return the counts to report, once: after 100 rejections in a row, after a minute with
        rejections only, or at the end if no event was admitted. Otherwise return an empty count."""
        is_long = monotonic() - self._since >= _SECONDS
        is_all = is_long or (is_end and admitted == 0)
        is_enough = self._reasons.total() >= _IN_A_ROW or is_all
        if self.is_told or admitted != self._admitted or not is_enough:
            return Counter()
        self.is_told = self._reasons.total() > 0
        return self._reasons
