"""The fast path: nested msgspec types, and one generated function, for one plan.

The types name only what the plan looks for, so the decoder skips everything else as bytes. Content
names are ``msgspec.Raw`` members: tripwires that say "it was there" and are never looked into.
A payload that the types refuse goes to ``slow`` (the tolerant path).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any, TypedDict

import msgspec

from collector.contracts import CATEGORIES, Drop, Granted
from collector.filter.code import Code
from collector.filter.compile import Column, Found, Plan, drop_code
from collector.filter.draft import Draft
from collector.filter.tolerant import FAILURES, NULL
from collector.filter.tree import Node, struct, tree

__all__ = ["Fill", "Outer", "fast_path", "only_slow"]

Fill = Callable[[Iterable[Any], Draft, "Outer | None", Callable[[Any], None]], None]
"""``fill(payloads, draft, outer, slow)``: admit each payload into the draft."""


@dataclass(frozen=True, slots=True, repr=False)
class Outer:
    """What the document around a list of records offers to each of them, already settled.

    ``found`` are the values or marks as they were found; ``values`` and ``drops`` are, per column,
    the canonical value and the drop code that come of them. ``content`` are the categories there,
    ``agent`` is the user agent. ``others`` are what the ``document`` offers under other plans.
    """

    found: tuple[Any, ...]
    values: tuple[Any, ...]
    drops: tuple[int | None, ...]
    content: frozenset[int]
    agent: Any
    document: Any = None
    others: dict[Granted, Outer] = field(default_factory=dict)

    def around(self, found: Found) -> tuple[list[Any], frozenset[int], Any]:
        """Values, content and user agent of a record, or of the document where it has none."""
        offered = zip(found.values, self.found, strict=True)
        values = [outer if own is None else own for own, outer in offered]
        agent = self.agent if found.agent is None else found.agent
        return values, found.content | self.content, agent


class _Object(TypedDict):
    """An object none of whose members is decoded."""


class _Array(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A list none of whose elements is decoded."""


_SCALARS: list[Any] = [bool, float, int, str, None]
_ANYTHING: list[Any] = [*_SCALARS, _Object, _Array]
"""What a leaf is decoded as, so that a value of the wrong type costs no second look."""


class _Conflict(Exception):
    """A member that is withheld as a value but read as an object: left to the tolerant path."""


def _type_of(node: Node) -> None:
    """Give a node, and all below it, their types and defaults."""
    types: list[Any] = []
    if node.members:
        for member in node.members.values():
            _type_of(member)
        types.append(struct(node))
        node.default = types[0]()
    if node.readers or node.names_agent:
        is_read = node.is_read()
        if not is_read and node.members:
            raise _Conflict
        types += (_SCALARS if node.members else _ANYTHING) if is_read else [msgspec.Raw]
        node.default = None
    node.type = types[0] if len(types) == 1 else reduce(or_, types)


def _event_type(root: Node, plan: Plan) -> type[msgspec.Struct]:
    for member in root.members.values():
        _type_of(member)
    return struct(root, [name for name, _ in plan.content], msgspec.Raw)


_COUNTS = [f"met{index}" for index in range(len(CATEGORIES))]
_HEAD = f"""\
    record = draft.record
    admit = draft.records.append
    drop = draft.drops.append
    reject = draft.rejected.append
    {" = ".join(_COUNTS)} = 0
"""
_OUTER = """\
    outer_values = outer.values
    outer_drops = outer.drops
    outer_content = outer.content
    outer_found = outer.found
    outer_agent = outer.agent
"""
_EACH = """\
    for payload in payloads:
        try:
            e = decode(payload)
        except FAILURES:
            e = None
        if e is None:
            slow(payload)
            continue
"""
_TAIL = f"""\
    for category, times in enumerate(({", ".join(_COUNTS)})):
        draft.content[category] += times
"""


class _Texts(Code):
    """The lines in a loop over JSON texts, which collect in a draft."""

    depth = 2
    head = _HEAD + _EACH

    def read(self, root: Node) -> Iterable[tuple[Node, str]]:
        return self._below(root, "e")

    def _below(self, node: Node, variable: str) -> Iterator[tuple[Node, str]]:
        for number, member in enumerate(node.members.values()):
            expression = f"{variable}.{member.attribute}"
            if member.members:
                inner = f"{variable}_{number}"
                self.add(f"{inner} = {expression}")
                expression = inner
                if member.type is not type(member.default):  # a value or an object: look which
                    empty = next(
                        t for t in member.type.__args__ if hasattr(t, "__struct_fields__")
                    )()
                    kind, nothing = self.bind("k", type(empty)), self.bind("n", empty)
                    self.add(f"{inner}_ = {inner} if type({inner}) is {kind} else {nothing}")
                    yield from self._below(member, f"{inner}_")
                else:
                    yield from self._below(member, inner)
            yield member, expression

    def there(self, expression: str) -> str:
        return f"({expression} is not None and {expression} != NULL)"

    def met(self, category: int, tripwires: Sequence[str]) -> None:
        """The first tripwire hit decides unless it holds ``null``."""
        self.add(f"x = {' or '.join(tripwires)}")
        others = " or ".join(map(self.there, tripwires))
        self.add(f"if {self.elsewhere(category)}x is not None and (x != NULL or {others}):")
        self.add(f"met{category} += 1", 1)

    def elsewhere(self, category: int) -> str:
        """Another condition under which content is there, or nothing."""
        return ""

    def drop(self, column: Column, reason: Drop) -> str:
        return f"drop({drop_code(column.index, reason)})"

    def reject(self, reason: str) -> str:
        return f"reject({reason}); continue"

    def admit(self, values: str) -> str:
        return f"admit(record({values}))"

    def settle(self, column: Column, found: Sequence[tuple[Node, str]]) -> None:
        """What is decoded may be asked whether it is known, before anything else: a memo refuses
        what is no text."""
        if column.memo is None or any(node.members for node, _ in found):
            super().settle(column, found)
            return
        i, value = column.index, f"c{column.index}"
        invalid, wrong = drop_code(i, "invalid_value"), drop_code(i, "wrong_type")
        self.add("if v is None:")
        self.absent(column, 1)
        self.add("else:")
        self.add("try:", 1)
        self.add(f"{value} = {self.bind('m', column.memo.known)}[v]", 2)
        self.add("except (KeyError, TypeError):", 1)  # not met before, or not hashable
        self.add(f"{value} = {self.bind('f', column.memo)}(v)", 2)
        self.add(f"if {value} is None:", 2)
        self.add(f"drop({invalid} if type(v) is str else {wrong})", 3)


class _Records(_Texts):
    """The same for records, to each of which the document around them offers something."""

    head = _HEAD + _OUTER + _EACH

    def absent(self, column: Column, deeper: int) -> None:
        i = column.index
        self.add(f"c{i} = outer_values[{i}]", deeper)
        self.add(f"if outer_drops[{i}] is not None:", deeper)
        self.add(f"drop(outer_drops[{i}])", deeper + 1)

    def is_absent(self, column: Column) -> str:
        return f"v is None and outer_found[{column.index}] is None"

    def held_outside(self, column: Column) -> str:
        return f" or outer_drops[{column.index}] is not None"

    def elsewhere(self, category: int) -> str:
        return f"{category} in outer_content or "

    def find_agent(self, found: Sequence[tuple[Node, str]]) -> None:
        super().find_agent(found)
        self.add("if a is None:")
        self.add("a = outer_agent", 1)


def fast_path(plan: Plan) -> Fill:
    """The generated function. With ``plan.records`` it takes elements, and needs an ``outer``."""
    root = tree(plan)
    try:
        event = _event_type(root, plan)
    except _Conflict:
        return only_slow
    code = (_Records if plan.records else _Texts)(plan)
    code.names |= {
        "decode": msgspec.json.Decoder(event).decode,
        "FAILURES": FAILURES,
        "NULL": NULL,
    }
    code.write(root)
    fill: Fill = code.function("fill", "payloads, draft, outer, slow", code.head, _TAIL)
    return fill


def only_slow(
    payloads: Iterable[Any], draft: Draft, outer: Outer | None, slow: Callable[[Any], None]
) -> None:
    """Leaves every payload to the tolerant path."""
    for payload in payloads:
        slow(payload)
