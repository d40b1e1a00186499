"""Whether an address can be listened on, said before a library says it its own way.

For ``host:port``, ``[host]:port`` and ``unix:PATH``.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from collector.errors import ConfigError

__all__ = ["check_address", "private"]

_WHY = {
    errno.EADDRINUSE: "it is taken by another process",
    errno.EACCES: "the system does not allow it; ports below 1024 are for root",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}
_UNIX = "unix:"


def check_address(address: str) -> None:
    """Raises ``ConfigError`` E207 if the address cannot be listened on, with the reason."""
    try:
        why = _checked_socket(address) if address.startswith(_UNIX) else _checked_port(address)
    except (OSError, ValueError) as error:
        why = _WHY.get(getattr(error, "errno", None) or 0, "it is no address of this machine")
    if why:
        raise ConfigError("E207", f"{address} cannot be listened on: {why}")


def _checked_port(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not 0 <= int(port) < 1 << 16:
        return "ports are 0 to 65535"
    found = socket.getaddrinfo(
        host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    for family, kind, protocol, _, place in found:
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(place)
    return ""


def _checked_socket(address: str) -> str:
    path = address.removeprefix(_UNIX)
    if not Path(path).exists():
        return "" if Path(path).parent.is_dir() else "its directory does not exist"
    if not Path(path).is_socket():
        return "there is a file that is no socket"
    with socket.socket(socket.AF_UNIX) as trial:
        taken = trial.connect_ex(path) == 0
    return "it is taken by another process" if taken else ""


@contextmanager
def private(address: str) -> Iterator[None]:
    """While this lasts, a unix socket that is made is for its owner only (0600)."""
    if not address.startswith(_UNIX):
        yield
        return
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)
