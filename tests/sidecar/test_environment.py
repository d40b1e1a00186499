"""In a hostile environment, the sidecar writes nothing more and connects nowhere else.

Proxies and exporters point to a trap, and all debug switches of Python and of libraries are on.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest

from collector.ops.log import EVENTS, fits
from tests.conftest import required, required_root
from tests.server.test_hardening import HOSTILE
from tests.sidecar.heads import heads
from tests.sidecar.marks import Marks
from tests.sidecar.senders import METHODS, odd_calls, shouted
from tests.support.certificates import Authority, Pair
from tests.support.deadline import WAIT_SECONDS, eventually, wait_until
from tests.support.delivery import delivered
from tests.support.sidecar import COMMAND, FREE_PORTS, Sidecar, started

_EVENT = b'{"ip": "203.0.113.7", "chat": ["x"]}'
_PYTHON = {
    "PYTHONINSPECT": "1",
    "PYTHONFAULTHANDLER": "1",
    "PYTHONMALLOC": "debug",
    "PYTHONBREAKPOINT": "os.abort",
    "PYTHONDEBUG": "1",
    "PYTHONWARNDEFAULTENCODING": "1",
}
_TALKATIVE = {
    "PYTHONVERBOSE": "import 'site'",
    "PYTHONMALLOCSTATS": "Small block threshold",
    "PYTHONPROFILEIMPORTTIME": "import time:",
}
"""Switches, and what Python then writes."""
_PLACES = """
    HTTP_PROXY http_proxy HTTPS_PROXY https_proxy ALL_PROXY all_proxy GRPC_PROXY grpc_proxy
    NO_GRPC_PROXY OTEL_EXPORTER_OTLP_ENDPOINT OTEL_EXPORTER_OTLP_LOGS_ENDPOINT
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT OTEL_EXPORTER_OTLP_TRACES_ENDPOINT SENTRY_DSN
    DD_TRACE_AGENT_URL ELASTIC_APM_SERVER_URL
""".split()
_SWITCHES = {
    "OTEL_TRACES_EXPORTER": "otlp,console",
    "OTEL_LOG_LEVEL": "debug",
    "UVICORN_ACCESS_LOG": "1",
    "UVICORN_RELOAD": "1",
    "GRPC_ENABLE_FORK_SUPPORT": "1",
    "LD_DEBUG": "",
    "DEBUG": "*",
}
_FILES = ("SSLKEYLOGFILE", "PROMETHEUS_MULTIPROC_DIR", "LD_DEBUG_OUTPUT", "MALLOC_TRACE")
_STRACE_SECONDS = 10
_OWN = {"data", "data/collector.lock", "data/ledger.key", "data/spool.db", "data/store.db"}


class Trap:
    """A socket that should get no connections; every proxy and exporter points to it. ``caught``
    counts connections."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.place = f"http://127.0.0.1:{listening.getsockname()[1]}"

    def step_in(self) -> None:
        """Connect to it, to see whether it catches."""
        socket.create_connection(self._listening.getsockname()).close()

    @property
    def caught(self) -> int:
        """How many connections have come so far."""
        self._listening.setblocking(False)
        try:
            self._listening.accept()[0].close()
        except BlockingIOError:
            return 0
        return 1


@contextmanager
def _trap() -> Iterator[Trap]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield Trap(listening)


def _hostile(trap: Trap, outside: Path) -> dict[str, str]:
    """All hostile variables at once; the files that they ask for would be in the folder
    ``outside``."""
    environ = HOSTILE | _PYTHON | _SWITCHES | dict.fromkeys(_PLACES, trap.place)
    environ |= {name: str(outside / name) for name in _FILES}
    (outside / "PROMETHEUS_MULTIPROC_DIR").mkdir(parents=True)
    return environ | {"TMPDIR": str(outside), "HOME": str(outside)}


def _encrypted(folder: Path, pair: Pair) -> dict[str, str]:
    """Settings of a sidecar with TLS and with its data in the folder."""
    return {
        "COLLECTOR__DATA": str(folder / "data"),
        "COLLECTOR__LOG__LEVEL": "debug",
        "COLLECTOR__TLS__CERTIFICATE": str(pair.certificate),
        "COLLECTOR__TLS__KEY": str(pair.key),
    }


def _visit(sidecar: Sidecar, pair: Pair, marks: Marks) -> None:
    """Send good requests over TLS, and bad ones over bare connections."""
    trusted = ssl.create_default_context(cafile=str(pair.certificate))
    trusted.verify_flags &= ~ssl.VERIFY_X509_STRICT
    trusted.check_hostname, trusted.verify_mode = False, ssl.CERT_NONE
    place = "127.0.0.1", sidecar.ports["http"]
    with closing(http.client.HTTPSConnection(*place, timeout=60, context=trusted)) as connection:
        for head in ({"User-Agent": marks.text("agent")}, {"X-Forwarded-For": marks.text("for")}):
            kind = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/events", _EVENT, head | kind)
            answer = connection.getresponse()
            assert json.loads(answer.read())["admitted"] == 1
    root = grpc.ssl_channel_credentials(pair.certificate.read_bytes())
    named = [("grpc.ssl_target_name_override", "localhost"), ("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(f"127.0.0.1:{sidecar.ports['grpc']}", root, named) as channel:
        metadata = [("anything", marks.text("metadata"))]
        channel.unary_unary(METHODS["logs"])(b"", metadata=metadata, timeout=60)
    shouted(sidecar.ports["http"], list(heads(marks))[:20])
    shouted(sidecar.ports["admin"], list(heads(marks))[::3])
    odd_calls(sidecar, marks)
    assert sidecar.admin("/metrics").status == 200


def _says_what_it_may(sidecar: Sidecar) -> None:
    """All lines are events of the documented table, with the allowed members."""
    for event in sidecar.events:
        listed = EVENTS[event["event"]]
        assert event.pop("level") == listed.level
        assert re.fullmatch(r"[0-9-]{10}T[0-9:]{8}(\.[0-9]{6})?Z", event.pop("time"))
        assert all(fits(listed, key, value) for key, value in event.items() if key != "event")
    assert {e["event"] for e in sidecar.events} <= {
        *("starting", "started", "library", "refused", "stopping", "stopped")
    }


def _tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.long
def test_everything_is_set_against_it(tmp_path: Path) -> None:
    pair, marks = Authority(tmp_path).issue("server"), Marks()
    folder, outside = tmp_path / "inside", tmp_path / "outside"
    folder.mkdir()
    with _trap() as trap:
        environ = _encrypted(folder, pair) | _hostile(trap, outside)
        with started(folder, environ=environ) as sidecar:
            _visit(sidecar, pair, marks)
            assert delivered(sidecar) == 2
            assert sidecar.stop()[0] == 0
        assert trap.caught == 0
        trap.step_in()
        assert eventually(lambda: trap.caught) == 1, "it catches nothing"
    (tmp_path / "log").write_text("\n".join(sidecar.log))
    _says_what_it_may(sidecar)
    assert _tree(folder) == _OWN
    assert _tree(outside) == {"PROMETHEUS_MULTIPROC_DIR"}
    assert marks.found(folder, outside, tmp_path / "log") == []


@pytest.mark.long
def test_python_has_nothing_to_say_either(tmp_path: Path) -> None:
    """Python writes at its start, before our code runs, and then no more: neither while the sidecar
    receives nor at its end."""
    with started(tmp_path, environ=dict.fromkeys(_TALKATIVE, "1")) as sidecar:
        assert sidecar.send(_EVENT, "application/json").status == 200
        assert sidecar.stop()[0] == 0
    lines = sidecar.log
    ours = [number for number, line in enumerate(lines) if line.startswith('{"time"')]
    assert ours == list(range(len(lines) - 4, len(lines)))
    for said in _TALKATIVE.values():
        assert any(said in line for line in lines), "the switch does nothing: is its name another?"
    assert not any("203.0.113" in line or "chat" in line for line in lines)


@pytest.mark.long
def test_it_ends_though_python_should_stay(tmp_path: Path) -> None:
    """``PYTHONINSPECT`` makes Python wait for commands on stdin instead of ending."""
    ours, theirs = os.pipe()
    with subprocess.Popen(
        COMMAND,
        cwd=tmp_path,
        env=os.environ | FREE_PORTS | {"PYTHONINSPECT": "1"},
        stdin=ours,
        stderr=subprocess.PIPE,
    ) as process:
        os.write(theirs, b"print('still there')\n")
        assert process.stderr is not None
        assert b'"starting"' in process.stderr.readline()
        assert b'"started"' in process.stderr.readline()
        process.terminate()
        assert process.wait(WAIT_SECONDS) == 0
        assert [json.loads(line)["event"] for line in process.stderr] == ["stopping", "stopped"]
    os.close(ours)
    os.close(theirs)


_WRITES = re.compile(
    r'(?:openat|open|creat)\(.*?"([^"]*)", [^)\n]*O_(?:WRONLY|RDWR|CREAT)'
    r'|(?:mkdir|mkdirat|rename|renameat|renameat2|link|linkat|symlink)\(.*?"([^"]*)"'
)
_TRACED = "execve,connect,openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,link,symlink"
_LEAKY = """
import socket, sys
socket.create_connection(("127.0.0.1", int(sys.argv[1])))
open(sys.argv[2], "w")
"""


def _traced(log: Path) -> list[str]:
    """Put strace before a command; the started process is still the command."""
    strace = shutil.which("strace")
    if strace is None:
        required("strace")
    options = ["-D", "-f", "--seccomp-bpf", "-qq", "-s", "300", "-o", str(log)]
    return [str(strace), *options, "-e", f"trace={_TRACED}"]


def _seen(log: Path) -> tuple[int, set[str]]:
    """How often it connected since its last start, and the files that it opened for writing."""
    text = log.read_text(errors="replace").rpartition(" execve(")[2]
    written = {one or other for one, other in _WRITES.findall(text)}
    return text.count(" connect("), written


@pytest.mark.long
def test_no_system_call_goes_elsewhere(tmp_path: Path) -> None:
    required_root()
    command = [*_traced(tmp_path / "log"), *COMMAND]
    pair, folder = Authority(tmp_path).issue("server"), tmp_path / "inside"
    folder.mkdir()
    with _trap() as trap:
        environ = _encrypted(folder, pair) | _hostile(trap, tmp_path / "outside")
        environ["PYTHONDONTWRITEBYTECODE"] = "1"
        with started(folder, environ=environ, command=command) as sidecar:
            _visit(sidecar, pair, Marks())
            assert sidecar.stop()[0] == 0
    calls, written = _seen(tmp_path / "log")
    assert calls == 0
    assert str(folder / "data" / "spool.db-wal") in written
    assert [path for path in written if not path.startswith(str(folder / "data"))] == []


def test_a_call_and_a_file_elsewhere_are_seen(tmp_path: Path) -> None:
    """The same log shows a program that does what is forbidden."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        arguments = [str(listening.getsockname()[1]), str(tmp_path / "elsewhere")]
        command = [*_traced(tmp_path / "log"), sys.executable, "-c", _LEAKY, *arguments]
        subprocess.run(command, check=True, timeout=WAIT_SECONDS)
    # strace ends after the traced program, which connects before it opens the file.
    wait_until(lambda: str(tmp_path / "elsewhere") in _seen(tmp_path / "log")[1])
    assert _seen(tmp_path / "log")[0] == 1
