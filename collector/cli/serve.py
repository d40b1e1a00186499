"""``collector serve``: the sidecar, or with ``--from`` a drain of a message broker."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from collector.cli.options import ConfigFile
from collector.config import read
from collector.config.model import variable
from collector.documents import ENVIRONMENT
from collector.errors import ConfigFaults, Fault
from collector.extras import is_installed, require

_NEEDED = ["google.protobuf", "httptools", "prometheus_client"]
if sys.platform != "win32":
    _NEEDED.append("uvloop")
_MOST_PORT = 65_534
_ANY_FREE = dict.fromkeys(("http", "grpc", "admin"), 0)
_PATHS = {"sqlite": "store", "ndjson": "ndjson", "parquet": "parquet"}
_ADDRESSES = {"postgres": ("postgres", "url"), "otlp+https": ("otlp", "endpoint")}
_FORMS = (
    "`sqlite:///PATH`, `ndjson:///PATH`, `parquet:///PATH`, `postgres://USER@HOST/DATABASE` or"
    " `otlp+https://HOST`; for others, write a configuration"
)
_AllowWidening = Annotated[
    bool,
    typer.Option(
        "--allow-widening",
        help="Start even if more data would flow than with the configuration that last ran here.",
    ),
]


def serve(
    *,
    config: ConfigFile = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="The data directory: the setting `data`."),
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(
            "--schema", "-s", metavar="SCHEMA", help="What is collected: the setting `schema`."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=0,
            max=_MOST_PORT,
            help="The port of HTTP; OTLP/gRPC gets the port before it, health and metrics the port"
            " after it. 0 means any free ports.",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL",
            help="Take batches from a stream of a message broker instead of receiving events:"
            " `tls://HOST/STREAM`. The settings `drain.url` and `drain.stream`.",
        ),
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            metavar="SINK",
            help=f"Where records go, instead of the store; repeatable: {_FORMS}.",
        ),
    ] = None,
    allow_widening: _AllowWidening = False,
) -> None:
    """Receive events and OpenTelemetry data, and keep only what the schema lists.

    It runs without a configuration. It then listens on this machine only: events and OTLP/HTTP on
    port 4318, OTLP/gRPC on 4317 if grpcio is installed, health and metrics on 4319. Data goes to
    `./collector-data`. An option overrides the environment, which overrides the file. SIGTERM or
    Ctrl-C stops it after everything is flushed.

    With `--from`, or with `drain.url` in the configuration, it takes batches of records from a
    message broker instead, checks each record against the schemas, and delivers them to the sinks.
    The broker keeps a message until every sink has its records. Several such processes may share
    one stream.
    """
    from collector.server import clear_switches, run  # noqa: PLC0415 - keeps `--help` light

    clear_switches()  # before any library is tried
    needs_sidecar()
    given = {
        **_addresses(port),
        **_source(source),
        **_sinks(to or []),
        ("schema",): schema or "",
        ("data",): "" if data is None else str(data),
    }
    given = {loc: value for loc, value in given.items() if value}
    variables = {variable(loc): value for loc, value in given.items()}
    try:
        loaded = read(config, {**os.environ, **variables})
        code = run(loaded, allow_widening=allow_widening)
    except ConfigFaults as error:
        faults = [_at_option(each, given) for each in error.faults]
        raise ConfigFaults(faults, may_pass=error.may_pass) from None
    raise typer.Exit(code)


_OPTIONS = {"schema": "--schema", "data": "--data", "drain": "--from", "sinks": "--to"}


def _at_option(fault: Fault, given: Mapping[tuple[str, ...], str]) -> Fault:
    """Return a fault with the option that set its setting, if one did."""
    loc = tuple(fault.field.split("."))
    is_given = fault.file == ENVIRONMENT and loc in given
    return fault._replace(file=_OPTIONS.get(loc[0], "--port"), field="") if is_given else fault


def _addresses(port: int | None) -> dict[tuple[str, ...], str]:
    """Return the addresses of this machine for a port."""
    if port is None:
        return {}
    ports = {"grpc": port - 1, "http": port, "admin": port + 1} if port else _ANY_FREE
    names = ports if is_installed("grpc") else ports.keys() - {"grpc"}
    return {(name, "address"): f"127.0.0.1:{ports[name]}" for name in names}


def _source(url: str | None) -> dict[tuple[str, ...], str]:
    """Return the settings for the address of a stream."""
    if url is None:
        return {}
    servers, slash, name = url.rpartition("/")
    if not slash or servers.endswith("/") or not name:
        message = "add the name of the stream: `tls://HOST/STREAM`"
        raise typer.BadParameter(message, param_hint="--from")
    return {("drain", "url"): servers, ("drain", "stream"): name}


def _sinks(targets: list[str]) -> dict[tuple[str, ...], str]:
    """Return the settings of sinks by their addresses, in the form that the SDK takes."""
    found: dict[tuple[str, ...], str] = {}
    for target in targets:
        scheme, mark, rest = target.partition("://")
        if mark and scheme in _PATHS and rest.startswith("/") and rest[1:]:
            found["sinks", _PATHS[scheme], "path"] = rest[1:]
        elif mark and scheme in _ADDRESSES and rest:
            type_, setting = _ADDRESSES[scheme]
            found["sinks", type_, setting] = target.removeprefix("otlp+")
            found["sinks", type_, "party"] = "first"
        else:
            raise typer.BadParameter(f"write {_FORMS}", param_hint="--to")
    if targets and ("sinks", "store", "path") not in found:
        found["sinks", "store", "enabled"] = "false"
    return found


def needs_sidecar() -> None:
    """Load the libraries of a sidecar. Raises ``ConfigError`` E201 if one is not installed or
    cannot be loaded."""
    require("the sidecar", "sidecar", *_NEEDED, is_whole=True)
