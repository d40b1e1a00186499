"""The processes of a sidecar, and a sidecar whose workers run a test's program."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

_KEEPER = """
import sys
sys.executable = {executable!r}
from collector import cli
cli.main()
"""
_WORKER = """
import runpy, sys
BEFORE
sys.argv = sys.argv[sys.argv.index("-m") + 1:]
from importlib import import_module
import_module(sys.argv[0]).main()
"""


def command(folder: Path, before: str) -> list[str]:
    """The command of a sidecar whose workers run code before their own. Its files are in a
    folder."""
    program, script = folder / "worker.py", folder / "worker"
    program.write_text(_WORKER.replace("BEFORE", before))
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n')
    script.chmod(0o700)
    return [sys.executable, "-c", _KEEPER.format(executable=str(script)), "serve"]


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread has ended
            found += path.read_text().split()
    return sorted(map(int, found))


def is_gone(pid: int) -> bool:
    """Whether a process has ended, even if nobody has waited for it yet."""
    with suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "Z"
    return True


def peak(pid: int) -> float:
    """The largest peak memory among a process and the processes that it started, in MB."""
    found = [0.0]
    for each in (pid, *children(pid)):
        with suppress(OSError, IndexError):  # it has ended
            status = Path(f"/proc/{each}/status").read_text()
            found.append(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
    return max(found)
