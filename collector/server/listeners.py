"""Check and open listening sockets, on TCP addresses and as socket files. Load their certificate,
and list their host names."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collector.addresses import Address, IpAddress, ip_addresses
from collector.errors import ConfigError, InUse, NotNow
from collector.ingest.tls import Certificates

if TYPE_CHECKING:
    from collector.config import Config

Location = Address | Path
"""A TCP address, or the path of a socket file."""

BACKLOG = 1024

KEEP_FILE: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
"""Options of ``create_unix_server``: a server that ends leaves the socket file to other processes
that listen on it. Before Python 3.13 every server does."""

_UNRESOLVED = -2
"""In place of an error number: the name server did not answer."""
_PASSING = (errno.EADDRNOTAVAIL, errno.ENOENT, errno.EMFILE, errno.ENFILE, errno.ENOBUFS)
"""Errors that may pass by themselves: a missing interface or directory, a lack of memory or of file
descriptors."""
_REASONS = {
    errno.EADDRINUSE: "another process listens there; stop it, or choose another address",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose one that it has",
    errno.EACCES: "the system does not allow it; choose a port above 1023, or another place",
    errno.EPERM: "the system does not allow it; choose another address",
    errno.ENOENT: "its directory does not exist; make it, or choose another place",
    errno.EEXIST: "there is a file that is no socket; choose another place",
    _UNRESOLVED: "its host name cannot be resolved at present",
}


def tcp(address: Address, setting: str) -> socket.socket:
    """Open a listening socket. Raises ``ConfigError`` E207 with the setting and its address."""
    listening, error_number = None, 0
    try:
        listening = _bound(_resolved(address)[0])
        listening.listen(BACKLOG)
    except OSError as error:
        error_number = _number(error)
    if listening is None or error_number:
        raise _refused(f"`{setting}` ({address})", error_number, listening)
    return listening


def unix(path: Path, setting: str) -> socket.socket:
    """Open a listening socket file with mode 0600. Raises ``ConfigError`` E207.

    Replaces a socket file that a dead process left, but not one on which a process listens, and no
    other kind of file.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    error_number = 0
    try:
        if _is_stale(path):
            path.unlink()
        before = os.umask(0o177)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        listening.listen(BACKLOG)
    except OSError as error:
        error_number = _number(error)
    if error_number:
        raise _refused(f"`{setting}`", error_number, listening)
    return listening


def opened(location: Location, setting: str, stack: ExitStack) -> socket.socket:
    """Open a listening socket, closed and removed by ``stack``. Raises ``ConfigError`` E207."""
    if isinstance(location, Address):
        listening = tcp(location, setting)
    else:
        listening = unix(location, setting)
        stack.callback(location.unlink, missing_ok=True)
    stack.callback(listening.close)
    return listening


def reserved(address: Address, setting: str, stack: ExitStack) -> Address:
    """Reserve a port, on every address that a host resolves to, for processes of this user that
    listen on it themselves; return the address with the port's number. Raises ``ConfigError`` E207.

    The sockets never listen: connections go to the processes that do. No other user can take the
    port, nor can a process that does not share it.
    """
    error_number, port = 0, address.port
    try:
        for family, kind, protocol, _, place in _resolved(address):
            holding = stack.enter_context(closing(socket.socket(family, kind, protocol)))
            holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holding.bind((place[0], port, *place[2:]))
            holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            port = holding.getsockname()[1]
    except OSError as error:
        error_number = _number(error)
    if error_number:
        raise _refused(f"`{setting}` ({address})", error_number, None)
    return address._replace(port=port)


def check(location: Location, setting: str, *, is_every: bool = False) -> None:
    """Check that one can listen on a location: on the first address that a name resolves to, or on
    every one. Creates and removes nothing.

    Raises ``ConfigError`` E207, and ``InUse`` if another process is the only obstacle.
    """
    error_number, what = 0, f"`{setting}`"
    try:
        if isinstance(location, Address):
            what += f" ({location})"
            for each in _resolved(location)[: None if is_every else 1]:
                _bound(each).close()
        else:
            _is_stale(location)
    except OSError as error:
        error_number = _number(error)
    if error_number:
        raise _refused(what, error_number, None)


def hosts(address: Address) -> tuple[IpAddress, ...]:
    """Return the IP addresses that a host resolves to; empty if it cannot be resolved."""
    with suppress(OSError):
        found = (str(each[4][0]).partition("%")[0] for each in _resolved(address))
        return ip_addresses(*found)
    return ()


def certificates(config: Config) -> Certificates | None:
    """Load certificate and key, if they are configured."""
    chosen = config.tls
    if chosen.certificate is None or chosen.key is None:
        return None
    return Certificates(chosen.certificate, chosen.key, chosen.client_ca)


def accepted_hosts(address: Address | None, more: tuple[str, ...]) -> tuple[str, ...]:
    """Return the accepted host names of a loopback address, including ``more``; empty (any name)
    for other addresses."""
    if address is None or not address.is_loopback:
        return ()
    own = f"[{address.host}]" if ":" in address.host else address.host
    bracketed = (f"[{name}]" if ":" in name else name for name in more)
    return tuple(dict.fromkeys(["localhost", "127.0.0.1", "[::1]", own, *bracketed]))


def _resolved(address: Address) -> list[Any]:
    try:
        return socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError:  # a label of a name is empty or too long
        raise socket.gaierror from None


def _bound(resolved: Any) -> socket.socket:
    """Return a socket bound to a resolved address, not listening."""
    family, kind, protocol, _, address = resolved
    with ExitStack() as stack:
        found = stack.enter_context(closing(socket.socket(family, kind, protocol)))
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        stack.pop_all()
    return found


def _is_stale(path: Path) -> bool:
    """Return whether a socket file exists and has no listener. Raises ``OSError`` EADDRINUSE if it
    has one, and EEXIST for another kind of file."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return False
    if not is_socket:
        raise OSError(errno.EEXIST, "")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, "")
    return True


def _number(error: OSError) -> int:
    if isinstance(error, socket.gaierror):
        return _UNRESOLVED if error.errno == socket.EAI_AGAIN else -1
    return error.errno or -1


def _refused(what: str, error_number: int, listening: socket.socket | None) -> ConfigError:
    if listening is not None:
        listening.close()
    reason = _REASONS.get(error_number, "check its host name and port")
    kind = InUse if error_number == errno.EADDRINUSE else ConfigError
    kind = NotNow if error_number in (*_PASSING, _UNRESOLVED) else kind
    return kind("E207", f"{what} cannot be listened on: {reason}")
