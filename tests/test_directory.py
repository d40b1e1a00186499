"""Syncing a directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from collector.directory import sync


def test_it_is_synced_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory itself; its handle is closed, also if that fails."""
    synced: list[int] = []

    def failing(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        raise OSError("broken")

    before = len(list(Path("/dev/fd").iterdir()))
    sync(tmp_path)
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="broken"):
        sync(tmp_path)
    assert synced == [tmp_path.stat().st_ino]
    assert len(list(Path("/dev/fd").iterdir())) == before
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "missing")
