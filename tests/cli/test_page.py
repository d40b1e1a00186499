"""``collector page``: the files that it writes, whose verdicts are those of the claims."""

from __future__ import annotations

import subprocess
from pathlib import Path

import orjson
import pytest

from tests.pages.sample_config import configured
from tests.support.command import run


def test_the_page(tmp_path: Path) -> None:
    configured(tmp_path)
    out, config = tmp_path / "site", tmp_path / "collector.yaml"
    done = run("page", "-o", out, "--config", config, "--language", "id")
    assert done.code == 0, done.err
    facts = orjson.loads((out / "page.json").read_bytes())
    assert {each["verdict"] for each in facts["promises"]} <= {"holds", "unproven"}
    assert facts["checked"] == facts["made"]
    assert [each["name"] for each in facts["destinations"]] == ["store", "ndjson"]
    assert str(tmp_path) not in orjson.dumps(facts).decode()
    page = (out / "index.html").read_text()
    assert '<html lang="id"' in page
    assert str(tmp_path) not in page


def test_what_cannot_be_written(tmp_path: Path) -> None:
    configured(tmp_path)
    (tmp_path / "site").touch()
    done = run("page", "-o", tmp_path / "site", "--config", tmp_path / "collector.yaml")
    assert done.code == 78
    assert b"E203" in done.err


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    """A schema with three versions in a git repository: one wider, one narrower."""
    path = tmp_path / "sample.yaml"
    for number, most in enumerate((10, 20, 5)):
        path.write_text(
            f"schema: sample\nversion: 1.{number}.0\ntitle: A sample\nowner: a\npurposes:\n"
            "  ops: {use: essential.service.operations, basis: contract, reason: It has to be}\n"
            "fields:\n  device.memory.size: {kind: integer, minimum: 0, step: 1,"
            f" maximum: {most}, category: system, purposes: [ops], retention: 1d,"
            " reason: It has to be}\n"
        )
        for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"]):
            who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
            subprocess.run(["git", *who, *words], cwd=tmp_path, check=True)
    return path


def test_changes(committed: Path, tmp_path: Path) -> None:
    configured(tmp_path, sinks={}, schema=str(committed))
    run("page", "-o", tmp_path / "site", "--config", tmp_path / "collector.yaml")
    facts = orjson.loads((tmp_path / "site" / "page.json").read_bytes())
    (schema,) = facts["schemas"]
    found = [
        (each["version"], bool(each["widening"]), bool(each["narrowing"]), each["is_first"])
        for each in schema["history"]
    ]
    assert found == [
        ("1.2.0", False, True, False),
        ("1.1.0", True, False, False),
        ("1.0.0", False, False, True),
    ]
