"""Hardening: inherited switches are cleared, and the process is restricted."""

from __future__ import annotations

import json

from tests.support.programs import script

HOSTILE = {
    "GRPC_TRACE": "all",
    "GRPC_VERBOSITY": "DEBUG",
    "PYTHONASYNCIODEBUG": "1",
    "PYTHONDEVMODE": "1",
    "PYTHONTRACEMALLOC": "5",
    "PYTHONWARNINGS": "always",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
    "grpc_proxy": "http://127.0.0.1:9",
    "FORWARDED_ALLOW_IPS": "*",
    "WEB_CONCURRENCY": "4",
    "UVICORN_LOG_LEVEL": "trace",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    "OTEL_TRACES_EXPORTER": "otlp",
    "RUST_LOG": "trace",
}
"""An environment in which libraries write more, or send elsewhere. Those that name a file
(``SSLKEYLOGFILE``, ``PROMETHEUS_MULTIPROC_DIR``) are for each test to add."""

_SHOW = """
import json, os, resource, sys, tracemalloc
from collector.server import clear_switches, harden
before = set(sys.modules)
clear_switches()
harden()
mask = os.umask(0)
print(json.dumps({
    "environment": dict(os.environ),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    "mask": mask,
    "tracing": tracemalloc.is_tracing(),
    "dumpable": __import__("ctypes").CDLL(None).prctl(3) if sys.platform == "linux" else 0,
    "heavy": sorted({"grpc", "ssl", "asyncio", "prometheus_client", "pydantic"} & before),
}))
"""


def test_switches_are_cleared_and_the_process_is_hardened() -> None:
    """Nothing of the hostile environment is left; what it needs is; no core dumps, no group."""
    more = {"SSLKEYLOGFILE": "/tmp/keys", "PROMETHEUS_MULTIPROC_DIR": "/tmp", "KEPT": "yes"}
    found = json.loads(script(_SHOW, environ=HOSTILE | more).stdout)
    left = found["environment"]
    assert left.pop("GRPC_VERBOSITY") == "NONE"
    assert not (HOSTILE.keys() | more.keys() - {"KEPT"}) & left.keys()
    assert left["KEPT"] == "yes"
    assert "PATH" in left
    assert found["core"] == [0, 0]
    assert found["mask"] == 0o077
    assert not found["tracing"]
    assert found["dumpable"] == 0
    assert found["files"] >= 1024
    assert found["heavy"] == []
