"""``collector serve``: the sidecar."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from collector.config import read
from collector.config.model import variable
from collector.extras import is_installed, require

_NEEDED = ["google.protobuf", "httptools", "prometheus_client"]
if sys.platform != "win32":
    _NEEDED.append("uvloop")
_MOST_PORT = 65_534
_ANY_FREE = dict.fromkeys(("http", "grpc", "admin"), 0)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="A YAML file; see docs/configuration.md."),
]
AllowWidening = Annotated[
    bool,
    typer.Option(
        "--allow-widening",
        help="Start also if more would flow than by what last ran with this data directory.",
    ),
]
File = Annotated[
    Path | None,
    typer.Argument(metavar="[FILE]", help="The same as --config FILE; none: defaults."),
]


def serve(
    config: ConfigFile = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="The setting `data`.")
    ] = None,
    schema: Annotated[
        str | None, typer.Option("--schema", "-s", metavar="SCHEMA", help="The setting `schema`.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=0,
            max=_MOST_PORT,
            help="The port of `http.address`; OTLP/gRPC has the one before, health and metrics the"
            " one after it. 0: any free ones.",
        ),
    ] = None,
    allow_widening: AllowWidening = False,
) -> None:
    """Receive events and OpenTelemetry data, and keep only what the schema lists.

    It needs no configuration: events and OTLP/HTTP on port 4318, OTLP/gRPC on 4317 if grpcio is
    installed, health and metrics on 4319, all of this machine only; data in `./collector-data`.
    Options lie over the environment, and this over the file. SIGTERM or Ctrl-C ends it once
    everything is flushed.
    """
    from collector.server import clear_switches, run  # noqa: PLC0415 - keeps `--help` light

    clear_switches()  # before any library is tried
    needs_sidecar()
    given = _addresses(port) | {
        ("schema",): schema or "",
        ("data",): "" if data is None else str(data),
    }
    variables = {variable(loc): value for loc, value in given.items() if value}
    loaded = read(config, {**os.environ, **variables})
    raise typer.Exit(run(loaded, allow_widening=allow_widening))


def _addresses(port: int | None) -> dict[tuple[str, ...], str]:
    """Return the addresses of this machine for a port."""
    if port is None:
        return {}
    ports = {"grpc": port - 1, "http": port, "admin": port + 1} if port else _ANY_FREE
    names = ports if is_installed("grpc") else ports.keys() - {"grpc"}
    return {(name, "address"): f"127.0.0.1:{ports[name]}" for name in names}


def one_file(file: Path | None, config: Path | None) -> Path | None:
    """Return the configuration file of a command that takes it by position and by option. Raises
    ``typer.BadParameter`` if both are given and differ."""
    if file is None or config is None:
        return config if file is None else file
    if os.path.realpath(file) != os.path.realpath(config):
        raise typer.BadParameter("FILE names another file", param_hint="--config")
    return file


def needs_sidecar() -> None:
    """Load the libraries of a sidecar. Raises ``ConfigError`` E201 if one is not installed or
    cannot be loaded."""
    require("the sidecar", "sidecar", *_NEEDED, is_whole=True)
