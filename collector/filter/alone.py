"""The fast path of mappings: one generated function for one plan, which takes one event.

``msgspec.convert`` takes out of a dictionary what the plan looks for, as it is: it compares only
keys that are exact texts, in C, and calls nothing of what it finds. It would also take what is only
like a dictionary, so each object is looked at before.

A mapping that has other keys besides texts is left to ``Mapping``, and so is all that is rare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from collector.contracts import CATEGORIES, Drop
from collector.filter.admission import Admission
from collector.filter.code import Code
from collector.filter.compile import Column, Plan
from collector.filter.tolerant import FAILURES
from collector.filter.tree import Node, places, struct, tree

__all__ = ["Alone", "alone", "never"]

Alone = Callable[[dict[Any, Any]], Admission | None]
"""Takes a mapping that is the only event of its call; ``None`` leaves it to the slow path."""

_HEAD = """\
    try:
        e = convert(event, kind)
"""


class _Mapping(Code):
    """The lines for a mapping: first all of its objects are read, then its values are judged."""

    depth = 2
    hears = False

    @property
    def of(self) -> str:
        """What an admission is told besides: only where not everything is granted."""
        return "" if self.plan.granted is None else ", 0, granted"

    def read(self, root: Node) -> Iterable[tuple[Node, str]]:
        """What may fail comes first, so that nothing that a kind raises is taken for it."""
        choices = {id(node) for node in places(root, self.plan.choices)} if self.hears else set()
        found = list(self._below(root, "e"))
        self.depth = 1
        self.add("except FAILURES:")  # a key is no plain text
        self.add("return None", 1)
        if said := [self.there(place) for node, place in found if id(node) in choices]:
            self.add(f"if {' or '.join(said)}:")
            self.add("return None", 1)
        self.add("met = drops = ()")
        return found

    def _below(self, node: Node, variable: str) -> Iterator[tuple[Node, str]]:
        for number, member in enumerate(node.members.values()):
            expression = f"{variable}.{member.attribute}"
            if member.members:
                kind = struct(member)
                is_, nothing = self.bind("k", kind), self.bind("n", kind())
                inner = f"{variable}_{number}"
                self.add(f"{inner} = {expression}")
                found = f"convert({inner}, {is_}) if type({inner}) is dict else {nothing}"
                self.add(f"{inner}_ = {found}")
                expression = inner
                yield from self._below(member, f"{inner}_")
            yield member, expression

    def there(self, expression: str) -> str:
        return f"{expression} is not None"

    def met(self, category: int, tripwires: Sequence[str]) -> None:
        self.add(f"if {' or '.join(map(self.there, tripwires))}:")
        self.add(f"met += {self.bind('t', (CATEGORIES[category],))}", 1)

    def drop(self, column: Column, reason: Drop) -> str:
        return f"drops += {self.bind('d', ((column.name, reason),))}"

    def reject(self, reason: str) -> str:
        return f"return Admission([], b'', None, ({reason}, met, drops){self.of})"

    def admit(self, values: str) -> str:
        encoded, verdict = "encode(r) + b'\\n'", "(None, met, drops)"
        return f"r = record({values}); return Admission([r], {encoded}, None, {verdict}{self.of})"


def alone(plan: Plan, record: type[msgspec.Struct], *, hears: bool = False) -> Alone:
    """The generated function. If it ``hears``, it leaves a mapping with a person's choices too."""
    if plan.records:
        return never
    root = tree(plan)
    code = _Mapping(plan)
    code.hears = hears
    for path in plan.choices if hears else ():
        root.at(path)
    code.names |= {
        "Admission": Admission,
        "FAILURES": FAILURES,
        "convert": msgspec.convert,
        "encode": msgspec.json.Encoder().encode,
        "granted": plan.granted,
        "kind": struct(root, [name for name, _ in plan.content]),
        "record": record,
    }
    code.write(root)
    made: Alone = code.function("alone", "event", _HEAD)
    return made


def never(_event: dict[Any, Any]) -> Admission | None:
    """Leaves every mapping to the slow path."""
    return None
