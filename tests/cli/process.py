"""The real command in a real process, with its peak memory from the operating system."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import orjson

from tests.nursery import begin

COMMAND = [sys.executable, "-m", "collector"]
_LOADED = ("collector.cli.app",)
_MOST_SECONDS = 120

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


def run(
    *arguments: object,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Ended:
    """Run a command to its end, with variables that are set besides."""
    words, environ = list(map(str, arguments)), {**os.environ, **(env or {})}
    with TemporaryFile() as out, TemporaryFile() as err, ThreadPoolExecutor(1) as pool:
        reading, writing = os.pipe()
        writer = pool.submit(_write, writing, stdin)
        try:
            streams = (reading, out.fileno(), err.fileno())
            process = begin("collector", words, streams, directory or Path.cwd(), environ, _LOADED)
        finally:
            os.close(reading)
        try:
            code = process.wait(_MOST_SECONDS)
        finally:
            process.kill()
        writer.result()
        for file in (out, err):
            file.seek(0)
        return Ended(code, out.read(), err.read())


def _write(stream: int, content: bytes) -> None:
    """All of it, or as much as is wanted."""
    with suppress(BrokenPipeError), open(stream, "wb") as handle:
        handle.write(content)


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
        out, err = process.communicate(timeout=_MOST_SECONDS)
    head, _, peak = err.rpartition(b"\nVmHWM ")
    return Ended(process.returncode, out, head, int(peak) / 1024)
