"""The fast path: nested msgspec types, and one generated function, for one plan.

The types name only what the plan reads, so that the decoder skips everything else as bytes. Content
names are ``msgspec.Raw`` members: tripwires whose presence is noted and whose value is never
decoded. A payload that the types refuse goes to ``add_tolerantly`` (the tolerant path).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any, NamedTuple, TypedDict

import msgspec

from collector.contracts import CATEGORIES, Drop, Granted
from collector.filter.admission import Admission, AdmissionBuilder
from collector.filter.code import Code, Conflict, Node, nodes_at, plan_tree, struct_type
from collector.filter.compile import MARKS, Column, EventValues, Keys, Plan, drop_code
from collector.filter.mapping import SingleEvent, unsupported
from collector.filter.tolerant import FAILURES, NULL

AddTexts = Callable[
    [Iterable[Any], AdmissionBuilder, "OuterValues | None", Callable[[Any], None]], None
]
"""``add_texts(payloads, builder, outer, add_tolerantly)``: add each payload to the builder."""

AdmitDocument = Callable[[bytes], Admission | None]
"""Admits a valid UTF-8 text that is the only event of its call; ``None`` leaves it to the slow
path."""


@dataclass(frozen=True, slots=True, repr=False)
class OuterValues:
    """Values of the document around a list of records, which each record inherits.

    ``found`` are the values or marks as they were found; ``values`` and ``drops`` are, per column,
    the canonical value and the drop code that result. ``content`` are the categories in the
    document, ``agent`` is its user agent. ``by_grant`` has the values of the same ``document``
    under other plans. An element that holds a list of records is such a document too; the values
    ``around`` it are merged into its own.
    """

    found: tuple[Any, ...]
    values: tuple[Any, ...]
    drops: tuple[int | None, ...]
    content: frozenset[int]
    agent: Any
    document: Any = None
    around: OuterValues | None = None
    by_grant: dict[Granted, OuterValues] = field(default_factory=dict)

    def merge(self, found: EventValues) -> tuple[list[Any], frozenset[int], Any]:
        """Return values, content and user agent of a record, completed by those of the document."""
        pairs = zip(found.values, self.found, strict=True)
        values = [outer if own is None else own for own, outer in pairs]
        agent = self.agent if found.agent is None else found.agent
        return values, found.content | self.content, agent


class _Object(TypedDict):
    """An object none of whose members is decoded."""


class _Array(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A list none of whose elements is decoded."""


_SCALARS: list[Any] = [bool, float, int, str, None]
_ANYTHING: list[Any] = [*_SCALARS, _Object, _Array]
"""The type of a leaf: a value of the wrong type is decoded too, and costs no second decoding."""


def _type_of(node: Node) -> None:
    """Give a node, and all below it, their types and defaults."""
    types: list[Any] = []
    if node.records is not None:
        if node.members or node.readers or node.names_agent or node.is_compared:
            raise Conflict
        types = [list[node.records], None]  # type: ignore[name-defined]
    if node.members:
        for member in node.members.values():
            _type_of(member)
        types.append(struct_type(node, tripwire=msgspec.Raw))
        node.default = types[0]()
    if node.readers or node.names_agent or node.is_compared:
        is_read = node.is_read()
        if not is_read and node.members:
            raise Conflict
        types += (_SCALARS if node.members else _ANYTHING) if is_read else [msgspec.Raw]
        node.default = None
    node.type = types[0] if len(types) == 1 else reduce(or_, types)


def _event_type(root: Node, plan: Plan) -> type[msgspec.Struct]:
    for member in root.members.values():
        _type_of(member)
    return struct_type(root, [name for name, _ in plan.content], msgspec.Raw)


_COUNTS = [f"content{index}" for index in range(len(CATEGORIES))]
_HEAD = f"""\
    record = builder.record
    admit = builder.records.append
    drop = builder.drops.append
    reject = builder.rejected.append
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
            add_tolerantly(payload)
            continue
"""
_ONE = """\
    try:
        e = decode(text)
    except FAILURES:
        return None
    content = drops = ()
"""
_TAIL = f"""\
    for category, times in enumerate(({", ".join(_COUNTS)})):
        builder.content[category] += times
"""


class _Texts(Code):
    """The lines of a loop over JSON texts, which collect in a builder."""

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

    def is_present(self, expression: str) -> str:
        return f"({expression} is not None and {expression} != NULL)"

    def write_content(self, category: int, tripwires: Sequence[str]) -> None:
        """Write the lines; the first tripwire hit decides unless it holds ``null``."""
        self.add(f"x = {' or '.join(tripwires)}")
        others = " or ".join(map(self.is_present, tripwires))
        self.add(f"if {self.content_outside(category)}x is not None and (x != NULL or {others}):")
        self.add(self.count_content(category), 1)

    def count_content(self, category: int) -> str:
        return f"content{category} += 1"

    def content_outside(self, category: int) -> str:
        """Return another condition under which content is present, or nothing."""
        return ""

    def drop(self, column: Column, reason: Drop) -> str:
        return f"drop({drop_code(column.index, reason)})"

    def reject(self, reason: str) -> str:
        return f"reject({reason}); continue"

    def admit(self, values: str) -> str:
        return f"admit(record({values}))"

    def write_canonical(self, column: Column, found: Sequence[tuple[Node, str]]) -> None:
        """Look a decoded value up in the memo before its type is checked.

        A memo refuses values that are not text.
        """
        if column.memo is None or any(node.members for node, _ in found):
            super().write_canonical(column, found)
            return
        value = f"c{column.index}"
        self.add("if v is None:")
        self.write_absent(column, 1)
        self.add("else:")
        self.add("try:", 1)
        self.add(f"{value} = {self.bind('m', column.memo.known)}[v]", 2)
        self.add("except (KeyError, TypeError):", 1)  # not met before, or not hashable
        self.add(f"{value} = {self.bind('f', column.memo)}(v)", 2)
        self.add(f"if {value} is None:", 2)
        self.add(self.drop_either(column), 3)

    def drop_either(self, column: Column) -> str:
        """Return the statement that counts a text as invalid, and all else as a wrong type."""
        invalid, wrong = (
            drop_code(column.index, "invalid_value"),
            drop_code(column.index, "wrong_type"),
        )
        return f"drop({invalid} if type(v) is str else {wrong})"


class _Records(_Texts):
    """The same for records, each of which inherits values of the document around it."""

    head = _HEAD + _OUTER + _EACH

    def write_absent(self, column: Column, deeper: int) -> None:
        i = column.index
        self.add(f"c{i} = outer_values[{i}]", deeper)
        self.add(f"if outer_drops[{i}] is not None:", deeper)
        self.add(f"drop(outer_drops[{i}])", deeper + 1)

    def is_absent(self, column: Column) -> str:
        return f"v is None and outer_found[{column.index}] is None"

    def withheld_outside(self, column: Column) -> str:
        return f" or outer_drops[{column.index}] is not None"

    def content_outside(self, category: int) -> str:
        return f"{category} in outer_content or "

    def write_agent_lookup(self, found: Sequence[tuple[Node, str]]) -> None:
        super().write_agent_lookup(found)
        self.add("if a is None:")
        self.add("a = outer_agent", 1)


class _DecodedRecords(_Records):
    """The same for records that were decoded with their document."""

    head = _HEAD + _OUTER + "    for e in payloads:\n"


class _Around(_Texts):
    """The lines that read a document around records."""

    depth = 1

    def write(self, root: Node) -> None:
        """Write the lines that return the records, and what the document says besides."""
        found = {id(node): (node, expression) for node, expression in self.read(root)}

        def at(paths: Sequence[Keys]) -> list[tuple[Node, str]]:
            return [found[id(node)] for node in nodes_at(root, paths)]

        wrong = self.bind("d", MARKS["wrong_type"])
        for column in self.plan.columns:
            value = f"c{column.index}"
            if column.withheld:
                read = self.sources(column, at)
                present = " or ".join(self.is_present(each) for _, each in read) or "False"
                mark = self.bind("d", MARKS[column.withheld])
                self.add(f"{value} = {mark} if {present} else None")
                continue
            self.write_first(value, self.sources(column, at))
            wire = " or ".join(f"type({value}) is {k.__name__}" for k in column.wire)
            self.add(f"if {value} is not None and not ({wire}):")
            self.add(f"{value} = {wrong}", 1)
        self.add("content = []")
        for category in range(len(CATEGORIES)):
            named = enumerate(self.plan.content)
            tripwires = [f"e.t{n}" for n, (_, of) in named if of == category]
            if tripwires:
                self.write_content(category, tripwires)
        self.write_first("a", at(self.plan.user_agent))
        self.write_first("records", at(self.plan.records[0].paths))
        values = "".join(f"c{column.index}, " for column in self.plan.columns)
        self.add(f"return records, EventValues([{values}], frozenset(content), a, [])")

    def count_content(self, category: int) -> str:
        return f"content.append({category})"


class RecordDocuments(NamedTuple):
    """The fast path of documents around records, which are decoded whole.

    ``read(text)`` returns the records, and the values of the document; it raises what msgspec
    raises. ``add`` is an ``AddTexts`` for these records.
    """

    read: Callable[[Any], tuple[list[Any] | None, EventValues]]
    add: AddTexts


def record_documents(plan: Plan) -> RecordDocuments | None:
    """Generate the functions, if records lie in a list whose path has nothing else on it."""
    first = plan.records[0]
    if first.members or first.below or not first.paths:
        return None
    if not all(type(path[0]) is str for path in first.paths):
        return None
    element, around = plan_tree(plan, first.selection), plan_tree(plan)
    try:
        record = _event_type(element, plan)
        for node in nodes_at(around, first.paths):
            node.records = record
        document = _event_type(around, plan)
    except Conflict:
        return None
    code = _DecodedRecords(plan, first.selection)
    code.names["NULL"] = NULL
    code.write_event(element)
    parameters = "payloads, builder, outer, add_tolerantly"
    add: AddTexts = code.function("add_records", parameters, code.head, _TAIL)
    reader = _Around(plan)
    decode = msgspec.json.Decoder(document).decode
    reader.names |= {"NULL": NULL, "EventValues": EventValues, "decode": decode}
    reader.write(around)
    return RecordDocuments(reader.function("read", "text", "    e = decode(text)\n"), add)


class _Document(SingleEvent, _Texts):
    """The lines for one text that is the only event of its call."""

    depth = 1

    @property
    def more_arguments(self) -> str:
        return ", len(text), granted"

    def drop_either(self, column: Column) -> str:
        invalid = self.drop_of(column, "invalid_value")
        wrong = self.drop_of(column, "wrong_type")
        return f"drops += {invalid} if type(v) is str else {wrong}"


def fast_document(plan: Plan, record: type[msgspec.Struct]) -> AdmitDocument:
    """Generate the function that admits one text, and leaves all that is unusual."""
    root = plan_tree(plan, plan.selection)
    try:
        event = None if plan.records else _event_type(root, plan)
    except Conflict:
        event = None
    if event is None:
        return unsupported
    code = _Document(plan, plan.selection)
    code.bind_outcome(record)
    code.names |= {"decode": msgspec.json.Decoder(event).decode, "NULL": NULL}
    code.write_event(root)
    admit_document: AdmitDocument = code.function("admit_document", "text", _ONE)
    return admit_document


def fast_path(plan: Plan, selection: int | None) -> AddTexts:
    """Generate the function, which adds events that meet a selection. With ``plan.records`` it
    takes elements, and needs an ``outer``."""
    root = plan_tree(plan, selection)
    try:
        event = _event_type(root, plan)
    except Conflict:
        return only_tolerant
    code = (_Records if plan.records else _Texts)(plan, selection)
    code.names |= {"decode": msgspec.json.Decoder(event).decode, "FAILURES": FAILURES, "NULL": NULL}
    code.write_event(root)
    parameters = "payloads, builder, outer, add_tolerantly"
    add_texts: AddTexts = code.function("add_texts", parameters, code.head, _TAIL)
    return add_texts


def only_tolerant(
    payloads: Iterable[Any],
    builder: AdmissionBuilder,
    outer: OuterValues | None,
    add_tolerantly: Callable[[Any], None],
) -> None:
    """Pass every payload to the tolerant path."""
    for payload in payloads:
        add_tolerantly(payload)
