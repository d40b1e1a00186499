"""Seccomp: a filter that decides which system calls a process may make, with which arguments."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from collector.errors import SandboxError
from collector.sandbox.kernel import (
    forbid_new_privileges,
    machine,
    numbers,
    require_no_way_out,
    system_call,
)

_SECCOMP = numbers("seccomp 317 277")
_SET_MODE_FILTER = 1
_FLAGS = 1 << 0 | 1 << 2
"""``TSYNC``: all threads at once. ``SPEC_ALLOW``: keep the processor's speculation, which kernels
before 5.16 otherwise restrict in a process with a filter."""
_X32 = 0x40000000
"""``__X32_SYSCALL_BIT``: higher numbers belong to another table of x86-64, with the same processor
number in the filter's data. Other processors have no such numbers."""
_NEWEST = 462
"""``mseal``, the last call of Linux 6.12. Later ones fail with ENOSYS as they do on that kernel, so
a C library falls back to an older call."""

_ALLOWED = numbers(
    """
    read 0 63  write 1 64  readv 19 65  writev 20 66  lseek 8 62  close 3 57  fstat 5 80
    accept 43 202  accept4 288 242  recvfrom 45 207  recvmsg 47 212  shutdown 48 210
    getsockname 51 204  getpeername 52 205  getsockopt 55 209
    epoll_ctl 233 21  epoll_wait 232 -  epoll_pwait 281 22  epoll_pwait2 441 441
    poll 7 -  ppoll 271 73  select 23 -  pselect6 270 72  eventfd2 290 19
    munmap 11 215  mremap 25 216  madvise 28 233  brk 12 214
    futex 202 98  set_robust_list 273 99  rseq 334 293  sched_yield 24 124  getcpu 309 168
    sched_getaffinity 204 123
    sched_getparam 143 121  sched_getscheduler 145 120
    gettid 186 178  getpid 39 172  getppid 110 173
    exit 60 93  exit_group 231 94
    rt_sigaction 13 134  rt_sigprocmask 14 135  rt_sigreturn 15 139  sigaltstack 131 132
    restart_syscall 219 128
    clock_gettime 228 113  clock_getres 229 114  clock_nanosleep 230 115  nanosleep 35 101
    gettimeofday 96 169  time 201 -  getrandom 318 278  getrusage 98 165
    """
)
"""Calls that are harmless with any arguments: on open descriptors, on the process's own memory,
threads and signal handlers, and on clocks."""


_ALL_BITS = 0xFFFFFFFF


class _Condition(NamedTuple):
    """A condition on an argument (counted from 0): its bits under ``mask`` equal one of ``values``.

    The kernel reads only the lower 32 bits of these arguments, except for an address, which
    ``is_wide``.
    """

    argument: int
    values: tuple[int, ...]
    mask: int = _ALL_BITS
    is_wide: bool = False


_MSG_FASTOPEN = 0x20000000
_PROT_EXEC = 0x4
_THREAD = 0x3D0F00
"""The flags with which a C library starts a thread: ``CLONE_VM``, ``FS``, ``FILES``, ``SIGHAND``,
``THREAD``, ``SYSVSEM``, ``SETTLS``, ``PARENT_SETTID`` and ``CHILD_CLEARTID``."""
_DETACHED = 0x400000
"""``CLONE_DETACHED``, which musl sets and the kernel ignores."""
_FCNTL = (1, 2, 3, 4, 1030)
"""``F_GETFD``, ``SETFD``, ``GETFL``, ``SETFL``, ``DUPFD_CLOEXEC``. ``F_SETOWN`` could make the
kernel signal other processes."""
_IOCTL = (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)
"""``TCGETS``, which asks for a terminal, ``FIONREAD``, ``FIONBIO``, ``FIONCLEX``, ``FIOCLEX``."""
_SOL_SOCKET, _SOL_TCP = 1, 6
_SOCKET_OPTIONS = (2, 7, 8, 9, 13, 15, 18, 20, 21, 60)
"""``SO_REUSEADDR``, ``SNDBUF``, ``RCVBUF``, ``KEEPALIVE``, ``LINGER``, ``REUSEPORT``, ``RCVLOWAT``,
``RCVTIMEO_OLD``, ``SNDTIMEO_OLD``, ``ZEROCOPY``. Other options attach programs or change routes."""
_TCP_OPTIONS = (1, 3, 4, 5, 6, 12, 18, 36)
"""``TCP_NODELAY``, ``CORK``, ``KEEPIDLE``, ``KEEPINTVL``, ``KEEPCNT``, ``QUICKACK``,
``USER_TIMEOUT``, ``INQ``. ``FASTOPEN_CONNECT`` and ``REPAIR`` could connect."""
_AF_UNIX, _SOCK_STREAM, _PAIR_FLAGS = 1, 1, 0o2000000 | 0o4000
"""``SOCK_CLOEXEC`` and ``SOCK_NONBLOCK``. An event loop wakes itself through a pair of streams,
which lead nowhere else; a pair of datagrams could send to any socket of the machine."""
_AT_EMPTY_PATH = 0x1000


def _limited() -> dict[str, tuple[tuple[_Condition, ...], ...]]:
    """Return the calls that are allowed if all conditions of one alternative hold."""
    looks = {"newfstatat": ((_Condition(3, (_AT_EMPTY_PATH,)),),)} if _fstat_takes_a_path() else {}
    return {
        **looks,
        "sendto": ((_no_fast_open(3), _Condition(4, (0,), is_wide=True)),),
        "sendmsg": ((_no_fast_open(2),),),
        "mmap": ((_Condition(2, (0,), _PROT_EXEC),),),
        "mprotect": ((_Condition(2, (0,), _PROT_EXEC),),),
        "clone": ((_Condition(0, (_THREAD,), _ALL_BITS & ~_DETACHED),),),
        "fcntl": ((_Condition(1, _FCNTL),),),
        "ioctl": ((_Condition(1, _IOCTL),),),
        "setsockopt": (
            (_Condition(1, (_SOL_SOCKET,)), _Condition(2, _SOCKET_OPTIONS)),
            (_Condition(1, (_SOL_TCP,)), _Condition(2, _TCP_OPTIONS)),
        ),
        "socketpair": (
            (_Condition(0, (_AF_UNIX,)), _Condition(1, (_SOCK_STREAM,), _ALL_BITS & ~_PAIR_FLAGS)),
        ),
        "tgkill": ((_Condition(0, (os.getpid(),)),),),
    }


def _fstat_takes_a_path() -> bool:
    """Return whether the C library inspects descriptors with a call that also accepts paths: in
    glibc 2.33 to 2.38, ``fstat`` is ``newfstatat`` with ``AT_EMPTY_PATH``."""
    text = ""
    with suppress(ValueError, OSError):
        text = os.confstr("CS_GNU_LIBC_VERSION") or ""
    version = re.fullmatch(r"glibc 2\.(\d+).*", text)
    return version is not None and 33 <= int(version[1]) <= 38


def _no_fast_open(flags: int) -> _Condition:
    """Refuse ``MSG_FASTOPEN``, which lets a send connect."""
    return _Condition(flags, (0,), _MSG_FASTOPEN)


_LIMITED = numbers(
    """
    sendto 44 206  sendmsg 46 211  mmap 9 222  mprotect 10 226  clone 56 220  fcntl 72 25
    ioctl 16 29  setsockopt 54 208  socketpair 53 199
    newfstatat 262 79  tgkill 234 131
    """
)
_CLONE3, _IO_URING_SETUP = 435, 425
"""These numbers are the same everywhere. The flags of ``clone3`` are in memory, which a filter
cannot read; if it fails with ENOSYS, the C library uses ``clone``."""


def forbid_io_uring() -> None:
    """Keep this process from making queues of system calls, which would bypass ``restrict_calls``.
    libuv makes one for each event loop if it can, so call this before the first.

    Raises ``SandboxError`` as ``restrict_calls`` does.
    """
    _install(lambda: [_operation(_EQUAL, _IO_URING_SETUP, 0, 1), _UNKNOWN, _SUCCESS])


def restrict_calls() -> None:
    """Allow all threads only the system calls of a process that serves connections and computes.

    Others fail with EPERM; ``clone3``, calls that are newer than this module and calls of x32 fail
    with ENOSYS. The kernel logs neither. Only a call from another processor's table ends the
    process; no library in this process makes one. A thread keeps the name that it has (``prctl`` is
    not allowed), because the kernel copies names into its log. Modules and time zones that would be
    loaded later must be loaded before. Raises ``SandboxError`` if the kernel has no seccomp, if a
    thread has its own rules, and if an open descriptor is a way out.
    """
    require_no_way_out()
    _install(_allowlist)


def _install(program: Callable[[], list[bytes]]) -> None:
    own = machine()
    if own is None or not has_seccomp():
        raise SandboxError("E217", "system calls cannot be restricted: the kernel lacks seccomp")
    code = [
        _operation(_LOAD, _ARCHITECTURE),
        *(_operation(_EQUAL, own.audit, 1, 0), _KILL),
        _operation(_LOAD, _NUMBER),
        *(_operation(_AT_LEAST, _X32, 0, 1), _UNKNOWN),
        *program(),
    ]
    instructions = ctypes.create_string_buffer(b"".join(code))
    head = struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(instructions))  # sock_fprog
    program_head = ctypes.create_string_buffer(head)
    try:
        forbid_new_privileges()
        address = ctypes.addressof(program_head)
        thread = system_call(_SECCOMP["seccomp"], _SET_MODE_FILTER, _FLAGS, address)
        why = "a thread has rules of its own" if thread else ""
    except OSError as error:
        why = os.strerror(error.errno or errno.EIO).lower()
    if why:
        raise SandboxError("E217", f"system calls cannot be restricted: {why}")


def has_seccomp() -> bool:
    """Return whether the kernel would accept a filter: it checks the flags before the address."""
    try:
        system_call(_SECCOMP["seccomp"], _SET_MODE_FILTER, _FLAGS, 0)
    except OSError as error:
        return error.errno == errno.EFAULT
    return False


# -- the filter: a program for the kernel's virtual machine (classic BPF)

_INSTRUCTION = struct.Struct("<HBBI")
_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Offsets in ``struct seccomp_data``; an argument has eight bytes, the lower half first."""


def _operation(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """Make an instruction; a comparison skips ``if_true`` or ``if_false`` further ones."""
    return _INSTRUCTION.pack(code, if_true, if_false, value)


_SUCCESS = _operation(_RETURN, 0x7FFF0000)
_REFUSED = _operation(_RETURN, 0x00050000 | errno.EPERM)
_UNKNOWN = _operation(_RETURN, 0x00050000 | errno.ENOSYS)
_KILL = _operation(_RETURN, 0x80000000)
"""``SECCOMP_RET_ALLOW``, ``ERRNO`` and ``KILL_PROCESS``."""


def _allowlist() -> list[bytes]:
    """Build the part that runs after the number is loaded. For calls whose arguments are not
    checked, Linux 5.11 and later decides by the number without running this."""
    code = []
    for name, alternatives in _limited().items():
        checks = [step for each in alternatives for step in _alternative(each)]
        code += [_operation(_EQUAL, _LIMITED[name], 0, len(checks) + 1), *checks, _REFUSED]
    for number in _ALLOWED.values():
        code += [_operation(_EQUAL, number, 0, 1), _SUCCESS]
    code += [_operation(_EQUAL, _CLONE3, 0, 1), _UNKNOWN]
    return [*code, _operation(_AT_LEAST, _NEWEST + 1, 0, 1), _UNKNOWN, _REFUSED]


def _alternative(conditions: tuple[_Condition, ...]) -> list[bytes]:
    """Return code that allows the call if all conditions hold, and otherwise continues after it."""
    code = [_SUCCESS]
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
