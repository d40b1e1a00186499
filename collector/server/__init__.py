"""The sidecar process: surroundings, sockets, signals, lifecycle."""

from __future__ import annotations

from collector.config import Config
from collector.server.surroundings import clear_switches, harden

__all__ = ["run"]


def run(config: Config) -> int:
    """Run the sidecar until a signal comes; returns its exit code.

    Raises ``ConfigError`` or ``SchemaError`` if it cannot start: a port that is taken, a directory
    that cannot be used, a schema that is faulty.
    """
    clear_switches()
    harden()
    from collector.server.process import serve  # noqa: PLC0415 - only now, after the switches

    return serve(config)
