"""``collector schema catalogue …``, and that a miss is counted and never learned."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.schema import resources
from collector.schema.catalogue import read
from tests.support.command import run, run_measured
from tests.support.make_schemas import HEAD, REST

SOURCE = "the vendor's list, https://example.org/models, 2026-11-25"
GOOD = f"# source: {SOURCE}\n# A note.\nAlpha\nGamma\n"
SCHEMA = f"""{HEAD}max_bits: 8
fields:
  device.type: {{kind: enum, values: [phone, tablet], {REST}}}
  device.model.name: {{kind: token, catalogue: mine, {REST}}}
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A catalogue of a user."""
    path = tmp_path / "mine.txt"
    path.write_text(GOOD, encoding="utf-8")
    return path


def _snapshot(folder: Path) -> dict[Path, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        file.truncate(400 << 20)
    ended = run_measured("schema", "catalogue", "check", path)
    assert ended.code == 78
    assert ended.err.count(b"[E107]") == 1
    assert ended.peak < 200


def test_check_says_what_the_shipped_ones_are() -> None:
    rows = run("schema", "catalogue", "check", "--json").json
    names = sorted(path.stem for path in (resources.shipped() / "catalogues").glob("*.txt"))
    assert [row["catalogue"] for row in rows] == names
    for row in rows:
        assert row["entries"] == sum(block["entries"] for block in row["sources"])
        assert 2 ** (row["bits"] - 0.1) < row["entries"] < 2 ** (row["bits"] + 0.1)
        assert row["faults"] == []
    ended = run("schema", "catalogue", "check", "os-names")
    assert (ended.code, b"os-names" in ended.out, b"device-models" in ended.out) == (0, True, False)
    assert b"(Apache-2.0)" in ended.out


def test_check_reports_all_faults_of_all_files(mine: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_text("# source: x\nzeta-9\nAlpha-9\nAna's phone\nzeta-9\n", encoding="utf-8")
    ended = run("schema", "catalogue", "check", mine, bad)
    assert ended.code == 78
    said = ended.err.decode()
    assert f"{bad}:3: warning: " in said
    assert [f"{bad}:{line}:1: " in said for line in (4, 5)] == [True, True]
    assert said.count("[E107]") == 2
    assert str(mine) not in said
    assert not any(word in said for word in ("zeta", "Alpha", "Ana's"))
    rows = run("schema", "catalogue", "check", mine, bad, "--json").json
    assert [[fault["line"] for fault in row["faults"]] for row in rows] == [[], [4, 5]]
    assert [warning["line"] for warning in rows[1]["warnings"]] == [3]


def test_check_knows_its_way(tmp_path: Path) -> None:
    for reference in ("nowhere", tmp_path / "nowhere.txt", tmp_path):
        ended = run("schema", "catalogue", "check", reference)
        assert ended.code == 78
        assert b"[E101]" in ended.err


def test_a_miss_is_counted_never_learned(mine: Path, tmp_path: Path) -> None:
    """An unknown name costs its field each time; no file and no set is changed by it."""
    schema = tmp_path / "devices.yaml"
    schema.write_text(SCHEMA, encoding="utf-8")
    event = b'{"device":{"type":"phone","model":{"name":"canary-model"}}}\n'
    known = b'{"device":{"type":"phone","model":{"name":"Alpha"}}}\n'
    catalogues = resources.shipped() / "catalogues"
    before = _snapshot(tmp_path), _snapshot(catalogues), read("mine", tmp_path)
    for _ in range(2):
        ended = run("filter", "--schema", schema, stdin=event * 500 + known)
        assert ended.code == 0
        assert ended.tally["dropped"] == {"device.model.name": {"invalid_value": 500}}
        assert ended.tally["admitted"] == 501
        assert b"canary" not in ended.out + ended.err
        assert [line.get("device.model.name") for line in ended.lines[-2:]] == [None, "Alpha"]
        assert (_snapshot(tmp_path), _snapshot(catalogues), read("mine", tmp_path)) == before
