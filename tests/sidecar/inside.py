"""Code that runs inside a sidecar's real workers: ``sitecustomize`` in a test's folder.

Workers start with the keeper's module path, so Python loads this file in each of them. It connects
to the test before the worker is confined. Then it runs what the test sends: in the main thread, or
in a thread that was started once the worker was confined.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import ssl
import sys
from ast import literal_eval
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

from tests.support.deadline import WAIT_SECONDS
from tests.support.sidecar import COMMAND, Sidecar, started

_AGENT = """
import sys
if "collector.server.worker" in sys.orig_argv:
    import asyncio, os, socket, threading, traceback  # which a worker loads, too
    import collector.sandbox
    MORE
    line = socket.socket(socket.AF_UNIX)
    line.connect(PLACE)
    imported = None
    def hook(event, arguments):
        if imported is not None and event == "import":
            imported.append(arguments[0])
    sys.addaudithook(hook)
    confine = collector.sandbox.restrict_calls
    def do(code):
        found = {}
        try:
            exec(code, {**globals(), "found": found})
        except BaseException:
            found["raised"] = traceback.format_exc()
        return found
    def listen(loop):
        for text in line.makefile("r"):
            where, code = eval(text)
            if where == "thread":
                found = do(code)
            else:
                ended, results = threading.Event(), []
                loop.call_soon_threadsafe(lambda: (results.append(do(code)), ended.set()))
                ended.wait()
                (found,) = results
            line.sendall(repr(found).encode() + b"\\n")
    def restrict_calls():
        global imported
        confine()
        imported = []
        threading.Thread(target=listen, args=(asyncio.get_running_loop(),), daemon=True).start()
        line.sendall(repr(os.getpid()).encode() + b"\\n")
    collector.sandbox.restrict_calls = restrict_calls
"""
_EVENT = json.dumps(
    {
        "client": {"address": "192.0.2.7"},
        "os": {"name": "Linux"},
        "user_agent": {"original": "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0"},
        "chat": {"text": "hello"},
    }
).encode()
_LOGS = b'{"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "x"}}]}]}]}'
_LIBRARIES = """
ctypes encodings.idna errno mmap sqlite3 subprocess tempfile urllib.request zoneinfo
collector.sandbox.attempts
"""


class Inside:
    """A worker, and a connection into it. ``pid`` is its process id."""

    def __init__(self, line: socket.socket) -> None:
        line.settimeout(WAIT_SECONDS)
        self._line = line.makefile("rw")
        self.pid: int = literal_eval(self._line.readline())

    def do(self, code: str, where: str = "main") -> dict[str, Any]:
        """Run code that fills ``found`` with literals; return ``found``."""
        self._line.write(f"{(where, dedent(code))!r}\n")
        self._line.flush()
        found: dict[str, Any] = literal_eval(self._line.readline())
        assert "raised" not in found, found["raised"]
        return found

    def imported(self) -> list[str]:
        """The modules that the worker has tried to import since it was confined."""
        found: list[str] = self.do("found['imported'] = list(imported)")["imported"]
        return found


@contextmanager
def inside(
    folder: Path, environ: Mapping[str, str] | None = None, *, is_bare: bool = False
) -> Iterator[tuple[Sidecar, Inside]]:
    """A sidecar, and its worker seen from inside. The worker has loaded more modules than usual,
    unless it ``is_bare``."""
    place = folder / "line"
    agent = folder / "agent"
    agent.mkdir()
    more = "" if is_bare else f"import {', '.join(_LIBRARIES.split())}"
    text = _AGENT.replace("PLACE", repr(str(place))).replace("MORE", more)
    (agent / "sitecustomize.py").write_text(text)
    path = os.pathsep.join([str(agent), *filter(None, sys.path)])
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen()
        listening.settimeout(WAIT_SECONDS)
        chosen = {**(environ or {}), "PYTHONPATH": path}
        with started(folder, environ=chosen, command=COMMAND) as sidecar:
            line, _ = listening.accept()
            with line, suppress(OSError):
                yield sidecar, Inside(line)


def requests(
    zstd: Callable[[bytes], bytes],
) -> Iterator[tuple[str, str, str, bytes]]:
    """Return one request of each kind: content type, encoding, path, body."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (  # noqa: PLC0415
        ExportLogsServiceRequest,
    )

    lines = _EVENT + b"\n" + _EVENT
    yield "application/json", "identity", "/v1/events", _EVENT
    yield "application/json", "identity", "/v1/events", b"{"
    yield "application/x-ndjson", "gzip", "/v1/events", gzip.compress(lines)
    yield "application/x-ndjson", "zstd", "/v1/events", zstd(lines)
    yield "application/x-ndjson", "gzip", "/v1/events", b"damaged"
    yield "application/json", "identity", "/v1/logs", _LOGS
    protobuf = ExportLogsServiceRequest()
    protobuf.resource_logs.add().scope_logs.add().log_records.add().body.string_value = "x"
    yield "application/x-protobuf", "identity", "/v1/logs", protobuf.SerializeToString()
    yield "application/json", "identity", "/nowhere", b"{}"


def _head(path: str, kind: str, coding: str, body: bytes) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"Content-Encoding: {coding}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode()


def post(
    port: int, context: ssl.SSLContext | None, kind: str, coding: str, path: str, body: bytes
) -> bytes:
    """Send a request on its own connection; returns the complete answer."""
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as plain:
        line = context.wrap_socket(plain, server_hostname="localhost") if context else plain
        with line:
            line.sendall(_head(path, kind, coding, body) + body)
            parts = []
            while part := line.recv(1 << 16):
                parts.append(part)
    return b"".join(parts)
