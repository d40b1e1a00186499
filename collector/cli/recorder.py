"""``collector recorder``: the process that keeps recordings."""

from __future__ import annotations

import typer

from collector.cli.serve import ConfigFile
from collector.config import read
from collector.extras import require

_NEEDED = ("cryptography", "joserfc", "obstore", "pyrage")


def recorder(config: ConfigFile = None) -> None:
    """Keep recordings of meetings, each by its host's decision and of those who stay.

    It needs `recorder.enabled` and `recorder.keys`, the platform's public keys; see
    docs/recording.md. SIGTERM or Ctrl-C closes every recording, and ends it.
    """
    from collector.server import clear_switches, harden  # noqa: PLC0415 - keeps `--help` light

    clear_switches()  # before any library is tried
    needs_recording("httptools", "prometheus_client", "uvloop")
    loaded = read(config)
    harden()
    from collector.recording.server import serve  # noqa: PLC0415 - only now, after the switches

    raise typer.Exit(serve(loaded))


def needs_recording(*more: str) -> None:
    """Load the libraries of recordings. Raises ``ConfigError`` E201 if one is not installed or
    cannot be loaded."""
    require("recording", "recording", *_NEEDED, *more, is_whole=True)
