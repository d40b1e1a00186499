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
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from tests.conftest import required

_ROOT = Path(__file__).parent.parent
_PROJECT = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
_PARTS = ("collector", "schemas", "tests", "benchmarks", "docs", "deploy", "examples")
_WORKFLOW = _ROOT / ".github" / "workflows" / "publish.yml"
_BILL = _ROOT / ".ci" / "bill.py"


def _tree(folder: Path) -> Path:
    """A copy of what builds read, made now, but for what is being compiled meanwhile."""
    folder.mkdir(parents=True)
    ignored = shutil.ignore_patterns("*.pyc.*")
    for name in _PARTS:
        shutil.copytree(
            _ROOT / name, folder / name, copy_function=shutil.copy, symlinks=True, ignore=ignored
        )
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


@pytest.mark.nightly
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


def _workflow() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(_WORKFLOW.read_text())
    return found


def _steps(job: str) -> list[str]:
    """The commands of a job of the workflow that publishes."""
    return [step["run"] for step in _workflow()["jobs"][job]["steps"] if "run" in step]


def _cloned(folder: Path) -> Path:
    """A fresh clone of the last commit, whose changelog has a section for its version."""
    if shutil.which("git") is None or not (_ROOT / ".git").exists():
        required("git, and a clone of the repository")
    _command("git", "clone", "--quiet", str(_ROOT), str(folder), folder=folder.parent)
    changes = folder / "CHANGELOG.md"
    changes.write_text(f"## {_PROJECT['version']} (2026-01-01)\n\n{changes.read_text()}")
    who = ("-c", "user.name=tests", "-c", "user.email=tests@example.org")
    _command("git", *who, "commit", "--quiet", "--all", "--message", "A release", folder=folder)
    return folder


def _command(*words: str, folder: Path, fails: bool = False, **environ: str) -> str:
    """Run a command there, in the environment of these tests; return what it says."""
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "VENV": sys.prefix, **environ},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode != 0) == fails, done
    return done.stdout + done.stderr


@pytest.mark.nightly
def test_the_steps_of_a_release_in_a_fresh_clone(tmp_path: Path) -> None:
    """All that the workflow runs but the making of an environment, and nothing is uploaded: what is
    built is of the commit alone, the same bytes twice, and whole. A tag of another version, a
    changelog without a section and an environment of another version end it."""
    clone = _cloned(tmp_path / "clone")
    tag, environment, build = _steps("build")
    assert environment == "make .venv/.dev"
    version = _PROJECT["version"]
    _command("bash", "-ec", tag, folder=clone, GITHUB_REF=f"refs/tags/v{version}")
    for other in ("refs/heads/main", "refs/tags/v9.9.9", f"refs/tags/{version}"):
        _command("bash", "-ec", tag, folder=clone, fails=True, GITHUB_REF=other)
    (clone / "collector" / "not_committed.py").write_text("")
    _command("bash", "-ec", build, folder=clone)
    digests = (clone / "dist" / "SHA256SUMS").read_text()
    _command("sha256sum", "--check", "--strict", "SHA256SUMS", folder=clone / "dist")
    name = f"data_minimisation_collector-{version}"
    files = {f"{name}-py3-none-any.whl", f"{name}.tar.gz", f"{name}.cdx.json", "SHA256SUMS"}
    assert {path.name for path in (clone / "dist").iterdir()} == files
    with ZipFile(clone / "dist" / f"{name}-py3-none-any.whl") as wheel:
        assert "collector/__init__.py" in wheel.namelist()
        assert not any("not_committed" in each for each in wheel.namelist())
    _command("bash", "-ec", build, folder=clone)
    assert (clone / "dist" / "SHA256SUMS").read_text() == digests
    (upload,) = _steps("publish")
    _command("bash", "-ec", upload, folder=clone)
    assert {path.suffix for path in (clone / "upload").iterdir()} == {".whl", ".gz"}

    _command("git", "reset", "--quiet", "--hard", "HEAD~1", folder=clone)
    assert "no section" in _command("bash", "-ec", build, folder=clone, fails=True)
    project = clone / "pyproject.toml"
    project.write_text(project.read_text().replace(f'"{version}"', '"9.9.9"', 1))
    assert "make .venv/.dev" in _command(".ci/release", folder=clone, fails=True)


def test_the_workflow_is_well_formed() -> None:
    """Each step runs a command that a shell can read or uses an action of a stated version; each
    job needs jobs that there are; and what is called is there, and can be executed."""
    workflow = _workflow()
    assert set(workflow) == {"name", "on", "permissions", "jobs"}
    for name, job in workflow["jobs"].items():
        assert {"runs-on", "timeout-minutes", "steps"} <= set(job)
        known = ("runs-on", "timeout-minutes", "steps", "needs", "environment", "permissions")
        assert set(job) <= set(known)
        assert job.get("needs", name) in workflow["jobs"]
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert set(step) <= {"name", "run", "uses", "with"}
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", step["uses"])
            else:
                _command("bash", "-n", "-c", step["run"], folder=_ROOT)
    assert _steps("build")[-1] == "RELEASE=1 .ci/release"
    assert os.access(_ROOT / ".ci" / "release", os.X_OK)


def test_only_a_person_publishes() -> None:
    """The workflow is started by hand, its jobs may do what they need only, and no secret is in
    it: the index trusts the workflow itself."""
    text, workflow = _WORKFLOW.read_text(), _workflow()
    assert set(workflow["on"]) == {"workflow_dispatch"}
    assert workflow["permissions"] == {"contents": "read"}
    granted = {name: job.get("permissions") for name, job in workflow["jobs"].items()}
    assert granted == {"build": None, "publish": {"id-token": "write"}}
    assert workflow["jobs"]["publish"]["environment"]
    assert workflow["jobs"]["publish"]["needs"] == "build"
    assert "secrets." not in text


def test_versions_agree() -> None:
    """The version of the package has the form of one, and lock files name no host."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", _PROJECT["version"])
    constraints = (_ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+", line) for line in constraints)
