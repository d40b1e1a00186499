"""What import-linter cannot check: the façade, who may parse, import cycles, dependencies.

Each rule is a function from a module's syntax tree to its breaches, and is shown to find one.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest

import collector
from collector.ledger.export import auditor_script
from tests.support.programs import STRICT, script
from tests.support.rows import for_each

ROOT = Path(collector.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
Rule = Callable[[str, ast.Module], Iterator[str]]


def breaches(rule: Rule) -> list[str]:
    """Every breach of a rule, with its place."""
    return [
        f"{name}: {breach}"
        for name, path in MODULES.items()
        for breach in rule(name, ast.parse(path.read_text(encoding="utf-8")))
    ]


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph("collector", cache_dir=None)


def planted(rule: Rule, source: str, name: str = "collector.sinks.planted") -> bool:
    """Whether a rule finds a breach in a module of that source."""
    return bool(list(rule(name, ast.parse(source))))


def room(module: str) -> str:
    """The room of the house that a module lies in."""
    return module.partition(".")[2].partition(".")[0]


# -- the façade -----------------------------------------------------------------------------------


@pytest.mark.long
def test_no_room_uses_the_facade() -> None:
    """The façade is for users: it imports the rooms, and no room imports it."""
    assert _graph().find_modules_that_directly_import("collector") == set()


# -- the parsers ----------------------------------------------------------------------------------

PARSING_ROOMS = ("filter", "documents", "schema", "recording")
"""Events are parsed in the first, documents of the operator in the second, the values of schemas in
the third. The fourth reads what its own API, its manifests and its tokens are made of; telemetry
never imports it."""

CHANNEL = ("collector.server.channel", "collector.server.messages")
"""What a keeper and its workers say to one another: numbers and minimised records, no event."""

CONTROL = ("collector.server.control", "collector.server.control_client", "collector.cli.health")
"""It reads commands of the operator, each of a closed form, and answers of the sidecar."""

FILES = ("collector.arrow.process", "collector.arrow.reader")
"""Questions to the process that reads Parquet files, and its answers: each of a closed type."""

ANSWERS = "collector.sinks.otlp.logs"
"""It writes OTLP's messages, and reads two numbers of what a receiver answers."""

MESSAGE = "collector.brokers.message"
"""It reads the header of a message that another Collector wrote: seven members, each bounded."""

AUDITOR = "collector.ledger.auditor"
"""The verifier of ledgers, also a script for other machines: there it reads an export."""

VERDICTS = "collector.claims.verdicts"
"""It reads the verdicts that it wrote itself, into a closed form."""

FEED = "collector.dev.feed"
"""It reads the samples beside a schema, which it sends to the sidecar of `collector dev`."""

PARSERS = frozenset(
    """
    ast cbor2 configparser google marshal msgpack msgspec opentelemetry.proto pickle
    plistlib rapidjson ruamel shelve simdjson tomllib ujson xml yaml
    """.split()
)
WRITERS = ("csv", "html", "json", "orjson")
"""Modules that both read and write: outside the parsing rooms they only write."""

READS = frozenset(
    """
    FromString JSONDecoder MergeFromString ParseFromString TypeAdapter from_json literal_eval
    model_validate model_validate_json model_validate_strings parse_obj parse_raw raw_decode
    validate_json validate_python validate_strings
    """.split()
)
READS_BUILT_IN = frozenset({"eval", "exec", "compile", "__import__"})


def parses(module: str, tree: ast.Module) -> Iterator[str]:
    """A parser, or the reading half of a module that writes too."""
    if room(module) in PARSING_ROOMS or module in (
        ANSWERS,
        AUDITOR,
        FEED,
        MESSAGE,
        VERDICTS,
        *CONTROL,
        *CHANNEL,
        *FILES,
    ):
        return
    for node in ast.walk(tree):
        if any(reads(node) for reads in (_imports, _imports_from, _uses, _calls)):
            yield f"line {getattr(node, 'lineno', 0)} reads documents"


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _imports(node: ast.AST) -> bool:
    """A parser, or a writer under a name by which its use would not be seen."""
    return isinstance(node, ast.Import) and any(
        _is_parser(alias.name) or (_top(alias.name) in WRITERS and alias.asname is not None)
        for alias in node.names
    )


def _imports_from(node: ast.AST) -> bool:
    if not isinstance(node, ast.ImportFrom):
        return False
    names, top = {alias.name for alias in node.names}, _top(node.module or "")
    is_parser = _is_parser(node.module or "")
    return is_parser or bool(names & READS) or (top in WRITERS and any(map(_reads, names)))


def _uses(node: ast.AST) -> bool:
    if not isinstance(node, ast.Attribute):
        return False
    return node.attr in READS or (_last_name(node.value) in WRITERS and _reads(node.attr))


def _calls(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return False
    hidden = node.func.id == "getattr" and _last_name(node.args[0]) in WRITERS
    return hidden or node.func.id in READS_BUILT_IN


def _is_parser(module: str) -> bool:
    """Whether a module is one of them, or lies in one."""
    parts = module.split(".")
    return any(".".join(parts[:end]) in PARSERS for end in range(1, len(parts) + 1))


def _top(module: str) -> str:
    return module.partition(".")[0]


def _reads(name: str) -> bool:
    writes = ("dump", "OPT_", "JSONEncode", "Fragment", "escape", "writer", "DictWriter")
    return not name.startswith(writes)


@pytest.mark.long
def test_few_rooms_parse() -> None:
    """Outside of these rooms nothing reads a document: what is not parsed there cannot
    be logged, routed or kept."""
    assert breaches(parses) == []


@for_each(
    "source",
    [
        "import msgspec",
        "import msgspec.json",
        "from msgspec.json import decode",
        "import json as j",
        "import json\njson.loads(b'')",
        "import json\njson.load(handle)",
        "import json\nread = json.loads",
        "import json\njson.JSONDecoder()",
        "import json\ngetattr(json, 'loads')",
        "import orjson\norjson.loads(b'')",
        "from orjson import loads",
        "from json import dumps, loads",
        "from json.decoder import JSONDecoder",
        "import csv\ncsv.reader(handle)",
        "from csv import DictReader",
        "import html\nhtml.unescape('')",
        "import html.parser\nhtml.parser.HTMLParser()",
        "from html.parser import HTMLParser",
        "import pickle",
        "import ruamel.yaml",
        "from ruamel.yaml import YAML",
        "import xml.etree.ElementTree as ET",
        "Schema.model_validate_json(b'')",
        "from pydantic import TypeAdapter",
        "import pydantic\npydantic.TypeAdapter(int)",
        "adapter.validate_python({})",
        "from pydantic_core import from_json",
        "request.ParseFromString(b'')",
        "import ast\nast.literal_eval('')",
        "eval('1')",
        "def f():\n    exec('1')",
    ],
)
def test_the_parser_rule_finds(source: str) -> None:
    """Every way to read a document is found, in every room but the two."""
    for name in ("collector.sinks.a", "collector.cli.b", "collector.contracts", "collector.new.c"):
        assert planted(parses, source, name)
    assert not planted(parses, source, "collector.filter.a")
    assert not planted(parses, source, "collector.schema.kinds.b")


def test_the_parser_rule_allows() -> None:
    """Writing is no reading."""
    for source in (
        "import json\njson.dumps({})",
        "import orjson\norjson.dumps({}, option=orjson.OPT_SORT_KEYS)",
        "import csv\ncsv.writer(handle)\ncsv.DictWriter(handle, [])",
        "import html\nhtml.escape('')",
        "import re\nre.compile('a')",
        "from pydantic import BaseModel",
    ):
        assert not planted(parses, source), source


@pytest.mark.long
def test_the_auditor_stands_alone() -> None:
    """The script imports nothing of ours."""
    script = auditor_script()
    assert "import collector" not in script
    assert "from collector" not in script


# -- the import graph and its modules -------------------------------------------------------------


@pytest.mark.long
def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports in functions and under ``TYPE_CHECKING`` count too."""
    graph = _graph()
    imports = {
        name: graph.find_modules_directly_imported_by(name) - {name} for name in graph.modules
    }
    TopologicalSorter(imports).prepare()  # raises CycleError, which names a circle


# -- what users see -------------------------------------------------------------------------------

PUBLIC = [
    "Account",
    "Admission",
    "Batch",
    "Collector",
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


def test_public_names() -> None:
    """The public names change on purpose only."""
    assert collector.__all__ == PUBLIC
    assert dir(collector) == sorted([*PUBLIC, "__version__"])


def declared() -> dict[str, str]:
    """The façade's imports for type checkers: name and module."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    found: dict[str, str] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, "re-exported by an explicit alias"
            found[alias.name] = node.module or ""
    return found


def test_the_facade_agrees_with_itself() -> None:
    """What it lists, what it resolves, and what type checkers see are the same names of the same
    modules; each is found there, and is public there too."""
    assert declared() == collector._WHERE
    assert list(collector._WHERE) == collector.__all__
    for name, home in collector._WHERE.items():
        module = import_module(home)
        assert getattr(collector, name) is getattr(module, name)
        assert name in module.__all__


def test_unknown_names() -> None:
    """A wrong name is an AttributeError, as for any module."""
    with pytest.raises(AttributeError, match="no attribute 'Filters'"):
        collector.Filters  # noqa: B018


def test_version() -> None:
    """The version is the one of the package's metadata."""
    project = ROOT.parent / "pyproject.toml"
    if not project.is_file():
        pytest.skip("installed, not a clone")
    assert tomllib.loads(project.read_text())["project"]["version"] == collector.__version__


HEAVY = ("pydantic", "pydantic_core", "structlog", "ruamel", "msgspec", "orjson", "typer", "rich")


@for_each(
    "code",
    [
        "import collector",
        "import collector; dir(collector), collector.__all__, collector.__version__",
        "from collector import ConfigError, SchemaError, Tally, Sink",
        "from collector import Keyring",
    ],
)
def test_importing_is_light(code: str) -> None:
    """The façade loads none of the heavy libraries, and what needs none of them neither."""
    show = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    found = script(f"{code}; {show}", environ=STRICT)
    assert found.stderr == ""
    assert not set(HEAVY) & set(found.stdout.split())
    assert "collector" in found.stdout.split()


# -- what is installed ----------------------------------------------------------------------------

_DOTTED = r"[A-Za-z]\w*(\.\w+)+"
TOOLS = frozenset({"all", "bench", "dev", "meeting", "mutants"})
"""Extras that are not for the package: the sum of the others, and what this repository needs."""


def normalised(requirement: str) -> str:
    """The name of a distribution in the one form that all its spellings share."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


def required_packages() -> dict[str, set[str]]:
    """The distributions that dependencies and extras ask for, by extra; ours are left out."""
    if not (project := ROOT.parent / "pyproject.toml").is_file():
        pytest.skip("installed, not a clone")
    table = tomllib.loads(project.read_text())["project"]
    groups = {"dependencies": table["dependencies"], **table["optional-dependencies"]}
    return {
        extra: {normalised(each) for each in lines} - {normalised(table["name"])}
        for extra, lines in groups.items()
        if extra not in TOOLS
    }


def imported_names() -> set[str]:
    """The top-level packages that the package imports, also by ``import_module`` of a text."""
    found = set()
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {_top(alias.name) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(_top(node.module or ""))
            elif isinstance(node, ast.Constant) and re.fullmatch(_DOTTED, str(node.value)):
                found.add(_top(str(node.value)))
    return found


@pytest.mark.long
def test_every_dependency_is_imported() -> None:
    """An extra exists only while code imports what it installs."""
    provided: dict[str, set[str]] = {}
    for name, distributions in packages_distributions().items():
        for each in distributions:
            provided.setdefault(normalised(each), set()).add(name)
    imported = imported_names()
    unused = {
        (extra, package)
        for extra, packages in required_packages().items()
        for package in packages
        if not imported & (provided.get(package, set()) | {package.partition("-")[0]})
    }
    assert unused == set()


def test_all_is_every_extra() -> None:
    """The extra ``all`` brings what each of the others brings."""
    others = set(required_packages()) - {"dependencies"}
    table = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    (everything,) = table["optional-dependencies"]["all"]
    named = set(re.findall(r"[\w-]+", everything.partition("[")[2]))
    brought = {"user-agent"}  # by ``cli``
    assert named | brought == others
