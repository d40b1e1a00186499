"""``collector status``: how the sidecar of a data directory does."""

from __future__ import annotations

from pathlib import Path

import typer

from collector.cli.console import out, print_json
from collector.cli.data_dir import ConfigFile, Data, settings
from collector.cli.options import AsJson
from collector.errors import ConfigError
from collector.server.control_client import Status, ask

__all__ = ["status"]


def status(config: ConfigFile = None, data: Data = None, as_json: AsJson = False) -> None:
    """Show how the sidecar of a data directory does: its checks, workers, spool and sinks, in names
    and counts. Exit 1 if it is not ready."""
    answer = ask(settings(config, data).data or Path(), Status())
    if answer is None:
        message = "no sidecar runs with this data directory; name it with `--data`"
        raise ConfigError("E203", message)
    if as_json:
        print_json(answer)
    else:
        spool, workers = answer["spool"], answer["workers"]
        out.print(f"schemas: {', '.join(answer['schemas'])}", markup=False)
        out.print(f"workers: {workers['ready']} receive, {workers['replaced']} were replaced")
        out.print(
            f"spool: {spool['batches']:,} batches wait, {spool['bytes']:,} of {spool['limit']:,}"
            f" bytes, the oldest for {spool['oldest_seconds']:,} s"
        )
        for name, sink in answer["sinks"].items():
            code = f" ({sink['answer']})" if sink["answer"] else ""
            delay = f"is late, {sink['cause']}{code}" if sink["late"] else "is up to date"
            waiting = sink["waiting"]
            counts = (
                f"{waiting['batches']:,} batches wait, {waiting['bytes']:,} bytes, the oldest for"
                f" {waiting['oldest_seconds']:,} s; {sink['delivered']:,} batches delivered, the"
                f" last after {waiting['lag_seconds']:,} s; {sink['failures']:,} failures,"
                f" {sink['set_aside']:,} set aside"
            )
            out.print(f"sink {name} {delay}: {counts}", markup=False)
        for name, waiting in answer["absent"].items():
            counts = f"{waiting['batches']:,} batches with {waiting['records']:,} records wait"
            out.print(f"sink {name} is not in the configuration: {counts}", markup=False)
        for name, state in answer["checks"].items():
            if state != "ok":
                out.print(f"{name}: {state}", markup=False)
    raise typer.Exit(0 if answer["ready"] else 1)
