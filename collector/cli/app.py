"""The commands, put together."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from collector.cli import config, ledger, recording, schema, spool, store, subject
from collector.cli.claims import claims
from collector.cli.demo import demo
from collector.cli.explain import explain_events
from collector.cli.filter import filter_events
from collector.cli.recorder import recorder
from collector.cli.serve import healthcheck, serve

__all__ = ["app", "run"]


def _documents() -> Path:
    """Find the index of the documents: inside an installed wheel, or beside the package."""
    package = Path(__file__).resolve().parent.parent
    wheel = package / "docs"
    return (wheel if wheel.is_dir() else package.parent / "docs") / "README.md"


app: typer.Typer = typer.Typer(
    name="collector",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""
Telemetry that can hold nothing but an allowlist.

Events go in; only the fields of a schema come out, each checked against a closed set of values.
Meeting content (audio, video, chat, transcripts, files) is counted and never decoded.

Start with `collector demo`, then try `collector filter` on a file of your own and
`collector explain` to see why each field was kept or dropped.
""",
    epilog=f"Documents: `{_documents()}`",
)
_SEND = "Send events through the filter"
_RUN = "Run a sidecar or a recorder"
_PROVE = "Prove what is kept"
_SCHEMA = "Write a schema"
app.command("demo", rich_help_panel=_SEND)(demo)
app.command("filter", rich_help_panel=_SEND)(filter_events)
app.command("explain", rich_help_panel=_SEND)(explain_events)
app.command("serve", rich_help_panel=_RUN)(serve)
app.command("recorder", rich_help_panel=_RUN)(recorder)
app.command("healthcheck", rich_help_panel=_RUN)(healthcheck)
app.command("claims", rich_help_panel=_PROVE)(claims)
app.add_typer(config.app, name="config", rich_help_panel=_RUN)
app.add_typer(ledger.app, name="ledger", rich_help_panel=_PROVE)
app.add_typer(recording.app, name="recording", rich_help_panel=_RUN)
app.add_typer(schema.app, name="schema", rich_help_panel=_SCHEMA)
app.add_typer(spool.app, name="spool", rich_help_panel=_RUN)
app.add_typer(store.app, name="store", rich_help_panel=_RUN)
app.add_typer(subject.app, name="subject", rich_help_panel=_PROVE)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"collector {version('data-minimisation-collector')}")
        raise typer.Exit


@app.callback()
def _root(
    _show: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


def run() -> None:
    """Run the command line; always ends in ``SystemExit`` or one of our exceptions."""
    app(prog_name="collector")
