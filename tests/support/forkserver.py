"""A process that has loaded what commands need, and forks a child for each that it is asked for. A
child is a process as any other, but for the time that loading takes.

``python -m tests.support.forkserver FD MODULE…`` loads modules, and is told, over a socket, what to
run with which arguments, where, and in which environment. It is handed what is to be stdin, stdout
and stderr, and a socket for the answers: the number of the child, and once it has ended its exit
code.
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
"""What any of the processes needs that tests start: loaded once for all of them. The first notes
what is loaded by then."""
_MOST_BYTES = 1 << 16
_ROOT = Path(__file__).parents[2]
_LATE = re.compile(
    "COLLECTOR_.+|.+_KEY|(GIT|PYTEST)_.+|NOTIFY_SOCKET|TMPDIR|HOME|PATH|COLUMNS"
    "|SSL_CERT_FILE|SSLKEYLOGFILE|.+_proxy|.+_PROXY"
)
"""Variables that are read when something is asked for, not when an interpreter or a library starts;
where others are set, a new interpreter is needed."""


def main(line: socket.socket, modules: Sequence[str]) -> None:
    """Serve until the other side closes, as it does also when its process ends in whatever way;
    children that are left then are killed."""
    for module in modules:
        import_module(module)
    gc.collect()
    gc.freeze()  # what children share is not looked at, and so not copied
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
    """Whether one of those that waited for a child is done with it, and now is no more."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _become_child(handed: Sequence[int]) -> None:
    """Go on in a child, which has its streams then; this process waits for it, and ends."""
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
    """A program, from its beginning to its end."""
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    sys.argv[1:] = arguments
    sys.orig_argv[:] = [sys.executable, "-m", module, *arguments]  # by which it starts afresh
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if isinstance(ended.code, int):
            _end(ended.code)
        raise
    _end(0)


def _end(code: int) -> None:
    """End as an interpreter does, but leave its memory to the system: to take apart what is shared
    with the other children takes longer than most of what they do."""
    threading._shutdown()  # type: ignore[attr-defined] # waits for threads
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError):  # then the interpreter says so, at its end
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
        """Its exit code, if it has ended."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code; ``subprocess.TimeoutExpired`` if it takes more than so many seconds."""
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
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it may end between the two
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
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
    """Run a module as a program; what is to be loaded before it begins is loaded once for all. A
    new interpreter is started only where the environment is one that it would read."""
    nursery = Nursery.of_this_process(*loaded)
    if nursery.fits(environ):
        return nursery.bear(module, arguments, streams, directory, environ)
    words = [sys.executable, "-m", module, *arguments]
    stdin, out, err = streams
    return subprocess.Popen(words, 0, None, stdin, out, err, cwd=directory, env=environ)


class Nursery:
    """The other side."""

    def __init__(self, *modules: str, root: Path = _ROOT) -> None:
        """Load modules, of the tree at ``root``."""
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
        """The one that is shared by all tests. It is made anew where it has ended: a test that
        takes too long ends it, if that test was the first to need it."""
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
        """A child that runs a module as a program."""
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
