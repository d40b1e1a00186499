"""Where the records are that a command is about: from the configuration, or a named directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from collector.cli.serve import ConfigFile
from collector.config import load
from collector.errors import ConfigError
from collector.proof.rights import Holdings
from collector.schema import Schema, load_schema
from collector.sinks.files import files_of

__all__ = ["ConfigFile", "Data", "StoreFile", "Wait", "located"]

Data = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="The data directory; otherwise the configuration says which."
    ),
]
StoreFile = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="FILE",
        help="Another store than that of the data directory: an SDK's, say.",
    ),
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait", min=0.0, max=3600.0, help="For how many seconds to wait for who is reading."
    ),
]


def located(
    config_file: Path | None, data: Path | None, store: Path | None
) -> tuple[Schema, Holdings]:
    """The schema that is in force, and where records lie.

    Raises ``ConfigError`` for what is wrong with the settings, and where nothing of ours is: a path
    that is wrong must not look as if nothing were kept. Raises ``SchemaError``.
    """
    config = load(config_file)
    if data is not None:
        config = config.model_copy(update={"data": data})
    schema, holdings = load_schema(config.schema_), Holdings.of(config, store)
    if store is not None and not store.is_file():
        raise ConfigError("E203", "there is no store at the path of --store")
    lines = holdings.lines is not None and files_of(holdings.lines)
    if not (lines or holdings.store.is_file() or holdings.spool.is_file()):
        message = "nothing of ours is in the data directory; an SDK's spool is in DIR/0, DIR/1…"
        raise ConfigError("E203", message)
    return schema, holdings
