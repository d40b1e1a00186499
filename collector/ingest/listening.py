"""Whether an address can be listened on, said before a library says it its own way."""

from __future__ import annotations

import errno
import socket

from collector.errors import ConfigError

__all__ = ["check_address"]

_WHY = {
    errno.EADDRINUSE: "another process listens there; stop it, or choose another address",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose one that it has",
    errno.EACCES: "the system does not allow it; choose a port above 1023",
}


def check_address(address: str) -> None:
    """Raises ``ConfigError`` E207, with the reason, if ``host:port`` or ``[host]:port`` cannot be
    listened on."""
    host, _, port = address.rpartition(":")
    why = "it is no host and port"
    if port.isdigit() and int(port) < 1 << 16:
        why = _why(host.strip("[]"), int(port))
    if why:
        raise ConfigError("E207", f"gRPC cannot listen on {address}: {why}")


def _why(host: str, port: int) -> str:
    """Nothing, or what speaks against it."""
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, place in found:
            with socket.socket(family, kind, protocol) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(place)
    except (OSError, UnicodeError) as error:
        return _WHY.get(
            getattr(error, "errno", None) or 0, "it leads to no address of this machine"
        )
    return ""
