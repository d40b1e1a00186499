"""schemathesis on a running sidecar: no 5xx, and only documented answers.

``make .venv-schemathesis/.made`` installs it into its own environment.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from urllib.request import urlopen

import pytest

from collector.ingest.auth import hashed
from tests.conftest import required
from tests.support.failing_disk import metric
from tests.support.sidecar import started

_PROGRAM = Path(__file__).parents[2] / ".venv-schemathesis" / "bin" / "schemathesis"
_TOKEN = "b" * 40
_EXAMPLES = os.environ.get("COLLECTOR_FUZZED", "2")
_NO_PAGE = ("--exclude-path", "/preferences")
_NAMES = ("conferencing", "web", "other")
_LOOSE = "negative_data_rejection,positive_data_acceptance"
"""Checks that do not apply: members that a schema does not have are counted and not refused, and
bytes that are not a protobuf message are refused."""
_HOOKS = """
import schemathesis

@schemathesis.serializer("application/x-protobuf", "application/x-ndjson")
def octets(_, value):
    data = getattr(value, "data", value)
    return data if isinstance(data, bytes) else str(data).encode("utf-8", "replace")
"""
"""Makes it send bodies of these types as raw bytes."""
pytestmark = [pytest.mark.servers, pytest.mark.timeout(1200)]


def _checked(folder: Path, port: int, *more: str) -> None:
    """Run it with the document at a port, and fail with its output."""
    if not _PROGRAM.exists():
        required("schemathesis (make .venv-schemathesis/.made)")
    (folder / "octets.py").write_text(_HOOKS)
    with urlopen(f"http://127.0.0.1:{port}/openapi.json") as answer:
        document = json.load(answer)
    for each in document["components"].get("parameters", {}).values():
        if each["name"] in ("Collector-Schema", "schema"):
            each["schema"] = {"enum": _NAMES}  # otherwise few requests would have a known name
    (folder / "openapi.json").write_text(json.dumps(document))
    found = subprocess.run(
        [
            *(str(_PROGRAM), "run", str(folder / "openapi.json"), "--no-color"),
            *("--url", f"http://127.0.0.1:{port}"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", _EXAMPLES, "--seed", "1"),
            *("--checks", "all", "--exclude-checks", _LOOSE, "--continue-on-failure"),
            *("--generation-database", "none", "--request-timeout", "60", "--warnings", "off"),
            *("--suppress-health-check", "all", *more),
        ],
        env={**os.environ, "SCHEMATHESIS_HOOKS": "octets", "PYTHONPATH": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=1100,
    )
    assert found.returncode == 0, found.stdout[-8000:] + found.stderr[-2000:]
    assert "No issues found" in found.stdout, found.stdout[-2000:]


@contextmanager
def _forwarded(path: Path) -> Iterator[int]:
    """A port of this machine whose connections lead to a Unix socket."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def forward(ours: socket.socket) -> None:
        with suppress(OSError), ours, socket.socket(socket.AF_UNIX) as theirs:
            theirs.connect(str(path))
            back = Thread(target=pump, args=(theirs, ours), daemon=True)
            back.start()
            pump(ours, theirs)
            back.join()

    def accept(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                Thread(target=forward, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = Thread(target=accept, args=(listening,), daemon=True)
        accepting.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        accepting.join()


@pytest.mark.parametrize("address", ["http", "admin"])
def test_every_address(address: str, tmp_path: Path) -> None:
    with started(tmp_path, environ={"COLLECTOR__HTTP__PREFERENCES": "true"}) as sidecar:
        _checked(tmp_path, sidecar.ports[address])
        assert metric(sidecar, 'collector_requests_refused_total{code="E428"') == 0


def test_with_a_token(tmp_path: Path) -> None:
    """The sidecar has several schemas."""
    environ = {
        "COLLECTOR__AUTH__TOKENS": hashed(_TOKEN),
        "COLLECTOR__SCHEMAS": "conferencing, web",
    }
    with started(tmp_path, environ=environ) as sidecar:
        token = ("-H", f"Authorization: Bearer {_TOKEN}")
        _checked(tmp_path, sidecar.ports["http"], *token, *_NO_PAGE)
        assert metric(sidecar, 'collector_requests_refused_total{code="E428"') == 0


def test_a_socket_file(tmp_path: Path) -> None:
    """Through a port that forwards to it; it needs no token."""
    environ = {
        "COLLECTOR__AUTH__TOKENS": hashed(_TOKEN),
        "COLLECTOR__HTTP__UNIX": str(tmp_path / "socket"),
    }
    with started(tmp_path, environ=environ) as sidecar, _forwarded(tmp_path / "socket") as port:
        _checked(tmp_path, port, *_NO_PAGE)
        assert metric(sidecar, 'collector_requests_refused_total{code="E428"') == 0
