"""Landlock: rules that a process imposes on its own use of files and TCP ports."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from time import monotonic, sleep

from collector.errors import SandboxError
from collector.sandbox.kernel import (
    forbid_new_privileges,
    numbers,
    require_no_way_out,
    system_call,
)

_CALLS = numbers(
    "landlock_create_ruleset 444 444  landlock_add_rule 445 445  landlock_restrict_self 446 446"
)
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH, _RULE_NET_PORT = 1, 2
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16, 9: 17}
"""How many rights on files there are since each version: later ones added ``REFER``, ``TRUNCATE``,
``IOCTL_DEV`` and ``RESOLVE_UNIX``."""
_NETWORK_VERSION, _BIND_TCP, _CONNECT_TCP = 4, 1 << 0, 1 << 1
_THREAD_SECONDS = 0.5
_SCOPE_VERSION, _SCOPES = 6, 0b11
"""``ABSTRACT_UNIX_SOCKET`` and ``SIGNAL``: sockets and signals of processes outside."""


def restrict_files(readable: Iterable[Path] = (), *, ports: Iterable[int] = ()) -> None:
    """Forbid every use of paths except reading these files and the contents of these directories.
    If Landlock's version allows it, also forbid TCP ports, and sockets and signals of other
    processes. Until ``restrict_calls``, ``ports`` may still be bound (0: any free one), because
    gRPC binds its own.

    Call it before a second thread starts, because it does not restrict other threads. Raises
    ``SandboxError`` if there are other threads, if the kernel has no Landlock, if a path cannot be
    read, and if an open descriptor is a way out.
    """
    version = landlock_version()
    if not version:
        raise SandboxError("E217", "files cannot be restricted: the kernel lacks Landlock")
    _require_one_thread()
    require_no_way_out()
    fault = 0
    try:
        rules = _ruleset(version)
        try:
            for path in readable:
                _allow_reading(rules, path)
            for port in ports if version >= _NETWORK_VERSION else ():
                _add_rule(rules, _RULE_NET_PORT, struct.pack("<QQ", _BIND_TCP, port))
            forbid_new_privileges()
            system_call(_CALLS["landlock_restrict_self"], rules, 0)
        finally:
            os.close(rules)
    except OSError as error:
        fault = error.errno or errno.EIO
    if fault:
        raise SandboxError("E217", f"files cannot be restricted: {os.strerror(fault).lower()}")


def landlock_version() -> int:
    """Return the version of Landlock's interface, or 0 if this process cannot use it."""
    try:
        create = _CALLS["landlock_create_ruleset"]
        return system_call(create, 0, 0, _CREATE_RULESET_VERSION)
    except (KeyError, OSError):
        return 0


def _require_one_thread() -> None:
    """Refuse further threads. The kernel may count a thread for a moment after it has ended."""
    end = monotonic() + _THREAD_SECONDS
    count = _count_threads()
    while count > 1 and monotonic() < end:
        sleep(_THREAD_SECONDS / 100)
        count = _count_threads()
    if count != 1:
        why = f"there are {count} threads" if count else "/proc, which counts threads, is missing"
        raise SandboxError("E217", f"files can only be restricted in a single thread: {why}")


def _count_threads() -> int:
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return 0


def _ruleset(version: int) -> int:
    """Make a ruleset that handles every right of this version that we know."""
    files = max(count for since, count in _FILE_RIGHTS.items() if since <= version)
    rights = [(1 << files) - 1]
    rights += [_BIND_TCP | _CONNECT_TCP] if version >= _NETWORK_VERSION else []
    rights += [_SCOPES] if version >= _SCOPE_VERSION else []
    attributes = ctypes.create_string_buffer(struct.pack(f"<{len(rights)}Q", *rights))
    address, size = ctypes.addressof(attributes), 8 * len(rights)
    return system_call(_CALLS["landlock_create_ruleset"], address, size, 0)


def _allow_reading(rules: int, path: Path) -> None:
    parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        is_directory = stat.S_ISDIR(os.fstat(parent).st_mode)
        allowed = _READ_FILE | _READ_DIR if is_directory else _READ_FILE
        _add_rule(rules, _RULE_PATH_BENEATH, struct.pack("<Qi", allowed, parent))
    finally:
        os.close(parent)


def _add_rule(rules: int, kind: int, attributes: bytes) -> None:
    buffer = ctypes.create_string_buffer(attributes)
    system_call(_CALLS["landlock_add_rule"], rules, kind, ctypes.addressof(buffer), 0)
