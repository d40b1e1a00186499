"""The text of a function that makes a record of an event, straight-line, for one plan.

It is made of numbers and of names given here; no name or value from a schema is ever part of it.
What differs between JSON texts and mappings is left to the two kinds of ``Code``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from collector.contracts import CATEGORIES, Drop
from collector.filter.compile import Column, Keys, Plan
from collector.filter.tree import Node, places

__all__ = ["Code"]

_NO_RECORD = "'nothing_admitted'"


class Code(ABC):
    """The lines of a function, and the objects that it refers to.

    The event is ``e``, already read into the types of its tree; ``c<index>`` becomes the canonical
    value of a column.
    """

    depth = 1

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            "agents": plan.agents,
            "silence": (None,) * len(plan.agents.names),
        }

    def add(self, text: str, deeper: int = 0) -> None:
        """One more line."""
        self.lines.append("    " * (self.depth + deeper) + text)

    def bind(self, prefix: str, value: Any) -> str:
        """A name for an object."""
        name = f"{prefix}{len(self.names)}"
        self.names[name] = value
        return name

    def function(self, name: str, parameters: str, before: str, after: str = "") -> Any:
        """The function itself. Bound objects become default arguments, so that they are local
        variables in it."""
        bound = "".join(f", {name}={name}" for name in self.names)
        text = f"def {name}({parameters}{bound}):\n{before}" + "\n".join(self.lines) + f"\n{after}"
        names = dict(self.names)
        exec(compile(text, "<filter>", "exec"), names)  # noqa: S102 - our own text, see above
        return names[name]

    @abstractmethod
    def read(self, root: Node) -> Iterable[tuple[Node, str]]:
        """Every node with the expression that reads it; the lines put objects into variables."""

    @abstractmethod
    def there(self, expression: str) -> str:
        """The condition that a member is there and not ``null``."""

    @abstractmethod
    def met(self, category: int, tripwires: Sequence[str]) -> None:
        """The lines that count a category of content, if one of its tripwires is hit."""

    @abstractmethod
    def drop(self, column: Column, reason: Drop) -> str:
        """The statement that counts a dropped field."""

    @abstractmethod
    def reject(self, reason: str) -> str:
        """The statement that counts a rejected event and is done with it."""

    @abstractmethod
    def admit(self, values: str) -> str:
        """The statement that makes a record of its values and is done with it."""

    def absent(self, column: Column, deeper: int) -> None:
        """The lines for a column for which the event holds nothing."""
        self.add(f"c{column.index} = None", deeper)

    def is_absent(self, column: Column) -> str:
        """The condition that nothing is found for a column, except what may be derived."""
        return "v is None"

    def held_outside(self, column: Column) -> str:
        """Another condition under which a withheld column is there, or nothing."""
        return ""

    def write(self, root: Node) -> None:
        """The lines from an event to its record."""
        found = {id(node): (node, expression) for node, expression in self.read(root)}

        def at(paths: Sequence[Keys]) -> list[tuple[Node, str]]:
            return [found[id(node)] for node in places(root, paths)]

        if self._may_be_refused():
            self.add("refused = False")
        if self.plan.user_agent:
            self._agent(at(self.plan.user_agent))
        for column in self.plan.columns:
            (self._withheld if column.withheld else self._column)(column, at(column.paths))
        for category in range(len(CATEGORIES)):
            named = enumerate(self.plan.content)
            self.met(category, [f"e.t{n}" for n, (_, of) in named if of == category])
        self._verdict()

    def first(self, variable: str, found: Sequence[tuple[Node, str]]) -> None:
        """The lines that take the first of several values; others are only asked where it is
        not."""
        if not found:
            self.add(f"{variable} = None")
        for deeper, (_, expression) in enumerate(found):
            self.add(f"{variable} = {expression}", deeper)
            if deeper < len(found) - 1:
                self.add(f"if {variable} is None:", deeper)

    def _column(self, column: Column, found: Sequence[tuple[Node, str]]) -> None:
        """The lines that find one column's value and make it canonical."""
        self.first("v", found)
        if column.derived is not None:
            self.add(f"if {self.is_absent(column)}:")
            self.add(f"v = said[{column.derived}]", 1)
        self.settle(column, found)

    def settle(self, column: Column, found: Sequence[tuple[Node, str]]) -> None:
        """The lines that make ``v`` canonical. Only a value of an exact built-in type is asked
        anything: another could be of any class."""
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
        self.absent(column, 1)
        self.add("else:")
        self.add(f"{value} = None", 1)
        self.add(self.drop(column, "wrong_type"), 1)

    def accept(self, column: Column, statement: str, deeper: int) -> None:
        """The lines that ask a kind, and count what it refuses."""
        self.add(statement, deeper)
        self.add(f"if c{column.index} is None:", deeper)
        self.add(self.drop(column, "invalid_value"), deeper + 1)

    def _withheld(self, column: Column, found: Sequence[tuple[Node, str]]) -> None:
        """The lines that count a withheld column's presence, without having decoded it."""
        there = " or ".join(self.there(expression) for _, expression in found)
        self.add(f"c{column.index} = None")
        self.add(f"if {there}{self.held_outside(column)}:")
        self.add(self.drop(column, column.withheld or "expired"), 1)
        if column.withheld == "purpose_refused":
            self.add("refused = True", 1)

    def _agent(self, found: Sequence[tuple[Node, str]]) -> None:
        """The lines that ask the user agent, which the first member that is there decides."""
        self.find_agent(found)
        self.add("said = agents[a] if type(a) is str else silence")

    def find_agent(self, found: Sequence[tuple[Node, str]]) -> None:
        """The lines that look for the user agent."""
        self.first("a", found)

    def _verdict(self) -> None:
        columns = self.plan.columns
        required = " or ".join(f"c{column.index} is None" for column in columns if column.required)
        if required:
            self.add(f"if {required}:")
            self.add(self.reject("'missing_required'"), 1)
        nothing = " and ".join(f"c{column.index} is None" for column in columns)
        refused = f"'consent_withheld' if refused else {_NO_RECORD}"
        self.add(f"if {nothing}:")
        self.add(self.reject(refused if self._may_be_refused() else _NO_RECORD), 1)
        self.add(self.admit(", ".join(f"c{column.index}" for column in columns)))

    def _may_be_refused(self) -> bool:
        return any(column.withheld == "purpose_refused" for column in self.plan.columns)
