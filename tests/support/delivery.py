"""Batches on their way into the store: held back, and arrived."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.failing_disk import metric
from tests.support.sidecar import Sidecar


@contextmanager
def held(store: Path) -> Iterator[None]:
    """The store takes nothing meanwhile, so that batches wait in the spool."""
    with closing(sqlite3.connect(store, timeout=WAIT_SECONDS, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


def delivered(sidecar: Sidecar) -> int:
    """Wait until nothing waits any more, and for each step on the way; how many events were
    admitted."""
    while waiting := metric(sidecar, "collector_spool_batches{"):
        wait_until(lambda most=waiting: metric(sidecar, "collector_spool_batches{") < most)  # type: ignore[misc]
    return int(metric(sidecar, 'collector_events_total{outcome="admitted"'))


def log_is_empty(data: Path) -> None:
    """Wait until the spool's write-ahead log is empty."""
    wait_until(lambda: not (data / "spool.db-wal").stat().st_size)
