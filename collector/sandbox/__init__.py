"""Let a process give up writing files and opening connections, until it ends.

``restrict_files`` uses Landlock: the process can only read the named paths. It can open, make,
change or remove no other path, and can neither bind nor connect to a TCP port. ``restrict_calls``
uses seccomp: only the system calls that a serving process needs remain, some only with certain
arguments. Neither can be undone. Open descriptors stay usable, so a confined process can still
answer its peers.

Call in this order: ``forbid_io_uring`` before the first event loop of libuv; load and try whatever
is needed later; ``restrict_files`` while there is only one thread; ``restrict_calls``; serve.

The numbers and structures come from the kernel's headers (Linux 6.12, ``include/uapi``) and never
change: ``linux/landlock.h``, ``seccomp.h``, ``filter.h``, ``audit.h``, ``prctl.h``, ``sched.h``,
and the headers in ``asm/`` of x86 and arm64, which differ in system calls alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from collector.sandbox.kernel import machine
from collector.sandbox.landlock import landlock_version, restrict_files
from collector.sandbox.seccomp import forbid_io_uring, has_seccomp, restrict_calls

__all__ = [
    "Support",
    "forbid_io_uring",
    "restrict_calls",
    "restrict_files",
    "support",
]


@dataclass(frozen=True)
class Support:
    """What the kernel offers to this process. ``landlock`` is the version of Landlock's interface,
    0 if there is none; ``lacks`` says in words what is missing, for messages."""

    landlock: int
    seccomp: bool
    lacks: tuple[str, ...]


def support() -> Support:
    """Find out what can be used here. Changes nothing and never raises."""
    if machine() is None:
        return Support(0, False, ("Linux on x86-64 or arm64",))
    landlock, seccomp = landlock_version(), has_seccomp()
    lacks = []
    if not landlock:
        lacks.append("Landlock (Linux 5.13 or newer, switched on and not taken away)")
    if not seccomp:
        lacks.append("seccomp filters (Linux 4.17 or newer, switched on and not taken away)")
    return Support(landlock, seccomp, tuple(lacks))
