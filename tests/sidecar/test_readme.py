"""What the README shows of the sidecar happens, as printed; only the port is another."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from time import sleep

from tests.conftest import required
from tests.sidecar.serving import started

_README = (Path(__file__).parents[2] / "README.md").read_text()
_STEPS = re.findall(r"<!-- serve -->\n```(console|python)\n(.*?)```", _README, re.DOTALL)
_DELIVERED_SECONDS = 1.0


def test_the_readme_shows_what_happens(tmp_path: Path) -> None:
    """Start it, send with curl and with an OpenTelemetry SDK, look at the store and the ledger."""
    if shutil.which("curl") is None:
        required("curl")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    assert [kind for kind, _ in _STEPS] == ["console", "python", "console"]
    with started(tmp_path) as sidecar:
        for kind, text in _STEPS:
            shown = text.replace("localhost:4318", f"localhost:{sidecar.ports['http']}")
            for command, expected in _typed(kind, shown):
                done = subprocess.run(
                    command,
                    cwd=tmp_path,
                    env=os.environ | {"PATH": path},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    check=True,
                )
                assert done.stdout.decode().rstrip("\n") == expected
            sleep(_DELIVERED_SECONDS)


def _typed(kind: str, text: str) -> list[tuple[list[str], str]]:
    """Each command with the output that is shown."""
    if kind == "python":
        return [([sys.executable, "-W", "error", "-c", text], "")]
    parts = (part.partition("\n") for part in text.split("$ ")[1:])
    return [(["bash", "-c", command], output.rstrip("\n")) for command, _, output in parts]
