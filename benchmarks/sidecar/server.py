"""The measured server: its own processes on its own cores, and what they use."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

from benchmarks.figures import BenchmarkError

_START_SECONDS = 120.0
_DELIVERY_SECONDS = 1_800.0
_STOP_SECONDS = 120.0
_LOOK_SECONDS = 0.05
ROOT = Path(__file__).resolve().parent.parent.parent
"""This checkout."""
_FREE = {f"COLLECTOR__{receiver}__ADDRESS": "127.0.0.1:0" for receiver in ("HTTP", "GRPC", "ADMIN")}
_WAITING = re.compile(r'^collector_spool_records(?:\{sink="[^"]*"\})? (\S+)$', re.MULTILINE)
_EMPTY = "\ncollector_spool_used_bytes 0.0\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds so far, and resident MB (10⁶ bytes), of all processes. ``peaks_mb`` are the peaks
    of the processes, and ``workers`` are the CPU seconds of each child process."""

    cpu_seconds: float
    resident_mb: float
    peaks_mb: tuple[float, ...]
    workers: tuple[float, ...] = ()


@dataclass(slots=True)
class Server:
    """A process that takes events at a port. ``path`` and ``kind`` say in which form; a sidecar's
    ports are ``http``, ``grpc`` and ``admin``."""

    name: str
    process: subprocess.Popen[bytes]
    ports: dict[str, int]
    path: str
    kind: str
    log: list[str] = field(default_factory=list)

    def usage(self) -> Usage:
        """Return what the process and its children use, from the system's counters."""
        whole = map(_usage, (self.process.pid, *_children(self.process.pid)))
        cpu, resident, peaks = zip(*whole, strict=True)
        return Usage(sum(cpu), sum(resident), peaks, cpu[1:])

    def page(self, path: str) -> str:
        """Return a page of a sidecar's admin address."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['admin']}{path}") as answer:
            return str(answer.read().decode())

    def waiting(self) -> int | None:
        """Return how many records wait for the slowest sink, if the server reports it."""
        if "admin" not in self.ports:
            return None
        found = _WAITING.findall(self.page("/metrics"))
        if not found:
            raise BenchmarkError("the sidecar does not tell how many records wait")
        return int(max(map(float, found)))

    def drained(self) -> None:
        """Wait until a sidecar has no batch. Raises ``BenchmarkError`` if that takes too long."""
        until = monotonic() + _DELIVERY_SECONDS
        while "admin" in self.ports and _EMPTY not in self.page("/metrics"):
            if monotonic() > until:
                raise BenchmarkError(f"{self.name} does not deliver what it took")
            sleep(_LOOK_SECONDS)

    def stop(self) -> None:
        """Wait until no batch is waiting, because at its end a sidecar delivers for a few seconds
        only. Then ask it to end, and wait. Raises ``BenchmarkError`` if it does not end, or ended
        badly."""
        if self.process.poll() is None:
            self.drained()
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_STOP_SECONDS)
        if (code := self.process.poll()) != 0:
            raise BenchmarkError(f"{self.name} ended with {code}: {' '.join(self.log[-3:])}")


def _children(pid: int) -> list[int]:
    """Return a process's children."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread has ended
            found.append(path.read_text())
    return [int(number) for text in found for number in text.split()]


def _usage(pid: int) -> tuple[float, float, float]:
    """Return CPU seconds, resident MB and peak MB of one process."""
    place = Path("/proc", str(pid))
    # The second field is the name, in parentheses; user and system time are the 14th and 15th.
    fields = (place / "stat").read_text().rpartition(")")[2].split()
    status = dict(
        line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line
    )
    resident, peak = (int(status[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    ticks = int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK"), resident, peak


def obstacle() -> str | None:
    """Why a sidecar cannot be measured here; ``None`` if it can."""
    if not Path("/proc/self/status").exists() or not hasattr(os, "sched_setaffinity"):
        return "this system does not tell what a process uses (/proc), or does not pin it"
    if len(os.sched_getaffinity(0)) < 2:
        return "server and load need a CPU each"
    return None


def cores() -> tuple[int, int]:
    """The server's CPU, and the load's: the first CPU serves more interrupts."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[-1], allowed[0]


def two_cores() -> tuple[int, int]:
    """A server's two CPUs. The load shares the second one only if there are no more."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[-1], allowed[-2]


@contextmanager
def pinned(
    command: Sequence[str],
    directory: Path,
    cores: Collection[int],
    environ: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command on some cores, or on any; kill it at the end if it still runs."""
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=os.environ | dict(environ or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        if cores:
            os.sched_setaffinity(process.pid, cores)  # before it has threads, which inherit this
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextmanager
def collector(
    directory: Path,
    cores: Collection[int] = (),
    *,
    checkout: Path = ROOT,
    workers: int = 1,
    command: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run ``collector serve`` in its own directory, configured only with free ports, ``workers``
    and ``environ``. Another ``checkout`` runs with the libraries of this one. ``command`` may
    replace the program that runs it.

    Raises ``BenchmarkError`` if it does not start.
    """
    python = f"{checkout}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    command = command or [sys.executable, "-m", "collector", "serve"]
    around = _FREE | {"PYTHONPATH": python, "COLLECTOR__WORKERS": str(workers)}
    with pinned(command, directory, cores, around | dict(environ or {})) as process:
        name = "collector serve" if workers == 1 else f"collector serve, {workers} workers"
        server = Server(name, process, {}, "/v1/events", "application/x-ndjson")
        started = threading.Event()
        reader = threading.Thread(target=_read, args=(server, started), daemon=True)
        reader.start()
        if not started.wait(_START_SECONDS) or not server.ports:
            raise BenchmarkError(f"collector serve does not start: {' '.join(server.log[-3:])}")
        yield server
    reader.join()


def _read(server: Server, started: threading.Event) -> None:
    assert server.process.stdout is not None
    with server.process.stdout as lines:
        for raw in lines:
            line = raw.decode("utf-8", "replace").strip()
            server.log.append(line)
            if not server.ports and '"started"' in line:
                told = json.loads(line)
                server.ports |= {name: told[name] for name in ("http", "grpc", "admin")}
                started.set()
    started.set()


def stored(directory: Path) -> int:
    """Return how many events the store holds."""
    db = sqlite3.connect(directory / "collector-data" / "store.db")
    try:
        return int(db.execute("SELECT coalesce(sum(count), 0) FROM conferencing").fetchone()[0])
    finally:
        db.close()
