"""Hold back batches on their way into the store, or wait for them."""

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
    """Keep the store from taking batches, so that they wait in the spool."""
    with closing(sqlite3.connect(store, timeout=WAIT_SECONDS, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


def delivered(sidecar: Sidecar) -> int:
    """Wait until no batch is waiting and each step of the delivery is done. Return how many events
    were admitted."""
    while waiting := metric(sidecar, "collector_spool_batches{"):
        wait_until(lambda most=waiting: metric(sidecar, "collector_spool_batches{") < most)  # type: ignore[misc]
    return int(metric(sidecar, 'collector_events_total{outcome="admitted"'))


def log_is_empty(data: Path) -> None:
    """Wait until the spool's write-ahead log is empty."""
    wait_until(lambda: not (data / "spool.db-wal").stat().st_size)
