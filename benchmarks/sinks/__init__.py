"""Sinks beside bare writers: what each module here opens, and how it starts a server for it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from socket import create_connection
from time import monotonic, sleep
from typing import NamedTuple

from benchmarks.figures import BenchmarkError
from collector.contracts import Batch, Record

_START_SECONDS = 60.0
MESSAGE = 2_000
"""Records of a message of a bare writer: those of a batch."""


class Writers(NamedTuple):
    """What delivers batches through a sink, and what writes the same records without Collector,
    each to a location of its own."""

    sink: Callable[[Sequence[Batch]], object]
    bare: Callable[[Sequence[Record]], object]


@contextmanager
def served(command: Sequence[str], port: int, greeting: bytes = b"") -> Iterator[None]:
    """Run a server until the end of the block, from when it listens, and greets so."""
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=nowhere, stderr=nowhere) as process:
        try:
            deadline = monotonic() + _START_SECONDS
            while not _answers(port, greeting):
                if process.poll() is not None or monotonic() > deadline:
                    raise BenchmarkError("the server does not start")
                sleep(0.05)
            yield
        finally:
            process.kill()


def _answers(port: int, greeting: bytes) -> bool:
    with suppress(OSError), create_connection(("127.0.0.1", port), 1) as connection:
        return not greeting or connection.recv(len(greeting)) == greeting
    return False
