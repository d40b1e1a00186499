"""What is published: the same bytes from the same tree, and a bill of what they bring."""

from __future__ import annotations

import hashlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

_ROOT = Path(__file__).parent.parent
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
_PARTS = ("collector", "schemas", "tests", "benchmarks", "docs", "deploy", "examples")
_WORKFLOW = _ROOT / ".github" / "workflows" / "publish.yml"
_BILL = _ROOT / ".ci" / "bill.py"


def _tree(folder: Path) -> Path:
    """A copy of what builds read, made now."""
    folder.mkdir(parents=True)
    for name in _PARTS:
        shutil.copytree(_ROOT / name, folder / name, copy_function=shutil.copy, symlinks=True)
    for file in (*_ROOT.glob("*.md"), *map(_ROOT.joinpath, ("LICENSE", "pyproject.toml"))):
        shutil.copy(file, folder)
    shutil.copy(_ROOT / ".gitignore", folder)
    return folder


def _built(tree: Path, umask: int, *targets: str) -> dict[str, str]:
    """The digests of what is built there."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", "dist", *targets],
        cwd=tree,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1764200000"},
        umask=umask,
        check=True,
        capture_output=True,
        timeout=300,
    )
    files = sorted((tree / "dist").iterdir())
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.long
def test_two_builds_are_the_same(tmp_path: Path) -> None:
    """In two folders, with other times of files and another umask; and the wheel that is built from
    the sdist is the one that is built from the tree."""
    first = _built(_tree(tmp_path / "one"), 0o022)
    second_tree = _tree(tmp_path / "another" / "folder")
    for path in second_tree.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert _built(second_tree, 0o077) == first
    name = f"{canonicalize_name(_PROJECT['name']).replace('-', '_')}-{_PROJECT['version']}"
    assert set(first) == {f"{name}.tar.gz", f"{name}-py3-none-any.whl"}
    shutil.unpack_archive(tmp_path / "one" / "dist" / f"{name}.tar.gz", tmp_path, filter="data")
    again = _built(tmp_path / name, 0o022, "-t", "wheel")
    assert again.items() <= first.items()


def test_the_bill_has_what_is_needed() -> None:
    """Each dependency of the extras for production, in the version that is here, and each with all
    that it needs; twice the same, without a time, a folder or a host."""
    bill: dict[str, Any] = runpy.run_path(str(_BILL))
    made, extras = bill["bill"](), bill["EXTRAS"]
    assert made == bill["bill"]()
    assert made["metadata"]["component"]["version"] == version("data-minimisation-collector")
    names = {each["name"] for each in made["components"]}
    optional = _PROJECT["optional-dependencies"]
    assert set(extras) <= set(optional)
    direct = [*_PROJECT["dependencies"], *(text for extra in extras for text in optional[extra])]
    for requirement in map(Requirement, direct):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            assert canonicalize_name(requirement.name) in names | {_PROJECT["name"]}
    assert all(each["version"] == version(each["name"]) for each in made["components"])
    references = {each["ref"] for each in made["dependencies"]}
    assert references == {each["bom-ref"] for each in made["components"]} | {
        made["metadata"]["component"]["bom-ref"]
    }
    assert {to for each in made["dependencies"] for to in each["dependsOn"]} <= references
    text = json.dumps(made)
    assert "://" not in text
    assert str(_ROOT) not in text


def test_only_a_person_publishes() -> None:
    """The workflow is started by hand, its jobs may do what they need only, and no secret is in
    it: the index trusts the workflow itself."""
    text = _WORKFLOW.read_text()
    workflow = YAML(typ="safe", pure=True).load(text)
    assert set(workflow["on"]) == {"workflow_dispatch"}
    assert workflow["permissions"] == {"contents": "read"}
    granted = {name: job.get("permissions") for name, job in workflow["jobs"].items()}
    assert granted == {"build": None, "publish": {"id-token": "write"}}
    assert workflow["jobs"]["publish"]["environment"]
    assert workflow["jobs"]["publish"]["needs"] == "build"
    assert "secrets." not in text
    assert ".ci/release" in text


def test_versions_agree() -> None:
    """The version of the package has the form of one, and lock files name no host."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", _PROJECT["version"])
    constraints = (_ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+", line) for line in constraints)
