"""The sidecar without its optional dependencies: it starts without them and says so, or refuses to
before it has made anything."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deadline import WAIT_SECONDS
from tests.support.rows import for_each
from tests.support.sidecar import COMMAND, FREE_PORTS, started

pytestmark = pytest.mark.nightly

_SECONDS = 60
_EVENT = b'{"ip_address": "203.0.113.7"}\n'
_COLLECTOR = [sys.executable, "-m", "collector"]
_UNSET_GRPC = ["env", "-u", "COLLECTOR__GRPC__ADDRESS"]
_INSTALL = "pip install 'data-minimisation-collector[{}]'"


def _without(folder: Path, *modules: str) -> dict[str, str]:
    """The environment of an interpreter that cannot import those modules."""
    site = folder / "site"
    site.mkdir()
    lines = (f"sys.modules[{module!r}] = None\n" for module in modules)
    (site / "sitecustomize.py").write_text("import sys\n" + "".join(lines))
    paths = filter(None, (str(site), os.environ.get("PYTHONPATH")))
    return {"PYTHONPATH": os.pathsep.join(paths)}


def _run(
    folder: Path, *arguments: str, environ: dict[str, str], grpc: str | None = None
) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of a command; ``grpc`` is the address in the environment."""
    whole = os.environ | FREE_PORTS | environ
    del whole["COLLECTOR__GRPC__ADDRESS"]
    whole |= {} if grpc is None else {"COLLECTOR__GRPC__ADDRESS": grpc}
    done = subprocess.run(
        [*_COLLECTOR, *arguments],
        cwd=folder,
        env=whole,
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
    )
    return done.returncode, done.stdout, done.stderr


def _made(folder: Path) -> set[str]:
    """What is in the folder besides what the test has put there."""
    return {path.name for path in folder.iterdir()} - {"site", "c.yaml"}


def test_it_starts_without_grpc(tmp_path: Path) -> None:
    """Everything but OTLP/gRPC works, and the log says once that this is missing."""
    environ = _without(tmp_path, "grpc")
    with started(tmp_path, environ=environ, command=[*_UNSET_GRPC, *COMMAND]) as sidecar:
        assert set(sidecar.ports) == {"http", "admin"}
        assert sidecar.send(_EVENT).json["admitted"] == 1
        ready = sidecar.admin("/readyz?verbose")
        assert (ready.status, b"grpc" in ready.body) == (200, False)
        assert sidecar.admin("/metrics").status == 200
        assert _run(tmp_path, "status", environ=environ)[0] == 0
        assert sidecar.stop()[0] == 0
    said = [(event["event"], event["level"]) for event in sidecar.events]
    assert said.count(("grpc_unavailable", "warning")) == 1
    assert "grpc" not in next(event for event in sidecar.events if event["event"] == "started")


def test_it_says_nothing_where_grpc_is_off(tmp_path: Path) -> None:
    """``off`` in the settings is an answer to the warning."""
    environ = _without(tmp_path, "grpc") | {"COLLECTOR__GRPC__ADDRESS": "off"}
    with started(tmp_path, environ=environ, command=COMMAND) as sidecar:
        assert sidecar.stop()[0] == 0
    assert [event["event"] for event in sidecar.events] == [
        "starting",
        "started",
        "stopping",
        "stopped",
    ]
    code, out, err = _run(tmp_path, "config", "check", environ=environ, grpc="off")
    assert (code, out, err) == (0, "no faults\n", "")


def test_a_terminal_is_told_in_words(tmp_path: Path) -> None:
    environ = os.environ | FREE_PORTS | _without(tmp_path, "grpc")
    ours, theirs = pty.openpty()
    command = [*_UNSET_GRPC, *COMMAND]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environ, stderr=theirs, stdout=theirs
    ) as process:
        os.close(theirs)
        told = b""
        while told.count(b"\n") < 3:
            told += os.read(ours, 1000)
        process.terminate()
        assert process.wait(WAIT_SECONDS) == 0
    os.close(ours)
    loading, first, second = told.decode().splitlines()[:3]
    assert loading == "collector: loading conferencing; data in collector-data; sinks: store"
    assert first.startswith("collector: http 127.0.0.1:")
    assert "; data in collector-data; schema conferencing/" in first
    assert "grpcio is not installed" in second
    assert _INSTALL.format("grpc") in second


def test_settings_without_grpc(tmp_path: Path) -> None:
    """``config check`` finds no fault and says what is off; ``config show`` says why."""
    environ = _without(tmp_path, "grpc")
    code, out, err = _run(tmp_path, "config", "check", environ=environ)
    assert (code, out) == (0, "no faults\n")
    assert "grpcio is not installed" in err
    assert _INSTALL.format("grpc") in err
    code, out, err = _run(tmp_path, "config", "check", "--json", environ=environ)
    assert (code, json.loads(out), err) == (0, {"ok": True, "faults": [], "warnings": []}, "")
    code, out, _ = _run(tmp_path, "config", "show", "--json", environ=environ)
    shown = {"value": "off", "origin": "default (grpcio is not installed)"}
    assert (code, json.loads(out)["grpc.address"]) == (0, shown)
    assert _made(tmp_path) == set()


@for_each("place", ["file", "environment", "only"])
def test_grpc_that_is_asked_for(place: str, tmp_path: Path) -> None:
    """An address that is written somewhere, or the only receiver: E201 under its setting, by
    ``serve`` and ``config check`` alike, and no directory is made."""
    environ, grpc = _without(tmp_path, "grpc"), None
    text, where = "log: {level: info}\n", "default: grpc.address: "
    if place == "file":
        text, where = "grpc:\n  address: 127.0.0.1:4317\n", "c.yaml:2:12: grpc.address: "
    elif place == "environment":
        grpc, where = "127.0.0.1:4317", "environment: grpc.address: "
    else:
        environ |= {"COLLECTOR__HTTP__ADDRESS": "off"}
    (tmp_path / "c.yaml").write_text(text)
    told = []
    for arguments in (("serve",), ("config", "check")):
        code, out, err = _run(
            tmp_path, *arguments, "--config", "c.yaml", environ=environ, grpc=grpc
        )
        assert (code, out) == (78, "")
        assert err.startswith(where)
        assert _INSTALL.format("grpc") in err
        assert err.endswith("[E201]\n")
        told.append(err)
    assert told[0] == told[1]
    assert _made(tmp_path) == set()
    assert _run(tmp_path, "config", "show", "c.yaml", environ=environ, grpc=grpc)[0] == 0


@for_each(
    "code",
    [
        "import grpc._not_there",
        "raise RuntimeError('hunter2')",
        "raise SystemExit(0)",
        "import sys; sys.none",
        "",
        "server = print",
    ],
)
def test_grpc_that_cannot_be_loaded(code: str, tmp_path: Path) -> None:
    """An installation that is broken is no missing one: E201, also under the default."""
    environ = _without(tmp_path)
    (tmp_path / "site" / "grpc").mkdir()
    (tmp_path / "site" / "grpc" / "__init__.py").write_text(code)
    for arguments in (("serve",), ("config", "check")):
        ended, _, err = _run(tmp_path, *arguments, environ=environ)
        assert (ended, err.count("[E201]"), len(err.splitlines())) == (78, 1, 1), err
        assert "cannot be loaded" in err
    assert _made(tmp_path) == set()


@for_each("module", ["google.protobuf", "httptools", "prometheus_client", "uvloop"])
def test_nothing_is_made_without_the_sidecar_extra(module: str, tmp_path: Path) -> None:
    """E201 with the command to install it, whichever part is missing."""
    environ = _without(tmp_path, module)
    for arguments in (("serve",), ("config", "check")):
        code, out, err = _run(tmp_path, *arguments, environ=environ)
        assert (code, out) == (78, "")
        assert (_INSTALL.format("sidecar") in err, err.endswith("[E201]\n")) == (True, True), err
    assert _made(tmp_path) == set()


@for_each("module", ["google.protobuf", "httptools", "prometheus_client", "uvloop"])
def test_nothing_is_made_where_the_sidecar_extra_cannot_be_loaded(
    module: str, tmp_path: Path
) -> None:
    """E201 with the command to install it anew, by ``serve`` and ``config check`` alike."""
    environ = _without(tmp_path)
    at = tmp_path / "site" / module.replace(".", "/") / "__init__.py"
    at.parent.mkdir(parents=True)
    at.write_text("raise ImportError('hunter2')")
    told = []
    for arguments in (("serve",), ("config", "check")):
        code, out, err = _run(tmp_path, *arguments, environ=environ)
        assert (code, out, len(err.splitlines())) == (78, "", 1), err
        assert ("cannot be loaded" in err, err.endswith("[E201]\n")) == (True, True), err
        told.append(err)
    assert told[0] == told[1]
    assert _made(tmp_path) == set()


def test_it_starts_without_signing(tmp_path: Path) -> None:
    """Entries of the ledger are not signed, and the log says so once."""
    environ = _without(tmp_path, "cryptography", "grpc")
    with started(tmp_path, environ=environ, command=[*_UNSET_GRPC, *COMMAND]) as sidecar:
        assert sidecar.send(_EVENT).json["admitted"] == 1
        assert sidecar.stop()[0] == 0
    assert sorted(event["event"] for event in sidecar.events if event["level"] == "warning") == [
        "grpc_unavailable",
        "unsigned",
    ]
    assert not (tmp_path / "collector-data" / "ledger.key").exists()
    code, out, _ = _run(tmp_path, "ledger", "verify", environ=environ)
    assert (code, "1 receipt" in out) == (0, True)


@for_each(
    "arguments",
    [
        ["list"],
        ["show", "x"],
        ["verify"],
        ["open", "x", "y"],
        ["erase", "x", "--yes"],
        ["rotate"],
        ["assemble", ".", "--identity", "x"],
        ["token", "--key", "x", "--meeting", "x", "--role", "host", "--subject", "x"],
    ],
)
def test_commands_of_recordings_say_what_to_install(arguments: list[str], tmp_path: Path) -> None:
    """E201 with the command to install it, whatever the command needs first."""
    environ = _without(tmp_path, "joserfc", "obstore", "pyrage", "cryptography")
    code, out, err = _run(tmp_path, "recording", *arguments, environ=environ)
    assert (code, out) == (78, "")
    assert (_INSTALL.format("recording") in err, err.endswith("[E201]\n")) == (True, True), err
