"""The sink of NATS JetStream, beside `nats-py` with the same records as NDJSON."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection
from time import monotonic, sleep
from typing import Any

import orjson

from benchmarks.figures import BenchmarkError
from collector.contracts import Batch, Record
from collector.schema import Schema

_START_SECONDS = 60.0
_STREAM, _SUBJECT = "measured", "collector.records"
_MESSAGE = 2_000
"""Records of a message of the bare writer: those of a batch."""


@dataclass(frozen=True)
class _Writers:
    """The sink, and a connection of the library."""

    opened: Any
    loop: asyncio.AbstractEventLoop
    stream: Any

    def sink(self, batches: Sequence[Batch]) -> None:
        """Deliver batches."""
        self.opened.deliver(*batches)

    def bare(self, records: Sequence[Record]) -> None:
        """Publish the same records, and wait until all are stored."""
        self.loop.run_until_complete(self._publish(records))

    async def _publish(self, records: Sequence[Record]) -> None:
        starts = range(0, len(records), _MESSAGE)
        texts = (b"\n".join(map(orjson.dumps, records[at : at + _MESSAGE])) for at in starts)
        sent = [
            self.stream.publish(_SUBJECT, text, headers={"Nats-Msg-Id": secrets.token_hex(16)})
            for text in texts
        ]
        await asyncio.gather(*sent)


def obstacle() -> str | None:
    """Return why there can be no server here."""
    return None if _program() else "nats-server is not installed"


def _program() -> str | None:
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else shutil.which("nats-server")


@contextmanager
def to_stream(directory: Path, schema: Schema) -> Iterator[_Writers]:
    """Run a server, and open the sink and a connection."""
    import nats  # noqa: PLC0415 - an extra

    from collector.sinks.nats import NatsSettings, NatsSink  # noqa: PLC0415 - an extra
    from collector.sinks.sink import Opening  # noqa: PLC0415

    with _server(directory) as url:
        loop = asyncio.new_event_loop()
        client = loop.run_until_complete(nats.connect(url))
        stream = client.jetstream()
        made = stream.add_stream(
            name=_STREAM,
            subjects=["collector.>"],
            max_age=3600,
            max_bytes=64 << 20,
            storage="memory",
        )
        loop.run_until_complete(made)
        settings = NatsSettings(type="nats", url=url, stream=_STREAM)
        with NatsSink(settings, Opening("stream", (schema,), directory)) as sink:
            try:
                yield _Writers(sink, loop, stream)
            finally:
                loop.run_until_complete(client.close())
                loop.close()


@contextmanager
def _server(directory: Path) -> Iterator[str]:
    """Run a server on a free port; yield its address."""
    port = 20_000 + secrets.randbelow(12_000)
    command = [_program() or "nats-server", "-a", "127.0.0.1", "-p", str(port)]
    command += ["-js", "-sd", str(directory)]
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=nowhere, stderr=nowhere) as process:
        try:
            deadline = monotonic() + _START_SECONDS
            while not _answers(port):
                if process.poll() is not None or monotonic() > deadline:
                    raise BenchmarkError("the server does not start")
                sleep(0.05)
            yield f"nats://127.0.0.1:{port}"
        finally:
            process.kill()


def _answers(port: int) -> bool:
    with suppress(OSError), create_connection(("127.0.0.1", port), 1) as connection:
        return connection.recv(4) == b"INFO"
    return False
