"""Refused requests have a metric and, at `debug`, a log line, with nothing of what was sent."""

from __future__ import annotations

import socket
from collections import Counter
from pathlib import Path
from threading import Event
from time import monotonic

import grpc  # type: ignore[import-untyped]
import pytest

from collector.ingest.auth import hashed
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.failing_disk import metric
from tests.support.processes import peak
from tests.support.sidecar import COMMAND, Sidecar, UnixConnection, started

_CANARY = "hunter2secret"
_TOKEN = "a" * 40
_NAME = "collector_requests_refused_total"
_GRPC = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


def _refused(sidecar: Sidecar) -> Counter[tuple[str, str]]:
    """The refusals in the log, counted by receiver and code."""
    said = Counter[tuple[str, str]]()
    for line in sidecar.events:
        if line["event"] == "refused":
            said[line["receiver"], line["code"]] += line.get("times", 1)
    return said


def _raw(port: int, request: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS) as connection:
        connection.sendall(request)
        while connection.recv(1 << 16):
            pass


def _call(sidecar: Sidecar, method: str, metadata: tuple[tuple[str, str], ...] = ()) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{sidecar.ports['grpc']}") as channel:
        call = channel.unary_unary(method)
        with pytest.raises(grpc.RpcError):
            call(b"\xff", timeout=WAIT_SECONDS, metadata=metadata)


def test_each_is_counted_and_said(tmp_path: Path) -> None:
    environ = {
        "COLLECTOR__LOG__LEVEL": "debug",
        "COLLECTOR__HTTP__UNIX": str(tmp_path / "socket"),
        "COLLECTOR__AUTH__TOKENS": hashed(_TOKEN),
        "COLLECTOR__HTTP__PREFERENCES": "true",
    }
    kind, auth = {"content-type": "application/json"}, {"authorization": f"Bearer {_TOKEN}"}
    with started(tmp_path, environ=environ) as sidecar:
        post = sidecar.request
        assert post("POST", f"/{_CANARY}", b"{}", kind).status == 404
        assert post("POST", f"/{_CANARY}?{_CANARY}", b"{}", {_CANARY: _CANARY}).status == 404
        assert (
            post("POST", "/v1/events", b"{}", {"authorization": f"Bearer {_CANARY}"}).status == 401
        )
        assert post("POST", "/v1/events", b"{}", auth | {"content-type": _CANARY}).status == 415
        assert post("POST", "/v1/logs", _CANARY.encode(), kind | auth).status == 400
        assert post("PATCH", "/preferences", b"{}").status == 405
        _raw(sidecar.ports["http"], f"{_CANARY}\r\n\r\n".encode())
        assert post("GET", f"/{_CANARY}", to="admin").status == 404
        assert post("GET", "/metrics", None, {"host": _CANARY}, to="admin").status == 421
        unix = UnixConnection(tmp_path / "socket")
        unix.request("POST", f"/{_CANARY}", b"{}")
        assert unix.getresponse().status == 404
        unix.close()
        _call(sidecar, f"/{_CANARY}/Export")
        _call(sidecar, _GRPC)
        _call(sidecar, _GRPC, (("authorization", f"Bearer {_TOKEN}"),))
        expected = {
            ("http", "E413"): 4,
            ("http", "E411"): 1,
            ("http", "E410"): 2,
            ("http", "E422"): 1,
            ("admin", "E413"): 1,
            ("admin", "E412"): 1,
            ("grpc", "E413"): 1,
            ("grpc", "E411"): 1,
            ("grpc", "E422"): 1,
        }
        wait_until(lambda: _refused(sidecar) == expected)
        for (receiver, code), times in expected.items():
            assert metric(sidecar, f'{_NAME}{{code="{code}",receiver="{receiver}"}}') == times
        assert metric(sidecar, _NAME) == sum(expected.values())
        assert _CANARY not in sidecar.admin("/metrics").body.decode()
        assert sidecar.stop()[0] == 0
    assert _CANARY not in "\n".join(sidecar.log)


def test_they_are_not_said_otherwise(tmp_path: Path) -> None:
    with started(tmp_path) as sidecar:
        assert sidecar.request("POST", "/v1/nothing", b"{}").status == 404
        wait_until(lambda: metric(sidecar, f'{_NAME}{{code="E413",receiver="http"}}') == 1)
        assert sidecar.stop()[0] == 0
    assert not _refused(sidecar)


class _Unread(list[str]):
    """The lines of a log that accepts none before the test reads it."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(lines)
        self.is_read = Event()

    def append(self, line: str) -> None:
        self.is_read.wait(WAIT_SECONDS)
        super().append(line)


def _flood(port: int, times: int) -> None:
    """Send this many refused requests over one connection, eight at a time."""
    request = b"POST /nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS) as connection:
        for _ in range(times // 8):
            connection.sendall(request * 8)
            answered = 0
            while answered < 8:
                answered += connection.recv(1 << 16).count(b"HTTP/1.1 404")


@pytest.mark.long
def test_a_flood_holds_up_nothing(tmp_path: Path) -> None:
    """80,000 refusals while nothing reads the log: others get answers, keeper and worker use no
    more memory, and once the log is read its lines add up."""
    environ = {"COLLECTOR__LOG__LEVEL": "debug"}
    with started(tmp_path, environ=environ, command=COMMAND) as sidecar:
        _flood(sidecar.ports["http"], 8_000)
        wait_until(lambda: _refused(sidecar).total() == 8_000)  # no line is pending
        sidecar.log = unread = _Unread(sidecar.log)
        before, slowest = peak(sidecar.process.pid), 0.0
        for _ in range(90):
            _flood(sidecar.ports["http"], 800)
            began = monotonic()
            assert sidecar.send(b'{"os.type":"linux"}').status == 200
            slowest = max(slowest, monotonic() - began)
        assert peak(sidecar.process.pid) - before < 10
        wait_until(lambda: metric(sidecar, f'{_NAME}{{code="E413",receiver="http"}}') == 80_000)
        unread.is_read.set()
        wait_until(lambda: _refused(sidecar) == {("http", "E413"): 80_000})
        assert len(sidecar.log) < 80_000
        assert sidecar.stop()[0] == 0
    print(f"slowest answer to another sender: {slowest:.3f} s")
