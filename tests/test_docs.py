"""The documents say what is true: snippets run, commands exist, links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from collector import Filter, load_schema
from collector.cli.app import app
from tests.support.command import run, run_process
from tests.support.deadline import WAIT_SECONDS
from tests.support.programs import STRICT, script
from tests.support.rows import for_each
from tests.tables import pages

_ROOT = Path(__file__).parent.parent
_README = (_ROOT / "README.md").read_text()
_DOCUMENTS = sorted(
    [*(_ROOT / name for name in ("README.md", "CONTRIBUTING.md")), *(_ROOT / "docs").rglob("*.md")]
)
_RUN_HERE = (
    "README.md",
    *(f"docs/{name}.md" for name in ("filter", "migrating", "schema", "tutorial")),
)
"""Pages whose snippets are run by this module; other pages have tests of their own."""


def blocks(page: str, language: str, marker: str = "run") -> list[str]:
    """The blocks of a page that are marked to be run."""
    text = (_ROOT / page).read_text()
    return re.findall(rf"<!-- {marker} -->\n```{language}\n(.*?)```", text, re.DOTALL)


def _commands() -> set[str]:
    """Every command of the command line, as one would type it."""
    root = typer.main.get_command(app)
    names = set()
    queue = [("collector", root)]
    for name, command in queue:
        inner = getattr(command, "commands", {})
        queue += [(f"{name} {sub}", each) for sub, each in inner.items()]
        if not inner:
            names.add(name)
    return names


def typed(block: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block (here-documents included) with its output."""
    command: list[str] = []
    output: list[str] = []
    for line in block.splitlines(keepends=True):
        if command and "<<'END'" in command[0] and command[-1] != "END\n":
            command.append(line)
        elif line.startswith("$ "):
            if command:
                yield "".join(command), "".join(output)
            command, output = [line.removeprefix("$ ")], []
        else:
            output.append(line)
    yield "".join(command), "".join(output)


def steps(page: str) -> Iterator[tuple[str, str]]:
    """What a page has a reader type, in its order, with the output: marked commands, and files that
    are to be written or continued."""
    text = (_ROOT / page).read_text()
    marked = r"<!-- (run|file|append)(?:: (\S+))? -->\n```(?:console|yaml)\n(.*?)```"
    for what, name, block in re.findall(marked, text, re.DOTALL):
        if what == "run":
            yield from typed(block)
        else:
            yield f"cat {'>' if what == 'file' else '>>'} {name} <<'END'\n{block}END\n", ""


def trimmed(text: str) -> str:
    return re.sub(r" +$", "", text, flags=re.MULTILINE)


@for_each("page", _RUN_HERE)
def test_console_examples_do_what_they_show(page: str, tmp_path: Path) -> None:
    """Each marked block is typed into a shell, and its output compared to the letter, blanks at
    the ends of lines aside. The tutorial is among them."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    marked = list(steps(page))
    assert marked
    for command, expected in marked:
        if re.fullmatch(r"collector [\w ./-]+\n", command):  # nothing is left to a shell
            ended = run_process(*command.split()[1:], env={"COLUMNS": "100"}, directory=tmp_path)
            assert trimmed((ended.out + ended.err).decode()) == trimmed(expected)
            assert ended.code == 0
            continue
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PATH": path, "COLUMNS": "100"},
            check=False,
            timeout=WAIT_SECONDS,
        )
        assert trimmed(done.stdout.decode()) == trimmed(expected)
        assert done.returncode == 0


_LONG = pytest.mark.long
"""`tests/test_fresh.py` runs them as well, from the wheel."""


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        pytest.param("docs/filter.md", marks=_LONG),
        pytest.param("docs/consent.md", marks=_LONG),
    ],
)
def test_python_examples_run(page: str, tmp_path: Path) -> None:
    """Each is a program of its own, in an empty directory."""
    marked = blocks(page, "python")
    assert marked
    for block in marked:
        script(block, environ=STRICT, cwd=tmp_path)


def test_no_example_is_left_out() -> None:
    """Python of the README is marked, and a page with marked blocks is read by some test."""
    unmarked = re.findall(r"(?<!<!-- run -->\n)(?<!<!-- serve -->\n)```python", _README)
    assert not unmarked
    readers = [path.read_text() for path in (_ROOT / "tests").rglob("test_*.py")]
    for document in _DOCUMENTS:
        if re.search(r"^<!-- (run|serve) -->$", document.read_text(), re.MULTILINE):
            ends = (f'{document.stem}"', f'{document.stem}.md"')
            names = [f"{before}{end}" for before in '"/' for end in ends]
            assert any(name in text for text in readers for name in names), document.name


def test_the_first_table_of_the_readme_is_true() -> None:
    """What each line sends becomes what stands beside it, and nothing else."""
    rows = re.findall(r"^\| `(\".*)` \| (.*) \|$", _README, re.MULTILINE)
    assert len(rows) == 6
    filter_ = Filter(load_schema("conferencing"))
    for sent, kept in rows:
        records = filter_.admit(f"{{{sent}}}".encode()).records
        expected = dict(re.findall(r"`([\w.]+): ([^`]+)`", kept))
        assert bool(expected) != kept.startswith("nothing")
        assert records == ([{"schema": "conferencing/1.0.0", **expected}] if expected else [])


def test_the_schema_of_the_readme_loads(tmp_path: Path) -> None:
    """Its own test passes, and there is nothing to warn of."""
    (text,) = re.findall(r"<!-- schema -->\n```yaml\n(.*?)```", _README, re.DOTALL)
    path = tmp_path / "call-quality.yaml"
    path.write_text(text)
    for command in (["check", "--strict"], ["test"]):
        done = run("schema", *command, path)
        assert done.code == 0, done.out + done.err


def test_tables_from_code_are_current() -> None:
    """`make tables` would change nothing."""
    for page, content in pages().items():
        assert page.read_text("utf-8") == content, page.name


def test_every_page_is_in_the_index() -> None:
    """The index links to each page of the folder."""
    folder = _ROOT / "docs"
    linked = set(re.findall(r"\]\(([\w/-]+\.md)[#)]", (folder / "README.md").read_text()))
    pages = {path.name for path in folder.glob("*.md")} - {"README.md"}
    assert pages | {"decisions/README.md"} <= linked


def test_every_command_in_a_document_exists() -> None:
    """What a document tells people to type is there."""
    known = _commands()
    for document in _DOCUMENTS:
        for block in re.findall(r"```console\n(.*?)```", document.read_text(), re.DOTALL):
            for line in re.findall(
                r"(?:^\$ |&& |\| )(collector [a-z-]+(?: [a-z-]+){0,2})", block, re.MULTILINE
            ):
                words = line.split()
                assert any(" ".join(words[:n]) in known for n in (2, 3, 4)), (document.name, line)


def test_every_command_of_an_example_exists() -> None:
    """In its code, and in a sentence."""
    known = _commands()
    for document in (_ROOT / "examples").rglob("*.md"):
        text = document.read_text()
        for line in re.findall(r"(?:^|`)(collector [a-z-]+(?: [a-z-]+){0,2})", text, re.MULTILINE):
            words = line.split()
            assert any(" ".join(words[:n]) in known for n in (2, 3, 4)), (document, line)


@for_each("document", _DOCUMENTS)
def test_links_lead_somewhere(document: Path) -> None:
    """Relative links and named paths exist."""
    text = document.read_text()
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (document.parent / target).exists(), target
    for target in re.findall(r"`((?:tests|docs|schemas|benchmarks|collector)/[\w/.-]+)`", text):
        assert (_ROOT / target).exists(), target


def test_short_paths_in_a_document_exist() -> None:
    """Modules that a page names from the room on, such as `ops/metrics.py`."""
    for document in _DOCUMENTS:
        for target in re.findall(r"`([a-z_]+(?:/[a-z_]+)*\.py)`", document.read_text()):
            found = next((_ROOT / "collector").rglob(target), None)
            found = found or next((_ROOT / "tests").rglob(target), None)
            assert found or (_ROOT / target).exists(), (document.name, target)


def test_anchors_in_a_document_exist() -> None:
    """A link to a part of a page leads to one of its headings."""
    for document in _DOCUMENTS:
        for page, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", document.read_text()):
            text = (document.parent / page).read_text() if page else document.read_text()
            assert anchor in _anchors(text), (document.name, page, anchor)


def test_every_type_of_sinks_is_listed() -> None:
    """The page of sinks has a row for each type of ours."""
    from collector.config.sink_types import BUILT_IN  # noqa: PLC0415

    rows = re.findall(r"^\| `(\w+)` \|", (_ROOT / "docs" / "sinks.md").read_text(), re.MULTILINE)
    assert set(BUILT_IN) <= set(rows)


def test_every_target_in_a_document_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (_ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in _DOCUMENTS:
        named = re.findall(r"(?:`|^\$ )make ([a-z]+)", document.read_text(), re.MULTILINE)
        assert set(named) <= targets, document.name
    hooks = (_ROOT / ".pre-commit-config.yaml").read_text()
    programs = re.findall(r"entry: \.venv/bin/([\w-]+)", hooks)
    assert programs
    assert all((Path(sys.executable).parent / program).exists() for program in programs)


def test_the_laws_name_tests_that_exist() -> None:
    files = {path.name for path in (_ROOT / "tests").rglob("test_*.py")}
    laws = (_ROOT / "docs" / "threat-model.md").read_text()
    assert set(re.findall(r"test_\w+\.py", laws)) <= files


def test_pages_that_code_names_exist() -> None:
    """In messages, help, docstrings, deployments and the workflows, with their headings."""
    parts = ("collector", "schemas", "deploy", "benchmarks", "examples", "tests", ".github", ".ci")
    named = r"(?<![\w./])(docs/[a-z-]+\.md)(?:#([a-z-]+))?"
    files = [path for part in parts for path in (_ROOT / part).rglob("*") if path.is_file()]
    for path in [_ROOT / "Makefile", *files]:
        if path.suffix in (".pyc", ".png", ".gz", ".zst") or "names/data" in str(path):
            continue
        for page, anchor in re.findall(named, path.read_text("utf-8", errors="replace")):
            assert (_ROOT / page).exists(), (path, page)
            assert not anchor or anchor in _anchors((_ROOT / page).read_text()), (path, anchor)


def _anchors(text: str) -> set[str]:
    """The names of a page's headings in links."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}
