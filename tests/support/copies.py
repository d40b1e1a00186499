"""Copies of the project's tree. A test changes a file in a copy and runs tests there as in the
tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import cache_from_source
from pathlib import Path

ROOT = Path(__file__).parents[2]


def copy_tree(target: Path) -> None:
    """Copy all files that git tracks, with their times, and Python's compiled files."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if not (ROOT / name).is_file():
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
        compiled = Path(cache_from_source(name)) if name.endswith(".py") else None
        if compiled is not None and (ROOT / compiled).is_file():
            (target / compiled).parent.mkdir(exist_ok=True)
            shutil.copy2(ROOT / compiled, target / compiled)


def environ(tree: Path) -> dict[str, str]:
    """Return the environment in which a program imports the package and the tests of a copy."""
    corpora = os.environ.get("COLLECTOR_CORPORA", "../shared/corpora")
    return os.environ | {"PYTHONPATH": str(tree), "COLLECTOR_CORPORA": str(ROOT / corpora)}


def check_imported(tree: Path) -> None:
    """Raise ``RuntimeError`` unless programs in a copy import the copy's package."""
    code = "import collector, tests; print(collector.__file__); print(tests.__file__)"
    said = run(tree, ["-c", code], seconds=60).stdout.split()
    if [Path(each) for each in said] != [
        tree / f"{name}/__init__.py" for name in ("collector", "tests")
    ]:
        raise RuntimeError(f"a program in {tree} imports another package: {said}")


def run(tree: Path, words: Sequence[str], *, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments in a copy. Return its output, with both streams as one.

    Raises ``subprocess.TimeoutExpired`` after ``seconds``, and kills all processes that it started.
    """
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=tree,
        env=environ(tree),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, said)
