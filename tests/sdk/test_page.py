"""The page about the SDK is true, and its examples run."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from collector.contracts import Tally
from collector.sdk.account import LOSSES, Account
from collector.sdk.settings import settings
from tests.sdk.program import PATIENCE
from tests.sdk.stores import rows
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.tcp import free_port

_PAGE = (Path(__file__).parents[2] / "docs" / "sdk.md").read_text()
_BLOCKS = re.findall(r"<!-- (\w+) -->\n```python\n(.*?)```", _PAGE, re.DOTALL)


def _blocks(marker: str) -> list[str]:
    return [text for found, text in _BLOCKS if found == marker]


def _section(title: str) -> str:
    return _PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def _first_cells(text: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


def test_every_example_is_run() -> None:
    """Each example has a marker, and each marker has its test."""
    assert len(_BLOCKS) == _PAGE.count("```python\n")
    assert {marker for marker, _ in _BLOCKS} == {"run", "app", "test"}


@pytest.mark.long  # `tests/test_fresh.py` runs them as well, from the wheel
@pytest.mark.parametrize("example", _blocks("run"), ids=range(len(_blocks("run"))))
def test_programs(tmp_path: Path, example: str) -> None:
    """Each is a program of its own, in an empty directory."""
    _run(["-W", "error", "-c", example], tmp_path)
    assert list(tmp_path.iterdir())


def _run(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | PATIENCE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=WAIT_SECONDS,
    )
    assert done.returncode == 0, done.stdout.decode()
    return done.stdout.decode()


@pytest.mark.long  # as those above
def test_the_three_lines(tmp_path: Path) -> None:
    """The row has the values that the page names."""
    _run(["-c", _blocks("run")[0]], tmp_path)
    (row,) = rows(tmp_path / "telemetry.db")
    kept = {name for name, value in row.items() if value is not None}
    assert kept == {"client.address", "device.type", "received", "count"}


@pytest.mark.long  # as those above
def test_the_app(tmp_path: Path) -> None:
    """Served by uvicorn and requested once, it stores one row with the client."""
    serve_the_app(Path(sys.executable), tmp_path)
    (row,) = rows(tmp_path / "telemetry.db", "web")
    assert (row["client.address"], row["os.type"]) == ("127.0.0.1", "linux")


def serve_the_app(python: Path, folder: Path) -> None:
    """Write the application of the page, serve it with an interpreter, and request it once."""
    (example,) = _blocks("app")
    (folder / "rooms.py").write_text(example)
    port = free_port()
    server = subprocess.Popen(
        [python, "-m", "uvicorn", "rooms:app", f"--port={port}"],
        cwd=folder,
        env=os.environ | PATIENCE,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        assert _asked(f"http://127.0.0.1:{port}/rooms/1") == b'"welcome"'
    finally:
        server.terminate()
        server.wait(WAIT_SECONDS)


def _asked(url: str) -> bytes:
    headers = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Firefox/120.0"}
    request = urllib.request.Request(url, headers=headers)

    def ask() -> bytes:
        with (
            suppress(ConnectionError, urllib.error.URLError),
            urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer,
        ):
            return bytes(answer.read())
        return b""

    return wait_until(ask)


def test_every_setting_is_there() -> None:
    """The table has the texts of the code."""
    table = _section("Settings")
    for each in settings():
        default = "none" if each.default in ("", None, ()) else f"`{each.default}`"
        assert f"| `{each.name}` | `{each.variable}` | {default} | {each.description} |\n" in table
    assert _first_cells(table) == [each.name for each in settings()]


def test_every_count_is_there() -> None:
    """The counts of an account beyond those of a tally, and the reasons of loss."""
    common = {each.name for each in dataclasses.fields(Tally)}
    counts = [each.name for each in dataclasses.fields(Account) if each.name not in common]
    assert _first_cells(_section("What is counted")) == [*counts, *LOSSES]
