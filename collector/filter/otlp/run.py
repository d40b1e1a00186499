"""One call of OTLP: a body in, an admission out. The paths of one plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from collector.contracts import Granted, Record, Signal
from collector.filter.admission import Admission
from collector.filter.compile import Fills, Plan
from collector.filter.draft import record_type
from collector.filter.events import MAX_DOCUMENT
from collector.filter.otlp.account import Accounts
from collector.filter.otlp.attributes import Reading
from collector.filter.otlp.body import Body, Group, Heard, Refused
from collector.filter.otlp.document import JsonBody
from collector.filter.otlp.hearing import Hearing
from collector.filter.otlp.items import Items
from collector.filter.otlp.level import Levels
from collector.filter.otlp.protobuf import ProtobufBody
from collector.filter.records import MAX_ITEMS

__all__ = ["Otlp"]

Other = Callable[[frozenset[str]], "Otlp"]

_T = TypeVar("_T")


class Otlp:
    """A plan at work on OTLP. Safe to use from several threads.

    ``hearing`` reads a person's choices, if they are to be heard; ``other`` gives the plan that is
    left without what they refuse.
    """

    def __init__(
        self, plan: Plan, hearing: Hearing | None = None, other: Other | None = None
    ) -> None:
        self.plan = plan
        self.reading: Reading = Reading(plan)
        self._hearing = hearing
        self._other = other
        self._record: type[msgspec.Struct] = record_type(plan)

    def admit(
        self,
        signal: Signal,
        body: bytes | memoryview,
        *,
        protobuf: bool,
        fills: Fills | None,
        apart: bool = False,
    ) -> list[Admission]:
        """Filter one body; identical records are one. ``fills`` is used if it has one item. One
        admission, or with ``apart`` one for each set of purposes that is granted.

        Raises ``ConfigError`` E201 if protobuf is needed and not installed.
        """
        refused, accounts = None, Accounts(self.plan, self._record, apart=apart)
        try:
            self._take(accounts, signal, body, protobuf=protobuf, fills=fills)
        except Refused as error:
            refused = error.reason, error.times
        if refused is not None:
            accounts = Accounts(self.plan, self._record, apart=apart)
            accounts.of(self.plan).reject(*refused)
        return accounts.finish(len(body))

    def items(self, make: Callable[[Record], _T]) -> Items[_T]:
        """An empty batch of items that are Python objects already."""
        return Items(self.plan, self.reading, make, self._hearing, self.left)

    def deaf_items(self, make: Callable[[Record], _T]) -> Items[_T]:
        """The same for items whose choices are known."""
        return Items(self.plan, self.reading, make)

    def left(self, heard: Heard) -> Otlp:
        """What takes the items of whoever refuses this."""
        return self if heard is None or self._other is None else self._other(heard)

    def _take(
        self,
        accounts: Accounts,
        signal: Signal,
        body: bytes | memoryview,
        *,
        protobuf: bool,
        fills: Fills | None,
    ) -> None:
        opened = self._open(signal, body, protobuf)
        if opened.number > MAX_ITEMS:
            raise Refused("too_large", opened.number)
        levels: dict[Granted, Levels] = {}
        for heard, (resource, scope, items, rejected) in self._groups(opened, body):
            taker = self.left(heard)
            account = accounts.of(taker.plan)
            for reason, times in rejected.items():
                account.reject(reason, times)
            if not items:
                continue
            if taker.plan.granted not in levels:
                levels[taker.plan.granted] = Levels(taker.plan, taker.reading)
            mine = levels[taker.plan.granted]
            level = mine.level(resource, scope)
            if fills is not None and opened.number == 1:
                mine.settle_one(account, level, next(iter(items)), fills)
            else:
                mine.settle(account, level, items)

    def _groups(self, opened: Body, body: bytes | memoryview) -> Iterable[tuple[Heard, Group]]:
        """The items, apart by what is refused."""
        if self._hearing is None or not self._hearing.may_find(body):
            return ((None, group) for group in opened.groups(self.reading))
        return opened.parted(self._hearing, lambda heard: self.left(heard).reading)

    def _open(self, signal: Signal, body: bytes | memoryview, protobuf: bool) -> Body:
        if len(body) > MAX_DOCUMENT:
            raise Refused("too_large")
        return ProtobufBody(signal, bytes(body)) if protobuf else JsonBody(signal, body)
