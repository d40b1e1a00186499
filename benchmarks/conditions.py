"""The conditions of a measurement: what is kept constant during timing, and the machine."""

from __future__ import annotations

import compileall
import ctypes
import gc
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import Random
from time import process_time_ns

_ROOT = Path(__file__).resolve().parent.parent

_LIBRARIES = (
    "data-minimisation-collector",
    "msgspec",
    "orjson",
    "pydantic",
    "pydantic-core",
    "pysimdjson",
    "duckdb",
    "polars",
    "pyarrow",
    "vector-vrl",
)
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEPT_HEAP = 1 << 28
_LARGEST_MMAP_THRESHOLD = 1 << 25


@contextmanager
def steady() -> Iterator[dict[str, str]]:
    """Pin the process to one CPU, settle the heap and switch the garbage collector off.

    With the collector on, a contender that makes many objects pays for all objects in the process:
    orjson takes two and a half times as long for an OTLP body because of this process's size. So
    the heap is frozen and the collector is disabled for all contenders. Yields the applied
    measures, as text for the record. CPUs and garbage collector are restored afterwards.
    """
    heap = _settled_heap()
    allowed = _affinity()
    enabled = gc.isenabled()
    try:
        pinned = _pin(allowed)
        gc.collect()
        gc.freeze()
        gc.disable()
        yield {"cpu_pin": pinned, "gc": "frozen and disabled while timing", "heap": heap}
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
        if allowed:
            os.sched_setaffinity(0, allowed)


def in_rounds(
    jobs: Mapping[str, Callable[[], object]],
    rounds: int,
    seed: int,
    clock: Callable[[], int] = process_time_ns,
    before: Callable[[int], object] | None = None,
) -> dict[str, list[float]]:
    """Run each job once a round, in a new random order, so that no job always follows the same
    other. Return the µs of each round. A first round warms up, and does not count. ``before`` is
    called with the number of each round, untimed."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    random = Random(seed)
    for round_ in range(rounds + 1):
        if before is not None:
            before(round_)
        for name in random.sample(list(jobs), len(jobs)):
            begun = clock()
            done = jobs[name]()
            spent = clock() - begun
            del done  # freeing it is not timed
            if round_:
                times[name].append(max(1, spent) / 1_000)
    return times


def compiled() -> dict[str, str]:
    """Compile the package before anything is timed, so that no process does so at its start.

    Returns the applied measures, as text for the record.
    """
    done = [compileall.compile_dir(_ROOT / room, quiet=2) for room in ("collector", "benchmarks")]
    return {"bytecode": "compiled before" if all(done) else "could not be compiled before"}


def _affinity() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _pin(allowed: set[int]) -> str:
    if not allowed:
        return "not possible here"
    # The first CPU serves more interrupts than the others.
    cpu = max(allowed)
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError:
        return "refused by the system"
    return f"CPU {cpu}, while timing in one process"


def _settled_heap() -> str:
    """Keep freed memory in the process, as in a process that has run for long.

    If the top of the heap happens to be near its threshold, glibc gives it back and faults it in
    again at every event. This costs an unlucky contender 2 µs per event.
    """
    if platform.libc_ver()[0] != "glibc":
        return "as the system has it"
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_HEAP)
    mallopt(_M_TOP_PAD, _LARGEST_MMAP_THRESHOLD)
    return "glibc, freed memory is kept"


def environment() -> dict[str, str]:
    """Return interpreter, libraries and machine, without anything that identifies the machine's
    owner."""
    about = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cpus": str(os.cpu_count() or "unknown"),
        "load": _load(),
    }
    return about | {name: _version(name) for name in _LIBRARIES}


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _load() -> str:
    if sys.platform == "win32":
        return "unknown"
    return f"{os.getloadavg()[0]:.2f}"


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    for line in text.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
