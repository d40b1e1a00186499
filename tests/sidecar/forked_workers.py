"""Workers that a sidecar forks, when it starts and when it reloads, in place of new interpreters:
those would take half of the CPU time of a test that starts a sidecar, to load modules.

The process that forks sidecars (``tests.support.forkserver``) loads this first. A worker has then
what a new interpreter would give it (its environment, its two sockets and no other file, and only
modules that it loads itself), but the memory of where it comes from, and its command line. Where a
test is of the workers' processes, it sets ``NEW_INTERPRETERS``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, cast

from collector.filter.otlp import json_body, protobuf_body  # noqa: F401 - a worker needs them at once
from collector.server import worker
from collector.server.worker_process import WorkerProcess, environment
from tests.support.sidecar import NEW_INTERPRETERS

_LOADED = frozenset(sys.modules)
_MOST_FILES = 1 << 20
_forgotten: list[object] = []
_start = WorkerProcess.start


class _Forked:
    """As much of ``subprocess.Popen`` as a sidecar needs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def kill(self) -> None:
        """End it, unless that has been waited for."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Wait for its end."""
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _forked(module: str, ends: tuple[int, int]) -> subprocess.Popen[bytes]:
    """Fork from the main thread, which uses nothing that other threads hold on to."""
    is_main = threading.current_thread() is threading.main_thread()
    if NEW_INTERPRETERS.keys() <= os.environ.keys() or module != worker.__name__ or not is_main:
        return _start(module, ends)
    pid = os.fork()
    if pid == 0:
        _work(ends)
    return cast("subprocess.Popen[bytes]", _Forked(pid))


def _work(ends: tuple[int, int]) -> NoReturn:
    """Be a worker, from here to its end: what callers hold is never let go of, so that no file is
    closed whose number is another one's by then."""
    try:
        with Path(os.devnull).open("r+b") as nothing:
            for stream in range(3):
                os.dup2(nothing.fileno(), stream)
        first = 3
        for end in (*sorted(ends), _MOST_FILES):
            os.closerange(first, end)
            first = end + 1
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        environ = environment()
        os.environ.clear()
        os.environ.update(environ)
        sys.argv[1:] = map(str, ends)
        sys.dont_write_bytecode = True
        _forget()
        worker.main()
    finally:
        os._exit(1)


def _forget() -> None:
    """Forget modules that a worker has not loaded, so that it cannot load them either once it is
    confined; but those of the standard library, and compiled ones, which load only once. What they
    hold stays, as to free memory that is shared takes longer than to load what is needed."""
    kept = {name for name, module in sys.modules.items() if not _is_source(module)}
    tops = sys.stdlib_module_names | {name.partition(".")[0] for name in kept}
    gone = [name for name in sys.modules.keys() - _LOADED if name.partition(".")[0] not in tops]
    _forgotten.extend(map(sys.modules.pop, gone))


def _is_source(module: object) -> bool:
    return str(getattr(module, "__file__", "")).endswith(".py")


WorkerProcess.start = staticmethod(_forked)  # type: ignore[method-assign]
