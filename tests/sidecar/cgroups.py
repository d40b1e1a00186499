"""A control group of the kernel that limits the memory of a process and its children."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.deadline import wait_until

_V1, _V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Group:
    """A control group."""

    path: Path

    def command(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs another one in the group from its start."""
        script = f'echo $$ > "{self.path}/cgroup.procs" && exec "$@"'
        return ["/bin/sh", "-c", script, "sh", *command]

    def kills(self) -> int:
        """How many processes the kernel has killed for lack of memory."""
        for name in ("memory.oom_control", "memory.events"):
            with suppress(OSError):
                lines = (self.path / name).read_text().splitlines()
                return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
        return 0


@contextmanager
def bounded(megabytes: int) -> Iterator[Group]:
    """Make a group of so many megabytes, without swap. Where no group can be made, as in most
    containers, skip the test even if all prerequisites are required: no package brings this one."""
    path = (_V1 if _V1.is_dir() else _V2) / f"collector-test-{os.getpid()}"
    try:
        path.mkdir()
        if _V1.is_dir():
            (path / "memory.limit_in_bytes").write_text(str(megabytes << 20))
        else:
            (path / "memory.max").write_text(str(megabytes << 20))
            with suppress(OSError):  # there is no swap
                (path / "memory.swap.max").write_text("0")
    except OSError:
        with suppress(OSError):
            path.rmdir()
        pytest.skip("no control group for memory can be made here")
    try:
        yield Group(path)
    finally:
        wait_until(lambda: not (path / "cgroup.procs").read_text())
        path.rmdir()
