"""The command: in this process, or in one of its own with its peak memory from the system."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, chdir, contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO
from unittest.mock import patch

import orjson

from collector.cli import main
from tests.support.deadline import WAIT_SECONDS
from tests.support.forkserver import Process, begin

COMMAND = [sys.executable, "-m", "collector"]
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
    def json(self) -> Any:
        """The document that it wrote."""
        return orjson.loads(self.out)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.out.splitlines()]


class _Typed(BytesIO):
    def isatty(self) -> bool:
        return True


def run(
    *arguments: object,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    directory: Path | None = None,
    encoding: str = "utf-8",
    typed: bool = False,
) -> Ended:
    """Run a command in this process, which takes a tenth of the time of one of its own; but in one
    of its own a command that limits the memory of its process and may end it. What is ``typed``
    comes from a terminal."""
    words = ["collector", *map(str, arguments)]
    assert "serve" not in words[1:3], "it may replace the process by another one"
    if words[1:3] == ["store", "query"]:
        env = {"COLUMNS": "80", **(env or {})}
        return run_process(*arguments, stdin=stdin, env=env, directory=directory)
    given, out, err = (_Typed if typed else BytesIO)(stdin), BytesIO(), BytesIO()
    code: Any = None
    with (
        chdir(directory or Path.cwd()),
        patch.dict(os.environ, {"COLUMNS": "80", **(env or {})}),
        patch.object(sys, "argv", words),
        patch.object(sys, "stdin", TextIOWrapper(given, "utf-8")),
        patch.object(sys, "stdout", TextIOWrapper(out, encoding)),
        patch.object(sys, "stderr", TextIOWrapper(err, "utf-8")),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        sys.stdout.flush()
        sys.stderr.flush()
        assert isinstance(code, int)
        return Ended(code, out.getvalue(), err.getvalue())


def run_process(
    *arguments: object,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Ended:
    """Run a command in a process of its own, with variables that are set besides."""
    return _run("collector", arguments, [stdin], {**os.environ, **(env or {})}, directory)


@dataclass
class Running:
    """A process whose output a test reads as it comes."""

    process: Process
    out: BinaryIO
    err: BinaryIO

    def ended(self) -> Ended:
        """Read the rest of the output, and wait for the end."""
        with ThreadPoolExecutor(1) as pool:
            errors = pool.submit(self.err.read)
            out = b"" if self.out.closed else self.out.read()
            return Ended(self.process.wait(WAIT_SECONDS), out, errors.result(WAIT_SECONDS))


@contextmanager
def started(
    *arguments: object, out: int | None = None, err: int | None = None
) -> Iterator[Running]:
    """Start a command in a process of its own, killed at the end; stdin is empty, and stdout and
    stderr may be files that are open already."""
    words = list(map(str, arguments))
    with ExitStack() as stack:
        nothing = stack.enter_context(Path(os.devnull).open("r+b"))
        (reads, writes), (errors, says) = os.pipe(), os.pipe()
        files = [stack.enter_context(os.fdopen(end, "rb", buffering=0)) for end in (reads, errors)]
        try:
            streams = (
                nothing.fileno(),
                writes if out is None else out,
                says if err is None else err,
            )
            process = begin("collector", words, streams, Path.cwd(), os.environ)
        finally:
            os.close(writes)
            os.close(says)
        stack.callback(process.wait, WAIT_SECONDS)
        stack.callback(process.kill)
        yield Running(process, *files)


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
            process = begin(module, words, streams, where, environ)
        finally:
            os.close(reading)
        try:
            code = process.wait(_MOST_SECONDS)
        finally:
            process.kill()
        writer.result(WAIT_SECONDS)
        for file in (out, err):
            file.seek(0)
        return Ended(code, out.read(), err.read())


def _write(stream: int, chunks: Iterable[bytes]) -> None:
    """All of them, or as much as is wanted."""
    with suppress(BrokenPipeError), open(stream, "wb") as handle:
        handle.writelines(chunks)
