"""The server of the tests with PostgreSQL, and time for servers of a machine that is busy."""

from __future__ import annotations

import pytest

from tests.support.postgres import clean, server  # noqa: F401 - fixtures


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have sinks wait longer for servers than where records come in meanwhile."""
    monkeypatch.setattr("collector.sinks.postgres.server._CONNECT_SECONDS", 30)
    for name in ("kafka", "jetstream"):
        monkeypatch.setattr(f"collector.brokers.{name}._CONNECT_SECONDS", 30.0)
    monkeypatch.setattr("collector.brokers.jetstream._ASK_SECONDS", 30.0)
    monkeypatch.setattr("collector.brokers.kafka._LOOK_SECONDS", 10.0)
