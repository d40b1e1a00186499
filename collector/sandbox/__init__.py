"""Give up the kernel's help for writing and calling out: a process confines itself, for life.

``restrict_files`` is Landlock: no path can be opened, made, changed or removed, except that named
ones can be read; no TCP port can be bound or connected to. ``restrict_calls`` is seccomp: only the
system calls that a serving process needs are left, some of them only with certain arguments.
Neither can be taken back. Descriptors that are open already stay usable, so a confined process can
still answer its peers.

The order is: ``forbid_io_uring`` before the first event loop of libuv; load and try whatever is
needed later; ``restrict_files`` while there is one thread; ``restrict_calls``; serve.

The numbers and structures are those of the kernel's headers (Linux 6.12, ``include/uapi``), where
they never change: ``linux/landlock.h``, ``seccomp.h``, ``filter.h``, ``audit.h``, ``prctl.h``,
``sched.h``, and the headers in ``asm/`` of x86 and arm64, which differ in system calls alone.
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
    """What the kernel has, and lets this process use. ``landlock`` is the version of Landlock's
    interface, 0 if there is none; ``lacks`` names in words what is missing, for messages."""

    landlock: int
    seccomp: bool
    lacks: tuple[str, ...]


def support() -> Support:
    """Find out what can be used here; nothing is changed, and nothing raised."""
    if machine() is None:
        return Support(0, False, ("Linux on x86-64 or arm64",))
    landlock, seccomp = landlock_version(), has_seccomp()
    lacks = []
    if not landlock:
        lacks.append("Landlock (Linux 5.13 or newer, switched on and not taken away)")
    if not seccomp:
        lacks.append("seccomp filters (Linux 4.17 or newer, switched on and not taken away)")
    return Support(landlock, seccomp, tuple(lacks))
