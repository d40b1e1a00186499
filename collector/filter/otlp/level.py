"""What a resource and a scope offer to each of their items, settled once; then the items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collector.filter.compile import Fills, Plan
from collector.filter.otlp.account import Account
from collector.filter.otlp.attributes import Own, Reading, Signature, judge

__all__ = ["Level", "Levels"]


@dataclass(frozen=True, slots=True, repr=False)
class Level:
    """Attributes that hold for all items below: what was found, and what comes of it.

    ``found``, ``kept`` and ``drops`` are per column: the value as it was found, its canonical form,
    and the code that it is dropped under. ``content`` has one bit per category.
    """

    found: list[Any]
    content: int
    agent: Any
    kept: list[Any]
    drops: list[int | None]

    @property
    def codes(self) -> list[int]:
        """The codes of what is dropped."""
        return [code for code in self.drops if code is not None]


class Levels:
    """The levels of one call, each made once, and what becomes of their items."""

    def __init__(self, plan: Plan, reading: Reading) -> None:
        self._plan = plan
        self._reading = reading
        nothing: list[Any] = [None] * len(plan.columns)
        self._top = Level(nothing, 0, None, nothing, nothing)
        self._accept = [column.accept for column in plan.columns]
        self._known: dict[tuple[Signature, Signature], Level] = {}

    def level(self, resource: Signature, scope: Signature) -> Level:
        """The level of the items of a scope in a resource."""
        known = self._known.get((resource, scope))
        if known is None:
            outer = self._within(self._top, self._reading.own(resource))
            known = self._within(outer, self._reading.own(scope)) if scope else outer
            self._known[resource, scope] = known
        return known

    def _within(self, outer: Level, own: Own) -> Level:
        """A level inside another: what it has itself comes first, column by column."""
        found = list(outer.found)
        for index, value in own.values.items():
            found[index] = value
        agent = outer.agent if own.agent is None else own.agent
        found_or_said = self._plan.derive(list(found), agent)
        kept: list[Any] = [None] * len(found)
        drops: list[int | None] = [None] * len(found)
        for column in self._plan.columns:
            value = found_or_said[column.index]
            if value is not None:
                kept[column.index], reason = judge(column, value)
                if reason is not None:
                    drops[column.index] = column.codes[reason]
        return Level(found, outer.content | own.content, agent, kept, drops)

    def settle(self, account: Account, level: Level, items: Mapping[Signature, int]) -> None:
        """Items of a level, as often as each is there.

        Most have nothing but texts that are accepted, each for another column, and content. They
        are settled in place.
        """
        if level.codes or self._plan.required:
            self._settle_slowly(account, level, items)
            return
        plain, admit, accept = self._reading.plain, account.admit, self._accept
        columns = len(accept)
        for signature, times in items.items():
            kept, content, seen = level.kept.copy(), level.content, 0
            for name, value in signature:
                index = plain.get(name, -1)
                if type(value) is str and 0 <= index < columns and not seen >> index & 1:
                    result = kept[index] = accept[index](value)
                    if result is None:
                        break
                    seen |= 1 << index
                elif index >= columns and value is not None:
                    content |= 1 << index - columns
                else:
                    break
            else:
                if seen:
                    admit(tuple(kept), content, times)
                    continue
            self._settle_slowly(account, level, {signature: times})

    def _settle_slowly(
        self, account: Account, level: Level, items: Mapping[Signature, int]
    ) -> None:
        for signature, times in items.items():
            own = self._reading.own(signature)
            kept, codes = self.outcome(level, own)
            account.settle(kept, codes, level.content | own.content, times)

    def outcome(self, level: Level, own: Own) -> tuple[list[Any], list[int]]:
        """The canonical values and drop codes of an item of a level."""
        if own.agent is not None:
            level_of_one = self._within(level, own)
            return level_of_one.kept, level_of_one.codes
        if own.values:
            return self._over(level, own.values)
        return level.kept, level.codes

    def _over(self, level: Level, values: Mapping[int, Any]) -> tuple[list[Any], list[int]]:
        """A level's outcome with an item's own values in place of what is there."""
        kept = level.kept.copy()
        drops = level.drops.copy()
        columns = self._plan.columns
        for index, value in values.items():
            kept[index], reason = judge(columns[index], value)
            drops[index] = None if reason is None else columns[index].codes[reason]
        return kept, [code for code in drops if code is not None]

    def settle_one(
        self, account: Account, level: Level, signature: Signature, fills: Fills
    ) -> None:
        """The only item of a request, which the request may say something for."""
        one = self._within(level, self._reading.own(signature))
        kept, codes = list(one.kept), one.codes
        has_own = kept.count(None) < len(kept)
        found = self._plan.derive(list(one.found), one.agent)
        for column, value in self._plan.fill(found, one.agent, fills):
            kept[column.index], reason = judge(column, value)
            if reason is not None:
                codes.append(column.codes[reason])
        account.settle(kept, codes, one.content, 1, has_own=has_own)
