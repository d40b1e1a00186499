"""The figures of the structure stay within their bounds, and the architecture page shows the walk
that a request really takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.house.figures import ROOT, House
from tests.house.report import Figure, figures, section, text
from tests.house.traced import PHASES, Walk, walk

_PAGE = (ROOT / "docs" / "architecture.md").read_text()
_AGAIN = "run `python -m tests.house --write`"


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """The walk of one request through a real sidecar."""
    return walk(tmp_path_factory.mktemp("walk"))


@pytest.fixture(scope="module")
def house() -> House:
    """The package of this tree."""
    return House()


def small(folder: Path, **sources: str) -> House:
    """A package of such modules; two underscores are a dot."""
    for name, source in {"__init__": "", **sources}.items():
        path = folder / "collector" / f"{name.replace('__', '/') if name[0] != '_' else name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(source)
    return House(folder)


@pytest.mark.long
def test_figures_are_within_their_bounds(house: House, traced: Walk) -> None:
    """A bound is lowered when its figure falls; only that of the modules is raised, by one for
    each part that is added."""
    over = [figure for figure in figures(house, traced) if not figure.is_within]
    assert not over, text(over, names=True)


@pytest.mark.long
def test_the_page_shows_the_walk(house: House, traced: Walk) -> None:
    """Module by module, for each phase, and the shapes."""
    shown = re.search(r"<!-- walk:begin -->\n(.*)\n<!-- walk:end -->", _PAGE, re.DOTALL)
    assert shown is not None
    pairs = zip(_rows(shown[1]), _rows(section(house, traced)), strict=True)
    assert all(one == other for one, other in pairs), _AGAIN


def _rows(markdown: str) -> list[set[tuple[str, str]]]:
    """The names of each part, in any order, as threads work at once."""
    parts = re.split(r"^\*\*", markdown, flags=re.MULTILINE)[1:]
    return [
        set(re.findall(r"^\| `([^`]+)`|`([A-Za-z]+)`[,.]", part, re.MULTILINE)) for part in parts
    ]


@pytest.mark.long
def test_the_walk_is_a_request(traced: Walk) -> None:
    """It begins at a socket, goes through the filter and the spool, and ends in the store."""
    rooms = {phase: {name.split(".")[1] for name in traced.modules[phase]} for phase in PHASES}
    assert {"ingest", "filter", "spool", "ledger"} <= rooms["commit"]
    assert "ingest" in rooms["answer"]
    assert {"spool", "sinks"} <= rooms["store"]
    assert not {"ingest", "schema"} & rooms["store"]
    assert {"bytes", "Request", "Batch"} <= set(traced.shapes)


@pytest.mark.long
def test_the_page_names_every_room(house: House) -> None:
    """A line for each, and none for what is not there."""
    table = _PAGE.partition("<!-- rooms:begin -->")[2].partition("<!-- rooms:end -->")[0]
    named = re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE)
    assert sorted(named) == sorted(house.rooms()), _AGAIN


CYCLES: Mapping[str, dict[str, str]] = {
    "two modules": {"a": "import collector.b", "b": "from collector import a"},
    "for types only": {
        "a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from collector.b import B",
        "b": "import collector.a",
    },
    "in a function": {"a": "def f():\n    from collector.b import B", "b": "import collector.a"},
    "by way of others": {
        "a": "import collector.b",
        "b": "from collector.c import x",
        "c": "import collector.a",
    },
}


@pytest.mark.parametrize("sources", CYCLES.values(), ids=CYCLES)
def test_cycles_are_found(sources: dict[str, str], tmp_path: Path) -> None:
    """Whatever way the import is written, and however long the way round is."""
    modules = [f"collector.{name}" for name in sources]
    assert small(tmp_path, **sources).cycles == [modules]


def test_no_cycle_where_there_is_none(tmp_path: Path) -> None:
    """Several ways to the same module are no way round."""
    house = small(tmp_path, a="import collector.b, collector.c", b="import collector.c", c="")
    assert house.cycles == []


def test_names_defined_twice_are_found(tmp_path: Path) -> None:
    """Of public classes of modules, not of private or nested ones."""
    source = "class One: pass\nclass _Two: pass\nclass Three:\n    class Four: pass"
    house = small(tmp_path, a=source, b="class One: pass\nclass _Two: pass\nclass Four: pass")
    assert house.twice == {"One": ["collector.a", "collector.b"]}


def test_single_importers_are_found(tmp_path: Path) -> None:
    """Leaves of a command, of the façade and of a table aside."""
    house = small(
        tmp_path,
        a="import collector.alone, collector.shared",
        b="import collector.shared",
        alone="",
        shared="",
        cli__command="import collector.leaf",
        leaf="",
        lints__one="",
        lints__two="",
        lints__three="",
        table="from collector.lints import one, two, three",
        room__inner="",
    )
    (tmp_path / "collector" / "room" / "__init__.py").write_text("import collector.room.inner")
    assert house.single == {"collector.alone": "collector.a"}
    assert House(tmp_path).single == house.single


def test_a_bound_that_does_not_hold_is_shown() -> None:
    """And one that can be lowered, and what a figure counts."""
    few = Figure("few", 1, 2, "0", ["a"])
    many = Figure("many", 3, 2, "0", ["b"])
    lines = text([few, many], names=True).splitlines()
    assert lines[1].endswith("bound can be lowered")
    assert lines[3].endswith("TOO MANY")
    assert [lines[2].strip(), lines[4].strip()] == ["a", "b"]
