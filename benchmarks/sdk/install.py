"""What ``pip install`` without extras brings, in a fresh environment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from venv import EnvBuilder

from benchmarks.results import BenchmarkError
from benchmarks.sdk.figures import Install

_ROOT = Path(__file__).resolve().parent.parent.parent


def measure(place: Path) -> Install:
    """Needs the package index. Raises ``BenchmarkError`` if the installation fails."""
    with TemporaryDirectory(prefix="collector-benchmarks-", dir=place) as name:
        directory = Path(name)
        EnvBuilder().create(directory)
        before = _bytes(directory)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", name]
        done = subprocess.run(
            [*pip, "install", "--quiet", str(_ROOT)],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2]
            raise BenchmarkError(f"pip install: {last}")
        listed = subprocess.run([*pip, "list", "--format=json"], stdout=subprocess.PIPE, check=True)
        packages = sorted(each["name"] for each in json.loads(listed.stdout))
        return Install((_bytes(directory) - before) / 1e6, packages)


def _bytes(directory: Path) -> int:
    """Return the sizes of all files, compiled ones included."""
    return sum(
        path.stat().st_size
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink()
    )
