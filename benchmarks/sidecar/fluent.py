"""Fluent Bit as a sidecar: HTTP input, allowlist filter, filesystem buffer, file output.

Its allowlist knows keys of the top level only, and it answers before anything is on disk for sure.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

from benchmarks.contenders import FIELDS
from benchmarks.figures import BenchmarkError
from benchmarks.sidecar.server import Server, pinned

OUTPUT = "fluent-bit.ndjson"
"""The file that it writes, in its directory."""

_START_SECONDS = 10.0


def command(executable: str, port: int, directory: Path) -> list[str]:
    """Return what is run."""
    members = dict.fromkeys(name.partition(".")[0] for name in FIELDS)
    return [
        *(executable, "--quiet", "--flush", "1", "--storage_path", str(directory / "buffer")),
        *("--input", "http", "--prop", "listen=127.0.0.1", "--prop", f"port={port}"),
        *("--prop", "storage.type=filesystem"),
        *("--filter", "record_modifier", "--match", "*"),
        *(part for key in members for part in ("--prop", f"allowlist_key={key}")),
        *("--output", "file", "--match", "*", "--prop", f"path={directory}"),
        *("--prop", f"file={OUTPUT}", "--prop", "format=plain"),
    ]


@contextmanager
def fluent_bit(executable: str, directory: Path, cores: Collection[int]) -> Iterator[Server]:
    """Fluent Bit in a directory of its own. Raises ``BenchmarkError`` if it does not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with pinned(command(executable, port, directory), directory, cores) as process:
        until = monotonic() + _START_SECONDS
        while monotonic() < until and process.poll() is None:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                yield Server("fluent-bit", process, port, "/events", "application/json", cores)
                return
            sleep(0.05)
        raise BenchmarkError("fluent-bit does not start")
