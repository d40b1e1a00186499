"""The sockets that the process listens on, opened by us before anything else is started."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from collector.config import Address
from collector.errors import ConfigError

__all__ = ["BACKLOG", "tcp", "unix"]

BACKLOG = 1024

_REASONS = {
    errno.EADDRINUSE: "another process listens there; stop it, or choose another address",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose one that it has",
    errno.EACCES: "the system does not allow it; choose a port above 1023, or another place",
    errno.EPERM: "the system does not allow it; choose another address",
    errno.ENOENT: "its directory does not exist; make it, or choose another place",
}


def tcp(address: Address, setting: str) -> socket.socket:
    """A listening socket. Raises ``ConfigError`` E207, naming the setting and its address."""
    listening, number = None, 0
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            *address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(BACKLOG)
    except OSError as error:
        number = -1 if isinstance(error, socket.gaierror) else error.errno or -1
    if listening is None or number:
        raise _refused(f"`{setting}` ({address})", number, listening)
    return listening


def unix(path: Path, setting: str) -> socket.socket:
    """A listening socket file for its owner only (0600). One that a dead process left is replaced;
    one that somebody listens on, or another kind of file, is not. Raises ``ConfigError`` E207."""
    listening, number = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), 0
    try:
        _clear(path)
        before = os.umask(0o177)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        listening.listen(BACKLOG)
    except OSError as error:
        number = error.errno or -1
    if number:
        raise _refused(f"`{setting}`", number, listening)
    return listening


def _clear(path: Path) -> None:
    """Remove a socket file that nobody listens on. Raises ``OSError`` EADDRINUSE if it is alive."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EADDRINUSE, "")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
                raise OSError(errno.EADDRINUSE, "")
        path.unlink()


def _refused(what: str, number: int, listening: socket.socket | None) -> ConfigError:
    if listening is not None:
        listening.close()
    reason = _REASONS.get(number, "check its host name and port")
    return ConfigError("E207", f"{what} cannot be listened on: {reason}")
