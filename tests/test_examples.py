"""The programs under ``examples`` do what they show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from collector.testing import canaries, scan
from tests.deadline import WAIT_SECONDS
from tests.sdk.stores import rows

_EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_meeting_client(tmp_path: Path) -> None:
    """Participants join, chat and leave; the store has their machines, and nothing of them."""
    people = canaries(2)
    program = [sys.executable, "-W", "error", str(_EXAMPLES / "meeting_client.py")]
    options = ["--people", ",".join(people), "--store", str(tmp_path / "telemetry.db")]
    environ = os.environ | {"COLLECTOR_SDK_EXIT_TIMEOUT": "60"}
    done = subprocess.run(
        [*program, *options], capture_output=True, check=False, env=environ, timeout=WAIT_SECONDS
    )
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode()
    assert f"{people[1]}: Can you hear me?" in shown
    assert f"{people[1]}: Bye, see you on Monday!" in shown
    assert "0 of 5 texts are in it" in shown
    counted = json.loads(shown.partition("counted: ")[2].splitlines()[0])
    assert counted["received"] == counted["delivered"] == 10
    assert counted["content"] == {"chat": 6, "transcript": 2}
    stored = rows(tmp_path / "telemetry.db")
    assert {row["client.address"] for row in stored} == {"127.0.0.1"}
    assert sum(row["count"] for row in stored) == 10
    assert not scan(tmp_path, people)
