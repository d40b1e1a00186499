"""``collector serve``: the sidecar."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from collector.errors import ConfigError

__all__ = ["ConfigFile", "needs_sidecar", "serve"]

_NEEDED = ("google.protobuf", "httptools", "prometheus_client", "uvicorn")

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="A YAML file; see docs/configuration.md."),
]


def serve(config: ConfigFile = None) -> None:
    """Receive events and OpenTelemetry data, and keep only what the schema lists.

    It needs no configuration: events and OTLP/HTTP on port 4318, OTLP/gRPC on 4317, health and
    metrics on 4319, all of this machine only; data in `./collector-data`. SIGTERM or Ctrl-C ends it
    once everything is flushed.
    """
    needs_sidecar()
    from collector.config import load  # noqa: PLC0415 - keeps `collector --help` light
    from collector.server import run  # noqa: PLC0415

    raise typer.Exit(run(load(config)))


def needs_sidecar() -> None:
    """Raises ``ConfigError`` E201 if what a sidecar runs on is not installed."""
    if not all(map(_is_there, _NEEDED)):
        extra = "data-minimisation-collector[sidecar]"
        raise ConfigError("E201", f"the sidecar needs an extra: pip install '{extra}'")


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is not there
        return False
