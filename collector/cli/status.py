"""``collector status``: show the state of a running sidecar."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from collector.cli.console import err, out, print_json
from collector.cli.data_dir import settings
from collector.cli.health import is_healthy
from collector.cli.options import AsJson, ConfigFile, Data
from collector.errors import DeliveryError
from collector.ops.sink_state import describe
from collector.server import control_client

_DEAD = "not running"
_UNAPPROVED = "; a field has no valid approval, `collector schema review` shows which"


def status(
    *,
    config: ConfigFile = None,
    data: Data = None,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            help="Print nothing, for a health check: exit 1 if a check fails or no sidecar answers."
            " A full spool does not count as a failure, because a restart would not help.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the state of a running sidecar: its checks, workers, spool and sinks, in names and
    counts.

    Exit 1 if it is not ready, does not answer within five seconds, or does not run.
    """
    folder = settings(config, data).data or Path()
    if quiet:
        raise typer.Exit(0 if is_healthy(str(folder)) else 1)
    try:
        answer = control_client.status(folder)
    except DeliveryError as error:
        _print_absent("not answering", error.message, as_json)
        raise typer.Exit(1) from None
    if answer is None:
        hint = (
            ""
            if folder.is_dir()
            else "the data directory does not exist; name another with `--data`"
        )
        _print_absent(_DEAD, hint, as_json)
        raise typer.Exit(1)
    if as_json:
        print_json({"running": True, **answer})
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
            out.print(f"sink {name} {delay}: {describe(sink)}", markup=False)
        for name, sink in answer["absent"].items():
            out.print(f"sink {name} is not in the configuration: {describe(sink)}", markup=False)
        for name, state in answer["checks"].items():
            if state == "ok":
                continue
            more = _UNAPPROVED if name.startswith("review ") else ""
            out.print(f"{name}: {state}{more}", markup=False)
    raise typer.Exit(0 if answer["ready"] else 1)


def _print_absent(state: str, hint: str, as_json: bool) -> None:
    """Print that there is nothing to show, and why."""
    if as_json:
        print_json({"running": state != _DEAD, "state": state})
    else:
        out.print(state)
    if hint:
        err.print(hint, markup=False)
