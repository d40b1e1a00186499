"""The control socket of a sidecar or a recorder: one line of JSON per request, and one per answer.

``control.sock`` is in the data directory, for its owner only. An orchestrator's health check asks
every few seconds, so this imports little.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from time import monotonic

from collector.files import short_path

FILE_NAME = "control.sock"
_MOST_BYTES = 16 << 20


def exchange(data: Path, line: bytes, seconds: float | None = None) -> bytes | None:
    """Return the part of the answer that arrives within ``seconds``; ``None`` if nothing listens in
    the data directory."""
    end, answer = None if seconds is None else monotonic() + seconds, b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        try:
            with short_path(data / FILE_NAME) as path:
                connection.connect(path)
        except (TimeoutError, BlockingIOError):  # too many wait for an answer already
            return answer
        except OSError:
            return None
        with suppress(OSError):
            connection.sendall(line)
            while not answer.endswith(b"\n") and len(answer) < _MOST_BYTES:
                connection.settimeout(None if end is None else max(end - monotonic(), 0.001))
                if not (more := connection.recv(1 << 16)):
                    break
                answer += more
    return answer
