"""Sockets: opened by us, with a clear word where that cannot be."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import closing
from pathlib import Path

import pytest

from collector.config import Address
from collector.errors import ConfigError
from collector.server import listeners
from tests.support.raising import raises


def _refusal(address: Address) -> str:
    with raises("E207", ConfigError) as caught:
        listeners.tcp(address, "http.address")
    assert (caught.value.__context__, caught.value.__cause__) == (None, None)
    return str(caught.value)


def test_a_free_port() -> None:
    """Port 0 is any free one, and it listens at once."""
    with closing(listeners.tcp(Address("127.0.0.1", 0), "http.address")) as listening:
        place = listening.getsockname()
        socket.create_connection(place, 1).close()


def test_a_port_that_is_taken() -> None:
    """The message names the setting and its address, and says what to do."""
    with closing(listeners.tcp(Address("127.0.0.1", 0), "http.address")) as first:
        port = first.getsockname()[1]
        text = _refusal(Address("127.0.0.1", port))
    assert f"`http.address` (127.0.0.1:{port})" in text
    assert "another process listens there" in text


def test_a_port_that_was_used_just_now() -> None:
    """Connections that linger do not keep a restart from its port."""
    with closing(listeners.tcp(Address("127.0.0.1", 0), "http.address")) as first:
        place = first.getsockname()
        with socket.create_connection(place, 1), first.accept()[0] as accepted:
            accepted.close()
    listeners.tcp(Address(*place), "http.address").close()


def test_addresses_that_are_not_ours() -> None:
    assert "no such address" in _refusal(Address("192.0.2.1", 0))
    assert "check its host name" in _refusal(Address("no-such-host.invalid", 0))


def test_a_socket_file(tmp_path: Path) -> None:
    """It is its owner's alone, from the first moment."""
    path = tmp_path / "in.sock"
    with closing(listeners.unix(path, "http.unix")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as sender:
            sender.connect(str(path))


def test_a_socket_file_that_a_dead_process_left(tmp_path: Path) -> None:
    """It is replaced."""
    path = tmp_path / "in.sock"
    listeners.unix(path, "http.unix").close()
    assert path.is_socket()
    listeners.unix(path, "http.unix").close()


def test_a_socket_file_that_is_in_use(tmp_path: Path) -> None:
    """It stays, and so does a file that is no socket, and what a link leads to."""
    path = tmp_path / "in.sock"
    with closing(listeners.unix(path, "http.unix")), pytest.raises(ConfigError, match="E207"):
        listeners.unix(path, "http.unix")
    assert path.is_socket()
    other = tmp_path / "notes.txt"
    other.write_text("keep")
    (tmp_path / "link").symlink_to(other)
    for name in ("notes.txt", "link"):
        with pytest.raises(ConfigError, match="E207"):
            listeners.unix(tmp_path / name, "http.unix")
    assert other.read_text() == "keep"


def test_a_socket_file_in_no_directory(tmp_path: Path) -> None:
    """The message says so, and the mask of file modes is as before."""
    before = os.umask(0o022)
    os.umask(before)
    with pytest.raises(ConfigError, match="directory does not exist"):
        listeners.unix(tmp_path / "none" / "in.sock", "http.unix")
    assert os.umask(before) == before
