"""The sidecar process: environment, receivers, signals, lifecycle.

The process hardens itself before it imports any module that reads the environment: it clears
inherited debug switches and proxies, forbids core dumps, and sets file modes.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import tracemalloc
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collector.config import Loaded

__all__ = ["clear_switches", "harden", "run"]

_NAMES = frozenset(
    """
    SSLKEYLOGFILE PYTHONASYNCIODEBUG PYTHONDEVMODE PYTHONTRACEMALLOC PYTHONWARNINGS PYTHONINSPECT
    PYTHONBREAKPOINT FORWARDED_ALLOW_IPS WEB_CONCURRENCY SQLITE_TMPDIR DEBUG
    """.split()
)
_PREFIXES = (
    *("GRPC_", "OTEL_", "UVICORN_", "PROMETHEUS_", "RUST_", "RDKAFKA_", "LIBRDKAFKA_"),
    *("SENTRY_", "DD_", "LOGFIRE_", "ELASTIC_APM_", "NEW_RELIC_", "ABSL_", "GLOG_"),
)
_SUFFIX = "_PROXY"
_PR_SET_DUMPABLE = 4
_FILES = 8192
_M_MMAP_THRESHOLD, _MAPPED_BYTES = -3, 1 << 20
_M_TRIM_THRESHOLD, _RETAINED_BYTES = -1, 8 << 20
_M_ARENA_MAX, _ARENAS = -8, 2
_SWITCH_SECONDS = 0.0002
"""The interpreter's switch interval. A thread that works on a large request may delay the event
loop and the spool's writer this long. They need the interpreter again after each system call and
each step of SQLite."""


def run(loaded: Loaded, *, allow_widening: bool = False) -> int:
    """Run the sidecar until a signal; return its exit code.

    Raises ``ConfigFaults`` if it cannot start: a port is taken, a directory cannot be used, a
    schema is faulty. Faults are found before any file is created. If more data would flow than with
    the last configuration in the data directory, it starts only with ``allow_widening``.
    """
    clear_switches()
    harden()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it can reload
    _load_structlog()
    if loaded.config.drain.is_on:
        from collector.server.process import serve  # noqa: PLC0415 - the switches are cleared

        return serve(_without_receivers(loaded), [], allow_widening=allow_widening)
    from collector.server.worker_process import count, spawned  # noqa: PLC0415 - after

    with spawned(count(loaded.config)) as processes:  # the workers load meanwhile
        from collector.server.process import serve  # noqa: PLC0415 - the switches are cleared

        return serve(loaded, processes, allow_widening=allow_widening)


def _load_structlog() -> None:
    """Load structlog without Rich, which takes 4 MB and is not needed here."""
    loaded = sys.modules.get("rich")
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog  # noqa: F401, PLC0415 - it looks for Rich only once
    finally:
        del sys.modules["rich"]
        if loaded is not None:
            sys.modules["rich"] = loaded


def _without_receivers(loaded: Loaded) -> Loaded:
    """Switch off what only senders and workers need, for a drain."""
    config, off = loaded.config, {"address": None}
    changes = {
        "http": config.http.model_copy(update={**off, "unix": None}),
        "grpc": config.grpc.model_copy(update=off),
        "sandbox": "off",
        "workers": 1,
    }
    return replace(loaded, config=config.model_copy(update=changes))


def clear_switches() -> None:
    """Remove environment variables that make a library write more or send data elsewhere."""
    for name in list(os.environ):
        upper = name.upper()
        if upper in _NAMES or upper.startswith(_PREFIXES) or upper.endswith(_SUFFIX):
            del os.environ[name]
    os.environ["GRPC_VERBOSITY"] = "NONE"  # its C code writes errors with peers' addresses
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    tracemalloc.stop()


def harden() -> None:
    """Forbid core dumps and ptrace, make new files private, raise the limit of open files, and
    shorten the interpreter's switch interval."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    sys.setswitchinterval(_SWITCH_SECONDS)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        _tune_malloc()


def _tune_malloc() -> None:
    """Have glibc, if it is the C library, return the memory of large bodies to the system.

    Otherwise glibc keeps it for each thread: 212 instead of 103 MB after a load of bombs. It still
    keeps the memory of usual bodies, because requesting it for each body takes 5 % of the CPU time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _RETAINED_BYTES)
