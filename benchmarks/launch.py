"""Run a command from a small process, and print its resource usage as JSON.

The system counts a child's peak memory from the size of its parent. The benchmarks with their
corpora are much larger than the programs that they measure.

    python -I -S launch.py OUTPUT ERRORS COMMAND… [:: COMMAND…]

Commands separated by ``::`` run at the same time and are measured together. CPU time is their sum,
memory is that of the largest, and wall time lasts until all have ended.
"""

from __future__ import annotations

import json
import os
import sys
import time

AND = "::"
"""Separates commands that run at the same time."""


def main() -> None:
    """Print ``{"status", "cpu_seconds", "wall_seconds", "peak_bytes"}`` of the commands."""
    output, errors, *words = sys.argv[1:]
    commands: list[list[str]] = [[]]
    for word in words:
        if word == AND:
            commands.append([])
        else:
            commands[-1].append(word)
    into = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, output, into, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, errors, into, 0o600),
    ]
    start = time.perf_counter()
    children = [os.posix_spawnp(c[0], c, os.environ, file_actions=files) for c in commands]
    ended = [os.wait4(child, 0) for child in children]
    wall = time.perf_counter() - start
    # ru_maxrss is in KiB, but in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    used = {
        "status": max(os.waitstatus_to_exitcode(status) for _, status, _ in ended),
        "cpu_seconds": sum(usage.ru_utime + usage.ru_stime for _, _, usage in ended),
        "wall_seconds": wall,
        "peak_bytes": max(usage.ru_maxrss for _, _, usage in ended) * unit,
    }
    sys.stdout.write(json.dumps(used))


if __name__ == "__main__":
    main()
