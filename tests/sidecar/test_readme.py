"""The README and the sidecar's page show real output; only the port differs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import required
from tests.support.deadline import WAIT_SECONDS
from tests.support.delivery import delivered
from tests.support.sidecar import Sidecar, started

_ROOT = Path(__file__).parents[2]
_STEPS = {
    page: re.findall(
        r"<!-- serve -->\n```(console|python)\n(.*?)```", (_ROOT / page).read_text(), re.DOTALL
    )
    for page in ("README.md", "docs/sidecar.md")
}


@pytest.mark.parametrize(
    ("page", "kinds"),
    [
        ("README.md", ["console"] * 2),
        pytest.param("docs/sidecar.md", ["console", "python", "console"], marks=pytest.mark.long),
    ],
)
def test_pages_show_what_happens(page: str, kinds: list[str], tmp_path: Path) -> None:
    """Start the sidecar, send with curl and with an OpenTelemetry SDK, and look at the store and
    the ledger."""
    if shutil.which("curl") is None:
        required("curl")
    assert [kind for kind, _ in _STEPS[page]] == kinds
    with started(tmp_path) as sidecar:
        follow(page, sidecar, Path(sys.executable).parent, tmp_path)


def follow(page: str, sidecar: Sidecar, programs: Path, folder: Path) -> None:
    """Run all of a page's commands that send to a sidecar or query it, with the programs of a
    folder."""
    for kind, text in _STEPS[page]:
        shown = text.replace("localhost:4318", f"localhost:{sidecar.ports['http']}")
        for command, expected in _typed(kind, shown, programs):
            done = subprocess.run(
                command,
                cwd=folder,
                env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=WAIT_SECONDS,
            )
            assert (done.returncode, done.stdout.decode().rstrip("\n")) == (0, expected)
        delivered(sidecar)


def _typed(kind: str, text: str, programs: Path) -> list[tuple[list[str], str]]:
    """Each command with the output that the page shows."""
    if kind == "python":
        return [([str(programs / "python"), "-W", "error", "-c", text], "")]
    parts = (part.partition("\n") for part in text.split("$ ")[1:])
    return [(["bash", "-c", command], output.rstrip("\n")) for command, _, output in parts]
