"""The real command in a real process, with its peak memory from the operating system."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

COMMAND = [sys.executable, "-m", "collector"]

_MEASURE = """
import re, runpy, sys
sys.argv = ["collector", *sys.argv[1:]]
try:
    runpy.run_module("collector", run_name="__main__")
finally:
    status = open("/proc/self/status").read()
    sys.stderr.flush()
    print("\\nVmHWM", re.search(r"VmHWM:\\s+(\\d+)", status)[1], file=sys.stderr)
"""


@dataclass
class Ended:
    """How a process ended; ``peak`` is its VmHWM in MB, where it was measured."""

    code: int
    out: bytes
    err: bytes
    peak: float = 0.0

    @property
    def tally(self) -> dict[str, Any]:
        """The tally that ``collector filter`` wrote to stderr."""
        found: dict[str, Any] = orjson.loads(self.err.splitlines()[0])
        return found

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.out.splitlines()]


def run(*arguments: object, stdin: bytes = b"", env: dict[str, str] | None = None) -> Ended:
    """Run a command to its end."""
    command = [*COMMAND, *map(str, arguments)]
    environment = os.environ | (env or {})
    done = subprocess.run(
        command, input=stdin, capture_output=True, timeout=120, env=environment, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def run_measured(*arguments: object, stdin: Iterable[bytes] = ()) -> Ended:
    """Run a command on a stream that is never in memory as a whole, and measure its peak."""
    command = [sys.executable, "-c", _MEASURE, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        try:
            for chunk in stdin:
                process.stdin.write(chunk)
            process.stdin.close()
        except BrokenPipeError:
            pass
        process.stdin = None
        out, err = process.communicate(timeout=120)
    head, _, peak = err.rpartition(b"\nVmHWM ")
    return Ended(process.returncode, out, head, int(peak) / 1024)
