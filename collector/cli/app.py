"""All commands. Each module is loaded only when its command runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from collector.cli.commands import Commands
from collector.extras import is_installed

_SEND = "Send events through the filter"
_RUN = "Run a sidecar or a recorder"
_PROVE = "Prove what is kept"
_SCHEMA = "Write a schema"
_COMMANDS = {
    "demo": ("demo", "demo", _SEND, "Run synthetic meetings through, and search what was stored."),
    "filter": (
        "filter",
        "filter_events",
        _SEND,
        "Filter events: only the schema's fields come out.",
    ),
    "explain": ("explain", "explain_events", _SEND, "Show why each field is kept or dropped."),
    "dev": ("dev", "dev", _SEND, "Run a sidecar to play with, and a page that shows it work."),
    "serve": ("serve", "serve", _RUN, "Run the sidecar: receive events and OpenTelemetry data."),
    "status": ("status", "status", _RUN, "Show the state of a running sidecar."),
    "top": ("top", "top", _RUN, "Watch a sidecar: rates, dropped fields, sinks."),
    "error": ("error", "error", _RUN, "Explain an error code."),
    "claims": ("claims", "claims", _PROVE, "Check each public promise: does it hold, and why?"),
    "page": ("page", "page", _PROVE, "Write the public page of a configuration."),
}
"""The module and the function of each command, its panel of the help, and its line there."""

_GROUPS = {
    "store": (_RUN, "Query and prune what is stored, and see what waits for sinks."),
    "config": (_RUN, "Begin a configuration, check it, and show what is in force."),
    "recording": (_RUN, "Keep recordings of meetings; verify, open and erase them."),
    "subject": (_PROVE, "Show or erase what is stored about a person; record objections."),
    "ledger": (_PROVE, "Show, verify, sign and export the ledger."),
    "schema": (_SCHEMA, "Write schemas, check them, test them and review them."),
}
"""The modules that have several commands, under their own names, with panel and line."""

_HELP = """
Collect only the telemetry that an allowlist names.

Events go in; only the fields of a schema come out, and each value comes from a closed set. Meeting
content (audio, video, chat, transcripts, files) is counted and never decoded.

Start with `collector demo`. Then run `collector filter` on a file of your own, and
`collector explain` to see why each field is kept or dropped.
"""

NAMES = (*_COMMANDS, *_GROUPS)
"""Every command, and every group of commands."""

MODULES: tuple[str, ...] = tuple(
    f"collector.cli.{name}"
    for name in dict.fromkeys([*(module for module, *_ in _COMMANDS.values()), *_GROUPS])
)
"""Every module of commands."""


def _documents() -> Path:
    """Find the index of the documents: inside an installed wheel, or beside the package."""
    package = Path(__file__).resolve().parent.parent
    wheel = package / "docs"
    return (wheel if wheel.is_dir() else package.parent / "docs") / "README.md"


def _root(
    _version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    pass


def _app(names: Iterable[str], *, only_help: bool = False) -> typer.Typer:
    """Build the command line of these commands. With ``only_help`` their modules are not loaded."""
    made = Commands(
        name="collector",
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help=_HELP,
        epilog=f"Documents: `{_documents()}`",
    )
    made.callback()(_root)
    for name in names:
        panel, line = (_COMMANDS.get(name) or _GROUPS[name])[-2:]
        if only_help:
            made.command(name, rich_help_panel=panel, help=line)(_not_loaded)
        elif name in _COMMANDS:
            module, function, *_ = _COMMANDS[name]
            found = getattr(import_module(f"collector.cli.{module}"), function)
            made.command(name, rich_help_panel=panel)(found)
        else:
            found = import_module(f"collector.cli.{name}").app
            made.add_typer(found, name=name, rich_help_panel=panel)
    return made


def _is_there(name: str) -> bool:
    """Return whether the packages of a command are installed."""
    return name != "recording" or is_installed("joserfc")


def _not_loaded() -> None:
    """Stand for a command in the help."""


app: typer.Typer
"""All commands; they are loaded when it is looked for."""


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    return _app(NAMES)


def run() -> None:
    """Run the command line; always ends in ``SystemExit`` or one of our exceptions.

    Only the command that the first word names is loaded; without one, none is needed.
    """
    first = sys.argv[1:2]
    if "_COLLECTOR_COMPLETE" in os.environ:
        chosen = command(*NAMES)
    elif first and first[0] in NAMES:
        chosen = command(*first)
    else:
        chosen = get_command(_app(filter(_is_there, NAMES), only_help=True))
    chosen(prog_name="collector")


@cache
def command(*names: str) -> Callable[..., Any]:
    """Return the function that runs these commands. Building it from their signatures takes 20 to
    70 ms."""
    return get_command(_app(names))
