"""What tests of claims share."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest

from collector.claims import own_files, verification
from collector.sinks.parquet import segment_reader


@pytest.fixture
def no_dry_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the dry run, where a test is about what is stored."""
    monkeypatch.setattr(verification, "DryRun", MagicMock())
    for name in ("_canaries", "_delivery", "_consent", "_counted", "_retention"):
        monkeypatch.setattr(verification, name, lambda *_: iter(()))


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody writes meanwhile, for whom claims would wait."""
    monkeypatch.setattr(own_files, "_PAUSE", 0)
    monkeypatch.setattr(segment_reader, "_PAUSE", 0)
