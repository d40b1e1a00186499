"""The judge: one generated function that decides what an event becomes.

It takes events as the structs of their plan's shape, whichever decoder filled them. For each column
it takes the first value that is present: the event's own, one derived from a user agent, one of the
context. The kind of the column makes it canonical or refuses it. Then it makes a record, or notes
why there is none. ``collector schema show --code`` prints the generated function.

The source consists of numbers and of names given here; no name or value from a schema is ever part
of it. Only values of exact built-in types are passed on: others could belong to any class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType
from typing import Any, Literal

import msgspec

from collector.contracts import CATEGORIES, Drop, Granted
from collector.filter.decode.mapping import mapping_decoder
from collector.filter.members import FAILURES
from collector.filter.plan import (
    Column,
    Conditions,
    Keys,
    Plan,
    SenderInfo,
    content_code,
    drop_code,
)
from collector.filter.shape import NULL, Node, Shape
from collector.schema.conditions import ClosedList


@dataclass(frozen=True, slots=True, repr=False)
class Context:
    """The values around events, by column: canonical ones in ``values``, or a code in ``drops``.

    ``lent`` marks values of the sender, and ``is_lent`` a user agent of the sender: a record needs
    at least one other value. ``content`` are the categories that are present. The ``document`` (in
    the outermost context, the sender) is inside ``around``. Other plans read it again; ``by_grant``
    has its contexts under them.
    """

    values: tuple[Any, ...]
    drops: tuple[int | None, ...]
    lent: tuple[bool, ...]
    content: frozenset[int] = frozenset()
    agent: Any = None
    is_lent: bool = False
    document: Any = None
    around: Context | None = None
    by_grant: dict[Granted, Context] = field(default_factory=dict)


def sender_context(plan: Plan, sender: SenderInfo | None) -> Context:
    """Return the outermost context: the request's data about its sender, if used."""
    nothing = (None,) * len(plan.columns)
    no = (False,) * len(plan.columns)
    if sender is None:
        return Context(nothing, nothing, no)
    values: list[Any] = [*nothing]
    drops: list[int | None] = [*nothing]
    if sender.peer is not None:
        for column in plan.columns:
            if column.peer:
                value = values[column.index] = column.accept(sender.peer)
                drops[column.index] = column.codes["invalid_value"] if value is None else None
    lent = tuple(value is not None for value in values)
    agent = sender.agent if plan.user_agent else None
    return Context(
        *(tuple(values), tuple(drops), lent),
        agent=agent,
        is_lent=agent is not None,
        document=sender,
    )


Judge = Callable[..., None]
"""``judge(events, records, notes, rejected)``: append records, codes of drops and content
categories, and reasons of rejections. Variants with a context take it as a further argument; those
with a listener call ``tell((sources, values, reasons))`` for each event, with an item for each
column."""

Surround = Callable[[Any, Context, Any], Context]
"""``surround(event, around, document)``: make a context of a document."""

Variant = Literal["events", "records", "told", "context"]
"""Events alone; events in a context; the same with a listener; or documents that become
contexts."""

OUTSIDE, FROM_AGENT, AGENT_OUTSIDE = -1, -2, -3
"""Sources other than paths of the event: its context, its user agent, and the context's user
agent."""


_OFTEN = frozenset("fkmr")
"""First letters of names that every event uses: functions, types, dictionaries and the record."""


class Code:
    """The source of a function, and the objects that it refers to."""

    def __init__(
        self, plan: Plan, shape: Shape, selections: tuple[Conditions, ...], variant: Variant
    ) -> None:
        self._plan = plan
        self._root = int if shape.is_list else str
        self._selections = selections
        self._is_context = variant == "context"
        self._is_within = variant != "events"
        self._is_told = variant == "told"
        self._depth = 1 if self._is_context else 2
        self._lines: list[str] = []
        self._names: dict[str, Any] = {"NULL": NULL, "Raw": msgspec.Raw}
        self._names |= {"convert": msgspec.convert, "FAILURES": FAILURES}
        self._paths: dict[Keys, tuple[Node, str]] = {}
        self._lendable = {c.index for c in plan.columns if c.peer or c.derived is not None}
        self._may_be_refused = any(c.withheld == "purpose_refused" for c in plan.columns)
        self._write(shape)

    def _write(self, shape: Shape) -> None:
        self._open(shape, "e", ())
        if self._selections and not self._is_context:
            tests = " or ".join(f"({self._test(each)})" for each in self._selections)
            self._add(f"if not ({tests}):")
            self._add("rejected.append('not_selected'); continue", 1)
        if self._may_be_refused:
            self._add("is_refused = False")
        if self._plan.user_agent:
            self._agent()
        for column in self._plan.columns:
            self._column(column)
        if self._is_context:
            self._add("content = []")
        for category in range(len(CATEGORIES)):
            self._content(shape, category)
        if self._is_context:
            self._return_context()
        else:
            self._verdict()

    def _add(self, text: str, deeper: int = 0) -> None:
        self._lines.append("    " * (self._depth + deeper) + text)

    def _bind(self, prefix: str, value: Any) -> str:
        name = f"{prefix}{len(self._names)}"
        self._names[name] = value
        return name

    # -- the members of the event ------------------------------------------------------------------

    def _open(self, shape: Shape, variable: str, path: Keys) -> None:
        """Note the expression of each member, and assign the objects among them to variables."""
        for key, node in shape.members.items():
            here = (*path, key)
            self._paths[here] = node, variable
            for attribute, inner in node.shapes:
                name = f"{variable}_{attribute}"
                self._add(f"{name} = {variable}.{attribute}")
                self._add(f"if type({name}) is not {self._bind('k', inner.kind)}:")
                self._read_object(inner, name)
                self._open(inner, name, here)

    def _read_object(self, shape: Shape, name: str) -> None:
        """Write the lines that read an object of a mapping; any other value counts as an empty
        object."""
        kinds = ("list", "tuple") if shape.is_list else ("dict",)
        self._add(f"if {' or '.join(f'type({name}) is {kind}' for kind in kinds)}:", 1)
        read = f"{name} = {self._bind('q', mapping_decoder(shape))}({name})"
        if shape.is_typed:  # calls only if this fails
            self._add("try:", 2)
            self._add(f"{name} = convert({name}, {self._bind('j', shape.loose)})", 3)
            self._add("except FAILURES:", 2)
            self._add(read, 3)
        else:
            self._add(read, 2)
        self._add("else:", 1)
        self._add(f"{name} = {self._bind('n', shape.nothing)}", 2)

    def _member(self, path: Keys, *uses: str) -> str:
        """Return the expression of a member, for the first of these uses that it has."""
        node, variable = self._paths[path]
        return f"{variable}.{next(node.slots[use] for use in uses if use in node.slots)}"

    def _own(self, paths: Sequence[Keys]) -> Iterator[Keys]:
        """Yield the paths whose first key fits events of this shape."""
        return (path for path in paths if type(path[0]) is self._root)

    def _is_present(self, member: str) -> str:
        return f"({member} is not None and (type({member}) is not Raw or {member} != NULL))"

    def _first(self, variable: str, found: Sequence[str]) -> None:
        """Write the lines that take the first of several values that is present."""
        if not found:
            self._add(f"{variable} = None")
        for deeper, expression in enumerate(found):
            self._add(f"{variable} = {expression}", deeper)
            if self._is_told and variable == "v":
                self._add(f"{self._where} = {deeper}", deeper)
            if deeper < len(found) - 1:
                self._add(f"if {variable} is None:", deeper)

    def _test(self, conditions: Conditions) -> str:
        """Return the expression that tests conditions; empty without conditions."""
        return " and ".join(
            self._is_one_of(self._member(path, "value"), listed)
            if type(path[0]) is self._root
            else "False"  # an object has no elements, and a list no names
            for path, listed in conditions
        )

    def _is_one_of(self, member: str, listed: ClosedList) -> str:
        kind = f"type({member})"
        tests = [f"{member} is {flag}" for flag in listed.flags]
        if listed.texts:
            tests.append(f"{kind} is str and {member} in {self._bind('w', listed.texts)}")
        if listed.numbers:
            is_number = f"({kind} is int or {kind} is float)"
            tests.append(f"{is_number} and {member} in {self._bind('w', listed.numbers)}")
        return f"({' or '.join(tests)})"

    # -- the values of columns ---------------------------------------------------------------------

    def _agent(self) -> None:
        """Write the lines that find the user agent and its values."""
        self._first("a", [self._member(path, "value") for path in self._own(self._plan.user_agent)])
        if self._is_within:
            self._add("is_outside = a is None")
            self._add("is_lent = is_outside and around.is_lent")
            self._add("if a is None:")
            self._add("a = around.agent", 1)
        if not self._is_context:
            agents = self._plan.agents
            known = self._bind("g", agents)
            nothing = self._bind("g", (None,) * len(agents.names))
            self._add(f"derived = {known}[a] if type(a) is str else {nothing}")

    def _column(self, column: Column) -> None:
        """Write the lines that find the value of one column and make it canonical: ``c<index>``."""
        i = column.index
        is_lendable = self._is_within and i in self._lendable
        if self._is_context:
            self._add(f"d{i} = None")
        if self._is_told:
            self._add(f"y{i}, w{i} = None, 0")
            self._where = f"w{i}"
        if is_lendable:
            self._add(f"s{i} = False")
        if column.withheld:
            self._withheld(column)
        else:
            self._first("v", list(self._sources(column)))
            if column.derived is not None and not self._is_context:
                self._derive(column)
            self._canonical(column, is_lendable=is_lendable)

    def _sources(self, column: Column) -> Iterator[str]:
        """Yield the expressions of a column's values, each ``None`` if a condition fails."""
        for path, conditions in zip(column.paths, column.conditions, strict=True):
            if type(path[0]) is self._root:
                member = self._member(path, "value", "raw")
                test = self._test(conditions)
                yield f"({member} if {test} else None)" if test else member

    def _derive(self, column: Column) -> None:
        i = column.index
        nowhere = f" and a{i} is None and b{i} is None" if self._is_within else ""
        self._add(f"if v is None{nowhere}:")
        self._add(f"v = derived[{column.derived}]", 1)
        if self._is_within:
            self._add(f"s{i} = is_lent and v is not None", 1)
        if self._is_told:
            self._add(f"w{i} = {AGENT_OUTSIDE} if is_outside else {FROM_AGENT}", 1)

    def _canonical(self, column: Column, *, is_lendable: bool) -> None:
        i, accept = column.index, self._bind("f" if column.memo is None else "g", column.accept)
        wanted = sorted(kind.__name__ for kind in column.wire)
        self._add(f"if {' or '.join(f'type(v) is {kind}' for kind in wanted)}:")
        if column.memo is None:
            self._accept(column, f"c{i} = {accept}(v)", 1)
        else:
            self._add("try:", 1)
            self._add(f"c{i} = {self._bind('m', column.memo.known)}[v]", 2)
            self._add("except KeyError:", 1)  # a new value
            self._accept(column, f"c{i} = {accept}(v)", 2)
        self._add("elif v is None:")
        if self._is_within:
            self._add(f"c{i} = a{i}", 1)
            self._add(f"if b{i} is not None:", 1)
            self._dropped(f"b{i}", 2)
            if self._is_told:
                self._add(f"y{i} = reasons[b{i}]", 2)
            if is_lendable:
                self._add(f"s{i} = around.lent[{i}]", 1)
            if self._is_told:
                self._add(f"if c{i} is not None or b{i} is not None:", 1)
                self._add(f"w{i} = {OUTSIDE}", 2)
        else:
            self._add(f"c{i} = None", 1)
        self._add("else:")
        self._add(f"c{i} = None", 1)
        self._drop(column, "wrong_type", 1)

    def _accept(self, column: Column, statement: str, deeper: int) -> None:
        """Write the lines that call a kind, and count a value that it refuses."""
        self._add(statement, deeper)
        self._add(f"if c{column.index} is None:", deeper)
        self._drop(column, "invalid_value", deeper + 1)

    def _drop(self, column: Column, reason: Drop, deeper: int) -> None:
        code = drop_code(column.index, reason)
        if self._is_context:
            self._add(f"d{column.index} = {code}", deeper)
        else:
            self._dropped(str(code), deeper)
        if self._is_told:
            self._add(f"y{column.index} = {reason!r}", deeper)

    def _dropped(self, code: str, deeper: int) -> None:
        """Write the line that counts a drop; in a context, that keeps the drop of the outer
        context."""
        self._add(f"d{code[1:]} = {code}" if self._is_context else f"notes.append({code})", deeper)

    def _withheld(self, column: Column) -> None:
        """Write the lines that count the presence of a withheld column, without decoding it."""
        i, present = column.index, []
        for path, conditions in zip(column.paths, column.conditions, strict=True):
            if type(path[0]) is self._root:
                test = self._test(conditions)
                found = self._is_present(self._member(path, "value", "raw"))
                present.append(f"({found} and {test})" if test else found)
        present += [f"b{i} is not None"] * self._is_within
        self._add(f"c{i} = None")
        self._add(f"if {' or '.join(present) or 'False'}:")
        self._drop(column, column.withheld or "expired", 1)
        if column.withheld == "purpose_refused":
            self._add("is_refused = True", 1)
        if self._is_told:
            for number, found in reversed(list(enumerate(present))):
                where = OUTSIDE if found.startswith("b") else number
                self._add(f"if {found}: w{i} = {where}", 1)

    # -- content, and the verdict ------------------------------------------------------------------

    def _content(self, shape: Shape, category: int) -> None:
        """Write the lines that count a category of content if one of its names is present."""
        named = [node for node in shape.members.values() if node.category == category]
        members = [f"e.{node.slots['raw']}" for node in named]
        code = content_code(self._plan, category)
        count = f"content.append({category})" if self._is_context else f"notes.append({code})"
        present = list(map(self._is_present, members))
        if self._is_within and self._plan.content:
            present.insert(0, f"o{category}")
        if present:
            self._add(f"if {' or '.join(present)}:")
            self._add(count, 1)

    def _verdict(self) -> None:
        """Write the rule of records and rejections."""
        columns = self._plan.columns
        if self._is_told:
            self._add(f"tell(({self._row('w')}, {self._row('c')}, {self._row('y')}))")
        if required := " or ".join(f"c{c.index} is None" for c in columns if c.required):
            self._add(f"if {required}:")
            self._add("rejected.append('missing_required'); continue", 1)
        lendable = self._lendable if self._is_within else ()
        empty = " and ".join(
            f"(c{c.index} is None or s{c.index})" if c.index in lendable else f"c{c.index} is None"
            for c in columns
        )
        nothing = "'nothing_admitted'"
        if self._may_be_refused:
            nothing = f"'consent_withheld' if is_refused else {nothing}"
        self._add(f"if {empty or 'True'}:")
        self._add(f"rejected.append({nothing}); continue", 1)
        self._add(f"records.append(record({', '.join(f'c{c.index}' for c in columns)}))")

    def _row(self, prefix: str) -> str:
        return f"({''.join(f'{prefix}{c.index}, ' for c in self._plan.columns)})"

    def _return_context(self) -> None:
        lent = "".join(
            f"s{c.index}, " if c.index in self._lendable else "False, " for c in self._plan.columns
        )
        agent = "a, is_lent" if self._plan.user_agent else "None, False"
        self._names["Context"] = Context
        self._add(f"return Context({self._row('c')}, {self._row('d')}, ({lent}),")
        self._add(f"frozenset(content), {agent},", 1)
        self._add("document, around)", 1)

    @property
    def source(self) -> str:
        """The source text of the function."""
        often = (name for name in self._names if name[0] in _OFTEN)
        bound = "".join(f", {name}={name}" for name in ("type", "str", *often))
        head: list[str] = []
        parameters = "events, records, notes, rejected" + ", around" * self._is_within
        parameters += ", tell" * self._is_told
        if self._is_context:
            parameters = "e, around, document"
        if self._is_within:
            for prefix, part in (("a", "values"), ("b", "drops")):
                row = "".join(f"{prefix}{c.index}, " for c in self._plan.columns)
                head.append(f"    {row}= around.{part}" if row else "")
            categories = sorted({category for _, category in self._plan.content})
            head += [f"    o{each} = {each} in around.content" for each in categories]
        if not self._is_context:
            head.append("    for e in events:")
        return "\n".join([f"def judge({parameters}{bound}):", *head, *self._lines, ""])

    @property
    def legend(self) -> Iterator[str]:
        """Comments that say which columns and members the names in the source stand for."""
        for column in self._plan.columns:
            yield f"# c{column.index}: {column.name}"
        for path, (node, variable) in self._paths.items():
            for attribute in dict.fromkeys(node.slots.values()):
                yield f"# {variable}.{attribute}: {' > '.join(map(str, path))}"

    def function(self, record: type[msgspec.Struct]) -> Any:
        """Compile the function. Objects that it uses for every event become default arguments, and
        so local variables; copying the others at each call would take longer."""
        self._names["record"] = record
        if self._is_told:
            self._names["reasons"] = {
                code: reason for c in self._plan.columns for reason, code in c.codes.items()
            }
        names = dict(self._names)
        exec(_compiled(self.source), names)  # noqa: S102 - our own text, see above
        return names["judge"]


@lru_cache(maxsize=64)
def _compiled(text: str) -> CodeType:
    """Compile a function's text, once for all filters with the same text."""
    return compile(text, "<filter>", "exec")
