"""Where the records are that a command is about: from the configuration, or a named directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from collector.cli.serve import ConfigFile
from collector.config import Config, load
from collector.errors import ConfigError
from collector.ledger import Note
from collector.proof.rights import Holdings
from collector.schema import Schema, load_schema
from collector.sinks.files import files_of
from collector.sinks.store import FILE_NAME as STORE_NAME
from collector.spool import FILE_NAME as SPOOL_NAME
from collector.spool import note

__all__ = ["ConfigFile", "Data", "Readable", "StoreFile", "Wait", "located", "readable", "settings"]

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
    config = settings(config_file, data)
    schema, holdings = load_schema(config.schema_), Holdings.of(config, store)
    if store is not None and not store.is_file():
        raise ConfigError("E203", "there is no store at the path of --store")
    lines = holdings.lines is not None and files_of(holdings.lines)
    if not (lines or holdings.store.is_file() or holdings.spool.is_file()):
        message = "nothing of ours is in the data directory; an SDK's spool is in DIR/0, DIR/1…"
        raise ConfigError("E203", message)
    return schema, holdings


@dataclass(frozen=True)
class Readable:
    """A store that is only looked into, and the directory whose ledger is told of it, if there is
    one. ``schema`` names the schema that is in force, which need not be that of the store."""

    schema: str
    store: Path
    ledger: Path | None

    def tell(self, command: str, rows: int | None) -> None:
        """Note how many rows a command reads; ``None``, that it begins. Raises what ``note`` does:
        then nothing may be shown."""
        if self.ledger is not None:
            note(self.ledger, Note.of("read", command=command, rows=rows))


def readable(config_file: Path | None, data: Path | None, store: Path | None) -> Readable:
    """The store, and the ledger beside it or else in the data directory. Raises ``ConfigError``."""
    config = settings(config_file, data)
    directory = config.data or Path()
    path = store or directory / STORE_NAME
    places = (path.resolve().parent, directory)
    ledgers = (place for place in places if (place / SPOOL_NAME).is_file())
    return Readable(config.schema_, path, next(ledgers, None))


def settings(config_file: Path | None, data: Path | None) -> Config:
    """The settings, with another data directory if one is named. Raises ``ConfigError``."""
    config = load(config_file)
    return config if data is None else config.model_copy(update={"data": data})
