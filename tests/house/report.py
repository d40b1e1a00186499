"""Put the figures together: each with the most that it may be, and what it is to become."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator
from typing import NamedTuple

from tests.house.figures import PACKAGE, ROOT, House, lines
from tests.house.renamed import left_modules, left_names, left_variables
from tests.house.traced import COMMIT, STORE, Walk

__all__ = ["Figure", "figures", "rooms", "section", "text"]

_TITLES = {
    "commit": "From the socket to the commit",
    "answer": "From the commit to the answer",
    "store": "From the spool into the store",
}


class Figure(NamedTuple):
    """One figure. ``most`` is the bound that a test asserts, which is lowered when the figure
    falls; ``None`` is no bound. ``target`` is what it is to become; ``names`` are what it counts.
    """

    title: str
    value: int
    most: int | None
    target: str
    names: Collection[str] = ()

    @property
    def is_within(self) -> bool:
        """Whether the bound holds."""
        return self.most is None or self.value <= self.most

    @property
    def can_be_lowered(self) -> bool:
        """Whether the bound is above the figure."""
        return self.most is not None and self.value < self.most


def figures(house: House, walk: Walk) -> Iterator[Figure]:
    """All figures, those of the source first."""
    cycles = [" ".join(cycle) for cycle in house.cycles]
    single = [f"{module} (by {importer})" for module, importer in house.single.items()]
    yield Figure("import cycles", len(cycles), 0, "0", cycles)
    twice = [f"{name} ({', '.join(modules)})" for name, modules in house.twice.items()]
    yield Figure("class names defined twice", len(twice), 1, "3", twice)
    yield Figure("modules with a single importer", len(single), 14, "20", single)
    yield Figure("modules", len(house.trees), 320, "about 200")
    names, variables = left_names(house), left_variables(house)
    modules = left_modules(house)
    yield Figure("modules with a name that was given up", len(modules), 0, "0", modules)
    yield Figure("such classes and functions", sum(names.values()), 0, "0", _counted(names))
    yield Figure("such variables", sum(variables.values()), 0, "0", _counted(variables))
    yield Figure("lines of the package", lines(ROOT / "collector"), None, "below 34,700")
    yield Figure("lines of tests", lines(ROOT / "tests"), None, "below 44,000")
    size = (ROOT / "README.md").stat().st_size
    yield Figure("bytes of the README", size, 9000, "9,000")
    commit, store = walk.modules[COMMIT], walk.modules[STORE]
    yield Figure("modules that run for a request, to its commit", len(commit), 22, "22", commit)
    yield Figure("modules that run from the spool to the store", len(store), 8, "8", store)
    yield Figure("shapes of a payload", len(walk.shapes), 7, "7", walk.shapes)


def _counted(names: dict[str, int]) -> list[str]:
    return [f"{name} ({number})" for name, number in names.items()]


def text(found: Collection[Figure], *, names: bool) -> str:
    """The figures as a table; with ``names``, what each of them counts."""
    rows = []
    for each in found:
        most = "" if each.most is None else f"{each.most:,}"
        note = " bound can be lowered" if each.can_be_lowered else ""
        note = note if each.is_within else " TOO MANY"
        rows.append(f"{each.title:48}{each.value:>8,}{most:>8}{each.target:>14} {note}".rstrip())
        if names:
            rows += [f"    {name}" for name in each.names]
    return "\n".join([f"{'':48}{'now':>8}{'at most':>8}{'target':>14}", *rows])


def rooms(house: House) -> str:
    """A line for each room in Markdown, from the top layer of the import contract to the lowest."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = contracts["contracts"][0]["layers"]
    order = [name for layer in layers for name in re.findall(r"\w+", layer)]
    found = sorted(house.rooms(), key=lambda room: (order.index(room), room))
    rows = [f"| `{room}` | {house.first_line(f'{PACKAGE}.{room}')} |" for room in found]
    return "\n".join(["| room | is |", "| --- | --- |", *rows]).replace("``", "`")


def section(house: House, walk: Walk) -> str:
    """The walk and the shapes in Markdown, as docs/architecture.md has them."""
    parts = []
    for phase, modules in walk.modules.items():
        rows = [f"| `{_short(module)}` | {house.first_line(module)} |" for module in modules]
        head = [f"**{_TITLES[phase]}: {len(modules)} modules**", "", "| module | is |"]
        parts.append("\n".join([*head, "| --- | --- |", *rows]))
    shapes = ", ".join(f"`{shape}`" for shape in walk.shapes)
    parts.append(f"**Shapes of the payload: {len(walk.shapes)}**\n\n{shapes}.")
    return "\n\n".join(parts).replace("``", "`")


def _short(module: str) -> str:
    return module.partition(".")[2]
