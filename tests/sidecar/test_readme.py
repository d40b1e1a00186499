"""The README and the sidecar's page show what happens, as printed; only the port is another."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import required
from tests.deadline import WAIT_SECONDS
from tests.sidecar.delivery import delivered
from tests.sidecar.serving import started

_ROOT = Path(__file__).parents[2]
_STEPS = {
    page: re.findall(
        r"<!-- serve -->\n```(console|python)\n(.*?)```", (_ROOT / page).read_text(), re.DOTALL
    )
    for page in ("README.md", "docs/sidecar.md")
}


@pytest.mark.parametrize(
    ("page", "kinds"),
    [("README.md", ["console"] * 2), ("docs/sidecar.md", ["console", "python", "console"])],
)
def test_pages_show_what_happens(page: str, kinds: list[str], tmp_path: Path) -> None:
    """Start it, send with curl and with an OpenTelemetry SDK, look at the store and the ledger."""
    if shutil.which("curl") is None:
        required("curl")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    assert [kind for kind, _ in _STEPS[page]] == kinds
    with started(tmp_path) as sidecar:
        for kind, text in _STEPS[page]:
            shown = text.replace("localhost:4318", f"localhost:{sidecar.ports['http']}")
            for command, expected in _typed(kind, shown):
                done = subprocess.run(
                    command,
                    cwd=tmp_path,
                    env=os.environ | {"PATH": path},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    check=True,
                    timeout=WAIT_SECONDS,
                )
                assert done.stdout.decode().rstrip("\n") == expected
            delivered(sidecar)


def _typed(kind: str, text: str) -> list[tuple[list[str], str]]:
    """Each command with the output that is shown."""
    if kind == "python":
        return [([sys.executable, "-W", "error", "-c", text], "")]
    parts = (part.partition("\n") for part in text.split("$ ")[1:])
    return [(["bash", "-c", command], output.rstrip("\n")) for command, _, output in parts]
