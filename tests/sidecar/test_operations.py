"""What service managers and operators see of a sidecar: its exit code, whether it runs, what it
creates, and when its certificate expires."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from collector.files import short_path
from collector.ingest.auth import hashed
from collector.server import control_client
from tests.support.certificates import dated
from tests.support.command import Ended, run, run_process
from tests.support.deadline import WAIT_SECONDS, eventually, wait_until
from tests.support.latency import at_most
from tests.support.processes import is_gone
from tests.support.rows import for_each
from tests.support.sidecar import FREE_PORTS, started

_COLLECTOR = Path(sys.executable).with_name("collector")
_DAY = timedelta(days=1)


def _ended(folder: Path, *arguments: object, **environ: str) -> Ended:
    """Run a sidecar that does not start."""
    return run_process("serve", *arguments, env=FREE_PORTS | environ, directory=folder)


def _open(folder: Path, begin: int, end: int) -> dict[str, str]:
    """An address that other machines can reach, with a certificate that is valid between two days
    from now."""
    now = datetime.now(UTC)
    pair = dated(folder, now + begin * _DAY, now + end * _DAY)
    return {
        "COLLECTOR__HTTP__ADDRESS": "0.0.0.0:0",
        "COLLECTOR__TLS__CERTIFICATE": str(pair.certificate),
        "COLLECTOR__TLS__KEY": str(pair.key),
        "COLLECTOR__AUTH__TOKENS": hashed("a token"),
    }


# -- exit codes ------------------------------------------------------------------------------------

_LATER, _FAULT = 75, 78


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({"COLLECTOR__DATA": "no/volume/data"}, _LATER),
        ({"COLLECTOR__DATA": "dangling/data"}, _LATER),
        pytest.param({"COLLECTOR__DATA": "dangling"}, _LATER, marks=pytest.mark.long),
        pytest.param(
            {"COLLECTOR__SINKS__STORE__PATH": "no/volume/store.db"}, _LATER, marks=pytest.mark.long
        ),
        ({"COLLECTOR__SINKS__NDJSON__PATH": "no/volume/records.ndjson"}, _LATER),
        pytest.param(
            {"COLLECTOR__HTTP__UNIX": "no/volume/in.sock"}, _LATER, marks=pytest.mark.long
        ),
        ({"COLLECTOR__DATA": "file/data"}, _FAULT),
        pytest.param({"COLLECTOR__DATA": "file"}, _FAULT, marks=pytest.mark.long),
        pytest.param({"COLLECTOR__DATA": "/proc/none"}, _FAULT, marks=pytest.mark.long),
        ({"COLLECTOR__HTTP__UNIX": "file"}, _FAULT),
        ({"COLLECTOR__SCHEMA": "./none.yaml"}, _FAULT),
        ({"COLLECTOR__CLAIMS": "none.yaml"}, _FAULT),
        ({"COLLECTOR__TLS__CERTIFICATE": "none.pem", "COLLECTOR__TLS__KEY": "none.key"}, _FAULT),
        ({"COLLECTOR__DATA": "no/volume/data", "COLLECTOR__SCHEMA": "./none.yaml"}, _FAULT),
    ],
)
def test_how_a_failed_start_ends(tmp_path: Path, environ: dict[str, str], code: int) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "dangling").symlink_to("unmounted")
    done = _ended(tmp_path, **environ)
    assert done.code == code, done.err
    assert b"Traceback" not in done.err
    assert {path.name for path in tmp_path.iterdir()} == {"file", "dangling"}


@for_each(("begin", "end", "code"), [(-9, -1, _FAULT), (1, 9, _LATER)])
def test_a_certificate_out_of_its_time(tmp_path: Path, begin: int, end: int, code: int) -> None:
    """An expired certificate stays invalid; one that is not valid yet will become valid."""
    environ = _open(tmp_path, begin, end)
    done = _ended(tmp_path, **environ)
    assert (done.code, b"tls.certificate" in done.err) == (code, True)
    checked = run("config", "check", env=FREE_PORTS | environ)
    assert (checked.code, b"E212" in checked.err) == (78, True)


def test_an_address_that_is_not_there_yet(tmp_path: Path) -> None:
    """75, as before the network is up."""
    environ = _open(tmp_path, -1, 9) | {"COLLECTOR__HTTP__ADDRESS": "192.0.2.1:0"}
    done = _ended(tmp_path, **environ)
    assert (done.code, b"no such address" in done.err) == (_LATER, True)


def test_servers_of_sinks_keep_nothing_from_starting(tmp_path: Path) -> None:
    """If a database or bucket does not answer, the sidecar retries while it receives."""
    away = {
        "COLLECTOR__SINKS__LAKE__TYPE": "parquet",
        "COLLECTOR__SINKS__LAKE__URL": "s3://bucket/lake",
        "COLLECTOR__SINKS__LAKE__ENDPOINT": "http://127.0.0.1:9",
        "COLLECTOR__SINKS__LAKE__PARTY": "first",
        "COLLECTOR__SINKS__POSTGRES__URL": "postgres://x@127.0.0.1:9/x",
        "COLLECTOR__SINKS__POSTGRES__PARTY": "first",
    }
    with started(tmp_path, environ=away) as sidecar:
        assert sidecar.send(b"{}\n").status == 200
        sidecar.stop(signal.SIGKILL)


# -- directories -----------------------------------------------------------------------------------


def test_only_the_last_directory_is_made(tmp_path: Path) -> None:
    """An unmounted volume is not replaced by a directory on the system's disk; the error says what
    to do."""
    (tmp_path / "volume").mkdir()
    done = _ended(tmp_path, "--data", "volume/missing/data")
    assert (done.code, b"mount the volume" in done.err, b"mkdir -p" in done.err) == (75, True, True)
    assert list((tmp_path / "volume").iterdir()) == []
    with started(tmp_path, "--data", "volume/data") as sidecar:
        assert sidecar.send(b"{}\n").status == 200
    with started(tmp_path) as sidecar:  # the default directory needs nothing
        assert sidecar.send(b"{}\n").status == 200


def test_a_recorder_makes_only_the_last_directory(tmp_path: Path) -> None:
    """The same for a recorder."""
    (tmp_path / "keys.json").write_text('{"keys": []}')
    environ = {
        "COLLECTOR__RECORDER__ENABLED": "true",
        "COLLECTOR__RECORDER__KEYS": str(tmp_path / "keys.json"),
        "COLLECTOR__RECORDER__ADDRESS": "127.0.0.1:0",
        "COLLECTOR__RECORDER__DATA": str(tmp_path / "volume" / "missing"),
    }
    done = run_process("recording", "serve", env=environ, directory=tmp_path)
    assert b"mount the volume" in done.err, done.err
    assert not (tmp_path / "volume").exists()


# -- status ----------------------------------------------------------------------------------------


def _status(folder: Path) -> tuple[int, str, Any]:
    """The exit code, the text, and the document."""
    data = folder / "collector-data"
    words, plain = run("status", "--data", data), run("status", "--data", data, "--json")
    assert words.code == plain.code
    return words.code, words.out.decode().splitlines()[0], plain.json


_DEAD = (1, "not running", {"running": False, "state": "not running"})


def test_the_status_of_a_sidecar(tmp_path: Path) -> None:
    """It runs, is killed, leaves its socket, and another program listens there."""
    assert _status(tmp_path) == _DEAD
    assert b"data directory" in run("status", "--data", tmp_path / "none").err
    with started(tmp_path) as sidecar:
        assert eventually(lambda: _status(tmp_path)[0] == 0)
        assert _status(tmp_path)[2]["running"] is True
        assert _expiries(sidecar) == {}, "no series that an alert would take for an expired one"
        sidecar.stop(signal.SIGKILL)
        wait_until(lambda: is_gone(sidecar.process.pid))
    assert (tmp_path / "collector-data" / "control.sock").is_socket()
    assert _status(tmp_path) == _DEAD


_ANSWERS = [
    b"",
    b"\n",
    b"{}\n",
    b"null\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\xff\n",
    b"[" * 9999,
]
_ANSWERS += [
    b'{"checks":{}}\n',
    b"x" * (1 << 21),
    b'{"code":7}\n',
    b'{"code":"E1","message":"hunter2"',
]


@contextmanager
def _listening(path: Path, answer: bytes | None) -> Iterator[None]:
    """Let another program listen at a socket, with this answer or none."""
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        with short_path(path) as short:
            listening.bind(short)
        listening.listen()
        kept = list[socket.socket]()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    kept.append(listening.accept()[0])
                    if answer is not None:
                        with suppress(OSError):
                            kept[-1].sendall(answer)
                        kept[-1].close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(WAIT_SECONDS)
        for each in kept:
            each.close()


@for_each("answer", _ANSWERS)
def test_another_program_at_the_socket(tmp_path: Path, answer: bytes) -> None:
    with _listening(tmp_path / "collector-data" / "control.sock", answer):
        code, words, _ = _status(tmp_path)
    assert (code, words) == (1, "not running")


def test_another_program_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command waits for it, but not forever."""
    monkeypatch.setattr(control_client, "_STATUS_SECONDS", 0.2)
    with _listening(tmp_path / "collector-data" / "control.sock", None):
        assert _status(tmp_path) == _DEAD


def test_a_keeper_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs, and does not answer: the command ends in time, with 1."""
    monkeypatch.setattr(control_client, "_STATUS_SECONDS", 0.5)
    with started(tmp_path) as sidecar:
        os.kill(sidecar.process.pid, signal.SIGSTOP)
        try:
            code, words, plain = _status(tmp_path)
        finally:
            os.kill(sidecar.process.pid, signal.SIGCONT)
        assert (code, words, plain["running"]) == (1, "not answering", True)
        monkeypatch.undo()
        assert _status(tmp_path)[0] == 0


# -- probes ----------------------------------------------------------------------------------------


def _probed(data: Path) -> tuple[int, float]:
    """The exit code of the health check, and its CPU seconds."""
    command = [str(_COLLECTOR), "status", "--quiet"]
    probe = subprocess.Popen(command, env={"COLLECTOR__DATA": str(data)})
    _, ended, usage = os.wait4(probe.pid, 0)
    probe.returncode = os.waitstatus_to_exitcode(ended)
    return probe.returncode, usage.ru_utime + usage.ru_stime


@pytest.mark.timed
def test_the_health_check(tmp_path: Path) -> None:
    """It exits with 0 unless a check of the sidecar fails, whatever its addresses are, else with 1.
    The fastest of several runs takes less than 50 ms of CPU."""
    data = tmp_path / "collector-data"
    assert _probed(data)[0] == 1
    with started(tmp_path, environ={"COLLECTOR__ADMIN__ADDRESS": "off"}) as sidecar:
        wait_until(lambda: _probed(data)[0] == 0)
        assert min(_probed(data)[1] for _ in range(5)) < at_most(0.05)
        sidecar.stop(signal.SIGKILL)
    assert _probed(data)[0] == 1
    for answer in _ANSWERS[::3]:
        with _listening(data / "control.sock", answer):
            assert _probed(data)[0] == 1


def test_an_open_admin_address(tmp_path: Path) -> None:
    """Other machines reach health and metrics without TLS and without a token; other names are
    refused."""
    environ = {"COLLECTOR__ADMIN__ADDRESS": "0.0.0.0:0", "COLLECTOR__ADMIN__OPEN": "true"}
    environ["COLLECTOR__ADMIN__HOSTS"] = "app"
    with started(tmp_path, environ=environ) as sidecar:
        for host in ("app", "203.0.113.9", "localhost"):
            for path in ("/livez", "/readyz", "/metrics"):
                assert sidecar.admin(path, {"Host": f"{host}:4319"}).status == 200
        assert sidecar.admin("/metrics", {"Host": "attacker.example"}).status == 421
    del environ["COLLECTOR__ADMIN__OPEN"]
    assert _ended(tmp_path, **environ).err.count(b"[E210]") == 2
    assert (
        _ended(
            tmp_path, **environ, COLLECTOR__ADMIN__OPEN="true", COLLECTOR__HTTP__ADDRESS="0.0.0.0:0"
        ).code
        == 78
    )


# -- certificates ----------------------------------------------------------------------------------


def test_the_expiry_of_a_certificate(tmp_path: Path) -> None:
    """Each receiver with TLS has a metric. ``config check`` warns when the expiry is near. A reload
    takes another certificate, and refuses an expired one."""
    environ = _open(tmp_path, -80, 10)
    checked = run("config", "check", env=FREE_PORTS | environ, directory=tmp_path)
    assert (checked.code, b"warning: environment: tls.certificate" in checked.err) == (0, True)
    plain = run("config", "check", "--json", env=FREE_PORTS | environ, directory=tmp_path).json
    assert [each["code"] for each in plain["warnings"]] == ["E212"]
    with started(tmp_path, environ=environ) as sidecar:
        first = _expiries(sidecar)
        assert set(first) == {"http", "grpc"}
        _open(tmp_path, -1, 90)
        data = tmp_path / "collector-data"
        assert run("config", "reload", "--data", data).code == 0
        later = {name: at + 80 * 86_400 for name, at in first.items()}
        assert _expiries(sidecar) == pytest.approx(later, abs=600)
        _open(tmp_path, -9, -1)
        assert run("config", "reload", "--data", data).code == 78
        assert _expiries(sidecar) == pytest.approx(later, abs=600)
        assert sidecar.stop()[0] == 0
    assert _ended(tmp_path, **environ).code == 78


def _expiries(sidecar: Any) -> dict[str, float]:
    """When each receiver's certificate expires, from the metrics."""
    name = "collector_tls_certificate_expiry_timestamp_seconds{receiver="
    lines = sidecar.admin("/metrics").body.decode().splitlines()
    found = (line.removeprefix(name).split("} ") for line in lines if line.startswith(name))
    return {json.loads(receiver): float(at) for receiver, at in found}


_SAY_WHAT_IS_LOADED = """
import atexit, sys
def tell():
    import collector.server.worker
    print(*sys.modules, sep="\\n", flush=True)
atexit.register(tell)
sys.argv = ["collector", "serve"]
from collector.cli import main
main()
"""


def test_what_a_sidecar_loads(tmp_path: Path) -> None:
    with (tmp_path / "modules").open("wb") as out:
        command = [sys.executable, "-c", _SAY_WHAT_IS_LOADED]
        with started(tmp_path, command=command, stdout=out) as sidecar:
            assert sidecar.admin("/metrics").status == 200
            assert sidecar.stop()[0] == 0
    modules = (tmp_path / "modules").read_text().split()
    assert "structlog" in modules
    assert "collector.server.worker" in modules
    coloured = {"rich", "rich.console", "pygments", "attr"}
    paged = {"collector.pages", "collector.claims", "jinja2", "ruamel"}
    assert not (coloured | paged).intersection(modules)
