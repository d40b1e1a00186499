"""Syncing a directory, and the room in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from collector.directory import need_room, sync


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


def test_room_is_found_out_before_it_is_used(tmp_path: Path) -> None:
    """Of this disk there is some, but not any number of bytes."""
    need_room(tmp_path, 1)
    with pytest.raises(OSError, match="No space"):
        need_room(tmp_path, 1 << 62)
