"""Run the command, in this process or in its own; optionally measure its peak memory."""

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
    """How a process ended; ``peak`` is its VmHWM in MB, if it was measured."""

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
        """The document that the command wrote."""
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
    """Run a command in this process, which takes a tenth of the time of a new one. A command that
    limits its process's memory, and may end it, runs in its own process. ``typed`` is input from a
    terminal."""
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
    """Run a command in its own process, with additional environment variables."""
    return _run("collector", arguments, [stdin], {**os.environ, **(env or {})}, directory)


@dataclass
class Running:
    """A process whose output a test reads while the process runs."""

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
    """Start a command in its own process, and kill it at the end. Its stdin is empty; stdout and
    stderr may be open files."""
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
    """Run a command on a stream that is never in memory as a whole, and measure the peak."""
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
    """Write all chunks, or as many as the command reads."""
    with suppress(BrokenPipeError), open(stream, "wb") as handle:
        handle.writelines(chunks)
