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

from collector.cli.app import app

_ROOT = Path(__file__).parent.parent
_README = (_ROOT / "README.md").read_text()
_DOCUMENTS = sorted([_ROOT / "README.md", *(_ROOT / "docs").rglob("*.md")])


def _blocks(language: str, marker: str = "") -> list[str]:
    found = re.findall(rf"(<!-- serve -->\n)?{marker}```{language}\n(.*?)```", _README, re.DOTALL)
    return [text for served, text in found if not served]  # these are tests/sidecar's


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


def _typed(block: str) -> Iterator[tuple[str, str]]:
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


def _trimmed(text: str) -> str:
    return re.sub(r" +$", "", text, flags=re.MULTILINE)


def test_console_examples_of_the_readme_do_what_they_show(tmp_path: Path) -> None:
    """Each marked block is typed into a shell, and its output compared to the letter, blanks at
    the ends of lines aside."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    blocks = _blocks("console", "<!-- run -->\n")
    assert len(blocks) >= 2
    for command, expected in (typed for block in blocks for typed in _typed(block)):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PATH": path, "COLUMNS": "100"},
            check=False,
        )
        assert _trimmed(done.stdout.decode()) == _trimmed(expected)
        assert done.returncode == 0


def test_python_examples_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a program of its own, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    blocks = _blocks("python")
    assert len(blocks) >= 2
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", block], capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()


def test_every_command_is_in_the_readme() -> None:
    """A command nobody can find does not exist."""
    missing = {command for command in _commands() if f"`{command}`" not in _README}
    assert not missing


def test_every_command_in_a_document_exists() -> None:
    """What a document tells people to type is there."""
    known = _commands()
    for document in _DOCUMENTS:
        for block in re.findall(r"```console\n(.*?)```", document.read_text(), re.DOTALL):
            for line in re.findall(
                r"(?:^\$ |&& |\| )(collector [a-z]+(?: [a-z]+){0,2})", block, re.MULTILINE
            ):
                words = line.split()
                assert any(" ".join(words[:n]) in known for n in (2, 3, 4)), (document.name, line)


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """Relative links and named paths exist."""
    text = document.read_text()
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (document.parent / target).exists(), target
    for target in re.findall(r"`((?:tests|docs|schemas|benchmarks|collector)/[\w/.-]+)`", text):
        assert (_ROOT / target).exists(), target


def test_every_decision_is_listed() -> None:
    """The index of decisions and the folder agree."""
    folder = _ROOT / "docs" / "decisions"
    listed = set(re.findall(r"\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text()))
    assert listed == {path.name for path in folder.glob("0*.md")}


def test_the_table_of_schemas_is_true() -> None:
    """Names and widths in the README are those of the shipped schemas."""
    from collector.schema import load_schema, shelf  # noqa: PLC0415
    from collector.schema.capacity import record_bits  # noqa: PLC0415

    for name in shelf.names():
        row = re.search(rf"^\| `{name}` \|.*\| (\d+) \|$", _README, re.MULTILINE)
        assert row is not None, name
        assert int(row[1]) == round(record_bits(load_schema(name)))
