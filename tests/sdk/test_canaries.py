"""Canaries in every slot of every event: none is in any byte that the process writes, prints or
sends. The same search finds a planted leak."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sdk.wires import wire
from tests.sidecar.marks import Marks
from tests.sidecar.swept import LEAKY, TIGHT, events, swept


@pytest.mark.long
@pytest.mark.parametrize("leaky", [False, True], ids=["tight", "leaky"])
def test_nothing_of_what_is_emitted_gets_out(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, leaky: bool
) -> None:
    """Files, output, log, tracebacks, the bytes on the wire, and all data of the sidecar."""
    marks, given = Marks(), tmp_path_factory.mktemp("given") / "events.ndjson"
    lines = [body.content for body in events(marks) if body.kind.endswith("ndjson")]
    chosen = b"\n".join(lines).splitlines()[:: 9 if leaky else 2]
    given.write_bytes(b"\n".join(chosen))
    here = tmp_path / "application"
    here.mkdir()
    with (
        swept(tmp_path, schema=LEAKY if leaky else TIGHT) as sidecar,
        wire(sidecar.ports["http"]) as between,
    ):
        command = [sys.executable, "-X", "dev", "-m", "tests.sdk.emitter"]
        done = subprocess.run(
            [*command, given, tmp_path / "swept.yaml", here, str(between.port)],
            capture_output=True,
            env=os.environ | {"SWEPT_KEY": "a secret that is long enough"},
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        for name in ("stdout", "stderr"):
            (here / name).write_bytes(getattr(done, name))
        (here / "sent").write_bytes(between.sent)
        (here / "answered").write_bytes(between.answered)
    assert between.sent.count(b'"schema"') > 100
    assert done.stdout.count(b'"delivered"') == 5
    found = {leak.file for leak in marks.found(tmp_path)}
    if leaky:
        assert {"t.db", "t.ndjson", "sent"} <= found
        assert not found & {"stdout", "stderr", "log", "faults", "answered"}
    else:
        assert found == set()
