"""The real command in a real process, with its peak memory from the operating system."""

from __future__ import annotations

import os
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
    return _run("collector", arguments, [stdin], {**os.environ, **(env or {})}, directory)


def run_measured(*arguments: object, stdin: Iterable[bytes] = ()) -> Ended:
    """Run a command on a stream that is never in memory as a whole, and measure its peak."""
    ended = _run("tests.cli.measured", arguments, stdin, os.environ)
    err, _, peak = ended.err.rpartition(b"\nVmHWM ")
    return Ended(ended.code, ended.out, err, int(peak) / 1024)


def _run(
    module: str,
    arguments: Iterable[object],
    stdin: Iterable[bytes],
    environ: Mapping[str, str],
    directory: Path | None = None,
) -> Ended:
    where, words = directory or Path.cwd(), list(map(str, arguments))
    with TemporaryFile() as out, TemporaryFile() as err, ThreadPoolExecutor(1) as pool:
        reading, writing = os.pipe()
        writer = pool.submit(_write, writing, stdin)
        try:
            streams = (reading, out.fileno(), err.fileno())
            process = begin(module, words, streams, where, environ, _LOADED)
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


def _write(stream: int, chunks: Iterable[bytes]) -> None:
    """All of them, or as much as is wanted."""
    with suppress(BrokenPipeError), open(stream, "wb") as handle:
        handle.writelines(chunks)
