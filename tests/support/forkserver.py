"""A process that has loaded the modules of commands, and forks a child for each request. A child is
a process like any other, without the time that loading takes.

``python -m tests.support.forkserver FD MODULE…`` loads modules. Over a socket it then receives what
to run: a module, arguments, a directory and an environment. It also receives the descriptors for
stdin, stdout and stderr, and a socket for the answers: the child's process id and, once the child
has ended, its exit code.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import ClassVar

LOADED = ("tests.sidecar.forked_workers", "tests.support.warmed")
"""The modules that the processes of tests need, loaded once for all of them. The first module notes
what is loaded by then."""
_MOST_BYTES = 1 << 16
_ROOT = Path(__file__).parents[2]
_LATE = re.compile(
    "COLLECTOR_.+|.+_KEY|(GIT|PYTEST)_.+|NOTIFY_SOCKET|TMPDIR|HOME|PATH|COLUMNS"
    "|SSL_CERT_FILE|SSLKEYLOGFILE|.+_proxy|.+_PROXY"
)
"""Variables that are read on demand, not when an interpreter or a library starts. If any other
variable differs, a new interpreter is needed."""


def main(line: socket.socket, modules: Sequence[str]) -> None:
    """Serve until the other side closes, which happens also when its process ends in any way. Then
    kill the remaining children."""
    for module in modules:
        import_module(module)
    gc.collect()
    gc.freeze()  # the collector leaves shared objects alone, so they are not copied
    while True:
        said, handed, _, _ = socket.recv_fds(line, _MOST_BYTES, 4)
        while _has_ended():
            pass
        if not said:
            os.killpg(0, signal.SIGKILL)
        if os.fork() == 0:
            line.close()
            _become_child(handed)
            _run(**json.loads(said))
            return
        for each in handed:
            os.close(each)


def _has_ended() -> bool:
    """Whether a process that waited for a child has ended, and reap it."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _become_child(handed: Sequence[int]) -> None:
    """Return in a child with its own streams. The parent waits for the child, answers, and ends."""
    *streams, answers = handed
    child = os.fork()
    if child:
        for stream in streams:
            os.close(stream)
        with socket.socket(fileno=answers) as answer:
            answer.send(b"%d" % child)
            answer.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        os._exit(0)  # as in ``_end``
    os.close(answers)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)


def _run(module: str, arguments: list[str], directory: str, environ: dict[str, str]) -> None:
    """Run a module as a whole program."""
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    sys.argv[1:] = arguments
    sys.orig_argv[:] = [sys.executable, "-m", module, *arguments]  # from which it restarts itself
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if isinstance(ended.code, int):
            _end(ended.code)
        raise
    _end(0)


def _end(code: int) -> None:
    """End as an interpreter does, but leave the memory to the system: freeing the objects that
    children share takes longer than most of their work."""
    threading._shutdown()  # type: ignore[attr-defined] # waits for threads
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError):  # the interpreter reports it at its end
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Born:
    """A child: as much of ``subprocess.Popen`` as tests need."""

    def __init__(self, answers: socket.socket) -> None:
        self._answers = answers
        self.pid = int(answers.recv(_MOST_BYTES))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code of the child, if it has ended."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code. Raises ``subprocess.TimeoutExpired`` after ``timeout`` seconds."""
        if (code := self._ended(timeout)) is None:
            raise subprocess.TimeoutExpired("a child", timeout or 0)
        return code

    def _ended(self, seconds: float | None) -> int | None:
        if self.returncode is None:
            self._answers.settimeout(seconds)
            try:
                self.returncode = int(self._answers.recv(_MOST_BYTES))
            except (BlockingIOError, TimeoutError):
                return None
            self._answers.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the child, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it may end in between
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask the child to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Process = subprocess.Popen[bytes] | Born


def begin(
    module: str,
    arguments: Sequence[str],
    streams: tuple[int, int, int],
    directory: str | Path,
    environ: Mapping[str, str],
    loaded: Sequence[str] = LOADED,
) -> Process:
    """Run a module as a program. All programs share one process that has loaded the modules they
    need. If the environment sets variables that an interpreter reads at its start, start a new
    interpreter."""
    nursery = Nursery.of_this_process(*loaded)
    if nursery.fits(environ):
        return nursery.bear(module, arguments, streams, directory, environ)
    words = [sys.executable, "-m", module, *arguments]
    stdin, out, err = streams
    return subprocess.Popen(words, 0, None, stdin, out, err, cwd=directory, env=environ)


class Nursery:
    """The tests' side of the fork server."""

    def __init__(self, *modules: str, root: Path = _ROOT) -> None:
        """Start the server in the tree at ``root``, with these modules loaded."""
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._environ = dict(os.environ)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forkserver", str(theirs.fileno()), *modules],
                cwd=root,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        atexit.register(self._close)

    _shared: ClassVar[dict[tuple[str, ...], Nursery]] = {}

    @classmethod
    def of_this_process(cls, *modules: str) -> Nursery:
        """The server that all tests share. If it has ended, start a new one: a test that takes too
        long ends the server if that test was the first to need it."""
        found = cls._shared.get(modules)
        if found is None or found._process.poll() is not None:
            found = cls._shared[modules] = cls(*modules)
        return found

    def fits(self, environ: Mapping[str, str]) -> bool:
        """Whether children can have this environment."""
        return all(_LATE.fullmatch(name) for name, _ in environ.items() ^ self._environ.items())

    def bear(
        self,
        module: str,
        arguments: Sequence[str],
        streams: tuple[int, int, int],
        directory: str | Path,
        environ: Mapping[str, str],
    ) -> Born:
        """Fork a child that runs a module as a program."""
        said = {"module": module, "arguments": arguments, "directory": str(directory)}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            told = json.dumps(said | {"environ": dict(environ)}).encode()
            socket.send_fds(self._line, [told], [*streams, theirs.fileno()])
        return Born(ours)

    def _close(self) -> None:
        self._line.close()
        self._process.wait(10)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
