"""``collector recorder``: the process that keeps recordings."""

from __future__ import annotations

import typer

from collector.cli.serve import ConfigFile
from collector.config import read
from collector.config.extras import install, is_installed, is_loadable, reinstall
from collector.errors import ConfigError

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
    needed = (*_NEEDED, *more)
    if not all(map(is_installed, needed)):
        raise ConfigError("E201", f"recordings need an extra: {install('recording')}")
    if not all(map(is_loadable, needed)):
        message = "a library of recordings is installed and cannot be loaded; install it anew"
        raise ConfigError("E201", f"{message}: {reinstall('recording')}")
