"""Batches on their way into the store: held back, and arrived."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic, sleep

from tests.sidecar.serving import Sidecar

__all__ = ["delivered", "held", "log_is_empty"]

_SECONDS = 30
_EMPTY_SECONDS = 20


@contextmanager
def held(store: Path) -> Iterator[None]:
    """The store takes nothing meanwhile, so that batches wait in the spool."""
    with closing(sqlite3.connect(store, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


def delivered(sidecar: Sidecar) -> int:
    """Wait until nothing waits any more; how many events were admitted."""
    until = monotonic() + _SECONDS
    while True:
        text = sidecar.admin("/metrics").body.decode()
        if "\ncollector_spool_batches 0.0\n" in text:
            found = re.search(r'collector_events_total{outcome="admitted"} (\d+)', text)
            assert found is not None
            return int(found[1])
        assert monotonic() < until, "it is not delivered"
        sleep(0.05)


def log_is_empty(data: Path) -> float:
    """Wait until the spool's write-ahead log is empty; how long it took."""
    began = monotonic()
    while (data / "spool.db-wal").stat().st_size:
        assert monotonic() < began + _EMPTY_SECONDS, "the log stays"
        sleep(0.05)
    return monotonic() - began
