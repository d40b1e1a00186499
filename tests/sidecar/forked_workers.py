"""Let a sidecar fork its workers when it starts and reloads, instead of starting new interpreters.
Those would take half of the CPU time of a test that starts a sidecar, to load modules.

The process that forks sidecars (``tests.support.forkserver``) loads this module first. A worker
then has what a new interpreter would give it: its environment, its two sockets and no other file,
and only modules that it loads itself. It keeps its parent's memory and command line. Tests of the
workers' processes set ``NEW_INTERPRETERS``.
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
    """The part of ``subprocess.Popen`` that a sidecar needs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def kill(self) -> None:
        """Kill the worker, unless somebody has waited for it."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Wait for the worker's end."""
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _forked(module: str, ends: tuple[int, int]) -> subprocess.Popen[bytes]:
    """Fork from the main thread, which uses nothing that other threads have locked."""
    is_main = threading.current_thread() is threading.main_thread()
    if NEW_INTERPRETERS.keys() <= os.environ.keys() or module != worker.__name__ or not is_main:
        return _start(module, ends)
    pid = os.fork()
    if pid == 0:
        _work(ends)
    return cast("subprocess.Popen[bytes]", _Forked(pid))


def _work(ends: tuple[int, int]) -> NoReturn:
    """Run as a worker until the process ends. The callers' objects are never freed: freeing them
    could close a file whose number another file has by then."""
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
    """Forget modules that a worker has not loaded, so that a confined worker cannot load them
    either. Modules of the standard library and compiled modules stay, because they load only once.
    Objects of forgotten modules stay too: freeing shared memory takes longer than loading the
    needed modules."""
    kept = {name for name, module in sys.modules.items() if not _is_source(module)}
    tops = sys.stdlib_module_names | {name.partition(".")[0] for name in kept}
    gone = [name for name in sys.modules.keys() - _LOADED if name.partition(".")[0] not in tops]
    _forgotten.extend(map(sys.modules.pop, gone))


def _is_source(module: object) -> bool:
    return str(getattr(module, "__file__", "")).endswith(".py")


WorkerProcess.start = staticmethod(_forked)  # type: ignore[method-assign]
