"""Make system calls by number, and inspect open descriptors."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from collector.errors import SandboxError


class Machine(NamedTuple):
    """A processor: its number in seccomp's data, and its column in the tables of system calls."""

    audit: int
    column: int


_MACHINES = {"x86_64": Machine(0xC000003E, 0), "aarch64": Machine(0xC00000B7, 1)}
"""``AUDIT_ARCH_X86_64`` and ``AUDIT_ARCH_AARCH64``."""


@cache
def machine() -> Machine | None:
    """Return this machine if it runs Linux on a processor in the tables."""
    if sys.platform != "linux" or struct.calcsize("P") != 8:
        return None
    return _MACHINES.get(os.uname().machine)


def numbers(table: str) -> dict[str, int]:
    """Return this machine's numbers from a table of system calls (name, number on x86-64, number on
    arm64; ``-`` is none). The result is empty where there is no sandbox."""
    own, words = machine(), table.split()
    if own is None:
        return {}
    found = zip(words[::3], words[own.column + 1 :: 3], strict=True)
    return {name: int(number) for name, number in found if number != "-"}


def system_call(number: int, *arguments: int) -> int:
    """Make a system call by its number. Raises ``OSError``.

    The interpreter's lock is held during the call, so that the child of a forking call has it.
    """
    result = _libc().syscall(ctypes.c_long(number), *map(ctypes.c_ulong, arguments))
    if result == -1:
        error_number = ctypes.get_errno()
        raise OSError(error_number, os.strerror(error_number))
    return int(result)


@cache
def _libc() -> ctypes.PyDLL:
    libc = ctypes.PyDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


_CALLS = numbers("prctl 157 167")
_PR_SET_NO_NEW_PRIVS = 38


def forbid_new_privileges() -> None:
    """Keep programs from gaining privileges; otherwise the kernel accepts rules only from root."""
    system_call(_CALLS["prctl"], _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


_PROTOCOLS = (6, 262)
"""``IPPROTO_TCP`` and ``IPPROTO_MPTCP``."""


def require_no_way_out() -> None:
    """Refuse open descriptors by which a process could bypass a filter of system calls.

    One is a socket that can send each message to another address, such as a UDP socket: the address
    is in memory, which a filter cannot read. TCP sockets, and streams and sequenced packets within
    the machine, ignore such an address. The other is a queue of system calls (io_uring), which no
    filter sees.
    """
    targets: dict[str, str] = {}
    with suppress(OSError):  # Landlock hides them by then; they were checked before
        for each in list(Path("/proc/self/fd").iterdir()):
            with suppress(FileNotFoundError):  # the listing's own one is closed
                targets[each.name] = str(each.readlink())
    for number, target in targets.items():
        what = ""
        if target.startswith("socket:") and not _is_stream(int(number)):
            what = "a socket that can send to any address"
        elif "io_uring" in target:
            what = "a queue of system calls; call `forbid_io_uring` before libuv makes it"
        if what:
            message = f"the process cannot be confined: descriptor {number} is {what}"
            raise SandboxError("E217", message)


def _is_stream(descriptor: int) -> bool:
    shared = socket.socket(fileno=descriptor)
    try:
        if shared.family == socket.AF_UNIX:
            return shared.type in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
        return shared.family in (socket.AF_INET, socket.AF_INET6) and shared.proto in _PROTOCOLS
    finally:
        shared.detach()
