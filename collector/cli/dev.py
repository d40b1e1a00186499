"""``collector dev``: a sidecar to play with."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import Annotated

import typer

from collector.cli.console import out
from collector.cli.serve import needs_sidecar

_MOST_PORT = 65_533


def dev(
    schema: Annotated[
        str, typer.Argument(metavar="[SCHEMA]", help="A schema's name, or the path of its file.")
    ] = "conferencing",
    port: Annotated[
        int,
        typer.Option(
            "--port",
            min=1024,
            max=_MOST_PORT,
            help="The port for events; the page has the second one after it.",
        ),
    ] = 4318,
    feed: Annotated[bool, typer.Option("--feed/--no-feed", help="Send synthetic events.")] = True,
) -> None:
    """Run a sidecar with temporary data and synthetic events, and a page to watch and try it.

    The page shows events go in and records come out, and has a playground: paste JSON, NDJSON or
    OTLP/JSON, and see what would be stored of it and why. When the schema's file changes, it is
    loaded again; its faults are shown, here too. Ctrl-C ends it and removes everything.

        collector dev my-schema.yaml
    """
    needs_sidecar()
    from collector.dev.run import ENDING, Dev  # noqa: PLC0415 - keeps `--help` light

    _end_by(ENDING)
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        running = Dev(schema, port, feeds=feed, stack=stack, tell=_tell)
        out.print(f"open [bold]{running.url}[/] in a browser, or send an event:\n")
        out.print(f"  {running.curl}\n", markup=False)
        out.print("Ctrl-C ends it and removes its data.")
        running.run()
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # Python lets go of its handlers at its end


def _end_by(signals: Iterable[int]) -> None:
    """End as with Ctrl-C on SIGTERM or when the terminal closes. Ignore further signals, so that
    all temporary files are removed."""
    is_ending = False

    def end(*_: object) -> None:  # it stays: Python reports a signal whose handler has changed
        nonlocal is_ending
        if not is_ending:
            is_ending = True
            raise KeyboardInterrupt

    for name in signals:
        if signal.getsignal(name) != signal.SIG_IGN:
            signal.signal(name, end)


def _tell(line: str) -> None:
    out.print(line, markup=False, soft_wrap=True)
