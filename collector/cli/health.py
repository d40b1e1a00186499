"""The health check of ``collector status --quiet``: one question over the control socket.

An orchestrator asks it every few seconds, so it imports little: the whole process takes less than
50 ms of CPU, where the command line takes half a second.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SECONDS = 3.0
_LONGEST_PATH = 100
_ASKED = b'{"command":"status"}\n'


def named_directory(words: list[str]) -> str | None:
    """Return the data directory that the words after ``status --quiet`` or the environment name;
    ``None`` if another option is among them."""
    if not words:
        return os.environ.get("COLLECTOR__DATA") or "collector-data"
    if words[0] == "--data" and len(words) == len(("--data", "DIR")):
        return words[1]
    return None


@contextmanager
def _path(data: str) -> Iterator[str]:
    """Yield the path of the control socket, in a form that an address has room for."""
    path = f"{data}/control.sock"
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield path
        return
    from collector.files import short_path  # noqa: PLC0415 - most paths are short

    with short_path(Path(path)) as short:
        yield short


def is_healthy(data: str) -> bool:
    """Return whether a sidecar answers in a data directory, and none of its checks is ``failing``.

    A full spool is not ``failing``: a restart would not help.
    """
    import socket  # noqa: PLC0415 - other commands need neither
    from json import loads  # noqa: PLC0415

    answer = b""
    try:
        with _path(data) as path, socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_SECONDS)
            connection.connect(path)
            connection.sendall(_ASKED)
            while not answer.endswith(b"\n") and (more := connection.recv(65_536)):
                answer += more
        checks = loads(answer)["checks"].values()
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False
    return len(checks) > 0 and "failing" not in checks
