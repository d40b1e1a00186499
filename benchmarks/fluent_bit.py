"""Fluent Bit: its tail input with a JSON parser, or its HTTP input; record_modifier's allowlist;
and a JSON file as output.

Its allowlist covers only top-level keys. Everything below them stays, including locale and port, so
members outside the schema are removed before records are compared.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

import orjson

from benchmarks.contenders import FIELDS, SCHEMA, Record
from benchmarks.data import flat
from benchmarks.figures import BenchmarkError
from benchmarks.processes import Process, Source
from benchmarks.sidecar.server import Server, pinned

OBSTACLE = "fluent-bit is not installed (its path may be given by --fluent-bit)"
"""Why Fluent Bit is skipped."""

OUTPUT = "fluent-bit.ndjson"
"""The file that Fluent Bit writes."""
_START_SECONDS = 10.0
_USUAL = "/opt/fluent-bit/bin/fluent-bit"
_PARSER = "[PARSER]\n    Name json\n    Format json\n"


def find(path: str | None = None) -> str | None:
    """Return the executable: the requested one, or one in a usual place."""
    if path is not None:
        return shutil.which(path)
    return shutil.which("fluent-bit") or shutil.which(_USUAL)


def version(executable: str) -> str:
    """Return its version in one line."""
    done = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True)
    return next(iter(done.stdout.splitlines()), "unknown")


def process(executable: str, source: Source) -> Process:
    """Return the command that filters a file into ``fluent-bit.ndjson`` beside it and then ends."""
    parsers = source.beside("parsers.conf")
    parsers.write_text(_PARSER, encoding="utf-8")
    target = source.beside(OUTPUT)
    more = ("read_from_head=true", "exit_on_eof=true", "parser=json")
    command = (
        *(executable, "--quiet", "--parser", str(parsers)),
        *("--input", "tail", *_properties(f"path={source.path}", *more)),
        *_filtered_into(target),
    )
    return Process("fluent-bit", command, source.beside("fluent-bit.printed"), target)


@contextmanager
def served(executable: str, directory: Path, cores: Collection[int]) -> Iterator[Server]:
    """Run Fluent Bit as a sidecar in its own directory: HTTP input, filesystem buffer. It answers
    before anything is safely on disk. Raises ``BenchmarkError`` if it does not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    more = (f"port={port}", "storage.type=filesystem")
    command = (
        *(executable, "--quiet", "--flush", "1", "--storage_path", str(directory / "buffer")),
        *("--input", "http", *_properties("listen=127.0.0.1", *more)),
        *_filtered_into(directory / OUTPUT),
    )
    with pinned(command, directory, cores) as process:
        until = monotonic() + _START_SECONDS
        while monotonic() < until and process.poll() is None:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                yield Server("fluent-bit", process, {"http": port}, "/events", "application/json")
                return
            sleep(0.05)
        raise BenchmarkError("fluent-bit does not start")


def _filtered_into(target: Path) -> tuple[str, ...]:
    """Return the arguments for the allowlist and for the output file."""
    members = dict.fromkeys(name.partition(".")[0] for name in FIELDS)
    into = (f"path={target.parent}", f"file={target.name}", "format=plain")
    return (
        *("--filter", "record_modifier", "--match", "*"),
        *_properties(*(f"allowlist_key={key}" for key in members)),
        *("--output", "file", "--match", "*", *_properties(*into)),
    )


def _properties(*values: str) -> tuple[str, ...]:
    return tuple(part for value in values for part in ("--prop", value))


def record(line: bytes) -> Record:
    """Return the flat record in a line of its output."""
    found = flat(orjson.loads(line))
    kept = {name: found.get(name) for name in FIELDS}
    return {"schema": SCHEMA} | {name: value for name, value in kept.items() if value is not None}
