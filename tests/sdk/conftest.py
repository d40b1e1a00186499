"""What tests of the SDK share: they leave a machine that stands still its time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import time
from typing import Any

import pytest

from collector.sdk import client, settings
from tests.support.deadline import WAIT_SECONDS
from tests.support.sidecar import Sidecar, started


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a test says nothing else, the end of a ``Collector`` waits for all that is queued, and
    a fork for a delivery under way: by default five seconds each, for which a machine may stand
    still."""

    def read(given: Mapping[str, Any]) -> settings.Settings:
        own = given.get("exit_timeout")
        return settings.read({**given, "exit_timeout": WAIT_SECONDS if own is None else own})

    monkeypatch.setattr(client, "read", read)
    monkeypatch.setattr(client, "_FORK_SECONDS", WAIT_SECONDS)


@pytest.fixture
def one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """No minute ends between two records: a batch is of one."""
    now = time()
    monkeypatch.setattr("collector.sdk.queue.time", lambda: now)


@pytest.fixture(scope="session")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """One for several tests, each of which has addresses of its own."""
    folder = tmp_path_factory.mktemp("sidecar")
    with started(folder, environ={"COLLECTOR__HTTP__UNIX": str(folder / "c.sock")}) as running:
        yield running
