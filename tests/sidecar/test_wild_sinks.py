"""Sinks of other packages whose methods raise what they may not: the sidecar goes on, or says so
before it has made anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.deadline import WAIT_SECONDS, wait_until
from tests.sidecar.delivery import delivered
from tests.sidecar.serving import COMMAND, FREE_PORTS, started
from tests.sinks.packages import offered

pytestmark = pytest.mark.long

_ERRORS = ["ValueError('hunter2')", "SystemExit(0)"]
_HEAD = """
from collector.sinks import Sink, SinkSettings

class OurSettings(SinkSettings):
    @property
    def is_local(self):
        return True

    def place(self, directory):
        return "nowhere"

class Wild(Sink):
    Settings = OurSettings

"""
_WILD = f"""{_HEAD}
    def __init__(self, settings, opening):
        pass

    def deliver(self, *batches):
        pass
"""
_METHODS = {
    "is_held": "    is_held = property(lambda self: (_ for _ in ()).throw({error}))",
    "close": "    def close(self):\n        raise {error}",
    "check": "    @classmethod\n    def check(cls, settings, opening):\n        raise {error}",
    "__init__": "    def __init__(self, settings, opening):\n        raise {error}",
}


def _environ(folder: Path, method: str, error: str) -> dict[str, str]:
    """The environment of a sidecar with a sink that raises the error in that method."""
    (folder / "c.yaml").write_text("sinks: {wild: {}}\n")
    source = _WILD + _METHODS[method].format(error=error)
    site = offered(folder / "site", {"wild": source}, {"wild": "wild:Wild"})
    return {"PYTHONPATH": str(site)}


@pytest.mark.parametrize("error", _ERRORS)
@pytest.mark.parametrize("method", ["is_held", "close"])
def test_a_sink_cannot_end_the_sidecar(tmp_path: Path, method: str, error: str) -> None:
    """Records reach the store, and the exit code is 0; a sink that cannot say whether it holds
    expired data may hold some."""
    environ = _environ(tmp_path, method, error)
    with started(tmp_path, "--config", "c.yaml", environ=environ, command=COMMAND) as sidecar:
        assert sidecar.send(b'{"ip_address": "203.0.113.7"}').json["admitted"] == 1
        delivered(sidecar)
        if method == "is_held":
            wait_until(lambda: "pruning_held" in str(sidecar.events))
        assert sidecar.stop()[0] == 0
    assert "hunter2" not in str(sidecar.log)
    assert sidecar.events[-1]["delivered_all"] is True


@pytest.mark.parametrize("error", _ERRORS)
@pytest.mark.parametrize("method", ["check", "__init__"])
def test_a_sink_that_cannot_be_opened(tmp_path: Path, method: str, error: str) -> None:
    """E201, and exit code 78; where the type's check fails, ``config check`` says the same."""
    environ = FREE_PORTS | _environ(tmp_path, method, error)
    told = {}
    for command in ("serve", "config check"):
        done = subprocess.run(
            [sys.executable, "-m", "collector", *command.split(), "--config", "c.yaml"],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_SECONDS,
        )
        told[command] = done.returncode, done.stderr
    code, text = told["serve"]
    assert (code, text.count("[E201]"), "hunter2" in text) == (78, 1, False), text
    if method == "check":
        assert told["serve"] == told["config check"]
        assert not (tmp_path / "collector-data").exists()


_SLOW = f"""
import time
from pathlib import Path
{_HEAD}
    def __init__(self, settings, opening):
        self.calls = Path("calls")

    def note(self, call):
        with self.calls.open("a") as file:
            file.write(call + " ")

    def deliver(self, *batches):
        self.note("begin")
        while not Path("go").exists():
            time.sleep(0.01)
        self.note("end")

    def close(self):
        self.note("close")
"""


def test_no_sink_is_closed_while_it_delivers(tmp_path: Path) -> None:
    """A sink is for one thread at a time: closing the store in the middle of a transaction of
    another thread has stored rows of a batch that came again later."""
    (tmp_path / "c.yaml").write_text("sinks: {wild: {}}\n")
    site = offered(tmp_path / "site", {"wild": _SLOW}, {"wild": "wild:Wild"})
    environ = {"PYTHONPATH": str(site)}
    with started(tmp_path, "--config", "c.yaml", environ=environ, command=COMMAND) as sidecar:
        assert sidecar.send(b'{"ip_address": "203.0.113.7"}').json["admitted"] == 1
        wait_until((tmp_path / "calls").exists)
        assert sidecar.stop()[0] == 0
        assert not any(event.get("delivered_all") for event in sidecar.events)
    assert (tmp_path / "calls").read_text() == "begin "
    (tmp_path / "go").touch()
    with started(tmp_path, "--config", "c.yaml", environ=environ, command=COMMAND) as sidecar:
        delivered(sidecar)
        assert sidecar.stop()[0] == 0
    assert (tmp_path / "calls").read_text() == "begin begin end close "
