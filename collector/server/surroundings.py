"""What a process inherits, made harmless: debug switches, core dumps, file modes, proxies.

It is called before anything else is imported that would look at the environment.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import tracemalloc
import warnings

__all__ = ["clear_switches", "harden"]

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
_M_TRIM_THRESHOLD, _KEPT_BYTES = -1, 8 << 20
_M_ARENA_MAX, _ARENAS = -8, 2


def clear_switches() -> None:
    """Take out of the environment whatever makes a library write more, or send elsewhere."""
    for name in list(os.environ):
        upper = name.upper()
        if upper in _NAMES or upper.startswith(_PREFIXES) or upper.endswith(_SUFFIX):
            del os.environ[name]
    os.environ["GRPC_VERBOSITY"] = "NONE"  # else its C code writes errors with peers' addresses
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    tracemalloc.stop()


def harden() -> None:
    """No core dumps, no look into our memory, files for their owner only; room for sockets."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        _give_back()


def _give_back() -> None:
    """Give the memory of large bodies back to the system, where the C library has a say in it.

    Otherwise glibc keeps it for each thread apart: 212 instead of 103 MB after a storm of bombs.
    That of usual ones it keeps: to get it anew for each would be 5 % of all CPU time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
