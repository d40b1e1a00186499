"""docs/operating.md: copies of a sidecar's data that are made under load, and a sidecar that starts
from them.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from threading import Event

import pytest

from tests.conftest import required
from tests.support.command import run
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.programs import threads
from tests.support.sidecar import Sidecar, started

_PAGE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()


def _commands() -> str:
    """The page's commands for copying, as a script."""
    (block,) = re.findall(r"```console\n(\$ umask.*?)```", _PAGE, re.DOTALL)
    return "\n".join(line.removeprefix("$ ") for line in str(block).splitlines())


def _addresses(folder: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{folder / 'store.db'}?mode=ro", uri=True)) as store:
        query = 'SELECT "client.address" FROM conferencing'
        return [address for (address,) in store.execute(query)]


def _send(sidecar: Sidecar, ended: Event, acknowledged: list[str]) -> None:
    """Send events, each from its own address, until ``ended`` is set."""
    for number in range(1, 65_000):
        address = f"10.0.{number >> 8}.{number & 255}"
        if (
            ended.is_set()
            or sidecar.send(b'{"ip_address": "%b"}\n' % address.encode()).status != 200
        ):
            return
        acknowledged.append(address)


@pytest.mark.long
def test_copies_begin_again(tmp_path: Path) -> None:
    """Every event acknowledged before the copies is there once. The ledger holds, and a later
    checkpoint shows what is missing."""
    if shutil.which("sqlite3") is None:
        required("sqlite3")
    folder, ended, acknowledged = tmp_path / "first", Event(), list[str]()
    folder.mkdir()
    with started(folder) as sidecar:
        with threads(lambda: _send(sidecar, ended, acknowledged)):
            wait_until(lambda: len(acknowledged) >= 200)
            before = len(acknowledged)
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            subprocess.run(
                ["bash", "-euc", _commands()],
                cwd=folder,
                env={**os.environ, "PATH": path},
                check=True,
                timeout=WAIT_SECONDS,
            )
            during = len(acknowledged)
            wait_until(lambda: len(acknowledged) >= during + 100)
            ended.set()
        assert sidecar.stop()[0] == 0  # it writes a checkpoint
    later = run("ledger", "checkpoint", "--data", folder / "collector-data").out
    again = tmp_path / "again"
    again.mkdir()
    (folder / "backup").rename(again / "collector-data")
    (tmp_path / "later.json").write_bytes(later)
    with started(again) as sidecar:
        assert sidecar.send(b'{"ip_address": "203.0.113.7"}\n').status == 200
        wait_until(lambda: "203.0.113.7" in _addresses(again / "collector-data"))
        assert sidecar.stop()[0] == 0
    found = _addresses(again / "collector-data")
    assert len(found) == len(set(found))
    assert set(acknowledged[:before]) <= set(found)
    data = ("--data", again / "collector-data")
    assert run("ledger", "verify", *data).code == 0
    for newer in (folder / "checkpoint.json", tmp_path / "later.json"):
        assert run("ledger", "verify", *data, "--checkpoint", newer).code == 1
