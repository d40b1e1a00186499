"""Addresses that can be listened on, and the reasons why others cannot."""

from __future__ import annotations

import socket

import pytest

from collector.errors import ConfigError
from collector.ingest.listening import check_address


def _refused(address: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check_address(address)
    assert caught.value.code == "E207"
    assert caught.value.__context__ is None
    return caught.value.message


def test_free_addresses() -> None:
    """A free port, and any port."""
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
            start = f"gRPC cannot listen on {address}: another process listens there; "
            assert _refused(address).startswith(start)


def test_addresses_of_others() -> None:
    """TEST-NET-1 is nobody's; names that are none, ports that are none."""
    assert "no such address" in _refused("192.0.2.1:4317")
    for address in ("no-such-host.invalid:1", "a..b:1", f"{'a' * 70}.com:1"):
        assert "leads to no address" in _refused(address)
    for address in ("127.0.0.1:70000", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1", ""):
        assert "no host and port" in _refused(address)
