"""Run a command from a small process, and print what it used as JSON.

A child's peak memory, as the system counts it, starts at the size of the process that started it;
the benchmarks themselves, with their corpora, are far larger than what they measure.

    python -I -S launch.py OUTPUT ERRORS COMMAND…
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    """Print ``{"status", "cpu_seconds", "wall_seconds", "peak_bytes"}`` of the command."""
    output, errors, *command = sys.argv[1:]
    into = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, output, into, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, errors, into, 0o600),
    ]
    start = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=files)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - start
    # ru_maxrss is in KiB, except where it is in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    used = {
        "status": os.waitstatus_to_exitcode(status),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "wall_seconds": wall,
        "peak_bytes": usage.ru_maxrss * unit,
    }
    sys.stdout.write(json.dumps(used))


if __name__ == "__main__":
    main()
