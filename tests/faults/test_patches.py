"""Every kept fault still applies and names test files. `make faults` runs them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import required
from tests.faults.__main__ import read
from tests.support.copies import ROOT
from tests.support.rows import for_each

_PATCHES = sorted(Path(__file__).parent.glob("*/*.patch"))


@for_each("path", _PATCHES)
def test_a_fault_applies(path: Path) -> None:
    if shutil.which("git") is None:
        required("git")
    fault = read(path)
    assert all((ROOT / each.partition("::")[0]).exists() for each in fault.tests)
    command = ["git", "apply", "--check", "--numstat", str(path)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not any(line.split("\t")[2].startswith("tests/") for line in done.stdout.splitlines())


@pytest.mark.parametrize("text", ["", "It is wrong.\nFound by: tests/a\n", "diff --git a/a b/a\n"])
def test_what_is_no_fault(tmp_path: Path, text: str) -> None:
    """A sentence, tests and a patch are needed."""
    (tmp_path / "a.patch").write_text(text)
    with pytest.raises(ValueError, match="are needed"):
        read(tmp_path / "a.patch")
