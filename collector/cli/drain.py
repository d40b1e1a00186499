"""``collector drain``: take batches out of a message broker, and deliver them to sinks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from collector.cli.serve import AllowWidening, ConfigFile, File, needs_sidecar, one_file
from collector.config import read
from collector.config.model import variable
from collector.errors import ConfigError

_PATHS = {"sqlite": "store", "ndjson": "ndjson", "parquet": "parquet"}
_ADDRESSES = {"postgres": ("postgres", "url"), "otlp+https": ("otlp", "endpoint")}
_FORMS = (
    "`sqlite:///PATH`, `ndjson:///PATH`, `parquet:///PATH`, `postgres://USER@HOST/DATABASE` and"
    " `otlp+https://HOST`; others stand in a configuration"
)


def drain(
    file: File = None,
    config: ConfigFile = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL",
            help="`tls://HOST/STREAM`: `drain.url` and `drain.stream`.",
        ),
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to", metavar="SINK", help=f"A sink of yours, in place of the store: {_FORMS}."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="The setting `data`.")
    ] = None,
    *,
    allow_widening: AllowWidening = False,
) -> None:
    """Take batches of records out of a message broker, check them, and deliver them to sinks.

    Any number of drains may take from one stream. Each record is checked under the schemas of the
    configuration; what is none of theirs is counted and never kept. The broker keeps a message
    until every sink has its records. SIGTERM or Ctrl-C ends it once sinks have what is at hand.
    """
    from collector.server import clear_switches, run  # noqa: PLC0415 - keeps `--help` light

    clear_switches()  # before any library is tried
    needs_sidecar()
    given = (
        _source(source)
        | _sinks(to or [])
        | {
            ("data",): "" if data is None else str(data),
        }
    )
    variables = {variable(loc): value for loc, value in given.items() if value}
    loaded = read(one_file(file, config), {**os.environ, **variables})
    if not loaded.config.drain.is_on:
        message = "there is nothing to take from: set `drain.url` and `drain.stream`"
        raise ConfigError("E122", message)
    raise typer.Exit(run(loaded, allow_widening=allow_widening))


def _source(url: str | None) -> dict[tuple[str, ...], str]:
    """Return the settings for the address of a stream."""
    if url is None:
        return {}
    servers, slash, name = url.rpartition("/")
    if not slash or servers.endswith("/") or not name:
        message = "name the stream too: `tls://HOST/STREAM`"
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
            raise typer.BadParameter(f"there are {_FORMS}", param_hint="--to")
    if targets and ("sinks", "store", "path") not in found:
        found["sinks", "store", "enabled"] = "false"
    return found
