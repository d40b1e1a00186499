"""``collector schema diff`` in real processes, on files and on real git repositories."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from collector.schema import git as git_module
from collector.schema import load_schema, resources
from collector.schema.diff import compare
from tests.cli.repository import commit, git
from tests.support.command import COMMAND, Ended, run
from tests.support.deadline import WAIT_SECONDS
from tests.support.latency import within
from tests.support.make_schemas import HEAD
from tests.support.rows import for_each

ROOT = Path(__file__).parents[2]

TEXT = (
    HEAD
    + """\
fields:
  os.type:
    kind: enum
    values: [linux, ios]
    category: user.device
    purposes: [ops]
    retention: 30d
    reason: Which systems to test on
  device.model.name:
    kind: token
    catalogue: devices
    category: user.device
    purposes: [ops]
    retention: 30d
    reason: Which devices to test on
tests:
  - name: the one test
    event: {os.type: ios, chat: canary-of-a-test}
    keeps: {os.type: ios}
    never_contains: [canary-of-a-test]
"""
)
DEVICES = "# source: made up for tests\nOne\nTwo\n"
WIDER = TEXT.replace("[linux, ios]", "[linux, ios, android]")
NEWER = WIDER.replace("version: 1.0.0", "version: 1.1.0")
EXPLAINED = NEWER.replace("Which systems to test on", "Which systems and phones to test on")
NARROWER = TEXT.replace("30d", "7d")


def document(folder: Path, name: str, text: str, devices: str = DEVICES) -> Path:
    """A schema file with its catalogue beside it."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "devices.txt").write_text(devices)
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def diff(*arguments: object) -> Ended:
    return run("schema", "diff", *arguments)


def changed(folder: Path, new: str, *options: str, old: str = TEXT) -> Ended:
    return diff(document(folder, "old", old), document(folder, "new", new), *options)


@for_each(
    ("new", "options", "code", "says"),
    [
        (TEXT, [], 0, "no difference"),
        (NARROWER, [], 0, "kept shorter"),
        (WIDER, [], 1, "more values"),
        (NEWER, [], 0, "more values"),
        (NEWER, ["--strict"], 1, "more values"),
        (EXPLAINED, ["--strict"], 0, "Which systems and phones to test on"),
    ],
)
def test_exit_codes(tmp_path: Path, new: str, options: list[str], code: int, says: str) -> None:
    """1 where it widens without a higher version or, if strict, without a new reason."""
    ended = changed(tmp_path, new, *options)
    assert ended.code == code
    assert says in ended.out.decode()
    unexplained = b"fields.os.type widens, " in ended.err
    assert unexplained == (new in (WIDER, NEWER))
    assert (b"1.0.0" in ended.err) == (new == WIDER)


def test_the_table(tmp_path: Path) -> None:
    new = EXPLAINED.replace("the one test", "one test").replace("30d", "7d")
    ended = changed(tmp_path, new.replace("ios, chat", "linux, chat"))
    title, head, *rows = ended.out.decode().splitlines()
    assert title.endswith("new.yaml: sample/1.0.0 → sample/1.1.0")
    assert re.split(r"\s{2,}", head.strip()) == ["verdict", "where", "what", "old → new", "because"]
    verdicts = [row.split()[0] for row in rows]
    assert verdicts == sorted(verdicts, key=["widening", "narrowing", "neutral"].index)
    (row,) = (row for row in rows if "fields.os.type.values" in row)
    assert re.split(r"\s{2,}", row.strip()) == [
        *("widening", "fields.os.type.values", "more values", "+ android"),
        "Which systems and phones to test on",
    ]
    shorter = r"narrowing +fields\.os\.type\.retention +kept shorter +30d → 7d"
    assert any(re.search(shorter, row) for row in rows)
    assert b"canary" not in ended.out + ended.err


def test_json(tmp_path: Path) -> None:
    ended = changed(tmp_path, WIDER, "--json")
    assert ended.code == 1
    assert ended.json == {
        "file": str(tmp_path / "new.yaml"),
        "old": "sample/1.0.0",
        "new": "sample/1.0.0",
        "changes": [
            {
                "at": "fields.os.type.values",
                "what": "more values",
                "verdict": "widening",
                "old": [],
                "new": ["android"],
                "reason": "Which systems to test on",
            }
        ],
        "widening": True,
        "allowed": False,
        "unexplained": ["fields.os.type"],
        "faults": [],
    }
    assert not ended.err


def test_schemas_are_no_markup(tmp_path: Path) -> None:
    new = NEWER.replace("android", "'[red]x[/]'")
    ended = changed(tmp_path, new.replace("Which systems to", "'[link=x]Which'  # to"))
    assert ended.code == 0
    assert b"[red]x[/]" in ended.out
    assert b"[link=x]Which" in ended.out


def test_faults_of_both_are_reported_at_once(tmp_path: Path) -> None:
    old = document(tmp_path, "old", TEXT.replace("kind: enum", "kind: list"))
    new = document(tmp_path, "new", TEXT.replace("retention: 30d", "retention: long"))
    ended = diff(old, new)
    assert ended.code == 1
    named = re.findall(rb"(\w+): [^:\n]+ \[E107\]", ended.err)
    assert named == [b"kind", b"retention", b"retention"]
    assert not ended.out
    listed = diff(old, new, "--json").json
    assert {fault["code"] for fault in listed["faults"]} == {"E107"}
    assert not listed["allowed"]


@for_each("arguments", [[], ["conferencing"], ["conferencing"] * 3])
def test_usage(arguments: list[str]) -> None:
    ended = diff(*arguments)
    assert ended.code == 2
    assert b"Traceback" not in ended.err


def test_shipped_names() -> None:
    ended = diff("conferencing", "conferencing-strict")
    assert ended.code == 1
    assert b"coarser values" in ended.out
    unknown = diff("conferencing", "conferencin")
    assert unknown.code == 1
    assert b"did you mean `conferencing`?" in unknown.err


# -- git ------------------------------------------------------------------------------------------


def test_a_revision(repository: Path) -> None:
    """``REV:path`` starts at the top of the repository or, with ``./``, here."""
    path = document(repository / "schemas", "sample", TEXT)
    first = commit()
    git("tag", "first")
    path.write_text(NEWER)
    commit()
    for revision in ("HEAD~1:", f"{first[:10]}:./", "first:"):
        listed = diff(f"{revision}schemas/sample.yaml", path, "--json").json
        assert (listed["old"], listed["new"]) == ("sample/1.0.0", "sample/1.1.0")
        found = [change["at"] for change in listed["changes"]]
        assert found == ["version", "fields.os.type.values"]
    os.chdir(repository / "schemas")
    assert diff("first:./sample.yaml", "main:../schemas/sample.yaml", "--json").json["widening"]


@pytest.mark.parametrize("where", [".", "schemas", "schemas/catalogues"])
def test_the_catalogues_of_a_revision(repository: Path, where: str) -> None:
    folder = repository / (where if where != "schemas/catalogues" else "schemas")
    path = document(folder, "sample", TEXT)
    if where.endswith("catalogues"):
        (folder / "catalogues").mkdir()
        (folder / "devices.txt").rename(folder / "catalogues" / "devices.txt")
    commit()
    catalogue = repository / where / "devices.txt"
    catalogue.write_text(DEVICES.replace("Two", "Three"))
    place = path.relative_to(repository).as_posix()
    ended = diff(f"HEAD:{place}", path, "--json")
    assert [(change["at"], change["old"], change["new"]) for change in ended.json["changes"]] == [
        ("fields.device.model.name.catalogue", ["Two"], ["Three"])
    ]
    assert ended.code == 1
    commit()
    git("rm", "--quiet", "--cached", str(catalogue))
    git("commit", "--quiet", "--message", "without")
    assert b"[E101]" in diff(f"HEAD:{place}", path).err


def test_faults_of_a_revision_are_those_of_its_file(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not name the temporary folder, and it is removed."""
    document(repository, "sample", TEXT.replace("kind: enum", "kind: list"))
    commit()
    temporary = repository.parent / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    ended = diff("HEAD:sample.yaml", "conferencing")
    assert ended.code == 1
    assert ended.err.decode().startswith("HEAD:sample.yaml:9:")
    assert str(temporary).encode() not in ended.err
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("nowhere:sample.yaml", "no such revision"),
        ("HEAD:other.yaml", "E101"),
        ("HEAD:./deep/other.yaml", "E101"),
        ("HEAD:folder", "E101"),
        ("HEAD:link.yaml", "E101"),
        ("HEAD:../sample.yaml", "leads out of the repository"),
        ("HEAD:/etc/passwd", "leads out of the repository"),
        ("HEAD:", "write REV:PATH"),
        (":sample.yaml", "write REV:PATH"),
        ("HEAD:a\nb.yaml", "write REV:PATH"),
    ],
)
def test_what_is_no_file_of_a_revision(repository: Path, reference: str, says: str) -> None:
    document(repository, "sample", TEXT)
    document(repository / "folder", "sample", TEXT)
    (repository / "link.yaml").symlink_to("/etc/hostname")
    commit()
    ended = diff(reference, "sample.yaml")
    assert ended.code == 1
    assert says in ended.err.decode()
    assert b"[E101]" in ended.err
    assert b"Traceback" not in ended.err


def test_a_dash_is_no_option_of_git(repository: Path) -> None:
    document(repository, "sample", TEXT)
    commit()
    with pytest.raises(git_module.RevisionError, match="write REV:PATH"):
        git_module.parse("--all", "sample.yaml", repository, "x")


def test_without_a_repository_and_without_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = document(tmp_path, "sample", TEXT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    outside = diff("HEAD:sample.yaml", path)
    assert (outside.code, b"[E101]" in outside.err) == (1, True)
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = diff("HEAD:sample.yaml", path)
    assert (missing.code, b"git" in missing.err) == (78, True)
    assert b"[E201]" in missing.err


def test_a_file_cannot_pass_for_a_revision(repository: Path) -> None:
    """A change under review must not bring its own past along."""
    document(repository, "sample", TEXT)
    commit()
    (repository / "sample.yaml").write_text(WIDER)
    document(repository / "HEAD:", "sample", WIDER)
    assert diff("HEAD:./sample.yaml", "sample.yaml").code == 1
    assert diff("./HEAD:/sample.yaml", "sample.yaml").code == 0


def test_since(repository: Path) -> None:
    """A file that was not there is a new schema."""
    folder = repository / "schemas"
    document(folder, "one", TEXT)
    two = document(folder, "two", TEXT)
    commit()
    two.write_text(NARROWER)
    document(folder, "three", WIDER.replace("schema: sample", "schema: third"))
    for files in (["schemas"], ["schemas/one.yaml", "schemas/three.yaml", "schemas/two.yaml"]):
        ended = diff("--since", "HEAD", *files, "--json")
        assert ended.code == 0
        listed = {row["file"]: row for row in ended.json}
        assert {name: row["old"] for name, row in listed.items()} == {
            "schemas/one.yaml": "sample/1.0.0",
            "schemas/three.yaml": None,
            "schemas/two.yaml": "sample/1.0.0",
        }
        assert listed["schemas/three.yaml"]["allowed"]
    two.write_text(WIDER)
    table = diff("--since", "HEAD", "schemas")
    assert table.code == 1
    assert b"schemas/one.yaml: no difference" in table.out
    assert b"schemas/three.yaml: a new schema, third/1.0.0" in table.out
    named = diff("--since", "HEAD", "conferencing")
    assert (named.code, b"[E101]" in named.err) == (1, True)
    (repository / "empty").mkdir()
    nothing = diff("--since", "HEAD", "empty")
    assert (nothing.code, nothing.out, b"no schema files" in nothing.err) == (0, b"", True)
    two.write_text("schema: [")
    broken = diff("--since", "nowhere", "schemas/two.yaml")
    assert broken.code == 1
    assert b"nowhere:schemas/two.yaml:1:1: " in broken.err
    assert b"[E102]" in broken.err


@pytest.mark.parametrize("schema", ["schema: sample", "'schema' : \"sample\"  # its name"])
def test_a_new_name_of_a_file_hides_nothing(repository: Path, schema: str) -> None:
    """It is compared with the latest schema of its name."""
    text = TEXT.replace("schema: sample", schema)
    old = document(repository / "schemas", "old", text.replace("1.0.0", "1.0.9"))
    document(repository / "schemas", "older", text)
    document(repository / "schemas", "broken", text.replace("kind: enum", "kind: list"))
    commit()
    old.rename(old.with_name("new.yaml"))
    for version, code in (("1.0.9", 1), ("1.0.10", 0)):
        old.with_name("new.yaml").write_text(WIDER.replace("1.0.0", version))
        ended = diff("--since", "HEAD", "schemas/new.yaml", "--json")
        (row,) = ended.json
        assert (row["old"], ended.code) == ("sample/1.0.9", code)


def hook(identity: str) -> list[str]:
    """The command line of a hook, as pre-commit puts it together."""
    hooks: list[dict[str, Any]] = YAML(typ="safe").load(ROOT / ".pre-commit-hooks.yaml")
    (found,) = (hook for hook in hooks if hook["id"] == identity)
    first, *entry = shlex.split(found["entry"])
    assert first == "collector"
    return [*COMMAND, *entry, *found.get("args", [])]


def attempt(message: str) -> bool:
    """Whether a commit of everything goes through the hook."""
    git("add", "--all")
    command = ["git", "commit", "--quiet", "--message", message]
    done = subprocess.run(command, capture_output=True, check=False, timeout=WAIT_SECONDS)
    assert b"Traceback" not in done.stderr
    return done.returncode == 0


def install(repository: Path, command: list[str]) -> None:
    path = repository / ".git" / "hooks" / "pre-commit"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.long
def test_the_hook_refuses_what_widens(repository: Path) -> None:
    install(repository, hook("collector-schema-diff"))
    path = document(repository / "schemas", "sample", TEXT)
    assert attempt("a new schema, and the first commit")
    path.write_text(WIDER)
    assert not attempt("wider")
    path.write_text(NEWER)
    assert attempt("wider, and newer")
    (path.parent / "devices.txt").write_text(DEVICES + "Three\n")
    assert not attempt("a longer catalogue")
    path.write_text(NEWER.replace("1.1.0", "1.1.1"))
    assert attempt("a longer catalogue, and newer")
    assert git("rev-list", "--count", "HEAD") == "3"


@pytest.mark.long
def test_the_hook_in_a_worktree(repository: Path) -> None:
    """There git tells its hooks about a folder that is elsewhere."""
    path = document(repository / "schemas", "sample", TEXT)
    commit()
    install(repository, hook("collector-schema-diff"))
    git("worktree", "add", "--quiet", "../other")
    os.chdir(repository.parent / "other")
    Path("schemas", path.name).write_text(WIDER)
    assert not attempt("wider")
    Path("schemas", path.name).write_text(NEWER)
    assert attempt("wider, and newer")


@pytest.mark.long
def test_the_hook_that_tests(repository: Path) -> None:
    path = document(repository / "schemas", "sample", TEXT)
    install(repository, [*hook("collector-schema-test"), "schemas/sample.yaml"])
    assert attempt("a schema whose test passes")
    path.write_text(TEXT.replace("keeps: {os.type: ios}", "keeps: {os.type: linux}"))
    assert not attempt("a test that fails")
    path.write_text(TEXT.replace("kind: enum", "kind: list"))
    assert not attempt("a fault")


def _commands(text: str) -> list[str]:
    steps = YAML(typ="safe").load(text)["jobs"]["diff"]["steps"]
    return [step["run"] for step in steps if step.get("run", "").startswith("collector")]


@pytest.mark.long
def test_the_workflow(repository: Path) -> None:
    """Its commands run in a clone of a repository whose main branch is the base."""
    path = document(repository / "schemas", "sample", TEXT)
    commit()
    commands = _commands((ROOT / "docs/examples/schema-review.yml").read_text())
    assert len(commands) == 3
    git("clone", "--quiet", str(repository), str(repository.parent / "clone"))
    os.chdir(repository.parent / "clone")
    shim = repository.parent / "bin"
    shim.mkdir()
    (shim / "collector").write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    (shim / "collector").chmod(0o755)

    def review() -> bool:
        environment = os.environ | {"BASE": "origin/main", "PATH": f"{shim}:{os.environ['PATH']}"}
        codes = [
            subprocess.run(
                ["sh", "-ec", each], env=environment, check=False, timeout=WAIT_SECONDS
            ).returncode
            for each in commands
        ]
        assert codes[:2] == [0, 0]
        return codes[2] == 0

    here = Path("schemas", path.name)
    for text, passes in ((NEWER, False), (EXPLAINED, True)):
        here.write_text(text)
        assert review() == passes


# -- the documentation ----------------------------------------------------------------------------

REVIEW = (ROOT / "docs" / "schema-review.md").read_text("utf-8")


def test_the_table_of_rules_is_that_of_the_code() -> None:
    from collector.schema.verdict import RULES  # noqa: PLC0415

    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \|", REVIEW, re.MULTILINE)
    assert dict(rows) == dict(RULES)
    assert len(rows) == len(RULES)


def test_the_examples_are_the_files(tmp_path: Path) -> None:
    hooks = {hook["id"] for hook in YAML(typ="safe").load(ROOT / ".pre-commit-hooks.yaml")}
    assert hooks == set(re.findall(r"`(collector-[\w-]+)`", REVIEW))
    (shown,) = re.findall(
        r"```console\n\$ collector schema diff conferencing wider.yaml\n(.*?)```", REVIEW, re.DOTALL
    )
    text = (resources.shipped() / "conferencing.yaml").read_text()
    start = text.index("  client.address:")
    head, address, rest = text[:start], text[start : start + 400], text[start + 400 :]
    address = address.replace("retention: 30d", "retention: 90d", 1).replace(", ip]", "]", 1)
    wider = tmp_path / "wider.yaml"
    wider.write_text(head + address + rest.replace("parts: 3", "parts: 2", 1))
    ended = diff("conferencing", wider)
    plain = (ended.out + ended.err).decode().replace(str(wider), "wider.yaml")
    assert [line.rstrip() for line in plain.splitlines()] == shown.splitlines()


@pytest.mark.timed
def test_long_catalogues_are_quick(tmp_path: Path) -> None:
    entries = [f"Device {number}" for number in range(5000)]
    texts = ["# source: made up\n" + "\n".join(part) for part in (entries, entries[1:])]
    old, new = (
        load_schema(document(tmp_path / str(number), "sample", TEXT, text))
        for number, text in enumerate(texts)
    )
    with within(0.2):
        found = compare(old, new)
    assert [change.what for change in found.changes] == ["fewer values"]
