"""What a confined process must not be able to do: a table of system calls that really try it.

Tests and the check of the claims go through this table in a process that has confined itself.
Without a sandbox, an attempt does no harm either: whatever it makes is removed, and a call that
would change something names a path, descriptor or process that does not exist.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from collector.sandbox.kernel import numbers, system_call

_NUMBERS = numbers(
    """
    open 2 -  openat 257 56  openat2 437 437  creat 85 -  open_by_handle_at 304 265
    name_to_handle_at 303 264  stat 4 -  newfstatat 262 79  statx 332 291  access 21 -
    faccessat 269 48  readlink 89 -  readlinkat 267 78  chdir 80 49  getcwd 79 17  mkdir 83 -
    mkdirat 258 34  mknod 133 -  mknodat 259 33  rename 82 -  renameat 264 38  renameat2 316 276
    link 86 -  linkat 265 37  symlink 88 -  symlinkat 266 36  unlink 87 -  unlinkat 263 35
    rmdir 84 -  truncate 76 45  ftruncate 77 46  fallocate 285 47  chmod 90 -  fchmod 91 52
    fchmodat 268 53  fchmodat2 452 452  chown 92 -  fchown 93 55  lchown 94 -  fchownat 260 54
    utimensat 280 88  setxattr 188 5  fsetxattr 190 7  getdents64 217 61  inotify_init1 294 26
    fanotify_init 300 262  memfd_create 319 279  memfd_secret 447 447  pwrite64 18 68
    pwritev 296 70  sendfile 40 71  splice 275 76  tee 276 77  vmsplice 278 75
    copy_file_range 326 285

    socket 41 198  connect 42 203  bind 49 200  listen 50 201  socketpair 53 199  sendto 44 206
    sendmsg 46 211  sendmmsg 307 269  setsockopt 54 208

    fork 57 -  clone 56 220  clone3 435 435  execve 59 221  execveat 322 281  unshare 272 97
    setns 308 268  kill 62 129  tkill 200 130  tgkill 234 131  rt_sigqueueinfo 129 138
    rt_tgsigqueueinfo 297 240  pidfd_open 434 434  pidfd_send_signal 424 424  pidfd_getfd 438 438
    fcntl 72 25  ioctl 16 29  prlimit64 302 261  setuid 105 146  setgroups 116 159  capset 126 91
    personality 135 92  prctl 157 167  setpriority 141 140  sched_setaffinity 203 122

    ptrace 101 117  process_vm_readv 310 270  process_vm_writev 311 271  process_madvise 440 440
    kcmp 312 272  shmget 29 194  shmat 30 196  semget 64 190  msgget 68 186  mq_open 240 180
    mq_unlink 241 181  add_key 248 217  request_key 249 218  keyctl 250 219  mmap 9 222
    munmap 11 215  mprotect 10 226  pkey_mprotect 329 288

    mount 165 40  umount2 166 39  pivot_root 155 41  chroot 161 51  open_tree 428 428
    move_mount 429 429  fsopen 430 430  fsmount 432 432  mount_setattr 442 442  swapon 167 224
    quotactl 179 60  bpf 321 280  perf_event_open 298 241  userfaultfd 323 282
    io_uring_setup 425 425  io_uring_enter 426 426  io_uring_register 427 427  io_setup 206 0
    init_module 175 105  finit_module 313 273  delete_module 176 106  kexec_load 246 104
    reboot 169 142  syslog 103 116  acct 163 89  iopl 172 -  ioperm 173 -  modify_ldt 154 -
    arch_prctl 158 -  seccomp 317 277  landlock_create_ruleset 444 444  settimeofday 164 170
    clock_settime 227 112  adjtimex 159 171  sethostname 170 161
    """
)

_REFUSALS = frozenset((errno.EPERM, errno.EACCES, errno.ENOSYS))
_FORKING = frozenset(("fork", "clone", "clone3"))
_OPENING = frozenset(
    "open openat openat2 memfd_create memfd_secret inotify_init1 fanotify_init socket pidfd_open"
    " open_tree fsopen userfaultfd".split()
)
_PAGE = 4096
Argument = int | bytes | Callable[[], int]


@dataclass(frozen=True)
class Attempt:
    """A forbidden action: ``what`` it is in words, and the system call that tries it. Texts and
    structures are passed by address; functions return a number at the time of the attempt."""

    family: str
    what: str
    call: str
    arguments: tuple[Argument, ...]

    def error(self) -> int:
        """Try it, in any thread. Return the error number, or 0 if it succeeded."""
        buffers = [ctypes.create_string_buffer(a) for a in self.arguments if isinstance(a, bytes)]
        addresses = map(ctypes.addressof, buffers)
        process = os.getpid()
        try:
            result = system_call(
                _NUMBERS[self.call], *(_value(each, addresses) for each in self.arguments)
            )
        except OSError as error:
            return error.errno or errno.EIO
        _undo(self.call, result, process)
        return 0

    def is_refused(self) -> bool:
        """Try it. Return whether the kernel refused it or has no such call."""
        return self.error() in _REFUSALS


def _value(argument: Argument, addresses: Iterator[int]) -> int:
    if isinstance(argument, int):
        return argument
    return next(addresses) if isinstance(argument, bytes) else argument()


def _undo(call: str, result: int, process: int) -> None:
    if call in _OPENING:
        os.close(result)
    elif call == "mmap":
        system_call(_NUMBERS["munmap"], result, _PAGE)
    elif call in _FORKING:
        if os.getpid() != process:
            os._exit(0)
        os.waitpid(result, 0)


# -- the table

_HERE = -100
"""``AT_FDCWD``: paths are relative to the current directory."""
_NO_FILE = -1
_NO_PROCESS = 0x3FFFFFFF
"""Above the kernel's highest process number, 4,194,304."""
_PATH = b"/collector/no/such/path"
_ROOM = bytes(256)
_INTERNET = struct.pack("<H2B4B8x", 2, 0, 9, 127, 0, 0, 1)
"""The address 127.0.0.1, port 9 (``discard``)."""
_WRITE, _CREATE, _UNNAMED = 0o1, 0o100, 0o20200000
"""``O_WRONLY``, ``O_CREAT``, and ``__O_TMPFILE`` with x86's ``O_DIRECTORY``."""
_FASTOPEN = 0x20000000
_CHILD = 17
"""``SIGCHLD``."""
_VFORK, _NEW_USER, _NEW_NET = 0x4000, 0x10000000, 0x40000000

_Row = tuple[str, str, *tuple[Argument, ...]]

_FILES: tuple[_Row, ...] = (
    ("open a file to read it", "open", b"/", 0),
    ("open a file to read it", "openat", _HERE, b"/", 0),
    ("open a file to read it", "openat2", _HERE, b"/", bytes(24), 24),
    ("open a device", "openat", _HERE, b"/dev/urandom", 0),
    ("open a file to write it", "openat", _HERE, b"/dev/null", _WRITE),
    ("open the memory of this process", "openat", _HERE, b"/proc/self/mem", _WRITE),
    ("make a file", "creat", _PATH, 0o600),
    ("make a file", "openat", _HERE, _PATH, _WRITE | _CREATE, 0o600),
    ("open a file by its handle", "open_by_handle_at", _HERE, _ROOM, 0),
    ("take the handle of a file", "name_to_handle_at", _HERE, _PATH, _ROOM, _ROOM, 0),
    ("look at a path", "stat", b"/", _ROOM),
    ("look at a path", "newfstatat", _HERE, b"/", _ROOM, 0),
    ("look at a path", "statx", _HERE, b"/", 0, 0, _ROOM),
    ("look whether a path is there", "access", b"/", 0),
    ("look whether a path is there", "faccessat", _HERE, b"/", 0),
    ("read a symbolic link", "readlink", _PATH, _ROOM, 256),
    ("read a symbolic link", "readlinkat", _HERE, _PATH, _ROOM, 256),
    ("change the directory", "chdir", b"."),
    ("learn the directory", "getcwd", _ROOM, 256),
    ("list a directory", "getdents64", _NO_FILE, _ROOM, 256),
    ("make a directory", "mkdir", _PATH, 0o700),
    ("make a directory", "mkdirat", _HERE, _PATH, 0o700),
    ("make a pipe with a name", "mknod", _PATH, 0o10600, 0),
    ("make a pipe with a name", "mknodat", _HERE, _PATH, 0o10600, 0),
    ("rename a file", "rename", _PATH, _PATH),
    ("rename a file", "renameat", _HERE, _PATH, _HERE, _PATH),
    ("rename a file", "renameat2", _HERE, _PATH, _HERE, _PATH, 0),
    ("link a file", "link", _PATH, _PATH),
    ("link a file", "linkat", _HERE, _PATH, _HERE, _PATH, 0),
    ("make a symbolic link", "symlink", b"/", _PATH),
    ("make a symbolic link", "symlinkat", b"/", _HERE, _PATH),
    ("remove a file", "unlink", _PATH),
    ("remove a file", "unlinkat", _HERE, _PATH, 0),
    ("remove a directory", "rmdir", _PATH),
    ("cut a file", "truncate", _PATH, 0),
    ("cut an open file", "ftruncate", _NO_FILE, 0),
    ("allot space on a disk", "fallocate", _NO_FILE, 0, 0, 1),
    ("change modes of a file", "chmod", _PATH, 0o777),
    ("change modes of a file", "fchmodat", _HERE, _PATH, 0o777),
    ("change modes of a file", "fchmodat2", _HERE, _PATH, 0o777, 0),
    ("change modes of an open file", "fchmod", _NO_FILE, 0o777),
    ("change the owner of a file", "chown", _PATH, 0, 0),
    ("change the owner of a file", "lchown", _PATH, 0, 0),
    ("change the owner of a file", "fchownat", _HERE, _PATH, 0, 0, 0),
    ("change the owner of an open file", "fchown", _NO_FILE, 0, 0),
    ("change times of a file", "utimensat", _HERE, _PATH, 0, 0),
    ("change attributes of a file", "setxattr", _PATH, b"user.x", b"x", 1, 0),
    ("change attributes of an open file", "fsetxattr", _NO_FILE, b"user.x", b"x", 1, 0),
    ("watch files", "inotify_init1", 0),
    ("watch files", "fanotify_init", 0, 0),
    ("make a file in memory", "memfd_create", b"x", 0),
    ("make a file in memory", "memfd_secret", 0),
    ("write at a place of a file", "pwrite64", _NO_FILE, b"x", 1, 0),
    ("write at a place of a file", "pwritev", _NO_FILE, 0, 0, 0, 0),
    ("have the kernel copy", "sendfile", _NO_FILE, _NO_FILE, 0, 1),
    ("have the kernel copy", "splice", _NO_FILE, 0, _NO_FILE, 0, 1, 0),
    ("have the kernel copy", "tee", _NO_FILE, _NO_FILE, 1, 0),
    ("have the kernel copy", "vmsplice", _NO_FILE, 0, 0, 0),
    ("have the kernel copy", "copy_file_range", _NO_FILE, 0, _NO_FILE, 0, 1, 0),
)

_NETWORK: tuple[_Row, ...] = (
    ("make a socket of TCP", "socket", 2, 1, 0),
    ("make a socket of TCP", "socket", 10, 1, 0),
    ("make a socket of UDP", "socket", 2, 2, 0),
    ("make a socket within the machine", "socket", 1, 1, 0),
    ("make a socket to the kernel", "socket", 16, 3, 0),
    ("make a socket to a virtual machine", "socket", 40, 1, 0),
    ("make a raw socket", "socket", 17, 3, 0),
    ("make a pair of sockets that send anywhere", "socketpair", 1, 2, 0, 0),
    ("connect", "connect", _NO_FILE, _INTERNET, 16),
    ("take an address", "bind", _NO_FILE, _INTERNET, 16),
    ("listen", "listen", _NO_FILE, 1),
    ("send to an address", "sendto", _NO_FILE, b"x", 1, 0, _INTERNET, 16),
    ("connect by sending", "sendto", _NO_FILE, b"x", 1, _FASTOPEN, 0, 0),
    ("connect by sending", "sendmsg", _NO_FILE, _ROOM, _FASTOPEN),
    ("send several messages", "sendmmsg", _NO_FILE, _ROOM, 1, 0),
    ("have a socket connect by sending", "setsockopt", _NO_FILE, 6, 30, _ROOM, 4),
    ("have a program look at a socket", "setsockopt", _NO_FILE, 1, 26, _ROOM, 16),
    ("bind a socket to an interface", "setsockopt", _NO_FILE, 1, 25, _ROOM, 16),
    ("send through chosen routers", "setsockopt", _NO_FILE, 0, 4, _ROOM, 16),
)

_PROCESSES: tuple[_Row, ...] = (
    ("make a process", "fork"),
    ("make a process", "clone", _CHILD, 0, 0, 0, 0),
    ("make a process", "clone", _CHILD | _VFORK, 0, 0, 0, 0),
    ("make a process", "clone3", struct.pack("<8Q", 0, 0, 0, 0, _CHILD, 0, 0, 0), 64),
    ("make a process of its own world", "clone", _CHILD | _NEW_USER | _NEW_NET, 0, 0, 0, 0),
    ("start a program", "execve", _PATH, 0, 0),
    ("start a program", "execveat", _HERE, _PATH, 0, 0, 0),
    ("leave a namespace", "unshare", 0),
    ("enter a namespace", "setns", _NO_FILE, 0),
    ("signal another process", "kill", os.getppid, 0),
    ("signal another process", "tkill", os.getppid, 0),
    ("signal another process", "tgkill", os.getppid, os.getppid, 0),
    ("signal another process", "rt_sigqueueinfo", _NO_PROCESS, 0, _ROOM),
    ("signal another process", "rt_tgsigqueueinfo", _NO_PROCESS, _NO_PROCESS, 0, _ROOM),
    ("signal another process", "pidfd_send_signal", _NO_FILE, 0, 0, 0),
    ("have another process signalled", "fcntl", _NO_FILE, 8, os.getppid),
    ("type into a terminal", "ioctl", _NO_FILE, 0x5412, b"x"),
    ("take hold of a process", "pidfd_open", os.getppid, 0),
    ("take a descriptor of a process", "pidfd_getfd", _NO_FILE, 0, 0),
    ("change limits", "prlimit64", 0, 7, 0, 0),
    ("change the user", "setuid", os.getuid),
    ("change groups", "setgroups", 0x10001, 0),
    ("change capabilities", "capset", 0, 0),
    ("change the personality", "personality", 0xFFFFFFFF),
    ("change how the kernel treats the process", "prctl", 3, 0, 0, 0, 0),
    ("change the name of a thread", "prctl", 15, 0, 0, 0, 0),
    ("change the name of a thread", "openat", _HERE, b"/proc/thread-self/comm", _WRITE),
    ("change the command line that others see", "prctl", 35, 15, 0, 0, 0),
    ("change priorities", "setpriority", 0, _NO_PROCESS, 0),
    ("change processors", "sched_setaffinity", _NO_PROCESS, 8, b"\1" + bytes(7)),
)

_MEMORY: tuple[_Row, ...] = (
    ("trace a process", "ptrace", 16, _NO_PROCESS, 0, 0),
    ("read the memory of a process", "process_vm_readv", os.getppid, 0, 0, 0, 0, 0),
    ("write the memory of a process", "process_vm_writev", os.getppid, 0, 0, 0, 0, 0),
    ("steer the memory of a process", "process_madvise", _NO_FILE, 0, 0, 0, 0),
    ("compare processes", "kcmp", os.getpid, os.getpid, 0, 0, 0),
    ("share memory", "shmget", 0x636F6C6C, 0, 0),
    ("share memory", "shmat", _NO_FILE, 0, 0),
    ("share semaphores", "semget", 0x636F6C6C, 0, 0),
    ("share a queue", "msgget", 0x636F6C6C, 0),
    ("share a queue", "mq_open", b"collector-no-such-queue", 0, 0, 0),
    ("remove a queue", "mq_unlink", b"collector-no-such-queue"),
    ("keep a key in the kernel", "add_key", 0, 0, 0, 0, 0),
    ("look for a key in the kernel", "request_key", b"user", b"collector", 0, 0),
    ("manage keys in the kernel", "keyctl", 0, -2, 0, 0, 0),
    ("map memory to run code in it", "mmap", 0, _PAGE, 5, 0x22, _NO_FILE, 0),
    ("have code run in memory", "mprotect", 0, _PAGE, 5),
    ("have code run in memory", "pkey_mprotect", 0, _PAGE, 5, -1),
)

_KERNEL: tuple[_Row, ...] = (
    ("mount", "mount", 0, _PATH, 0, 0, 0),
    ("mount", "open_tree", _HERE, _PATH, 0),
    ("mount", "move_mount", _NO_FILE, _PATH, _NO_FILE, _PATH, 0),
    ("mount", "fsopen", b"no-such-filesystem", 0),
    ("mount", "fsmount", _NO_FILE, 0, 0),
    ("change a mount", "mount_setattr", _NO_FILE, _PATH, 0, _ROOM, 32),
    ("unmount", "umount2", _PATH, 0),
    ("change the root", "pivot_root", _PATH, _PATH),
    ("change the root", "chroot", _PATH),
    ("swap memory to a file", "swapon", _PATH, 0),
    ("change quotas", "quotactl", _NO_FILE, 0, 0, 0),
    ("load a program into the kernel", "bpf", 5, _ROOM, 0),
    ("watch events of the kernel", "perf_event_open", 0, 0, 0, 0, 0),
    ("handle page faults", "userfaultfd", 0),
    ("have the kernel work through a queue", "io_uring_setup", 1, 0),
    ("have the kernel work through a queue", "io_uring_enter", _NO_FILE, 0, 0, 0, 0, 0),
    ("have the kernel work through a queue", "io_uring_register", _NO_FILE, 0, 0, 0),
    ("have the kernel work through a queue", "io_setup", 0, 0),
    ("load a module", "init_module", 0, 0, 0),
    ("load a module", "finit_module", _NO_FILE, 0, 0),
    ("unload a module", "delete_module", b"no-such-module", 0o4000),
    ("load another kernel", "kexec_load", 0, 0, 0, 0xFFFF),
    ("restart the machine", "reboot", 0, 0, 0, 0),
    ("read the kernel's log", "syslog", 10, 0, 0),
    ("account for processes", "acct", _PATH),
    ("use ports of devices", "iopl", 0),
    ("use ports of devices", "ioperm", 0, 0, 0),
    ("change segments", "modify_ldt", 0, _ROOM, 0),
    ("change registers", "arch_prctl", 0x1003, _ROOM),
    ("change the rules", "seccomp", 1, 0, 0),
    ("change the rules", "landlock_create_ruleset", 0, 0, 1),
    ("set the clock", "settimeofday", 0, 0),
    ("set the clock", "clock_settime", 0, 0),
    ("set the clock", "adjtimex", 0),
    ("rename the machine", "sethostname", 0, 1),
)

ATTEMPTS = tuple(
    Attempt(family, what, call, tuple(arguments))
    for family, rows in {
        "files": _FILES,
        "network": _NETWORK,
        "processes": _PROCESSES,
        "memory": _MEMORY,
        "kernel": _KERNEL,
    }.items()
    for what, call, *arguments in rows
    if call in _NUMBERS
)
"""All attempts for which this machine has a system call."""
