"""Measure the import graph and the names of the package from its syntax trees."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path

__all__ = ["PACKAGE", "ROOT", "House", "lines"]

ROOT = Path(__file__).parents[2]
PACKAGE = "collector"
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def lines(folder: Path) -> int:
    """The lines of all Python files under a folder."""
    return sum(len(path.read_bytes().splitlines()) for path in folder.rglob("*.py"))


@dataclass
class House:
    """The modules below ``root``; a test makes a small one of its own."""

    root: Path = ROOT
    package: str = PACKAGE
    trees: dict[str, ast.Module] = field(default_factory=dict, repr=False)
    packages: set[str] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        for path in sorted((self.root / self.package).rglob("*.py")):
            parts = path.relative_to(self.root).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            self.trees[name] = ast.parse(path.read_text(encoding="utf-8"))
            if path.stem == "__init__":
                self.packages.add(name)

    @cached_property
    def imports(self) -> Mapping[str, set[str]]:
        """The modules that each module imports: anywhere in it, in functions and under
        ``TYPE_CHECKING`` too. A name out of a package that is no module of it is the package's."""
        return {
            module: {target for target in self._targets(nodes) if target != module}
            for module, nodes in self._nodes.items()
        }

    def _targets(self, nodes: Iterable[ast.AST]) -> Iterator[str]:
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module in self.trees:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield inner if inner in self.trees else node.module or ""
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name in self.trees)

    @cached_property
    def cycles(self) -> list[list[str]]:
        """Sets of modules each of which imports, by way of others, all the others."""
        reached = {module: self._reached(module) for module in self.trees}
        groups = {
            frozenset(other for other in reached[module] if module in reached[other])
            for module in self.trees
            if module in reached[module]
        }
        return sorted(sorted(group) for group in groups)

    def _reached(self, module: str) -> set[str]:
        found: set[str] = set()
        queue = [module]
        while queue:
            for target in self.imports[queue.pop()] - found:
                found.add(target)
                queue.append(target)
        return found

    @cached_property
    def twice(self) -> dict[str, list[str]]:
        """Public classes of modules that share a name, with the modules."""
        places: dict[str, list[str]] = {}
        for module, tree in self.trees.items():
            for node in tree.body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places.setdefault(node.name, []).append(module)
        return {name: where for name, where in sorted(places.items()) if len(where) > 1}

    @cached_property
    def single(self) -> dict[str, str]:
        """Modules that exactly one other module imports, with that one.

        Left out are packages (their ``__init__``), and three kinds of leaves: of a command (the
        importer is a module of ``cli``), of the façade (the importer is ``collector/__init__``),
        and of a table (the importer is the ``__init__`` of the package that the module lies in, or
        a module that imports three or more modules of one sub-package, which are its rows).
        """
        importers: dict[str, set[str]] = {}
        for module, targets in self.imports.items():
            for target in targets:
                importers.setdefault(target, set()).add(module)
        alone = {module: next(iter(by)) for module, by in importers.items() if len(by) == 1}
        return {
            module: by
            for module, by in sorted(alone.items())
            if module not in self.packages and not self._is_leaf(module, by, alone)
        }

    def _is_leaf(self, module: str, by: str, alone: Mapping[str, str]) -> bool:
        if by == self.package or by.startswith(f"{self.package}.cli"):
            return True
        home = module.rpartition(".")[0]
        rows = [name for name, one in alone.items() if one == by and name.startswith(f"{home}.")]
        is_table = home not in (by.rpartition(".")[0], by) and len(rows) >= 3
        return by == home or is_table

    @cached_property
    def definitions(self) -> Counter[str]:
        """How often each name is that of a class or a function."""
        kinds = (*_FUNCTIONS, ast.ClassDef)
        return Counter(node.name for node in self._all() if isinstance(node, kinds))

    @cached_property
    def variables(self) -> Counter[str]:
        """How often each name is that of a parameter, or is assigned as a variable or attribute."""
        found: Counter[str] = Counter()
        for node in self._all():
            if isinstance(node, ast.arg):
                found[node.arg] += 1
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found[node.id] += 1
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found[node.attr] += 1
        return found

    @cached_property
    def _nodes(self) -> Mapping[str, list[ast.AST]]:
        return {module: [*ast.walk(tree)] for module, tree in self.trees.items()}

    def _all(self) -> Iterator[ast.AST]:
        return chain.from_iterable(self._nodes.values())

    def rooms(self) -> set[str]:
        """The packages and modules directly below the package."""
        return {name.split(".")[1] for name in self.trees if "." in name} - {"__main__"}

    def first_line(self, module: str) -> str:
        """The first sentence of a module's docstring."""
        text = " ".join((ast.get_docstring(self.trees[module]) or "").split("\n\n")[0].split())
        end = text.find(". ")
        return text if end < 0 else text[: end + 1]
