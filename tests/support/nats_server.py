"""NATS servers for tests, on loopback: one, or a cluster. Each has its own directory."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import nats
from nats.js.errors import BadRequestError

from tests.conftest import required_path
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.tcp import free_port

_START_SECONDS = WAIT_SECONDS
_SECONDS = 30
"""The time limit for a connection, and for an answer."""
_T = TypeVar("_T")


def require_nats() -> Path:
    """Return the program of the package in this environment, or else the one in PATH. Without it,
    skip the test, or fail it if all prerequisites are required."""
    beside = Path(sys.executable).with_name("nats-server")
    return required_path(beside if beside.exists() else shutil.which(beside.name), beside.name)


@dataclass
class NatsServer:
    """A server. ``options`` are additional command-line arguments."""

    directory: Path
    options: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The server's address."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        command = [str(require_nats()), "-a", "127.0.0.1", "-p", str(self.port), "-js"]
        command += ["-sd", str(self.directory), *self.options]
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._answers, seconds=_START_SECONDS)

    def kill(self) -> None:
        """Kill the server, and wait for its end."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def ask(self, work: Callable[[Any], Coroutine[Any, Any, _T]], **options: Any) -> _T:
        """Run work with a JetStream context, over its own connection."""
        return ask([self], work, **options)

    def stream(self, name: str, *, max_age: float = 3600.0, **config: Any) -> None:
        """Create a work queue with a subject of the same name, unless it exists."""

        async def make(stream: Any) -> None:
            chosen = {"retention": "workqueue", "max_age": max_age} | config
            with suppress(BadRequestError):
                await stream.add_stream(name=name, subjects=[f"{name}.>"], **chosen)

        self.ask(make)

    def messages(self, name: str) -> list[bytes]:
        """Return all messages of a stream, and leave them in it."""

        async def read(stream: Any) -> list[bytes]:
            state = (await stream.stream_info(name)).state
            found = []
            for number in range(state.first_seq, state.last_seq + 1):
                with suppress(Exception):
                    found.append((await stream.get_msg(name, number)).data or b"")
            return found

        return self.ask(read)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as asking:
            return asking.recv(4) == b"INFO"
        return False


def ask(
    servers: Sequence[NatsServer],
    work: Callable[[Any], Coroutine[Any, Any, _T]],
    **options: Any,
) -> _T:
    """Run work with a JetStream context at any of several servers."""

    async def run() -> _T:
        async def ignore(_: Exception) -> None:
            pass

        urls = [one.url for one in servers]
        patience = {"max_reconnect_attempts": 3, "connect_timeout": _SECONDS}
        client = await nats.connect(urls, error_cb=ignore, **patience, **options)
        try:
            return await work(client.jetstream(timeout=_SECONDS))
        finally:
            await client.close()

    return asyncio.run(run())


@contextmanager
def server(directory: Path, *options: str) -> Iterator[NatsServer]:
    """Run a server."""
    made = NatsServer(directory, options)
    try:
        made.start()
        yield made
    finally:
        made.kill()


@contextmanager
def cluster(directory: Path, number: int = 3) -> Iterator[list[NatsServer]]:
    """Run a cluster, and wait until it has a leader."""
    routes = [free_port() for _ in range(number)]
    all_routes = ",".join(f"nats://127.0.0.1:{port}" for port in routes)
    made = [
        NatsServer(
            directory / f"node-{at}",
            (
                *("--cluster_name", "tested", "-n", f"node-{at}", "--routes", all_routes),
                *("--cluster", f"nats://127.0.0.1:{port}"),
            ),
        )
        for at, port in enumerate(routes)
    ]
    try:
        for one in made:
            one.start()
        wait_until(lambda: _has_leader(made), seconds=_START_SECONDS)
        yield made
    finally:
        for one in made:
            one.kill()


def _has_leader(servers: Sequence[NatsServer]) -> bool:
    async def account(stream: Any) -> bool:
        await stream.account_info()
        return True

    with suppress(Exception):
        return ask(servers, account)
    time.sleep(0.1)
    return False
