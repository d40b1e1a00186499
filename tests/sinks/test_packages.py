"""A sink of another package: it works with every command, without a change to Collector."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from collector.claims.document import RECORDING_CHECKS
from tests.support.command import COMMAND
from tests.support.deadline import wait_until
from tests.support.failing_disk import failures, metric
from tests.support.packages import EXAMPLE, FAR, FLAKY, MOODY, ROOT, offered
from tests.support.sidecar import Sidecar, started

pytestmark = pytest.mark.nightly

_EVENT = b'{"ip": "203.0.113.7", "os": {"type": "linux"}}\n'
_REQUESTS = 12
_CONFIG = ("--config", "collector.yaml")
_ASKED = ("--field", "client.address=203.0.113.7", "--from", "2020-01-01", "--to", "2099-01-01")


@dataclass
class Installed:
    """A directory, and an interpreter that has Collector, the example, and other sinks."""

    directory: Path
    command: list[str]
    environ: dict[str, str]

    def run(self, *words: str, code: int = 0) -> Any:
        """Run a command in a new interpreter, which reads PYTHONPATH; what it printed as JSON."""
        done = subprocess.run(
            [*self.command, *words, *_CONFIG],
            env={**os.environ, **self.environ},
            cwd=self.directory,
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (code, b"")
        return json.loads(done.stdout)

    def serve(self) -> AbstractContextManager[Sidecar]:
        """Start a sidecar."""
        command = [*self.command, "serve"]
        return started(self.directory, *_CONFIG, environ=self.environ, command=command)


def _environment(folder: Path) -> tuple[list[str], list[Path]]:
    """The command, and what goes into PYTHONPATH: the example as it is built; or with
    ``COLLECTOR_FRESH`` (``make nightly``) nothing, as both are installed in a new environment."""
    if "COLLECTOR_FRESH" not in os.environ:
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(build, cwd=EXAMPLE.parent, check=True, capture_output=True)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "site")
        return COMMAND, [folder / "site"]
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    packages = [f"{ROOT}[cli,sidecar,grpc,signing]", str(EXAMPLE.parent)]
    limits = ["--constraint", str(ROOT / "constraints.txt")]
    install = [python, "-m", "pip", "install", "--quiet", *limits, *packages]
    subprocess.run(install, check=True, cwd=folder)
    return [python, "-m", "collector"], []


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[Path]]:
    """Made once."""
    return _environment(tmp_path_factory.mktemp("example"))


@pytest.fixture
def installed(tmp_path: Path, environment: tuple[list[str], list[Path]]) -> Installed:
    """The example as a package of its own, and others that the tests need."""
    command, folders = environment
    far = {name.lower(): f"far:{name}" for name in ("Far", "Slow", "Quick")}
    entries = {"moody": "moody:Moody", "flaky": "flaky:Flaky", **far}
    modules = {"moody": MOODY, "flaky": FLAKY, "far": FAR}
    site = offered(tmp_path / "site", modules, entries)
    path = os.pathsep.join(map(str, [site, *folders]))
    directory = tmp_path / "here"
    directory.mkdir()
    return Installed(directory, command, {"PYTHONPATH": path})


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def _configure(installed: Installed, sinks: str) -> None:
    (installed.directory / "collector.yaml").write_text(f"data: data\nsinks: {{{sinks}}}\n")


def test_they_work_with_every_command(installed: Installed) -> None:
    """A sink that fails or refuses holds up neither another nor the store."""
    example = "copy: {type: jsonl, purposes: [service_operations]}"
    _configure(installed, f"{example}, flaky: {{}}, moody: {{}}")
    folder = installed.directory / "data" / "sinks"
    (folder / "moody").mkdir(parents=True, mode=0o700)
    (folder / "moody" / "refuse").touch()
    copy, flaky, moody = (folder / name / "records.jsonl" for name in ("copy", "flaky", "moody"))
    with installed.serve() as sidecar:

        def aside(sink: str) -> float:
            return metric(sidecar, f'collector_sink_set_aside_records{{sink="{sink}"}}')

        stored = 'collector_sink_records_total{outcome="delivered",sink="store"}'

        def has_logged(*names: str) -> bool:
            return set(names) <= {each["event"] for each in sidecar.events}

        for _ in range(_REQUESTS):
            assert sidecar.send(_EVENT).status == 200
        wait_until(lambda: _lines(copy) == _REQUESTS)
        wait_until(lambda: aside("moody") == _REQUESTS)
        wait_until(lambda: metric(sidecar, stored) == _REQUESTS)
        wait_until(lambda: has_logged("sink_failing", "batches_set_aside"))
        assert (flaky.exists(), moody.exists()) == (False, False)
        (folder / "flaky" / "go").touch()
        wait_until(lambda: _lines(flaky) == _REQUESTS)
        wait_until(lambda: has_logged("sink_recovered"))
        wait_until(lambda: metric(sidecar, "collector_spool_records{") == 0)
        assert failures(sidecar, "flaky") > 10
        assert failures(sidecar, "copy") == aside("flaky") == 0
        found = installed.run("subject", "export", *_ASKED)
        assert len(_of(found, "copy")) == len(_of(found, "flaky")) == _REQUESTS
        assert len(_of(found, "store")) == len(found["spool"]) == _REQUESTS
        shown = installed.run("store", "set-aside", "--json")["set_aside"]
        assert [(each["sink"], each["records"]) for each in shown] == [("moody", 1)] * _REQUESTS
        assert sidecar.stop()[0] == 0
    again = ("store", "redeliver", "--json")
    assert installed.run(*again, code=1) == {"delivered": 0, "left": _REQUESTS}
    (folder / "moody" / "refuse").unlink()
    assert installed.run(*again) == {"delivered": _REQUESTS, "left": 0}
    assert installed.run(*again) == {"delivered": 0, "left": 0}
    flows = installed.run("config", "flows", "--json")
    assert flows["sinks"]["copy"]["place"] == "data/sinks/copy"
    assert {flow["sink"] for flow in flows["flows"]} == {"store", "copy", "flaky", "moody"}
    checks = _checks(installed)
    assert all(against == [] for against in checks.values()), checks
    assert _lines(moody) == _REQUESTS
    done = installed.run("subject", "erase", *_ASKED, "--json")
    assert done["sinks"] == dict.fromkeys(("store", "copy", "flaky", "moody"), _REQUESTS)
    assert copy.read_bytes() == flaky.read_bytes() == moody.read_bytes() == b""


def _of(found: Any, sink: str) -> list[Any]:
    """The records of a sink in an answer."""
    return [record for each in found["sinks"][sink].values() for record in each]


def _checks(installed: Installed, code: int = 0) -> dict[str, list[str]]:
    """The checks of all claims but those of recordings, of which there are none."""
    checks: dict[str, list[str]] = installed.run("claims", "--verify", "--json", code=code)[
        "checks"
    ]
    return {name: found for name, found in checks.items() if name not in RECORDING_CHECKS}


def test_a_sink_that_cannot_forget(installed: Installed) -> None:
    """It is named as out of reach, gets a stand-in in the dry run, and its expiry is looked at."""
    (installed.directory / "data").mkdir()
    recipient = "party: processor, recipient: Far Ltd, purposes: [service_operations]"
    for type_, said in (("far", "cannot read"), ("slow", "longer"), ("quick", None)):
        _configure(installed, f"{type_}: {{{recipient}}}")
        checks = _checks(installed, code=1)
        reported = [each for each in checks.pop("retention") if said and said in each]
        assert all(type_ in each for each in checks.pop("stored"))
        assert (len(reported), any(checks.values())) == (int(said is not None), False)
    assert not (installed.directory / "called").exists()
