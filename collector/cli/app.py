"""The commands, put together; each is loaded only when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

_SEND = "Send events through the filter"
_RUN = "Run a sidecar or a recorder"
_PROVE = "Prove what is kept"
_SCHEMA = "Write a schema"
_COMMANDS = {
    "demo": ("demo", "demo", _SEND),
    "filter": ("filter", "filter_events", _SEND),
    "explain": ("explain", "explain_events", _SEND),
    "dev": ("dev", "dev", _SEND),
    "init": ("init", "init", _RUN),
    "serve": ("serve", "serve", _RUN),
    "drain": ("drain", "drain", _RUN),
    "recorder": ("recorder", "recorder", _RUN),
    "status": ("status", "status", _RUN),
    "top": ("top", "top", _RUN),
    "claims": ("claims", "claims", _PROVE),
    "error": ("error", "error", _RUN),
    "page": ("page", "page", _PROVE),
}
"""The module and the function of each command, and its panel of the help."""

_GROUPS = {
    "config": _RUN,
    "ledger": _PROVE,
    "recording": _RUN,
    "schema": _SCHEMA,
    "spool": _RUN,
    "store": _RUN,
    "subject": _PROVE,
}
"""The modules that have several commands, under their own names, and their panels."""

_HELP = """
Telemetry that can hold nothing but an allowlist.

Events go in; only the fields of a schema come out, each checked against a closed set of values.
Meeting content (audio, video, chat, transcripts, files) is counted and never decoded.

Start with `collector demo`, then try `collector filter` on a file of your own and
`collector explain` to see why each field was kept or dropped.
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


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"collector {version('data-minimisation-collector')}")
        raise typer.Exit


def _root(
    _show: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


def _app(names: Iterable[str]) -> typer.Typer:
    """Put these commands together."""
    made = typer.Typer(
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
        if name in _COMMANDS:
            module, function, panel = _COMMANDS[name]
            found = getattr(import_module(f"collector.cli.{module}"), function)
            made.command(name, rich_help_panel=panel)(found)
        else:
            found = import_module(f"collector.cli.{name}").app
            made.add_typer(found, name=name, rich_help_panel=_GROUPS[name])
    return made


app: typer.Typer
"""All commands; they are loaded when it is looked for."""


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    return _app(NAMES)


def run() -> None:
    """Run the command line; always ends in ``SystemExit`` or one of our exceptions.

    Where the first word is a command, the others are not loaded.
    """
    named = [name for name in NAMES if name in sys.argv[1:2]]
    command(*(named or NAMES))(prog_name="collector")


@cache
def command(*names: str) -> Callable[..., Any]:
    """Return what runs these commands; to make it of their signatures takes 20 to 70 ms."""
    return get_command(_app(names))
