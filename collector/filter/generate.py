"""The fast path: nested msgspec types, and one generated function, for one plan.

The types name only what the plan looks for, so the decoder skips everything else as bytes. Content
names are ``msgspec.Raw`` members: tripwires that say "it was there" and are never looked into.
The function is written out for the plan, straight-line, with everything in local variables. Its
text is made of numbers only; no name or value from a schema is ever part of it.

A payload that the types refuse goes to ``slow`` (the tolerant path).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any, TypedDict

import msgspec

from collector.contracts import CATEGORIES
from collector.filter.compile import Column, Found, Keys, Plan, drop_code
from collector.filter.draft import Draft
from collector.filter.tolerant import FAILURES, NULL

__all__ = ["Fill", "Outer", "fast_path", "only_slow"]

Fill = Callable[[Iterable[Any], Draft, "Outer | None", Callable[[Any], None]], None]
"""``fill(payloads, draft, outer, slow)``: admit each payload into the draft."""


@dataclass(frozen=True, slots=True, repr=False)
class Outer:
    """What the document around a list of records offers to each of them, already settled.

    ``found`` are the values or marks as they were found; ``values`` and ``drops`` are, per column,
    the canonical value and the drop code that come of them. ``content`` are the categories there,
    ``agent`` is the user agent.
    """

    found: tuple[Any, ...]
    values: tuple[Any, ...]
    drops: tuple[int | None, ...]
    content: frozenset[int]
    agent: Any

    def around(self, found: Found) -> tuple[list[Any], frozenset[int], Any]:
        """Values, content and user agent of a record, or of the document where it has none."""
        offered = zip(found.values, self.found, strict=True)
        values = [outer if own is None else own for own, outer in offered]
        agent = self.agent if found.agent is None else found.agent
        return values, found.content | self.content, agent


@dataclass(slots=True)
class _Node:
    """One member of an event that the plan looks at: a value, an object, or either."""

    members: dict[str, _Node] = field(default_factory=dict)
    readers: list[Column] = field(default_factory=list)
    names_agent: bool = False
    attribute: str = ""
    type: Any = None
    default: Any = None

    def at(self, path: Keys) -> _Node:
        node = self
        for key in path:
            node = node.members.setdefault(str(key), _Node())
        return node

    def is_read(self) -> bool:
        """Whether some value here is not withheld."""
        return self.names_agent or any(column.withheld is None for column in self.readers)


class _Object(TypedDict):
    """An object none of whose members is decoded."""


class _Array(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A list none of whose elements is decoded."""


_SCALARS: list[Any] = [bool, float, int, str, None]
_ANYTHING: list[Any] = [*_SCALARS, _Object, _Array]
"""What a leaf is decoded as, so that a value of the wrong type costs no second look."""


class _Conflict(Exception):
    """A member that is withheld as a value but read as an object: left to the tolerant path."""


def _places(root: _Node, paths: Iterable[Keys]) -> list[_Node]:
    """Where paths lead in an object. What lies in a list is left to the tolerant path, because
    an event that is a list is none of these types."""
    return [root.at(path) for path in paths if type(path[0]) is str]


def _tree(plan: Plan) -> _Node:
    root = _Node()
    for column in plan.columns:
        for node in _places(root, column.paths):
            node.readers.append(column)
    for node in _places(root, plan.user_agent):
        node.names_agent = True
    return root


def _type_of(node: _Node) -> None:
    """Give a node, and all below it, their types and defaults."""
    types: list[Any] = []
    if node.members:
        types.append(_struct(node, ()))
        node.default = types[0]()
    if node.readers or node.names_agent:
        is_read = node.is_read()
        if not is_read and node.members:
            raise _Conflict
        types += (_SCALARS if node.members else _ANYTHING) if is_read else [msgspec.Raw]
        node.default = None
    node.type = types[0] if len(types) == 1 else reduce(or_, types)


def _struct(node: _Node, tripwires: Iterable[str]) -> type[msgspec.Struct]:
    rename: dict[str, str] = {}
    fields: list[tuple[str, Any, Any]] = []
    for number, (key, member) in enumerate(node.members.items()):
        _type_of(member)
        member.attribute = f"m{number}"
        rename[member.attribute] = key
        fields.append((member.attribute, member.type, member.default))
    for number, name in enumerate(tripwires):
        rename[f"t{number}"] = name
        fields.append((f"t{number}", msgspec.Raw, None))
    return msgspec.defstruct("Event", fields, rename=rename, frozen=True, gc=False)


@dataclass(slots=True)
class _Code:
    """The text of the function, and the objects that it refers to."""

    lines: list[str] = field(default_factory=list)
    names: dict[str, Any] = field(default_factory=dict)
    depth: int = 2

    def add(self, text: str, deeper: int = 0) -> None:
        self.lines.append("    " * (self.depth + deeper) + text)

    def bind(self, prefix: str, value: Any) -> str:
        name = f"{prefix}{len(self.names)}"
        self.names[name] = value
        return name


def _objects(code: _Code, node: _Node, variable: str) -> Iterator[tuple[_Node, str]]:
    """Every node with the expression that reads it; objects are put into local variables."""
    for number, member in enumerate(node.members.values()):
        expression = f"{variable}.{member.attribute}"
        if member.members:
            inner = f"{variable}_{number}"
            code.add(f"{inner} = {expression}")
            expression = inner
            if member.type is not type(member.default):  # a value or an object: look if it is one
                empty = next(t for t in member.type.__args__ if hasattr(t, "__struct_fields__"))()
                kind, nothing = code.bind("k", type(empty)), code.bind("n", empty)
                code.add(f"{inner}_ = {inner} if type({inner}) is {kind} else {nothing}")
                yield from _objects(code, member, f"{inner}_")
            else:
                yield from _objects(code, member, inner)
        yield member, expression


def _column(code: _Code, column: Column, found: list[tuple[_Node, str]], nested: bool) -> None:
    """The lines that find one column's value and make it canonical (``c<index>``)."""
    i, value = column.index, f"c{column.index}"
    invalid, wrong = drop_code(i, "invalid_value"), drop_code(i, "wrong_type")
    _value(code, "v", found)
    if column.derived is not None:
        code.add(f"if v is None and outer_found[{i}] is None:" if nested else "if v is None:")
        code.add(f"v = said[{column.derived}]", 1)
    code.add("if v is None:")
    if nested:
        code.add(f"{value} = outer_values[{i}]", 1)
        code.add(f"if outer_drops[{i}] is not None:", 1)
        code.add(f"drop(outer_drops[{i}])", 2)
    else:
        code.add(f"{value} = None", 1)
    is_object = any(node.members for node, _ in found)
    if column.memo is not None and not is_object:  # it refuses what is no text
        code.add("else:")
        code.add("try:", 1)
        code.add(f"{value} = {code.bind('m', column.memo.known)}[v]", 2)
        code.add("except (KeyError, TypeError):", 1)  # not met before, or not hashable
        code.add(f"{value} = {code.bind('f', column.memo)}(v)", 2)
        code.add(f"if {value} is None:", 2)
        code.add(f"drop({invalid} if type(v) is str else {wrong})", 3)
        return
    one, *others = column.wire
    is_wrong = f"not in {code.bind('w', column.wire)}" if others else f"is not {one.__name__}"
    code.add(f"elif type(v) {is_wrong}:")
    code.add(f"{value} = None", 1)
    code.add(f"drop({wrong})", 1)
    code.add("else:")
    code.add(f"{value} = {code.bind('f', column.accept)}(v)", 1)
    code.add(f"if {value} is None:", 1)
    code.add(f"drop({invalid})", 2)


def _value(code: _Code, variable: str, found: list[tuple[_Node, str]]) -> None:
    """The lines that take the first of several values; others are only asked where it is not."""
    for deeper, (_, expression) in enumerate(found):
        code.add(f"{variable} = {expression}", deeper)
        if deeper < len(found) - 1:
            code.add(f"if {variable} is None:", deeper)


def _withheld(code: _Code, column: Column, found: list[tuple[_Node, str]], nested: bool) -> None:
    """The lines that count a withheld column's presence, without having decoded it."""
    code.add(f"c{column.index} = None")
    there = " or ".join(f"({x} is not None and {x} != NULL)" for _, x in found)
    outer = f" or outer_drops[{column.index}] is not None" if nested else ""
    code.add(f"if {there}{outer}:")
    code.add(f"drop({drop_code(column.index, column.withheld or 'expired')})", 1)
    if column.withheld == "purpose_refused":
        code.add("refused = True", 1)


def _agent(code: _Code, found: list[tuple[_Node, str]], nested: bool) -> None:
    """The lines that ask the user agent, which the first member that is there decides."""
    _value(code, "a", found)
    if nested:
        code.add("if a is None:")
        code.add("a = outer_agent", 1)
    code.add("said = agents[a] if type(a) is str else silence")


def _content(code: _Code, plan: Plan, nested: bool) -> None:
    """One count per category: the first tripwire hit decides unless it holds ``null``."""
    for index in range(len(CATEGORIES)):
        wires = [f"e.t{n}" for n, (_, category) in enumerate(plan.content) if category == index]
        code.add(f"x = {' or '.join(wires)}")
        others = " or ".join(f"({wire} is not None and {wire} != NULL)" for wire in wires)
        outer = f"{index} in outer_content" if nested else ""
        code.add(
            f"if {outer or 'x is not None'} and (x != NULL or {others}):"
            if not nested
            else f"if {outer} or x is not None and (x != NULL or {others}):"
        )
        code.add(f"met{index} += 1", 1)


def _verdict(code: _Code, plan: Plan) -> None:
    required = " or ".join(f"c{c.index} is None" for c in plan.columns if c.required)
    if required:
        code.add(f"if {required}:")
        code.add("reject('missing_required')", 1)
        code.add("continue", 1)
    nothing = " and ".join(f"c{c.index} is None" for c in plan.columns)
    code.add(f"if {nothing}:")
    if any(c.withheld == "purpose_refused" for c in plan.columns):
        code.add("reject('consent_withheld' if refused else 'nothing_admitted')", 1)
    else:
        code.add("reject('nothing_admitted')", 1)
    code.add("else:")
    code.add(f"admit(record({', '.join(f'c{c.index}' for c in plan.columns)}))", 1)


_HEAD = """\
def fill(payloads, draft, outer, slow):
    record = draft.record
    admit = draft.records.append
    drop = draft.drops.append
    reject = draft.rejected.append
    {counts} = 0
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


_TAIL = """\
    for category, times in enumerate(({counts})):
        draft.content[category] += times
"""


def fast_path(plan: Plan) -> Fill:
    """The generated function. With ``plan.records`` it takes elements, and needs an ``outer``."""
    root, nested = _tree(plan), bool(plan.records)
    try:
        event = _struct(root, [name for name, _ in plan.content])
    except _Conflict:
        return only_slow
    code = _Code()
    found = {id(node): (node, expression) for node, expression in _objects(code, root, "e")}
    if any(column.withheld == "purpose_refused" for column in plan.columns):
        code.add("refused = False")
    if plan.user_agent:
        _agent(code, [found[id(node)] for node in _places(root, plan.user_agent)], nested)
    for column in plan.columns:
        places = [found[id(node)] for node in _places(root, column.paths)]
        (_withheld if column.withheld else _column)(code, column, places, nested)
    _content(code, plan, nested)
    _verdict(code, plan)
    names = code.names | {
        "decode": msgspec.json.Decoder(event).decode,
        "FAILURES": FAILURES,
        "NULL": NULL,
        "agents": plan.agents,
        "silence": (None,) * len(plan.agents.names),
    }
    # Bound objects become default arguments, so that they are local variables in the loop.
    bound = "".join(f", {name}={name}" for name in names)
    counts = [f"met{index}" for index in range(len(CATEGORIES))]
    head = _HEAD.replace("slow):", f"slow{bound}):").replace("{counts}", " = ".join(counts))
    tail = _TAIL.replace("{counts}", ", ".join(counts))
    text = head + (_OUTER if nested else "") + _EACH + "\n".join(code.lines) + "\n" + tail
    exec(compile(text, "<filter>", "exec"), names)  # noqa: S102 - our own text, see above
    fill: Fill = names["fill"]
    return fill


def only_slow(
    payloads: Iterable[Any], draft: Draft, outer: Outer | None, slow: Callable[[Any], None]
) -> None:
    """Leaves every payload to the tolerant path."""
    for payload in payloads:
        slow(payload)
