"""Supervise the system calls by which a process changes files: count them, look at them, and stop
the process at any of them.

The process asks for it with a filter of Linux (seccomp, user notifications): each such call waits,
in whatever thread and library it is made, until the supervisor lets it go on. A supervisor that
kills the process instead ends it between two changes of the disk, or in the middle of a write.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path
from typing import NamedTuple

_MACHINES = {
    "x86_64": (
        0xC000003E,
        317,
        (
            "write 1 pwrite64 18 writev 20 fsync 74 fdatasync 75 ftruncate 77 rename 82 mkdir 83"
            " rmdir 84 link 86 unlink 87 openat 257 mkdirat 258 unlinkat 263 renameat 264"
            " linkat 265 renameat2 316"
        ),
    ),
    "aarch64": (
        0xC00000B7,
        277,
        (
            "ftruncate 46 mkdirat 34 unlinkat 35 linkat 37 renameat 38 openat 56 write 64 writev 66"
            " pwrite64 68 fsync 82 fdatasync 83 renameat2 276"
        ),
    ),
}
"""Of each machine: its number in filters, that of ``seccomp``, and those of the calls."""
_NO_NEW_PRIVILEGES, _SET_FILTER, _NEW_LISTENER = 38, 1, 1 << 3
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_RECEIVE = 3 << 30 | _NOTIFICATION.size << 16 | ord("!") << 8
_SEND = 3 << 30 | _RESPONSE.size << 16 | ord("!") << 8 | 1
_SET_FLAGS = 1 << 30 | 8 << 16 | ord("!") << 8 | 4
_CONTINUE, _WAKE_UP_HERE = 1, 1
_FROM_DIRECTORY = {"openat": 0, "mkdirat": 0, "unlinkat": 0, "renameat": 0, "renameat2": 0}
"""Calls whose path is relative to a directory that is an argument."""
_CURRENT_DIRECTORY = -100


def _numbers(machine: str) -> dict[int, str]:
    words = _MACHINES[machine][2].split()
    return {int(number): name for name, number in zip(words[::2], words[1::2], strict=True)}


def install() -> int:
    """Let each call of this process that changes files wait for the supervisor, which has the
    descriptor that this returns. There must be no other thread. Raises ``OSError`` where the system
    cannot do that."""
    machine = platform.machine()
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, "no filter for this machine")
    architecture, seccomp, _ = _MACHINES[machine]
    named = {name: number for number, name in _numbers(machine).items()}
    opening, rest = named.pop("openat"), list(named.values())
    size = len(rest)
    program = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 0, size + 2, architecture),
        (_LOAD, 0, 0, 0),
        (_EQUAL, size + 1, 0, opening),
        *((_EQUAL, size + 3 - place, 0, number) for place, number in enumerate(rest)),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, 16 + 8 * 2),
        (_ANY_BIT, 1, 0, os.O_CREAT),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _NOTIFY),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    filter_ = struct.pack("@HP", len(program), ctypes.addressof(code))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no filter can be set")
    listener: int = library.syscall(seccomp, _SET_FILTER, _NEW_LISTENER, filter_)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "the system has no user notifications")
    return listener


class Call(NamedTuple):
    """A call that waits: its name, the path of the file or directory that it changes (empty for
    what is no file, and for the opening of a file that is there), and what identifies it."""

    name: str
    path: str
    id: int
    thread: int
    arguments: tuple[int, ...]


class Supervisor:
    """The other side: takes the calls of a process. ``unsynced`` are the files that were written,
    and the directories in which a name was made or removed, and that were not synced since."""

    def __init__(self, listener: int) -> None:
        self.listener = listener
        self.unsynced: set[str] = set()
        self._numbers = _numbers(platform.machine())
        with suppress(OSError):  # since Linux 6.6: both sides run in turn, so on one processor
            ioctl(listener, _SET_FLAGS, struct.pack("=Q", _WAKE_UP_HERE))

    def close(self) -> None:
        """End it: calls that wait fail."""
        os.close(self.listener)

    def take(self) -> Call | None:
        """Return the next call, or ``None`` if its thread has ended meanwhile."""
        notification = bytearray(_NOTIFICATION.size)
        try:
            ioctl(self.listener, _RECEIVE, notification)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return None
        id_, thread, _, number, _, _, *arguments = _NOTIFICATION.unpack(notification)
        name, path = self._numbers[number], ""
        with suppress(OSError):  # its thread may end at any time
            path = self._path(name, thread, arguments)
        return Call(name, path, id_, thread, tuple(arguments))

    def allow(self, call: Call) -> None:
        """Let a call go on."""
        if call.name in ("fsync", "fdatasync"):
            self.unsynced.discard(call.path)
        elif call.path and call.name != "ftruncate":  # SQLite cuts logs that it has copied
            self.unsynced.add(call.path)
        response = bytearray(_RESPONSE.pack(call.id, 0, 0, _CONTINUE))
        with suppress(FileNotFoundError):
            ioctl(self.listener, _SEND, response)

    def write_part(self, call: Call, part: float) -> None:
        """Write a part of what a call is about to write, as a process does that is killed within
        it."""
        if call.name not in ("write", "pwrite64") or not call.path:
            return
        handle, address, size, place = call.arguments[:4]
        with Path(f"/proc/{call.thread}/mem").open("rb", buffering=0) as memory:
            memory.seek(address)
            data = memory.read(int(size * part))
        if call.name == "write":
            place = int(Path(f"/proc/{call.thread}/fdinfo/{handle}").read_text().split()[1])
        file = os.open(f"/proc/{call.thread}/fd/{handle}", os.O_WRONLY)
        try:
            os.pwrite(file, data, place)
        finally:
            os.close(file)

    def _path(self, name: str, thread: int, arguments: list[int]) -> str:
        """Return the path of the file that is written or synced, or of the directory in which a
        name changes."""
        if name in ("write", "pwrite64", "writev", "fsync", "fdatasync", "ftruncate"):
            path = str(Path(f"/proc/{thread}/fd/{arguments[0]}").readlink())
            return path if path.startswith("/") else ""
        is_relative = name in _FROM_DIRECTORY
        path = self._text(thread, arguments[1 if is_relative else 0])
        if is_relative and not path.startswith("/"):
            number = ctypes.c_int(arguments[0] & 0xFFFFFFFF).value
            place = "cwd" if number == _CURRENT_DIRECTORY else f"fd/{number}"
            path = str(Path(f"/proc/{thread}/{place}").readlink() / path)
        return "" if name == "openat" and os.path.lexists(path) else path.rpartition("/")[0]

    def _text(self, thread: int, address: int) -> str:
        with suppress(OSError), Path(f"/proc/{thread}/mem").open("rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(4096).partition(b"\0")[0].decode()
        return ""
