"""Fixtures of the spool's tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a spool's file; its directory does not exist yet."""
    return tmp_path / "data" / "spool.db"
