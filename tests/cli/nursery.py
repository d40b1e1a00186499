"""A process that has loaded the command line, and forks a child for each command that it is asked
for. A child is a process as any other, but for the time that loading takes.

``python -m tests.cli.nursery FD`` is told, over a socket, arguments and directory, and is handed
what is to be stdin, stdout and stderr. It answers with the number of the child, then with its code.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Self

__all__ = ["Nursery"]

_MOST_BYTES = 1 << 16
_ROOT = Path(__file__).parents[2]


def main(line: socket.socket) -> None:
    """Serve until the other side closes."""
    import collector.cli.app  # noqa: PLC0415, F401 - this is what children need not do

    while True:
        said, streams, _, _ = socket.recv_fds(line, _MOST_BYTES, 3)
        if not said:
            return
        child = os.fork()
        if child == 0:
            line.close()
            _become(streams, **json.loads(said))
            return
        for stream in streams:
            os.close(stream)
        line.send(b"%d" % child)
        line.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _become(streams: Sequence[int], arguments: list[str], directory: str) -> None:
    """The command, from its beginning to its end."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(directory)
    sys.argv[1:] = arguments
    sys.orig_argv[:] = [sys.executable, "-m", "collector", *arguments]  # by which it starts afresh
    runpy.run_module("collector", run_name="__main__", alter_sys=True)


class Nursery:
    """The other side. Children have the environment that was there when it was made."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.nursery", str(theirs.fileno())],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._environ = self._now()
        atexit.register(self._close)

    @classmethod
    @cache
    def of_this_process(cls) -> Self:
        """The one that is shared by all tests."""
        return cls()

    @property
    def fits(self) -> bool:
        """Whether the environment is still the same."""
        return self._now() == self._environ

    def run(self, arguments: Sequence[str], streams: Sequence[int], seconds: float) -> int:
        """The exit code of a command; ``TimeoutError`` if it takes longer."""
        said = json.dumps({"arguments": arguments, "directory": str(Path.cwd())})
        socket.send_fds(self._line, [said.encode()], streams)
        child = int(self._line.recv(_MOST_BYTES))
        self._line.settimeout(seconds)
        try:
            return int(self._line.recv(_MOST_BYTES))
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            raise
        finally:
            self._line.settimeout(None)

    @staticmethod
    def _now() -> dict[str, str]:
        return {name: text for name, text in os.environ.items() if name != "PYTEST_CURRENT_TEST"}

    def _close(self) -> None:
        self._line.close()
        self._process.wait(10)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
