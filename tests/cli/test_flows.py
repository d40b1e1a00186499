"""``collector config flows|diff`` on files and on real git repositories."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from collector.schema import shelf
from tests.cli.conftest import Here
from tests.cli.process import run
from tests.cli.repository import commit

_SECRET = "hunter2secret"

_SINKS = """\
sinks:
  ndjson: {path: out.ndjson, party: PARTY, recipient: 'A "b" [c]', country: DE,
    purposes: [capacity_planning]}
"""


def _sinks(folder: Path, party: str, more: str = "") -> Path:
    path = folder / f"{party}.yaml"
    path.write_text(_SINKS.replace("PARTY", party) + more)
    return path


def test_flows(tmp_path: Path) -> None:
    """A row for each field; a column for each sink, and whose it is; the same as JSON and as a
    chart."""
    path = _sinks(tmp_path, "processor")
    table = run("config", "flows", path).out.decode().splitlines()
    assert 'ndjson (processor, A "b" [c], DE)' in table[0]
    assert table[1].split() == ["client.address", "service_operations,", "security", "-"]
    done = run("config", "flows", path, "--json")
    found = json.loads(done.out)
    assert found["sinks"]["ndjson"]["recipient"] == 'A "b" [c]'
    reached = [flow["field"] for flow in found["flows"] if flow["sink"] == "ndjson"]
    assert (len(found["flows"]), len(reached), "client.address" in reached) == (17, 8, False)
    chart = run("config", "flows", path, "--mermaid").out.decode()
    assert chart.startswith("flowchart LR\n")
    assert chart.count(" -->|") == 17
    assert 's1[("ndjson<br>processor, A #34;b#34; [c], DE")]' in chart


def test_the_page_shows_what_the_command_prints(tmp_path: Path) -> None:
    """The table of docs/flows.md is that of its configuration."""
    page = (Path(__file__).parent.parent.parent / "docs" / "flows.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (table,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    (tmp_path / "c.yaml").write_text(example)
    printed = run("config", "flows", tmp_path / "c.yaml").out.decode()
    assert [line.rstrip() for line in printed.splitlines()] == table.splitlines()


def test_flows_of_the_environment() -> None:
    """What is in force: the store alone, for one purpose."""
    environ = {"COLLECTOR__SINKS__STORE__PURPOSES": "security"}
    found = json.loads(run("config", "flows", "--json", env=environ).out)
    assert [flow["field"] for flow in found["flows"]] == ["client.address"]


def test_a_third_party_is_refused(tmp_path: Path) -> None:
    """By every command that reads the sinks, at its line, with the claims."""
    path = _sinks(tmp_path, "third")
    checked = run("config", "check", path)
    assert checked.code == 78
    assert checked.err.startswith(f"{path}:2:".encode())
    for done in (checked, run("config", "flows", path), run("serve", "--config", path)):
        assert done.code == 78
        assert b"sinks.ndjson.party: a third party" in done.err
        assert b"`no-third-party-ads` and `no-sale`" in done.err
        assert done.err.count(b"\n") == 1
    assert not (tmp_path / "collector-data").exists()


def test_faults_of_sinks_stand_beside_others(tmp_path: Path) -> None:
    """A sink's purposes are looked at only where they are sound, and the schema as well."""
    path = _sinks(tmp_path, "processor", "  store: {purposes: [securty]}\nlog: {level: x}\n")
    said = run("config", "check", path).err.decode().splitlines()
    assert [line.rpartition("[")[2] for line in said] == ["E209]", "E205]"]
    assert "did you mean `security`?" in said[1]
    path.write_text("sinks: {store: {purposes: [' ']}}\n")
    assert run("config", "check", path).err.count(b"\n") == 1
    (tmp_path / "s.yaml").write_text("schema: x\n")
    path.write_text(f"schema: {tmp_path}/s.yaml\nsinks: {{store: {{purposes: [x]}}}}\n")
    said = run("config", "check", path).err.decode().splitlines()
    assert len(said) == len(set(said)) > 3


# -- diff -----------------------------------------------------------------------------------------


def test_diff(tmp_path: Path) -> None:
    """A new sink widens: exit 1, whose it is and every field; without it, nothing does."""
    (old := tmp_path / "old.yaml").write_text("log: {level: debug}\n")
    new = _sinks(tmp_path, "processor")
    done = run("config", "diff", old, new, env={"COLLECTOR__SINKS__NDJSON__PATH": "elsewhere"})
    assert done.code == 1
    assert done.out.count(b"widening  flow added") == 8
    assert re.search(rb'widening +sink added +ndjson +processor, A "b" \[c\], DE', done.out)
    assert done.err.count(b"\n") == 1
    found = json.loads(run("config", "diff", old, new, "--json").out)
    assert (found["widening"], len(found["changes"])) == (True, 9)
    back = run("config", "diff", new, old)
    assert (back.code, back.err, back.out.count(b"narrowing  flow removed")) == (0, b"", 8)
    same = run("config", "diff", old, old)
    assert (same.code, same.out) == (0, b"no difference\n")


def test_what_is_refused_is_not_compared(tmp_path: Path) -> None:
    """Exit 78, with the faults of both files, each at its place."""
    old, new = _sinks(tmp_path, "third"), tmp_path / "new.yaml"
    new.write_text(f"schema: {_SECRET}\n")
    done = run("config", "diff", old, new)
    assert _SECRET.encode() not in done.err
    assert (done.code, done.out) == (78, b"")
    assert [line.partition(" ")[0] for line in done.err.decode().splitlines()] == [
        f"{old}:2:1:",
        f"{new}:1:1:",
    ]


_SCHEMA = (shelf.shipped() / "conferencing.yaml").read_text()


def _documents(folder: Path) -> tuple[Path, Path]:
    """A configuration that names a schema file, and that file, below the working directory."""
    (folder / "etc").mkdir()
    for name in ("schema.yaml", "collector.yaml"):
        (folder / "etc" / name).write_text(_SCHEMA if "schema" in name else _NAMED)
    return folder / "etc" / "collector.yaml", folder / "etc" / "schema.yaml"


_NAMED = "schema: etc/schema.yaml\nsinks: {store: {purposes: [security]}}\n"


def test_diff_of_revisions(here: Here, repository: Path) -> None:
    """``REV:path`` is the file as it was, with the schema file as it was then; a shipped schema is
    the one that is shipped."""
    config, schema = _documents(repository)
    commit()
    schema.write_text(_SCHEMA.replace("retention: 30d", "retention: 31d", 1))
    config.write_text(_NAMED.replace("security", "security, capacity_planning"))
    for old in ("HEAD:etc/collector.yaml", "main:./etc/collector.yaml"):
        done = here("config", "diff", old, "etc/collector.yaml", "--json")
        found = [change["what"] for change in json.loads(done.out)["changes"]]
        assert found == ["schema widened", "other purposes", *["flow added"] * 8]
        assert done.code == 1
    commit()
    done = here("config", "diff", "HEAD~1:etc/collector.yaml", "HEAD:etc/collector.yaml")
    assert (done.code, done.out.count(b"flow added")) == (1, 8)
    assert b"HEAD:etc/collector.yaml lets more flow than HEAD~1:etc/collector.yaml" in done.err
    done = here("config", "diff", "HEAD:etc/collector.yaml", "HEAD~1:etc/collector.yaml")
    assert (done.code, done.err) == (0, b"")
    config.write_text(config.read_text().replace("etc/schema.yaml", str(schema)))
    commit()
    schema.unlink()
    done = here("config", "diff", "HEAD~1:etc/collector.yaml", "HEAD:etc/collector.yaml")
    assert (done.code, done.out) == (0, b"no difference\n")
    config.write_text("schema: conferencing\n")
    commit()
    done = here("config", "diff", "HEAD:etc/collector.yaml", "etc/collector.yaml")
    assert (done.code, done.out) == (0, b"no difference\n")


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("nowhere:etc/collector.yaml", "no such revision here"),
        ("HEAD:collector.yaml", "not in this revision"),
        ("HEAD:etc", "not in this revision"),
        ("HEAD:/etc/passwd", "leads out of the repository"),
        ("HEAD:etc/broken.yaml", "did you mean `store`?"),
        ("HEAD:etc/far.yaml", "leads out of the repository"),
        ("HEAD:etc/gone.yaml", "not in this revision"),
        ("HEAD:etc/unknown.yaml", "did you mean `conferencing`?"),
        ("HEAD:etc/third.yaml", "sinks.ndjson.party: a third party"),
        ("--all:etc/collector.yaml", "o such option"),
    ],
)
def test_what_cannot_be_had_of_a_revision(
    here: Here, repository: Path, reference: str, says: str
) -> None:
    """A fault like any other, that says which file it is in."""
    config, _ = _documents(repository)
    (config.parent / "broken.yaml").write_text(f"sinks: {{stor: {_SECRET}}}\n")
    for name, named in (
        ("far", "../../etc/schema.yaml"),
        ("gone", "etc/none.yaml"),
        ("unknown", "conferencin"),
    ):
        (config.parent / f"{name}.yaml").write_text(f"schema: {named}\n")
    _sinks(config.parent, "third")
    commit()
    done = here("config", "diff", reference, "etc/collector.yaml")
    assert (done.code, done.out) == (2 if reference.startswith("-") else 78, b"")
    assert says in done.err.decode()
    assert _SECRET.encode() not in done.err
    assert b"Traceback" not in done.err


def test_a_colon_makes_no_path_a_revision(here: Here, repository: Path) -> None:
    """What begins like a path is one; so is the schema that a file names, as for ``serve``."""
    config, _ = _documents(repository)
    commit()
    wider = repository / "HEAD:etc"
    wider.mkdir()
    (wider / "collector.yaml").write_text("schema: HEAD:etc/schema.yaml\n")
    (wider / "schema.yaml").write_text(_SCHEMA.replace("retention: 30d", "retention: 31d", 1))
    done = here("config", "diff", config, "./HEAD:etc/collector.yaml")
    assert (done.code, b"schema widened" in done.out) == (1, True)
    assert here("config", "diff", config, "HEAD:etc/collector.yaml").code == 0


def test_without_git(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named as what is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    done = here("config", "diff", "HEAD:a.yaml", "b.yaml")
    assert (done.code, b"[E201]" in done.err) == (78, True)
