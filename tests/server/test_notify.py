"""Word to the service manager."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from collector.server.lifecycle import notify
from tests.support.deadline import WAIT_SECONDS


@pytest.mark.parametrize("form", ["file", "abstract"])
def test_it_is_told(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = str(tmp_path / "notify.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(WAIT_SECONDS)
        manager.bind(name if form == "file" else f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", name if form == "file" else f"@{name}")
        notify("READY=1")
        notify("STOPPING=1")
        assert manager.recv(100) == b"READY=1"
        assert manager.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("place", [None, "", "nonsense", "/no/such/socket", "@no-such-socket"])
def test_nobody_to_tell(place: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if place is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", place)
    notify("READY=1")
