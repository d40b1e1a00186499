"""Fixtures of the spool's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.spool import spool


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a spool's file; its directory does not exist yet."""
    return tmp_path / "data" / "spool.db"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool without writes is idle after a tenth of the time: its log is emptied then."""
    monkeypatch.setattr(spool, "IDLE_SECONDS", 0.1)
