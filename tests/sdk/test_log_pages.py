"""The page about OpenTelemetry and logs is true, and its examples run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from collector.ops.log_allowlist import LEFT_OUT
from tests.sdk.program import PATIENCE
from tests.support.deadline import WAIT_SECONDS

_PAGE = (Path(__file__).parents[2] / "docs" / "opentelemetry.md").read_text()
_EXAMPLE = re.compile(r"<!-- run -->\n```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)
_EXAMPLES = _EXAMPLE.findall(_PAGE)


@pytest.mark.long  # `tests/test_fresh.py` runs them as well, from the wheel
@pytest.mark.parametrize(("program", "says"), _EXAMPLES, ids=range(len(_EXAMPLES)))
def test_examples(tmp_path: Path, program: str, says: str) -> None:
    """Each is a program of its own, in an empty directory, and prints what the page shows."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env=os.environ | PATIENCE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=WAIT_SECONDS,
    )
    assert done.returncode == 0, done.stdout
    assert not says or done.stdout == says
    assert "Ana" not in done.stdout
    assert "never sent" not in done.stdout


def test_every_example_is_run() -> None:
    """Each has the marker."""
    assert len(_EXAMPLES) == _PAGE.count("```python\n") == 5


def test_the_page_lists_the_reasons() -> None:
    """The table has all reasons, and no others."""
    assert tuple(re.findall(r"^\| `(\w+)` \|", _PAGE, re.MULTILINE)) == LEFT_OUT
