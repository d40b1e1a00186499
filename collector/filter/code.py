"""Write the source of a function that makes a record from an event, straight-line, for one plan.

The source consists of numbers and of names given here; no name or value from a schema is ever part
of it. The two kinds of ``Code`` supply what differs between JSON texts and mappings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType
from typing import Any

import msgspec

from collector.contracts import CATEGORIES, Drop
from collector.filter.compile import Column, Conditions, Keys, Plan
from collector.schema.conditions import ClosedList


class Conflict(Exception):
    """A member that no type has: only slower code reads it.

    It is withheld as a value but read as an object, or read as an object and as a list.
    """


@dataclass(slots=True)
class Node:
    """One member of an event that the plan reads: a value, an object or a list, or either.

    ``attribute`` is its name in the type of its object; ``type`` and ``default`` are those of that
    attribute, at first anything. ``members`` of a list have numbers. Where a list of records lies,
    ``records`` is the type of these.
    """

    attribute: str = ""
    members: dict[str | int, Node] = field(default_factory=dict)
    readers: list[Column] = field(default_factory=list)
    names_agent: bool = False
    is_compared: bool = False
    records: Any = None
    type: Any = Any
    default: Any = None

    def at(self, path: Keys) -> Node:
        """Return the node at the end of a path; make it if it does not exist."""
        node = self
        for key in path:
            inner = Node(f"m{len(node.members)}")
            node = node.members.setdefault(key, inner)
        return node

    @property
    def is_list(self) -> bool:
        """Whether the members are elements of a list. Raises ``Conflict`` if only some are."""
        kinds = set(map(type, self.members))
        if len(kinds) > 1:
            raise Conflict
        return int in kinds

    def is_read(self) -> bool:
        """Return whether some value here is not withheld."""
        return (
            self.names_agent
            or self.is_compared
            or any(column.withheld is None for column in self.readers)
        )


def nodes_at(root: Node, paths: Iterable[Keys]) -> list[Node]:
    """Return the nodes of paths in an object.

    Paths that begin in a list are left to slower code, because an event that is a list has none of
    these types.
    """
    return [root.at(path) for path in paths if type(path[0]) is str]


def plan_tree(plan: Plan, selection: int | None = None) -> Node:
    """Build the tree of a plan, with the members that a selection looks at; its root is the
    event."""
    root = Node()
    for node in nodes_at(root, [path for path, _ in plan.conditions_of(selection)]):
        node.is_compared = True
    for column in plan.columns:
        for node in nodes_at(root, column.paths):
            node.readers.append(column)
        for conditions in column.conditions:
            for node in nodes_at(root, [path for path, _ in conditions]):
                node.is_compared = True
    for node in nodes_at(root, plan.user_agent):
        node.names_agent = True
    return root


def struct_type(
    node: Node, content: Iterable[str] = (), tripwire: Any = Any
) -> type[msgspec.Struct]:
    """Make the type of an object: its members, and content names as tripwires ``t<number>``; or
    that of a list.

    ``tripwire`` is the type of what is not decoded: of tripwires, and of elements of a list before
    one that is read. Everything else is skipped.
    """
    if node.is_list:
        return _list_type(node, tripwire)
    members = {member.attribute: str(key) for key, member in node.members.items()}
    tripwires = {f"t{number}": name for number, name in enumerate(content)}
    fields = [(member.attribute, member.type, member.default) for member in node.members.values()]
    return msgspec.defstruct(
        "Event",
        [*fields, *((attribute, tripwire, None) for attribute in tripwires)],
        rename=members | tripwires,
        frozen=True,
        gc=False,
    )


def _list_type(node: Node, unread: Any) -> type[msgspec.Struct]:
    """Make the type of a list, as long as the elements that are read."""
    elements: list[tuple[str, Any, Any]] = []
    for number in range(1 + max(map(int, node.members))):
        member = node.members.get(number)
        if member is None:
            elements.append((f"u{number}", unread, None))
        else:
            elements.append((member.attribute, member.type, member.default))
    return msgspec.defstruct("Event", elements, array_like=True, frozen=True, gc=False)


_At = Callable[[Sequence[Keys]], list[tuple[Node, str]]]
"""Return the nodes of paths, with their expressions."""
_NOTHING_ADMITTED = "'nothing_admitted'"


@lru_cache(maxsize=64)
def _compiled(text: str) -> CodeType:
    """Compile a function's text, once for filters that are alike."""
    return compile(text, "<filter>", "exec")


class Code(ABC):
    """The lines of a function, and the objects that it refers to.

    The event is ``e``, already read into the types of its tree; ``c<index>`` becomes the canonical
    value of a column.
    """

    depth = 1

    def __init__(self, plan: Plan, selection: int | None = None) -> None:
        self.plan = plan
        self.selection: int | None = selection
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            "agents": plan.agents,
            "no_agent": (None,) * len(plan.agents.names),
        }

    def add(self, text: str, deeper: int = 0) -> None:
        """Add one line."""
        self.lines.append("    " * (self.depth + deeper) + text)

    def bind(self, prefix: str, value: Any) -> str:
        """Bind an object to a new name, and return the name."""
        name = f"{prefix}{len(self.names)}"
        self.names[name] = value
        return name

    def function(self, name: str, parameters: str, before: str, after: str = "") -> Any:
        """Compile the function.

        Bound objects become default arguments, so that they are local variables in it.
        """
        bound = "".join(f", {name}={name}" for name in self.names)
        text = f"def {name}({parameters}{bound}):\n{before}" + "\n".join(self.lines) + f"\n{after}"
        names = dict(self.names)
        exec(_compiled(text), names)  # noqa: S102 - our own text, see above
        return names[name]

    @abstractmethod
    def read(self, root: Node) -> Iterable[tuple[Node, str]]:
        """Yield every node with its expression; write lines that put objects into variables."""

    @abstractmethod
    def is_present(self, expression: str) -> str:
        """Return the condition that a member is present and not ``null``."""

    @abstractmethod
    def write_content(self, category: int, tripwires: Sequence[str]) -> None:
        """Write the lines that count a category of content if one of its tripwires is hit."""

    @abstractmethod
    def count_content(self, category: int) -> str:
        """Return the statement that counts a category of content."""

    @abstractmethod
    def drop(self, column: Column, reason: Drop) -> str:
        """Return the statement that counts a dropped field."""

    @abstractmethod
    def reject(self, reason: str) -> str:
        """Return the statement that counts a rejected event and ends its processing."""

    @abstractmethod
    def admit(self, values: str) -> str:
        """Return the statement that makes a record of its values and ends its processing."""

    def write_absent(self, column: Column, deeper: int) -> None:
        """Write the lines for a column for which the event holds nothing."""
        self.add(f"c{column.index} = None", deeper)

    def is_absent(self, column: Column) -> str:
        """Return the condition that nothing is found for a column, except what may be derived."""
        return "v is None"

    def withheld_outside(self, column: Column) -> str:
        """Return another condition under which a withheld column is present, or nothing."""
        return ""

    def write_event(self, root: Node) -> None:
        """Write the lines from an event to its record."""
        found = {id(node): (node, expression) for node, expression in self.read(root)}

        def at(paths: Sequence[Keys]) -> list[tuple[Node, str]]:
            return [found[id(node)] for node in nodes_at(root, paths)]

        self._write_selection(at)
        if self._may_be_refused():
            self.add("is_refused = False")
        if self.plan.user_agent:
            self._write_agent(at(self.plan.user_agent))
        for column in self.plan.columns:
            write = self._write_withheld if column.withheld else self._write_column
            write(column, self.sources(column, at))
        for category in range(len(CATEGORIES)):
            named = enumerate(self.plan.content)
            tripwires = [f"e.t{n}" for n, (_, of) in named if of == category]
            if tripwires:
                self.write_content(category, tripwires)
        self._write_verdict()

    def sources(self, column: Column, at: _At) -> list[tuple[Node, str]]:
        """Return the nodes of a column, each with the expression of its value, which is ``None``
        where a condition fails."""
        pairs = zip(column.paths, column.conditions, strict=True)
        found: list[tuple[Node, str]] = []
        for path, conditions in pairs:
            for node, expression in at([path]):
                test = self._test(conditions, at)
                counts = f"({expression} if {test} else None)"
                found.append((node, counts if test else expression))
        return found

    def _test(self, conditions: Conditions, at: _At) -> str:
        """Return the condition that members have their values; nothing if there are none."""
        pairs = ((member, listed) for each, listed in conditions for _, member in at([each]))
        return " and ".join(self._is_one_of(member, listed) for member, listed in pairs)

    def _write_selection(self, at: _At) -> None:
        """Write the lines that reject an event which does not meet the selection."""
        if test := self._test(self.plan.conditions_of(self.selection), at):
            self.add(f"if not ({test}):")
            self.add(self.reject("'not_selected'"), 1)

    def _is_one_of(self, expression: str, listed: ClosedList) -> str:
        """Return the condition that a value is one of these; only exact types are compared."""
        kind = f"type({expression})"
        tests = [f"{expression} is {flag}" for flag in listed.flags]
        if listed.texts:
            tests.append(f"{kind} is str and {expression} in {self.bind('w', listed.texts)}")
        if listed.numbers:
            is_number = f"({kind} is int or {kind} is float)"
            tests.append(f"{is_number} and {expression} in {self.bind('w', listed.numbers)}")
        return f"({' or '.join(tests)})"

    def write_first(self, variable: str, found: Sequence[tuple[Node, str]]) -> None:
        """Write the lines that take the first of several values that is present.

        Later ones are read only if the earlier ones are absent.
        """
        if not found:
            self.add(f"{variable} = None")
        for deeper, (_, expression) in enumerate(found):
            self.add(f"{variable} = {expression}", deeper)
            if deeper < len(found) - 1:
                self.add(f"if {variable} is None:", deeper)

    def _write_column(self, column: Column, found: Sequence[tuple[Node, str]]) -> None:
        """Write the lines that find the value of one column and make it canonical."""
        self.write_first("v", found)
        if column.derived is not None:
            self.add(f"if {self.is_absent(column)}:")
            self.add(f"v = agent_values[{column.derived}]", 1)
        self.write_canonical(column, found)

    def write_canonical(self, column: Column, found: Sequence[tuple[Node, str]]) -> None:
        """Write the lines that make ``v`` canonical.

        Only a value of an exact built-in type is passed on: another could be of any class.
        """
        value, accept = f"c{column.index}", self.bind("f", column.accept)
        wanted = sorted(kind.__name__ for kind in column.wire)
        self.add(f"if {' or '.join(f'type(v) is {kind}' for kind in wanted)}:")
        if column.memo is None:
            self.accept(column, f"{value} = {accept}(v)", 1)
        else:
            self.add("try:", 1)
            self.add(f"{value} = {self.bind('m', column.memo.known)}[v]", 2)
            self.add("except KeyError:", 1)  # not met before
            self.accept(column, f"{value} = {accept}(v)", 2)
        self.add("elif v is None:")
        self.write_absent(column, 1)
        self.add("else:")
        self.add(f"{value} = None", 1)
        self.add(self.drop(column, "wrong_type"), 1)

    def accept(self, column: Column, statement: str, deeper: int) -> None:
        """Write the lines that call a kind, and count a value that it refuses."""
        self.add(statement, deeper)
        self.add(f"if c{column.index} is None:", deeper)
        self.add(self.drop(column, "invalid_value"), deeper + 1)

    def _write_withheld(self, column: Column, found: Sequence[tuple[Node, str]]) -> None:
        """Write the lines that count the presence of a withheld column, without decoding it."""
        present = " or ".join(self.is_present(expression) for _, expression in found) or "False"
        self.add(f"c{column.index} = None")
        self.add(f"if {present}{self.withheld_outside(column)}:")
        self.add(self.drop(column, column.withheld or "expired"), 1)
        if column.withheld == "purpose_refused":
            self.add("is_refused = True", 1)

    def _write_agent(self, found: Sequence[tuple[Node, str]]) -> None:
        """Write the lines that evaluate the user agent: the first member that is present."""
        self.write_agent_lookup(found)
        self.add("agent_values = agents[a] if type(a) is str else no_agent")

    def write_agent_lookup(self, found: Sequence[tuple[Node, str]]) -> None:
        """Write the lines that look for the user agent."""
        self.write_first("a", found)

    def _write_verdict(self) -> None:
        """Write the rule of ``Plan.rejection``, and the record."""
        columns = self.plan.columns
        required = " or ".join(f"c{column.index} is None" for column in columns if column.required)
        if required:
            self.add(f"if {required}:")
            self.add(self.reject("'missing_required'"), 1)
        empty = " and ".join(f"c{column.index} is None" for column in columns)
        no_value = f"'consent_withheld' if is_refused else {_NOTHING_ADMITTED}"
        self.add(f"if {empty}:")
        self.add(self.reject(no_value if self._may_be_refused() else _NOTHING_ADMITTED), 1)
        self.add(self.admit(", ".join(f"c{column.index}" for column in columns)))

    def _may_be_refused(self) -> bool:
        return any(column.withheld == "purpose_refused" for column in self.plan.columns)
