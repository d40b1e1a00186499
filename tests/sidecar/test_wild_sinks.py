"""Sinks of other packages whose methods raise unexpected exceptions. The sidecar goes on, or
reports it before creating anything."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from collector.server.control_client import Redeliver, Reload, Status, ask
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.delivery import delivered
from tests.support.packages import offered
from tests.support.sidecar import COMMAND, FREE_PORTS, Sidecar, started

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
    """The environment of a sidecar with a sink whose method raises the error."""
    (folder / "c.yaml").write_text("sinks: {wild: {}}\n")
    source = _WILD + _METHODS[method].format(error=error)
    site = offered(folder / "site", {"wild": source}, {"wild": "wild:Wild"})
    return {"PYTHONPATH": str(site)}


@pytest.mark.parametrize("error", _ERRORS)
@pytest.mark.parametrize("method", ["is_held", "close"])
def test_a_sink_cannot_end_the_sidecar(tmp_path: Path, method: str, error: str) -> None:
    """Records reach the store, and the exit code is 0. A sink that cannot say whether it holds
    expired data counts as possibly holding some."""
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
    """E201, and exit code 78. If the type's check fails, ``config check`` says the same."""
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

    @classmethod
    def check(cls, settings, opening):
        pass

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
    """A sink serves one thread at a time. Closing the store in the middle of another thread's
    transaction once stored rows of a batch that came again later."""
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


_GATED = f"""
import time
from pathlib import Path
from collector.errors import Unacceptable
{_HEAD}
    def __init__(self, settings, opening):
        self.pass_by("opening")

    @classmethod
    def check(cls, settings, opening):
        pass

    def pass_by(self, gate):
        if Path(gate).exists():
            Path(gate).rename(f"{{gate}}.reached")
            while not Path("go").exists():
                time.sleep(0.01)
            return True
        return False

    def deliver(self, *batches):
        if self.pass_by("delivering"):
            raise Unacceptable(batches[0].id)

    def close(self):
        with Path("closed").open("a") as file:
            file.write("closed ")
"""


@contextmanager
def _gated(folder: Path) -> Iterator[tuple[Sidecar, Callable[[str], str]]]:
    """A sidecar with a sink that stops at gates, and a function that reloads it with other
    settings."""
    site = offered(folder / "site", {"wild": _GATED}, {"wild": "wild:Wild"})
    file, environ = folder / "c.yaml", {"PYTHONPATH": str(site)}
    file.write_text("sinks: {store: true, wild: {}}\n")

    def reload(wild: str) -> str:
        file.write_text(f"sinks: {{store: true{wild}}}\n")
        answer = ask(folder / "collector-data", Reload(True))
        assert answer is not None
        return str(answer["outcome"])

    with started(folder, "--config", "c.yaml", environ=environ, command=COMMAND) as sidecar:
        yield sidecar, reload


def _told(folder: Path) -> dict[str, Any]:
    status = ask(folder / "collector-data", Status())
    assert status is not None
    told: dict[str, Any] = status["sinks"]["wild"]
    return told


def test_a_sink_hangs_while_it_is_removed_and_returns(tmp_path: Path) -> None:
    """The outcome of the old call is not added to what the sink has taken since."""
    (tmp_path / "delivering").touch()
    with _gated(tmp_path) as (sidecar, reload):
        assert sidecar.send(b'{"ip_address": "203.0.113.7"}').status == 200
        wait_until((tmp_path / "delivering.reached").exists)
        assert reload("") == "reloaded"
        assert reload(", wild: {}") == "reloaded"
        wait_until(lambda: _told(tmp_path)["delivered"] == 1)
        (tmp_path / "go").touch()
        wait_until((tmp_path / "closed").exists)
        assert sidecar.send(b'{"ip_address": "203.0.113.8"}').status == 200
        wait_until(lambda: _told(tmp_path)["delivered"] == 2)
        told = _told(tmp_path)
        assert (told["taken"], told["waiting"]["records"], told["set_aside"]) == (2, 0, 0)
        assert sidecar.stop()[0] == 0


def test_a_sink_is_opened_after_it_was_removed(tmp_path: Path) -> None:
    """The sink is closed, and no command finds it any more."""
    for gate in ("delivering", "go"):
        (tmp_path / gate).touch()
    with _gated(tmp_path) as (sidecar, reload):
        assert sidecar.send(b'{"ip_address": "203.0.113.7"}').status == 200
        wait_until(lambda: _told(tmp_path)["set_aside"] == 1)
        (tmp_path / "go").unlink()
        (tmp_path / "opening").touch()
        assert reload(", wild: {limit: 2MiB}") == "reloaded"
        wait_until((tmp_path / "opening.reached").exists)
        assert reload("") == "reloaded"
        (tmp_path / "go").touch()
        wait_until(lambda: (tmp_path / "closed").read_text() == "closed closed ")
        found = ask(tmp_path / "collector-data", Redeliver())
        assert found == {"delivered": 0, "left": 1}
        assert sidecar.stop()[0] == 0
