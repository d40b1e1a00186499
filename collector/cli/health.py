"""The health check of ``collector status --quiet``: one question over the control socket.

An orchestrator asks it every few seconds, so it imports little: the whole process takes less than
50 ms of CPU, where the command line takes half a second.
"""

from __future__ import annotations

import os

_SECONDS = 3.0
_ASKED = b'{"command":"status"}\n'


def named_directory(words: list[str]) -> str | None:
    """Return the data directory that the words after ``status --quiet`` or the environment name;
    ``None`` if another option is among them."""
    if not words:
        return os.environ.get("COLLECTOR__DATA") or "collector-data"
    if words[0] == "--data" and len(words) == len(("--data", "DIR")):
        return words[1]
    return None


def is_healthy(data: str) -> bool:
    """Return whether a sidecar answers in a data directory, and none of its checks is ``failing``.

    A full spool is not ``failing``: a restart would not help.
    """
    from json import loads  # noqa: PLC0415 - other commands need none of these
    from pathlib import Path  # noqa: PLC0415

    from collector.control_socket import exchange  # noqa: PLC0415

    try:
        checks = loads(exchange(Path(data), _ASKED, _SECONDS) or b"")["checks"].values()
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False
    return len(checks) > 0 and "failing" not in checks
