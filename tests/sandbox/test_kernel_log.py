"""What a confined process can put into the kernel's log: no name of its own, and nothing by a call
that is refused. A fault still shows registers and memory (decision 0034)."""

from __future__ import annotations

import os
import platform
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGSEGV
from textwrap import dedent

import pytest

from tests.support.deadline import WAIT_SECONDS, eventually

_ROOT = Path(__file__).parents[2]
_PROGRAM = """
import ctypes, os, signal, sys, threading
from collector.sandbox import forbid_io_uring, restrict_calls, restrict_files
name, is_confined = sys.argv[1].encode(), sys.argv[2] == "True"
libc = ctypes.CDLL(None, use_errno=True)
libc.pthread_self.restype = ctypes.c_ulong
stop, started, ids = threading.Event(), threading.Event(), []
def wait():
    ids.append((libc.pthread_self(), threading.get_native_id()))
    started.set()
    stop.wait()
    libc.prctl(15, name, 0, 0, 0)
    libc.pthread_setname_np(ctypes.c_ulong(libc.pthread_self()), name)
    later.set()
    threading.Event().wait()
if is_confined:
    restrict_files()
if is_confined:
    forbid_io_uring()
    restrict_calls()
later = threading.Event()
threading.Thread(target=wait, daemon=True).start()
started.wait()
pthread, thread = ids[0]
errors = []
for renamed in (
    lambda: libc.prctl(15, name, 0, 0, 0),
    lambda: libc.syscall(NUMBER, 15, name, 0, 0, 0),
    lambda: libc.pthread_setname_np(ctypes.c_ulong(libc.pthread_self()), name),
    lambda: libc.pthread_setname_np(ctypes.c_ulong(pthread), name),
):
    errors.append(renamed() != 0)
for path in ("self", "thread-self", f"self/task/{thread}"):
    try:
        with open(f"/proc/{path}/comm", "wb") as file:
            file.write(name)
        errors.append(False)
    except OSError:
        errors.append(True)
stop.set()
later.wait()
print(*map(int, errors), flush=True)
for line in sys.stdin:
    exec(line)
    print("alive", flush=True)
"""
_NUMBER = {"x86_64": 157, "aarch64": 167}.get(platform.machine(), -1)
_FAULT = "signal.signal(signal.SIGSEGV, signal.SIG_DFL); ctypes.string_at(8)"


@contextmanager
def _renaming(name: str, *, confined: bool) -> Iterator[subprocess.Popen[str]]:
    """A process that has tried to give its threads a name in each way that there is, confined or
    not, and then runs the lines that it is sent."""
    code = dedent(_PROGRAM).replace("NUMBER", str(_NUMBER))
    with subprocess.Popen(
        [sys.executable, "-c", code, name, str(confined)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _tell(process: subprocess.Popen[str], line: str) -> str:
    """Have it run a line; return what it says."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
    return process.stdout.readline()


def _said(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


def _names(process: subprocess.Popen[str]) -> set[str]:
    """The names of its threads, as anybody can read them."""
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    return {(thread / "comm").read_text().strip() for thread in threads}


@contextmanager
def kernel_log() -> Iterator[Callable[[], str]]:
    """Returns what the kernel has logged since the block began; skips the test where it may not."""
    try:
        descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        pytest.skip("this user may not read the kernel's log here")
    os.lseek(descriptor, 0, os.SEEK_END)
    lines: list[str] = []

    def read() -> str:
        while True:
            try:
                lines.append(os.read(descriptor, 1 << 13).decode(errors="replace"))
            except BrokenPipeError:  # older lines made room for newer ones
                continue
            except BlockingIOError:
                return "".join(lines)

    try:
        yield read
    finally:
        os.close(descriptor)


@pytest.fixture
def log() -> Iterator[Callable[[], str]]:
    """Returns what the kernel has logged since the test began."""
    with kernel_log() as read:
        yield read


def _name() -> str:
    return f"n{secrets.token_hex(6)}"


def test_no_thread_takes_a_name() -> None:
    name = _name()
    with _renaming(name, confined=False) as process:
        assert _said(process) == ["0"] * 7
        assert _names(process) == {name}
    with _renaming(name, confined=True) as process:
        assert _said(process) == ["1"] * 7
        assert name not in _names(process)
        assert len(_names(process)) == 1


def test_a_fault_logs_no_chosen_name(log: Callable[[], str]) -> None:
    """The kernel writes the name of a thread that ends by a segmentation fault into its log."""
    free, confined = _name(), _name()
    for name in (confined, free):
        with _renaming(name, confined=name == confined) as process:
            _said(process)
            assert _tell(process, _FAULT) == ""
            assert process.wait(WAIT_SECONDS) == -SIGSEGV
    if not eventually(lambda: free in log(), 2):
        pytest.skip("the kernel does not log faults here (debug.exception-trace)")
    assert confined not in log()


_REFUSED = [
    "libc.syscall(ctypes.c_long(0x40000000 + 39))",
    "libc.syscall(ctypes.c_long(0x40000000 + 157), 15, name, 0, 0, 0)",
    "libc.syscall(ctypes.c_long(0x7FFFFFFF))",
    "libc.syscall(ctypes.c_long(-1))",
    "libc.syscall(ctypes.c_long(1 << 20))",
    "libc.syscall(ctypes.c_long(NUMBER), 15, name, 0, 0, 0)",
    "libc.fork()",
    "libc.open(b'/', 0)",
]


def test_a_refused_call_is_not_logged(log: Callable[[], str]) -> None:
    """It fails, whatever its number is, and the process goes on: the kernel would log one that is
    ended, with its name and the number of the call."""
    with _renaming(_name(), confined=True) as process:
        _said(process)
        for call in _REFUSED:
            line = f"assert {call.replace('NUMBER', str(_NUMBER))} == -1"
            assert _tell(process, line) == "alive\n", call
    assert f"pid={process.pid} " not in log()
    assert f"[{process.pid}]" not in log()
