"""Find the records that a command is about: by the configuration, or in a named directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from os.path import realpath
from pathlib import Path
from typing import Annotated, Any

import typer

from collector.cli.console import err, out
from collector.config import Config, Loaded, load, read
from collector.config.model import Sinks
from collector.contracts import Removal
from collector.errors import ConfigError, Unreachable, file_name
from collector.ledger import Note
from collector.retention.earlier import noted_schemas
from collector.retention.locations import Locations
from collector.routing.schemas import configured
from collector.sinks.sink import ErasableSink, own_directory
from collector.spool import FILE_NAME as SPOOL_NAME
from collector.spool import note

_STORE = "store"
"""The sink that `--store` and `collector store` are about."""
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
        "--wait",
        min=0.0,
        max=3600.0,
        help="How many seconds to wait for other readers of the files.",
    ),
]


def located(config_file: Path | None, data: Path | None, store: Path | None) -> Locations:
    """Return the locations of records, with the schemas that are in force. Without a configuration,
    the schemas of a named directory come from its ledger.

    Raises ``SchemaError``, and ``ConfigError`` for faulty settings and where there is no file of
    ours: a wrong path must not look as if nothing were stored.
    """
    loaded = read(config_file)
    config = _in_directory(loaded.config, data)
    if data is not None and not _states_sinks(loaded):  # the default is no sink that anybody named
        off = {_STORE: config.sinks[_STORE].model_copy(update={"enabled": False})}
        config = config.model_copy(update={"sinks": Sinks({**config.sinks, **off})})
    if store is not None:
        config = config.model_copy(update={"sinks": _with_store(config.sinks, store)})
    schemas = () if is_stated(loaded) or data is None else noted_schemas(data)
    locations = Locations.of(config, schemas or configured(config))
    if store is not None and not store.is_file():
        raise ConfigError("E203", f"{file_name(store)} is not there; name the file of a store")
    with locations.opened() as sinks:
        is_any = locations.spool.is_file() or any(map(_may_exist, sinks.values()))
    if not is_any:
        where = file_name(config.data or Path())
        message = f"nothing of ours is in {where}; an SDK's spool is in DIR/0, DIR/1…"
        raise ConfigError("E203", message)
    return locations


def is_stated(loaded: Loaded) -> bool:
    """Return whether the settings say which schemas there are."""
    return any(loaded.origins[name] != "default" for name in ("schema", "schemas"))


def _states_sinks(loaded: Loaded) -> bool:
    """Return whether there is a configuration file, or a variable of the environment that sets a
    sink."""
    origins = (origin for name, origin in loaded.origins.items() if name.startswith("sinks."))
    return loaded.file is not None or any(origin != "default" for origin in origins)


def reach(locations: Locations) -> dict[str, list[str]]:
    """Return what is beyond reach, and what could not be reached, for an answer as JSON."""
    return {"beyond": [*locations.beyond], "unreached": [*locations.unreached]}


def reached_by_sidecar(answer: Mapping[str, Any], locations: Locations) -> Locations:
    """Return the locations as the answering sidecar reaches them."""
    earlier = replace(locations.earlier, unreached=[*answer["unreached"]])
    return replace(locations, beyond=tuple(answer["beyond"]), earlier=earlier)


def counts_of(done: Removal) -> dict[str, Any]:
    """Return what was removed, for an answer as JSON; ``records`` are those of the spool."""
    return {**asdict(done), "records": done.records}


def removal_of(answer: Mapping[str, Any]) -> Removal:
    """Return what a sidecar has removed."""
    return Removal(**{**answer, "unruled": tuple(answer["unruled"])})


def print_counts(done: Removal) -> None:
    """Print what was removed."""
    for name, number in done.sinks.items():
        out.print(f"sink {name}: {number:,} records", markup=False)
    out.print(f"spool: {done.records:,} records in {done.batches:,} batches")
    out.print(f"damaged: {done.damaged:,} batches and {done.files:,} files, deleted whole")


def print_beyond(locations: Locations) -> None:
    """Print what is beyond reach."""
    for place in locations.beyond:
        out.print(f"beyond our reach: {place}", markup=False)


def warn_unreached(locations: Locations) -> bool:
    """Print which of our locations could not be reached, and return whether there are any."""
    for place in locations.unreached:
        err.print(f"not reached: {place}", markup=False)
    if locations.unreached:
        err.print(
            "something of ours may be there: name the configuration, or mend what keeps it from"
            " being reached; `collector store drop SINK` says that a sink does not return"
        )
    return bool(locations.unreached)


def _may_exist(sink: ErasableSink) -> bool:
    """Return whether a sink's location exists; true if its server does not answer."""
    try:
        return sink.exists
    except Unreachable:
        return True


def _with_store(sinks: Sinks, path: Path) -> Sinks:
    """Return the sinks with the store at another path."""
    store = sinks[_STORE].model_copy(update={"enabled": True, "path": path})
    return Sinks({**sinks, _STORE: store})


@dataclass(frozen=True)
class ReadableStore:
    """A store that is opened for reading, and the directory whose ledger notes each reading, if
    there is one."""

    config: Config
    store: Path
    ledger: Path | None

    def note_read(self, command: str, rows: int | None) -> None:
        """Note how many rows a command reads, or with ``None`` that it begins. Raises as ``note``;
        then nothing may be shown."""
        if self.ledger is not None:
            note(self.ledger, Note.of("read", command=command, rows=rows))


def readable(config_file: Path | None, data: Path | None, store: Path | None) -> ReadableStore:
    """Find the store, and the ledger beside it or in the data directory. Raises ``ConfigError``."""
    config = settings(config_file, data)
    folder = config.data or Path()
    path = store or Path(config.sinks[_STORE].place(own_directory(folder, _STORE)))
    places = (Path(realpath(path)).parent, folder)
    ledgers = (place for place in places if (place / SPOOL_NAME).is_file())
    return ReadableStore(config, path, next(ledgers, None))


def directory(config_file: Path | None, data: Path | None) -> Path:
    """Return the directory that ``--data`` names. Without one, read the settings and return theirs.
    Raises ``ConfigError``."""
    return load(config_file).data or Path() if data is None else data


def settings(config_file: Path | None, data: Path | None) -> Config:
    """Load the settings, with another data directory if one is named. Raises ``ConfigError``."""
    return _in_directory(load(config_file), data)


def _in_directory(config: Config, data: Path | None) -> Config:
    return config if data is None else config.model_copy(update={"data": data})
