"""Give up the kernel's help for writing and calling out: a process confines itself, for life.

``restrict_files`` is Landlock: no path can be opened, made, changed or removed, except that named
ones can be read; no TCP port can be bound or connected to. ``restrict_calls`` is seccomp: only the
system calls that a serving process needs are left, some of them only with certain arguments.
Neither can be taken back. Descriptors that are open already stay usable, so a confined process can
still answer its peers.

The numbers and structures are those of the kernel's headers (Linux 6.12, ``include/uapi``), where
they never change: ``linux/landlock.h``, ``seccomp.h``, ``filter.h``, ``audit.h``, ``prctl.h``,
``sched.h``, and the headers in ``asm/`` of x86 and arm64, which differ in system calls alone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from collector.errors import SandboxError

__all__ = ["Support", "numbers", "restrict_calls", "restrict_files", "support", "system_call"]


@dataclass(frozen=True)
class Support:
    """What the kernel has, and lets this process use. ``landlock`` is the version of Landlock's
    interface, 0 if there is none; ``lacks`` names in words what is missing, for messages."""

    landlock: int
    seccomp: bool
    lacks: tuple[str, ...]


def support() -> Support:
    """Find out what can be used here; nothing is changed, and nothing raised."""
    if _machine() is None:
        return Support(0, False, ("Linux on x86-64 or arm64",))
    landlock, seccomp = _landlock_version(), _has_seccomp()
    lacks = []
    if not landlock:
        lacks.append("Landlock (Linux 5.13 or newer, switched on and not taken away)")
    if not seccomp:
        lacks.append("seccomp filters (Linux 4.17 or newer, switched on and not taken away)")
    return Support(landlock, seccomp, tuple(lacks))


# -- system calls


class _Machine(NamedTuple):
    """A processor: its number in seccomp's data, and its column in tables of system calls."""

    audit: int
    column: int


_MACHINES = {"x86_64": _Machine(0xC000003E, 0), "aarch64": _Machine(0xC00000B7, 1)}
"""``AUDIT_ARCH_X86_64`` and ``AUDIT_ARCH_AARCH64``."""


@cache
def _machine() -> _Machine | None:
    if sys.platform != "linux" or struct.calcsize("P") != 8:
        return None
    return _MACHINES.get(os.uname().machine)


def numbers(table: str) -> dict[str, int]:
    """Read a table of system calls (name, number on x86-64, number on arm64; ``-`` is none) into
    those of this machine; into nothing where there is no sandbox."""
    machine, words = _machine(), table.split()
    if machine is None:
        return {}
    found = zip(words[::3], words[machine.column + 1 :: 3], strict=True)
    return {name: int(number) for name, number in found if number != "-"}


def system_call(number: int, *arguments: int) -> int:
    """Make a system call without a C function of its own. Raises ``OSError``.

    The interpreter's lock is held meanwhile, so that the child of a call that forks has it.
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


_OWN = numbers(
    """
    prctl 157 167  seccomp 317 277  landlock_create_ruleset 444 444  landlock_add_rule 445 445
    landlock_restrict_self 446 446
    """
)
_PR_SET_NO_NEW_PRIVS = 38


def _forbid_new_privileges() -> None:
    """Keep programs from gaining rights; else the kernel takes rules from root alone."""
    system_call(_OWN["prctl"], _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


# -- sockets that are open

_PROTOCOLS = (6, 262)
"""``IPPROTO_TCP`` and ``IPPROTO_MPTCP``."""


def _require_streams() -> None:
    """Refuse open sockets that can send each message to another address, as those of UDP.

    The address lies in memory, which a filter of system calls cannot read. The sockets that are
    accepted ignore it: those of TCP, and streams and sequenced packets within the machine.
    """
    descriptors: list[Path] = []
    with suppress(OSError):  # Landlock hides them by then, and they have been looked at
        descriptors = list(Path("/proc/self/fd").iterdir())
    for each in descriptors:
        if each.is_socket() and not _is_stream(int(each.name)):
            message = f"descriptor {each.name} is a socket that can send to any address; close it"
            raise SandboxError("E217", message)


def _is_stream(descriptor: int) -> bool:
    shared = socket.socket(fileno=descriptor)
    try:
        if shared.family == socket.AF_UNIX:
            return shared.type in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
        return shared.family in (socket.AF_INET, socket.AF_INET6) and shared.proto in _PROTOCOLS
    finally:
        shared.detach()


# -- Landlock

_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16, 9: 17}
"""Versions, and how many rights on files there are from each on: ``REFER``, ``TRUNCATE``,
``IOCTL_DEV`` and ``RESOLVE_UNIX`` (Linux 7.1) came to those of the first."""
_NETWORK_VERSION, _NETWORK_RIGHTS = 4, 0b11
"""``BIND_TCP`` and ``CONNECT_TCP``."""
_SCOPE_VERSION, _SCOPES = 6, 0b11
"""``ABSTRACT_UNIX_SOCKET`` and ``SIGNAL``: of processes outside."""


def restrict_files(readable: Iterable[Path] = ()) -> None:
    """Forbid every use of paths but reading these files, and what lies in these directories. TCP
    ports, and sockets and signals of other processes, are forbidden where Landlock knows of them.

    Call it before a second thread is started, as other threads would not be restricted. Raises
    ``SandboxError`` then; where the kernel has no Landlock; if a path cannot be read; and if a
    socket is open that can send to any address.
    """
    version = support().landlock
    if not version:
        raise SandboxError("E217", "files cannot be restricted: the kernel lacks Landlock")
    _require_one_thread()
    _require_streams()
    fault = 0
    try:
        rules = _ruleset(version)
        try:
            for path in readable:
                _allow_reading(rules, path)
            _forbid_new_privileges()
            system_call(_OWN["landlock_restrict_self"], rules, 0)
        finally:
            os.close(rules)
    except OSError as error:
        fault = error.errno or errno.EIO
    if fault:
        raise SandboxError("E217", f"files cannot be restricted: {os.strerror(fault).lower()}")


def _landlock_version() -> int:
    try:
        create = _OWN["landlock_create_ruleset"]
        return system_call(create, 0, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def _require_one_thread() -> None:
    try:
        count = len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        count = 0
    if count != 1:
        why = f"there are {count} threads" if count else "/proc, which counts threads, is missing"
        raise SandboxError("E217", f"files can only be restricted in a single thread: {why}")


def _ruleset(version: int) -> int:
    """Make a set of rules that handles every right that this version has, and that we know."""
    files = max(count for since, count in _FILE_RIGHTS.items() if since <= version)
    rights = [(1 << files) - 1]
    rights += [_NETWORK_RIGHTS] if version >= _NETWORK_VERSION else []
    rights += [_SCOPES] if version >= _SCOPE_VERSION else []
    attributes = ctypes.create_string_buffer(struct.pack(f"<{len(rights)}Q", *rights))
    address, size = ctypes.addressof(attributes), 8 * len(rights)
    return system_call(_OWN["landlock_create_ruleset"], address, size, 0)


def _allow_reading(rules: int, path: Path) -> None:
    parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        is_directory = stat.S_ISDIR(os.fstat(parent).st_mode)
        allowed = _READ_FILE | _READ_DIR if is_directory else _READ_FILE
        beneath = ctypes.create_string_buffer(struct.pack("<Qi", allowed, parent))
        address = ctypes.addressof(beneath)
        system_call(_OWN["landlock_add_rule"], rules, _RULE_PATH_BENEATH, address, 0)
    finally:
        os.close(parent)


# -- seccomp

_SET_MODE_FILTER = 1
_FLAGS = 1 << 0 | 1 << 2
"""``TSYNC``: all threads at once. ``SPEC_ALLOW``: no change to the processor's speculation, which
kernels before 5.16 otherwise slow down in processes that have a filter."""
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_X32 = 0x40000000
"""``__X32_SYSCALL_BIT``: numbers from there on are another table of x86-64."""
_NEWEST = 462
"""``mseal``, the last call of Linux 6.12. Later ones fail with ENOSYS as they do on that kernel: a
C library that tries one then uses an older one."""

_ALLOWED = numbers(
    """
    read 0 63  write 1 64  readv 19 65  writev 20 66  lseek 8 62  close 3 57  fstat 5 80
    accept 43 202  accept4 288 242  recvfrom 45 207  recvmsg 47 212  shutdown 48 210
    getsockname 51 204  getpeername 52 205  getsockopt 55 209
    epoll_ctl 233 21  epoll_wait 232 -  epoll_pwait 281 22  epoll_pwait2 441 441
    poll 7 -  ppoll 271 73  select 23 -  pselect6 270 72  eventfd2 290 19
    munmap 11 215  mremap 25 216  madvise 28 233  brk 12 214
    futex 202 98  set_robust_list 273 99  rseq 334 293  sched_yield 24 124  getcpu 309 168
    sched_getaffinity 204 123  gettid 186 178  getpid 39 172  getppid 110 173
    exit 60 93  exit_group 231 94
    rt_sigaction 13 134  rt_sigprocmask 14 135  rt_sigreturn 15 139  sigaltstack 131 132
    restart_syscall 219 128
    clock_gettime 228 113  clock_getres 229 114  clock_nanosleep 230 115  nanosleep 35 101
    gettimeofday 96 169  time 201 -  getrandom 318 278  getrusage 98 165
    """
)
"""Calls that no argument makes a way out: on descriptors that are open, on the process's own
memory, threads and signal handlers, and clocks."""


class _Condition(NamedTuple):
    """An argument (counted from 0), of which the bits of ``mask`` are one of ``values``.

    The kernel reads the lower 32 bits of the arguments here, but of an address, which ``is_wide``.
    """

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    is_wide: bool = False


_Conditions = tuple[_Condition, ...]

_MSG_FASTOPEN = 0x20000000
_PROT_EXEC = 0x4
_THREAD = 0x3D0F00
"""What a C library starts a thread with: ``CLONE_VM``, ``FS``, ``FILES``, ``SIGHAND``, ``THREAD``,
``SYSVSEM``, ``SETTLS``, ``PARENT_SETTID`` and ``CHILD_CLEARTID``."""
_DETACHED = 0x400000
"""``CLONE_DETACHED``, which the kernel ignores, and musl sets."""
_FCNTL = (1, 2, 3, 4, 1030)
"""``F_GETFD``, ``SETFD``, ``GETFL``, ``SETFL``, ``DUPFD_CLOEXEC``. ``F_SETOWN`` would have other
processes signalled."""
_IOCTL = (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)
"""``TCGETS``, which asks for a terminal, ``FIONREAD``, ``FIONBIO``, ``FIONCLEX``, ``FIOCLEX``."""
_SOL_SOCKET, _SOL_TCP = 1, 6
_SOCKET_OPTIONS = (2, 7, 8, 9, 13, 15, 18, 20, 21, 60)
"""``SO_REUSEADDR``, ``SNDBUF``, ``RCVBUF``, ``KEEPALIVE``, ``LINGER``, ``REUSEPORT``, ``RCVLOWAT``,
``RCVTIMEO_OLD``, ``SNDTIMEO_OLD``, ``ZEROCOPY``. Others attach programs, or change routes."""
_TCP_OPTIONS = (1, 3, 4, 5, 6, 12, 18, 36)
"""``TCP_NODELAY``, ``CORK``, ``KEEPIDLE``, ``KEEPINTVL``, ``KEEPCNT``, ``QUICKACK``,
``USER_TIMEOUT``, ``INQ``. ``FASTOPEN_CONNECT`` and ``REPAIR`` would connect."""
_PR_SET_NAME = 15


def _limited() -> dict[str, tuple[_Conditions, ...]]:
    """Return the calls that are allowed where all conditions of one alternative hold."""
    return {
        "sendto": ((_no_fast_open(3), _Condition(4, (0,), is_wide=True)),),
        "sendmsg": ((_no_fast_open(2),),),
        "mmap": ((_Condition(2, (0,), _PROT_EXEC),),),
        "mprotect": ((_Condition(2, (0,), _PROT_EXEC),),),
        "clone": ((_Condition(0, (_THREAD,), ~_DETACHED & 0xFFFFFFFF),),),
        "fcntl": ((_Condition(1, _FCNTL),),),
        "ioctl": ((_Condition(1, _IOCTL),),),
        "setsockopt": (
            (_Condition(1, (_SOL_SOCKET,)), _Condition(2, _SOCKET_OPTIONS)),
            (_Condition(1, (_SOL_TCP,)), _Condition(2, _TCP_OPTIONS)),
        ),
        "tgkill": ((_Condition(0, (os.getpid(),)),),),
        "prctl": ((_Condition(0, (_PR_SET_NAME,)),),),
    }


def _no_fast_open(flags: int) -> _Condition:
    """Refuse ``MSG_FASTOPEN``, with which sending connects."""
    return _Condition(flags, (0,), _MSG_FASTOPEN)


_LIMITED = numbers(
    """
    sendto 44 206  sendmsg 46 211  mmap 9 222  mprotect 10 226  clone 56 220  fcntl 72 25
    ioctl 16 29  setsockopt 54 208  tgkill 234 131  prctl 157 167
    """
)
_CLONE3 = 435
"""Its flags lie in memory; the C library uses ``clone`` where it fails with ENOSYS."""


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def restrict_calls() -> None:
    """Leave all threads only the system calls of a process that serves connections and computes.

    Others fail with EPERM, ``clone3`` and calls that are newer than this module with ENOSYS; calls
    of another processor's table end the process. Whatever is loaded late (modules, time zones) must
    be loaded before. Raises ``SandboxError`` where the kernel has no seccomp, if a thread has rules
    of its own, and if a socket is open that can send to any address.
    """
    machine = _machine()
    if machine is None or not _has_seccomp():
        raise SandboxError("E217", "system calls cannot be restricted: the kernel lacks seccomp")
    _require_streams()
    code = ctypes.create_string_buffer(b"".join(_filter(machine)))
    program = _Program(len(code) // _INSTRUCTION.size, ctypes.addressof(code))
    try:
        _forbid_new_privileges()
        address = ctypes.addressof(program)
        thread = system_call(_OWN["seccomp"], _SET_MODE_FILTER, _FLAGS, address)
        why = "a thread has rules of its own" if thread else ""
    except OSError as error:
        why = os.strerror(error.errno or errno.EIO).lower()
    if why:
        raise SandboxError("E217", f"system calls cannot be restricted: {why}")


def _has_seccomp() -> bool:
    """Tell whether the kernel would take a filter: it looks at the flags, then at the address."""
    try:
        system_call(_OWN["seccomp"], _SET_MODE_FILTER, _FLAGS, 0)
    except OSError as error:
        return error.errno == errno.EFAULT
    return False


# -- the filter: a program for the kernel's virtual machine (classic BPF)

_INSTRUCTION = struct.Struct("<HBBI")
_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Offsets in ``struct seccomp_data``; an argument has eight bytes, the lower half first."""


def _filter(machine: _Machine) -> list[bytes]:
    """Build the filter. What the kernel can decide by the number alone, it does without it."""
    refuse = _operation(_RETURN, _ERRNO | errno.EPERM)
    allow = _operation(_RETURN, _ALLOW)
    unknown = _operation(_RETURN, _ERRNO | errno.ENOSYS)
    kill = _operation(_RETURN, _KILL_PROCESS)
    code = [
        _operation(_LOAD, _ARCHITECTURE),
        *(_operation(_EQUAL, machine.audit, 1, 0), kill),
        _operation(_LOAD, _NUMBER),
        *(_operation(_AT_LEAST, _X32, 0, 1), kill),
    ]
    for name, alternatives in _limited().items():
        checks = [step for each in alternatives for step in _alternative(each, allow)]
        code += [_operation(_EQUAL, _LIMITED[name], 0, len(checks) + 1), *checks, refuse]
    for number in _ALLOWED.values():
        code += [_operation(_EQUAL, number, 0, 1), allow]
    code += [_operation(_EQUAL, _CLONE3, 0, 1), unknown]
    code += [_operation(_AT_LEAST, _NEWEST + 1, 0, 1), unknown]
    return [*code, refuse]


def _alternative(conditions: _Conditions, success: bytes) -> list[bytes]:
    """Return the code that reaches ``success`` if all conditions hold, and else its end."""
    code = [success]
    for each in reversed(conditions):
        code = [*_check(each, len(code)), *code]
    return code


def _check(condition: _Condition, beyond: int) -> list[bytes]:
    """Return the code of one condition, which skips so many further instructions if it fails."""
    offset = _ARGUMENTS + 8 * condition.argument
    code = [_operation(_LOAD, offset), _operation(_AND, condition.mask)]
    left = len(condition.values)
    for value in condition.values:
        left -= 1
        code.append(_operation(_EQUAL, value, left, 0 if left else beyond))
    if condition.is_wide:
        code = [_operation(_LOAD, offset + 4), _operation(_EQUAL, 0, 0, len(code) + beyond), *code]
    return code


def _operation(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, if_true, if_false, value)
