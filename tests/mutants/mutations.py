"""The mutants of a file, each with one small change.

An annotation outside of a class has no effect, so it has no mutant. Nor is there one of ``zip(…,
strict=True)`` and ``@dataclass(frozen=True)``, which only assert that something never happens, or
of ``if TYPE_CHECKING``. A mutant that Python cannot parse is left out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator
from parso import parse

_OPPOSITES = {
    "Comparison": "Eq_NotEq NotEq_Eq Lt_LtE Lt_GtE LtE_Lt LtE_Gt Gt_GtE Gt_LtE GtE_Gt GtE_Lt"
    " Is_IsNot IsNot_Is",
    "Binary": "Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Mul Mod_Mul Pow_Mul LShift_RShift"
    " RShift_LShift BitAnd_BitOr BitOr_BitAnd BitXor_BitAnd",
    "Unary": "Delete_Not Delete_USub Delete_Invert",
}
"""Of the operators that cosmic-ray puts in place of one, the nearest and the opposite: tests that
find these find the others."""
_NAMES = [
    *(
        f"Replace{kind}Operator_{pair}"
        for kind, pairs in _OPPOSITES.items()
        for pair in pairs.split()
    ),
    *(
        "AddNot NumberReplacer RemoveDecorator ExceptionReplacer ReplaceAndWithOr ReplaceOrWithAnd"
        " ReplaceTrueWithFalse ReplaceFalseWithTrue ReplaceBreakWithContinue"
        " ReplaceContinueWithBreak ZeroIterationForLoop"
    ).split(),
]


class _NegateIn(Operator):  # type: ignore[misc]
    """Replaces ``in`` by ``not in``, and vice versa."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if node.type == "comparison":
            for each in node.children[1::2]:
                if " ".join(each.get_code().split()) in ("in", "not in"):
                    yield each.start_pos, each.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        found = [
            at
            for at, each in enumerate(node.children)
            if at % 2 and " ".join(each.get_code().split()) in ("in", "not in")
        ]
        was = node.children[found[index]].get_code()
        node.children[found[index]] = parse(" in" if "not" in was else " not in")
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class _Delete(Operator):  # type: ignore[misc]
    """Replaces a call, an assignment or a ``raise`` in a function or class by ``pass``. A module's
    own statements stay: without one, it could seldom be imported."""

    kinds: tuple[str, ...] = ("expr_stmt", "atom_expr", "raise_stmt", "del_stmt", "yield_expr")
    instead: str = "pass"

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        is_inner = node.parent is not None and node.parent.type != "file_input"
        if node.type == "simple_stmt" and is_inner and node.children[0].type in self.kinds:
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        prefix = node.get_first_leaf().prefix
        return parse(f"{prefix}{self.instead}\n")

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class _ReturnNothing(_Delete):
    """Returns ``None`` in place of a value, except for ``False``, which is equally false, and for
    ``True``, for which another operator returns ``False``."""

    kinds = ("return_stmt",)
    instead = "return None"

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if node.get_code().strip() not in ("return True", "return False"):
            yield from super().mutation_positions(node)


_OPERATORS: list[Operator] = [
    *(get_operator(f"core/{name}")() for name in _NAMES),
    _NegateIn(),
    _Delete(),
    _ReturnNothing(),
]


Key = tuple[str, str, str, str | None]
_ASSERTIONS = {("zip", "strict"), ("dataclass", "frozen")}


@dataclass(frozen=True)
class Mutant:
    """A file with one change: ``before`` became ``after`` in the function or class ``scope``, in a
    statement with these ``lines``."""

    file: str
    scope: str
    before: str
    after: str
    lines: range
    text: str

    @property
    def key(self) -> Key:
        """The mutant's identity, wherever in the file its scope is."""
        return self.file, self.scope, self.before, self.after


def mutants(file: str, text: str, within: str = "") -> list[Mutant]:
    """Return in order the mutants of a file, or of a function or class in it. If several have equal
    text, the first one is returned."""
    parsed = ast.parse(text)
    statements, unread = [*_statements(parsed)], [*_without_effect(parsed)]
    tree = get_ast(text)
    found: dict[str, Mutant] = {}
    for operator in _OPERATORS:
        for node in [*ast_nodes(tree)]:
            if node.type == "operator" and node.parent.type == "parameters":
                continue  # the `*` before keyword-only parameters
            for index, (start, _) in enumerate([*operator.mutation_positions(node)]):
                changed = _changed(tree, node, operator, index)
                if changed in (None, text) or changed in found or not _can_be_parsed(changed):
                    continue
                if any(first <= start < last for first, last in unread):
                    continue
                lines, scope = _around(statements, start[0])
                before, after = _difference(text, changed)
                found[changed] = Mutant(file, scope, before, after, lines, changed)
    inside = [
        each for each in found.values() if not within or f"{each.scope}.".startswith(f"{within}.")
    ]
    return sorted(inside, key=lambda each: (each.lines.start, each.before, each.after))


def _changed(tree: Any, node: Any, operator: Operator, index: int) -> str | None:
    """Return the text with one mutation of a node, and restore the tree."""
    below = [(each, [*each.children]) for each in ast_nodes(node) if hasattr(each, "children")]
    values = [(each, each.value) for each in ast_nodes(node) if hasattr(each, "value")]
    siblings = node.parent.children if node.parent else []
    before = [*siblings]
    try:
        changed = operator.mutate(node, index)
        siblings[:] = [each for was in before if (each := changed if was is node else was)]
        code: str = tree.get_code()
    except AttributeError:  # cosmic-ray fails on an exception with a dotted name
        return None
    finally:
        siblings[:] = before
        for each, children in below:
            each.children[:] = children
        for each, value in values:
            each.value = value
    return code


def _can_be_parsed(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _without_effect(tree: ast.AST) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield the extents of annotations outside of classes, of assertions that iterables have one
    length or that objects are frozen, and of code for type checkers only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield (node.lineno, node.col_offset), _extent(node.test)[1]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            for word in node.keywords:
                if (node.func.id, word.arg) in _ASSERTIONS:
                    first = word.value.lineno, word.value.col_offset
                    yield first, (first[0], first[1] + 1)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = [getattr(each, "annotation", None) for each in ast.walk(node)]
            declared = (
                each
                for each in ast.walk(node)
                if isinstance(each, ast.AnnAssign) and each.value is None
            )
            for each in (node.returns, *inside, *declared):
                if each is not None:
                    yield _extent(each)
        if isinstance(node, ast.Module):
            yield from (
                _extent(each.annotation) for each in node.body if hasattr(each, "annotation")
            )


def _extent(node: ast.AST) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the start and end of a node."""
    first, end = (
        (getattr(node, f"{of}lineno"), getattr(node, f"{of}col_offset")) for of in ("", "end_")
    )
    return first, end


def _statements(tree: ast.AST, scope: str = "") -> Iterator[tuple[range, str]]:
    """Yield the lines of each statement, and its scope; for a statement with a body, the lines
    before the body."""
    for node in ast.iter_child_nodes(tree):
        inner = scope
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{scope}.{node.name}".lstrip(".")
        if isinstance(node, ast.stmt | ast.excepthandler | ast.match_case):
            body = getattr(node, "body", None)
            first = node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno
            first = min([first, *(each.lineno for each in getattr(node, "decorator_list", ()))])
            end = max(first, body[0].lineno - 1) if body else getattr(node, "end_lineno", first)
            yield range(first, (end or first) + 1), inner
        yield from _statements(node, inner)


def _around(statements: Sequence[tuple[range, str]], line: int) -> tuple[range, str]:
    """Return the shortest statement around a line."""
    around = [each for each in statements if line in each[0]]
    return min(around, key=lambda each: len(each[0]), default=(range(line, line + 1), ""))


def _difference(text: str, changed: str) -> tuple[str, str]:
    """Return the lines that differ, without surrounding space."""
    before, after = text.splitlines(), changed.splitlines()
    while before and after and before[0] == after[0]:
        del before[0], after[0]
    while before and after and before[-1] == after[-1]:
        del before[-1], after[-1]
    return _joined(before), _joined(after)


def _joined(lines: Sequence[str]) -> str:
    return " ".join(each.strip() for each in lines if each.strip())
