"""Addresses that can be listened on, and the reasons why others cannot."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from collector.errors import ConfigError
from collector.ingest.listening import check_address, private


def _refused(address: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check_address(address)
    assert caught.value.code == "E207"
    assert caught.value.__context__ is None
    return caught.value.message


def test_free_addresses() -> None:
    """A free port, any port, and a socket in a directory that is there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for address in (f"127.0.0.1:{port}", "127.0.0.1:0", "localhost:0"):
        check_address(address)


def test_a_taken_port() -> None:
    """By whomever, also where they share it."""
    for share in (False, True):
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, share)
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            message = f"{address} cannot be listened on: it is taken by another process"
            assert _refused(address) == message


def test_addresses_of_others() -> None:
    """TEST-NET-1 is nobody's; names that are none, ports that are none."""
    assert "no such address" in _refused("192.0.2.1:4317")
    for address in ("no-such-host.invalid:1", "127.0.0.1:70000", "127.0.0.1:x", "127.0.0.1", ""):
        assert "cannot be listened on: " in _refused(address)


def test_sockets(tmp_path: Path) -> None:
    """A stale one may be replaced, a live one and other files may not."""
    path = tmp_path / "s"
    check_address(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert "taken by another process" in _refused(f"unix:{path}")
    check_address(f"unix:{path}")
    path.unlink()
    path.write_text("precious")
    assert "a file that is no socket" in _refused(f"unix:{path}")
    assert "directory does not exist" in _refused(f"unix:{tmp_path / 'missing' / 's'}")


def test_private_sockets(tmp_path: Path) -> None:
    """Made within, they are 0600; the mask is as before afterwards, also for ports."""
    before = os.umask(0o022)
    try:
        with socket.socket(socket.AF_UNIX) as server, private(f"unix:{tmp_path / 's'}"):
            server.bind(str(tmp_path / "s"))
        with private("127.0.0.1:0"):
            (tmp_path / "f").touch()
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o644
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
