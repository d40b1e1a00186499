"""The house as it is meant to be: what the import contracts cannot say."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import collector

_ROOT = Path(__file__).parent.parent
_MODULES = sorted((_ROOT / "collector").rglob("*.py"))
_EVERY = sorted(
    path for room in ("collector", "benchmarks", "tests") for path in (_ROOT / room).rglob("*.py")
)
_PARSERS = {"json", "msgspec", "orjson", "pydantic_core", "ruamel", "ruamel.yaml", "yaml", "pickle"}
_WRITERS = {"json", "orjson"}
_WRITES = {"dumps", "OPT_APPEND_NEWLINE", "OPT_SORT_KEYS"}
_DRAWERS = {"util", "utils", "helper", "helpers", "common", "misc", "manager"}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(_ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(path: Path) -> Iterator[tuple[str, str]]:
    """Every import of a module: where from, and which name (empty for the module itself)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def _ids(path: Path) -> str:
    return _name(path)


@pytest.mark.parametrize("path", _MODULES, ids=_ids)
def test_nobody_inside_imports_the_facade(path: Path) -> None:
    """Rooms import rooms; the façade is for users. Its submodules are no part of it."""
    for module, name in _imports(path):
        assert not (module == "collector" and (not name or name in collector.__all__)), name


@pytest.mark.parametrize("path", _MODULES, ids=_ids)
def test_only_the_filter_parses(path: Path) -> None:
    """Outside ``filter`` (events) and ``schema`` (documents), JSON is only ever written."""
    room = _name(path).split(".")[1:2]
    if room in (["filter"], ["schema"]):
        return
    tree = ast.parse(path.read_text())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in _WRITERS
    }
    assert used <= _WRITES
    for module, name in _imports(path):
        assert module not in _PARSERS - _WRITERS, module
        assert module not in _WRITERS or not name, "import it as a whole, so that its use shows"


@pytest.mark.parametrize("path", _EVERY, ids=_ids)
def test_a_module_fits_in_the_head(path: Path) -> None:
    """At most 400 lines, functions under 40 (decorators and docstrings apart), no drawers."""
    text = path.read_text()
    assert text.count("\n") <= 400
    assert not _DRAWERS & set(path.relative_to(_ROOT).with_suffix("").parts)
    if path.is_relative_to(_ROOT / "tests"):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and node.body[1:] else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1
            assert length < 40, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", _EVERY, ids=_ids)
def test_every_module_says_what_it_is(path: Path) -> None:
    """A docstring, unless there is nothing in it."""
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text))


def test_importing_the_package_is_free() -> None:
    """``import collector`` loads none of the libraries behind it."""
    code = (
        "import sys, collector\n"
        "heavy = {'pydantic', 'structlog', 'ruamel', 'msgspec', 'orjson', 'typer', 'hypothesis'}\n"
        "loaded = heavy & {name.partition('.')[0] for name in sys.modules}\n"
        "sys.exit(', '.join(sorted(loaded)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_facade_is_pinned() -> None:
    """What users can import from ``collector``: adding is a decision, removing breaks somebody."""
    assert collector.__all__ == [
        "Admission",
        "Batch",
        "CollectorError",
        "ConfigError",
        "DeliveryError",
        "Filter",
        "InputError",
        "Keyring",
        "Schema",
        "SchemaError",
        "Sink",
        "Store",
        "Tally",
        "load_schema",
    ]
    assert set(collector._WHERE) == set(collector.__all__)
    for name in collector.__all__:
        assert getattr(collector, name).__module__.startswith(collector._WHERE[name])
    with pytest.raises(AttributeError):
        _ = collector.nothing


def test_the_facade_tells_type_checkers_the_same() -> None:
    """The lazy table and the imports for type checkers agree."""
    told = {
        name: module
        for module, name in _imports(_ROOT / "collector" / "__init__.py")
        if module.startswith("collector.")
    }
    assert told == collector._WHERE
