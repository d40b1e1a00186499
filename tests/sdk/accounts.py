"""Where the records of a ``Collector`` are, for tests: its account, and addresses of persons."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collector.sdk import Collector
from tests.support.deadline import WAIT_SECONDS, wait_until

YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
"""The beginning of every window of a withdrawal, also around midnight."""
SURVEY = """
schema: survey
version: 1.0.0
title: A survey
owner: tests
purposes:
  planning:
    use: analytics.reporting.system.performance
    basis: consent
    reason: Which networks to test with
    optional: true
fields:
  client.address:
    kind: ip
    category: user.device.ip_address
    purposes: [planning]
    retention: 30d
    reason: Which networks to test with
"""
"""A schema of which nothing is left when consent is withdrawn."""

both_ways = pytest.mark.parametrize("with_spool", [False, True], ids=["memory", "spool"])


def spool_of(directory: Path, with_spool: bool) -> Path | None:
    """Return the directory of a spool, or ``None``."""
    return directory / "spool" if with_spool else None


def address(number: int) -> str:
    """Return one of a million addresses."""
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def adds_up(telemetry: Collector) -> None:
    """Check the account law."""
    account = telemetry.tally()
    where = account.delivered + account.queued + account.spooled + sum(account.lost.values())
    assert account.admitted + account.recovered == where


def deliver_all(telemetry: Collector) -> None:
    """Wait until no record is in flight or spooled."""
    assert telemetry.flush(WAIT_SECONDS)
    wait_until(lambda: not telemetry.tally().spooled)


def ends(telemetry: Collector) -> None:
    """Wait until the threads of a collector, which is closed, use no file any more: a busy machine
    leaves the end of a delivery to its own thread."""
    worker = telemetry._worker
    assert worker is not None
    if worker.ident is not None:  # else the caller of ``close`` has delivered
        worker.join(WAIT_SECONDS)
    wait_until(lambda: worker.delivery is None)
