"""The process of a worker, as the keeper starts and sees it.

The process starts with a clean environment. Its only open descriptors are one end of each of two
pairs of sockets.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from collector.environment import clean_environment

if TYPE_CHECKING:  # this module loads first, so that workers start early
    from collector.config import Config

_MODULE = "collector.server.worker"


def count(config: Config) -> int:
    """Return the number of workers."""
    if isinstance(config.workers, int):
        return config.workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerProcess:
    """A process that runs ``module``, and waits for its first message at the other ends of
    ``channel`` and ``keys``."""

    channel: socket.socket
    keys: socket.socket

    def __init__(self, module: str = _MODULE) -> None:
        with ExitStack() as theirs, ExitStack() as undo:
            self.channel, other = _pair(theirs, undo)
            self.keys, other_keys = _pair(theirs, undo)
            ends = (other.fileno(), other_keys.fileno())
            self.process: subprocess.Popen[bytes] = self.start(module, ends)
            undo.pop_all()

    @staticmethod
    def start(module: str, ends: tuple[int, int]) -> subprocess.Popen[bytes]:
        """Start an interpreter that runs ``module`` with the two sockets and nothing else."""
        return subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-B", "-P", "-s", "-m", module, *map(str, ends)],
            pass_fds=ends,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def end(self) -> None:
        """End the process at once, if it has not ended yet."""
        self.channel.close()
        self.keys.close()
        with suppress(OSError):
            self.process.kill()
        self.process.wait()


def _pair(theirs: ExitStack, undo: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Return connected sockets, ours and the worker's, each closed by its stack."""
    ours, other = socket.socketpair()
    undo.callback(ours.close)
    theirs.callback(other.close)
    return ours, other


@contextmanager
def spawned(number: int) -> Iterator[list[WorkerProcess]]:
    """Start ``number`` processes while the keeper gets ready; end those left in the list."""
    processes: list[WorkerProcess] = []
    try:
        processes.extend(WorkerProcess() for _ in range(number))
        yield processes
    finally:
        for process in processes:
            process.end()


def environment() -> dict[str, str]:
    """Return the environment of a worker."""
    fixed = {"HOME": os.sep, "GRPC_VERBOSITY": "NONE"}
    fixed["PYDANTIC_DISABLE_PLUGINS"] = "1"  # plugins would see events, and searching takes time
    return clean_environment() | fixed
