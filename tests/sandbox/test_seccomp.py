"""The filter of system calls: every number, every limited argument, and what gets past others."""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import struct
from functools import partial
from textwrap import dedent

import pytest

from collector.sandbox import seccomp, support
from tests.support import programs
from tests.support.rows import for_each

EPERM, ENOSYS = errno.EPERM, errno.ENOSYS
script = partial(programs.script, fails=True)
_LIMITED = seccomp._LIMITED
_NONE = (1 << 64) - 1
_UPPER = 1 << 32
_CLONE3 = 435
_PROBES = {335, 336} if platform.machine() == "x86_64" else set()
"""``uretprobe`` and ``uprobe``, which the kernel itself has called where a tracer put a trap; a
process that calls them is killed (SIGILL), before any filter is asked."""


def refused_numbers() -> list[int]:
    """Numbers of calls that are not on the list."""
    limited = {_LIMITED[name] for name in seccomp._limited()}
    known = {*seccomp._ALLOWED.values(), *limited, *_PROBES}
    return [number for number in range(2048) if number not in known]


_THREAD = 0x3D0F00
_FASTOPEN = 0x20000000
_REFUSED: list[tuple[str, *tuple[int, ...]]] = [
    ("sendto", _NONE, 0, 0, 0, 1, 0),
    ("sendto", _NONE, 0, 0, 0, _UPPER, 0),
    ("sendto", _NONE, 0, 0, _FASTOPEN, 0, 0),
    ("sendto", _NONE, 0, 0, _FASTOPEN | 0x4000, 0, 0),
    ("sendmsg", _NONE, 0, _FASTOPEN),
    ("sendmsg", _NONE, 0, _FASTOPEN | _UPPER | 0x40),
    ("mmap", 0, 4096, 4, 0x22, _NONE, 0),
    ("mmap", 0, 4096, 7, 0x22, _NONE, 0),
    ("mprotect", 0, 4096, 4),
    ("mprotect", 0, 4096, 5 | _UPPER),
    ("clone", 17, 0, 0, 0, 0),
    ("clone", 0, 0, 0, 0, 0),
    ("clone", _THREAD & ~0x10000, 0, 0, 0, 0),
    ("clone", _THREAD | 17, 0, 0, 0, 0),
    ("clone", _THREAD | 0x20000, 0, 0, 0, 0),
    ("clone", _THREAD | 0x10000000, 0, 0, 0, 0),
    ("clone", _THREAD | 0x4000, 0, 0, 0, 0),
    *[("fcntl", 0, command, 0) for command in (0, 5, 6, 7, 8, 10, 15, 36, 1024, 1026, 1031, 1033)],
    *[("ioctl", 0, request, 0) for request in (0x5402, 0x5412, 0x5413, 0x8901, 0x8902, 0x541C)],
    *[("setsockopt", _NONE, 1, name, 0, 0) for name in (1, 10, 12, 14, 25, 26, 36, 50, 51, 52)],
    *[("setsockopt", _NONE, 6, name, 0, 0) for name in (2, 7, 9, 19, 20, 23, 30, 31, 33)],
    *[("setsockopt", _NONE, level, 1, 0, 0) for level in (0, 17, 41, 255, 262, 263)],
    ("socketpair", 1, 2, 0, 0),
    ("socketpair", 1, 5, 0, 0),
    ("socketpair", 2, 1, 0, 0),
    ("socketpair", 1, 2 | 0o2000000, 0, 0),
]


def refused_arguments() -> list[list[int]]:
    """Calls that are on the list, with arguments that are not."""
    return [[_LIMITED[name], *arguments] for name, *arguments in _REFUSED]


_ERRORS = """
import ctypes, json, os, sys
from collector.sandbox import restrict_calls
libc = ctypes.CDLL(None, use_errno=True)
restrict_calls()
found = []
for number, *arguments in json.loads(sys.argv[1]):
    numbers = [os.getpid() if each == "self" else each & (1 << 64) - 1 for each in arguments]
    ctypes.set_errno(0)
    done = libc.syscall(ctypes.c_ulong(number), *map(ctypes.c_ulong, numbers))
    found.append(ctypes.get_errno() if done == -1 else 0)
print(json.dumps(found))
"""


def _errors(*calls: tuple[int | str, ...]) -> list[int]:
    """Make system calls in a confined process; return their error numbers."""
    done = script(_ERRORS, json.dumps(calls))
    found: list[int] = json.loads(done.stdout)
    return found


def test_arguments_that_are_allowed() -> None:
    """They fail by what they are given, not by the filter."""
    allowed: list[tuple[str, *tuple[int | str, ...]]] = [
        ("sendto", _NONE, 0, 0, 0x4000, 0, 0),
        ("sendmsg", _NONE, 0, 0x4040),
        ("mmap", 0, 0, 3, 0x22, _NONE, 0),
        ("fcntl", _NONE, 3, 0),
        ("ioctl", _NONE, 0x5421, 0),
        ("setsockopt", _NONE, 6, 1, 0, 0),
        ("setsockopt", _NONE, 1, 9, 0, 0),
        ("socketpair", 1, 1 | 0o2000000 | 0o4000, 0, 0),
        ("tgkill", "self", 0x3FFFFFFF, 0),
    ]
    found = _errors(*((_LIMITED[name], *arguments) for name, *arguments in allowed))
    assert EPERM not in found
    assert ENOSYS not in found


@for_each(
    ("libc", "error"),
    [
        ("glibc 2.32", "PermissionError"),
        ("glibc 2.33", ""),
        ("glibc 2.36", ""),
        ("glibc 2.39", "PermissionError"),
        (None, "PermissionError"),
    ],
)
def test_a_library_that_looks_at_descriptors_by_paths(libc: str | None, error: str) -> None:
    """There that call is allowed, and only in that form."""
    done = script(
        f"""
        import os
        os.confstr = lambda _: {libc!r}
        from collector.sandbox import restrict_calls, seccomp
        from collector.sandbox.kernel import system_call
        from ctypes import addressof, create_string_buffer
        found, empty, root = (create_string_buffer(each) for each in (bytes(256), b"", b"/"))
        restrict_calls()
        for descriptor, path, flags in ((0, empty, 0x1000), (-100, root, 0), (-100, root, 0x100)):
            try:
                system_call({_LIMITED["newfstatat"]}, descriptor, addressof(path), addressof(found),
                            flags)
                print()
            except OSError as error:
                print(type(error).__name__)
        """
    )
    assert done.stdout.splitlines() == [error, "PermissionError", "PermissionError"], done


_FAST_OPEN = """
import ctypes, os, socket, struct, sys
from collector.sandbox import restrict_calls
target = socket.create_server(("127.0.0.1", 0))
target.settimeout(1)
ours = socket.create_server(("127.0.0.1", 0))
ours.shutdown(socket.SHUT_RDWR)
if {confined}:
    restrict_calls()
failed = []
for flags in (0x20000000, 0):
    for send in (
        lambda: ours.sendmsg([b"x"], (), flags, target.getsockname()),
        lambda: ours.sendto(b"x", flags, target.getsockname()),
    ):
        try:
            send()
        except PermissionError:
            failed.append("refused")
        except OSError:
            failed.append("failed")
try:
    line, _ = target.accept()
    print("reached", failed)
except TimeoutError:
    print("not reached", failed)
"""
_KERNEL_REFUSES = "not reached ['failed', 'failed', 'failed', 'failed']\n"


def test_a_listener_does_not_become_a_connection() -> None:
    """It is shut down, and connects by sending with MSG_FASTOPEN; else an address is ignored.
    Some kernels refuse that by themselves."""
    free = script(_FAST_OPEN.format(confined=False))
    confined = script(_FAST_OPEN.format(confined=True))
    assert free.stdout.startswith("reached") or free.stdout == _KERNEL_REFUSES, free
    assert confined.stdout == "not reached ['refused', 'refused', 'failed', 'refused']\n", confined


def test_calls_that_are_refused() -> None:
    """Signals to others, even to the process that started it; and numbers of x32, of which the
    kernel may have a table, and those that are above or below all tables. The process goes on."""
    own = os.getpid()
    signals = [(_LIMITED["tgkill"], process, process, 0) for process in (own, 1, 0)]
    x32 = [0x40000000 + number for number in (0, 1, 39, 57, 59, 157, 512, 520, 547)]
    others = [(number, *[_NONE] * 6) for number in (*x32, 1 << 20, 0x7FFFFFFF, 0x80000000, _NONE)]
    assert _errors(*signals, *others) == [EPERM] * 3 + [ENOSYS] * len(others)


_FATAL = """
import ctypes, mmap
from collector.sandbox import restrict_calls
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))  # the i386 call 20, getpid
of_i386 = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
restrict_calls()
print("confined", flush=True)
of_i386()
print("alive")
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="of x86-64")
def test_a_call_of_another_processor_ends_the_process() -> None:
    """No library makes one."""
    done = script(_FATAL)
    assert done.stdout == "confined\n"
    assert done.returncode in (-signal.SIGSYS, -signal.SIGSEGV), done


_PROGRAM = """
import ctypes, os, sys, types
machine = sys.argv[1]
os.uname = lambda: types.SimpleNamespace(machine=machine)
from collector.sandbox import seccomp
made, make = [], ctypes.create_string_buffer
ctypes.create_string_buffer = lambda data: (made.append(data), make(data))[1]
seccomp.has_seccomp = lambda: True
seccomp.forbid_new_privileges = lambda: None
seccomp.system_call = lambda *_: 0
seccomp.restrict_calls() if sys.argv[2] == "calls" else seccomp.forbid_io_uring()
print(made[0].hex())
"""
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOWED, _ENDED, _FAILED = 0x7FFF0000, 0x80000000, 0x00050000


def _verdict(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """What a filter returns for a call, as the kernel would run it."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    lines, at, found = list(struct.iter_unpack("<HBBI", program)), 0, 0
    while True:
        code, if_true, if_false, value = lines[at]
        at += 1
        if code == seccomp._LOAD:
            (found,) = struct.unpack_from("<I", data, value)
        elif code == seccomp._AND:
            found &= value
        elif code == seccomp._RETURN:
            return int(value)
        else:
            holds = found == value if code == seccomp._EQUAL else found >= value
            at += if_true if holds else if_false


@for_each("machine", _ARCHITECTURES)
def test_the_filter_of_each_machine(machine: str) -> None:
    calls, queues = (
        bytes.fromhex(script(_PROGRAM, machine, which).stdout) for which in ("calls", "queues")
    )
    own = _ARCHITECTURES[machine]
    (other,) = set(_ARCHITECTURES.values()) - {own}
    column = list(_ARCHITECTURES).index(machine)
    prctl, write, clone, socket = ((157, 167), (1, 64), (56, 220), (41, 198))
    assert _verdict(calls, own, write[column]) == _ALLOWED
    assert _verdict(calls, own, clone[column], _THREAD) == _ALLOWED
    assert _verdict(calls, own, clone[column], 17) == _FAILED | EPERM
    for option in range(128):
        assert _verdict(calls, own, prctl[column], option) == _FAILED | EPERM
    assert _verdict(calls, own, socket[column], 2, 1) == _FAILED | EPERM
    for number in (0x40000000 + prctl[column], 0x40000000 + 425, 0x7FFFFFFF, 0xFFFFFFFF):
        assert _verdict(calls, own, number, 15) == _FAILED | ENOSYS
        assert _verdict(queues, own, number, 15) == _FAILED | ENOSYS
    assert _verdict(queues, own, 425) == _FAILED | ENOSYS
    assert _verdict(queues, own, socket[column], 2, 1) == _ALLOWED
    for program in (calls, queues):
        for architecture in (other, 0x40000003, 0x40000028):
            assert _verdict(program, architecture, write[column]) == _ENDED


WITHOUT = """
import ctypes, os, struct, threading
from collector.sandbox import kernel, landlock, restrict_calls, restrict_files, seccomp, support
def answer(number, error):
    code = [
        seccomp._operation(seccomp._LOAD, seccomp._NUMBER),
        seccomp._operation(seccomp._EQUAL, number, 0, 1),
        seccomp._operation(seccomp._RETURN, 0x00050000 | error),
        seccomp._SUCCESS,
    ]
    lines = ctypes.create_string_buffer(b"".join(code))
    head = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", 4, ctypes.addressof(lines)))
    kernel.forbid_new_privileges()
    kernel.system_call(seccomp._SECCOMP["seccomp"], 1, 0, ctypes.addressof(head))
def tried(action):
    try:
        action()
    except Exception as error:
        print(error)
"""


@for_each("error", [ENOSYS, EPERM, errno.EOPNOTSUPP])
def test_a_kernel_without_landlock(error: int) -> None:
    done = script(
        WITHOUT
        + dedent(
            f"""
            answer(landlock._CALLS["landlock_create_ruleset"], {error})
            print(support().landlock, support().seccomp, *support().lacks)
            tried(restrict_files)
            restrict_calls()
            """
        )
    )
    assert done.stdout.splitlines() == [
        "0 True Landlock (Linux 5.13 or newer, switched on and not taken away)",
        "files cannot be restricted: the kernel lacks Landlock [E217]",
    ], done


@for_each("error", [ENOSYS, EPERM, errno.EINVAL])
def test_a_kernel_without_seccomp(error: int) -> None:
    done = script(
        WITHOUT
        + dedent(
            f"""
            answer(seccomp._SECCOMP["seccomp"], {error})
            print(support().landlock > 0, support().seccomp, *support().lacks)
            tried(restrict_calls)
            tried(seccomp.forbid_io_uring)
            restrict_files()
            """
        )
    )
    assert done.stdout.splitlines() == [
        "True False seccomp filters (Linux 4.17 or newer, switched on and not taken away)",
        *["system calls cannot be restricted: the kernel lacks seccomp [E217]"] * 2,
    ], done


@for_each(
    "elsewhere",
    [
        "sys.platform = 'darwin'; del os.uname",
        "sys.platform = 'win32'; del os.uname",
        "os.uname = lambda: types.SimpleNamespace(machine='riscv64')",
        "struct.calcsize = lambda _: 4",
    ],
)
def test_other_systems(elsewhere: str) -> None:
    """Everything is lacking, and importing does not fail."""
    done = script(
        f"""
        import ctypes, os, socket, struct, sys, types
        {elsewhere}
        ctypes.PyDLL = None
        from collector.sandbox import forbid_io_uring, restrict_calls, restrict_files, support
        from collector.sandbox.attempts import ATTEMPTS
        print(support(), ATTEMPTS)
        for each in (restrict_files, restrict_calls, forbid_io_uring):
            try:
                each()
            except Exception as error:
                print(error)
        """
    )
    said = done.stdout.splitlines()
    assert said[0].endswith("lacks=('Linux on x86-64 or arm64',)) ()"), done
    assert [line[-6:] for line in said[1:]] == ["[E217]"] * 3


def test_support_changes_nothing() -> None:
    """It is asked twice, and a file is opened afterwards."""
    done = script(
        """
        import os
        from collector.sandbox import support
        status = open("/proc/self/status").read()
        assert support() == support()
        names = ("NoNewPrivs", "Seccomp", "Seccomp_filters", "Threads")
        after = open("/proc/self/status").read()
        for name in names:
            line = [each for each in status.splitlines() if each.startswith(name + ":")]
            assert line == [each for each in after.splitlines() if each.startswith(name + ":")]
        print("done")
        """
    )
    assert done.stdout == "done\n", done
    assert support().lacks == ()


_OWN_RULES = """
ready = threading.Event()
def run():
    answer(425, 38)
    ready.set()
    threading.Event().wait()
threading.Thread(target=run, daemon=True).start()
ready.wait()
"""


@for_each(
    ("begin", "words"),
    [
        ("udp = socket.socket(type=socket.SOCK_DGRAM)", "can send to any address"),
        ("packets = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "can send to any address"),
        ("import uvloop; loop = uvloop.new_event_loop()", "is a queue of system calls"),
        (
            _OWN_RULES,
            "a thread has rules of its own",
        ),
    ],
)
def test_refusals(begin: str, words: str) -> None:
    """Descriptors that are ways out, and a thread that would not be confined."""
    done = script(
        f"{WITHOUT}\nimport socket, sys\n{begin}\ntried(restrict_calls)\n"
        "sys.stdout.flush()\nos._exit(0)"
    )
    assert words in done.stdout, done
    assert done.stdout.endswith("[E217]\n")


def test_queues_of_calls_are_not_made() -> None:
    """Event loops then works without; what a thread tries is refused too."""
    done = script(
        """
        import os, asyncio, threading
        from collector.sandbox import forbid_io_uring, restrict_calls
        forbid_io_uring()
        import uvloop
        loop = uvloop.new_event_loop()
        assert not [n for n in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{n}")
                    and "io_uring" in os.readlink(f"/proc/self/fd/{n}")]
        restrict_calls()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
        print("done")
        """
    )
    assert done.stdout == "done\n", done
