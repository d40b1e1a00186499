"""Logs that tests read."""

from __future__ import annotations

from contextlib import redirect_stderr
from typing import TextIO

from collector.ops.log import EventLog


def log_to(to: TextIO, level: str = "info") -> EventLog:
    """Return a log that writes to a file in the place of stderr."""
    with redirect_stderr(to):
        return EventLog(level)
