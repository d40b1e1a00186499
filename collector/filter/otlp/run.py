"""One call of OTLP: a body in, an admission out. The paths of one plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from collector.contracts import Record, Signal
from collector.filter.admission import Admission
from collector.filter.compile import Fills, Plan
from collector.filter.draft import record_type
from collector.filter.events import MAX_DOCUMENT
from collector.filter.otlp.account import Account
from collector.filter.otlp.attributes import Reading
from collector.filter.otlp.body import Body, Refused
from collector.filter.otlp.document import JsonBody
from collector.filter.otlp.items import Items
from collector.filter.otlp.level import Levels
from collector.filter.otlp.protobuf import ProtobufBody
from collector.filter.records import MAX_ITEMS

__all__ = ["Otlp"]

_T = TypeVar("_T")


class Otlp:
    """A plan at work on OTLP. Safe to use from several threads."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._reading = Reading(plan)
        self._record: type[msgspec.Struct] = record_type(plan)

    def admit(
        self, signal: Signal, body: bytes | memoryview, *, protobuf: bool, fills: Fills | None
    ) -> Admission:
        """Filter one body; identical records are one. ``fills`` is used if it has one item.

        Raises ``ConfigError`` E201 if protobuf is needed and not installed.
        """
        refused = None
        try:
            account = self._account(signal, body, protobuf=protobuf, fills=fills)
        except Refused as error:
            refused = error.reason, error.times
        if refused is not None:
            account = Account(self.plan, self._record)
            account.reject(*refused)
        return account.finish(len(body))

    def items(self, make: Callable[[Record], _T]) -> Items[_T]:
        """An empty batch of items that are Python objects already."""
        return Items(self.plan, self._reading, make)

    def _account(
        self, signal: Signal, body: bytes | memoryview, *, protobuf: bool, fills: Fills | None
    ) -> Account:
        account = Account(self.plan, self._record)
        opened = self._open(signal, body, protobuf)
        if opened.number > MAX_ITEMS:
            raise Refused("too_large", opened.number)
        levels = Levels(self.plan, self._reading)
        for resource, scope, items, rejected in opened.groups():
            for reason, times in rejected.items():
                account.reject(reason, times)
            if not items:
                continue
            level = levels.level(resource, scope)
            if fills is not None and opened.number == 1:
                levels.settle_one(account, level, next(iter(items)), fills)
            else:
                levels.settle(account, level, items)
        return account

    def _open(self, signal: Signal, body: bytes | memoryview, protobuf: bool) -> Body:
        if len(body) > MAX_DOCUMENT:
            raise Refused("too_large")
        if protobuf:
            return ProtobufBody(signal, bytes(body), self._reading)
        return JsonBody(signal, body, self._reading)
