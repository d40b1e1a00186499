"""Sinks of earlier configurations: the ledger notes each configuration with which a sidecar ran.

What such a sink wrote may still lie there, though today's configuration, or the one that was shown,
does not name it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from collector.config.sink_settings import SinkSettings, is_sink_name
from collector.config.sink_types import settings_of
from collector.errors import CollectorError, ConfigError, DeliveryError
from collector.ledger import Ledger, opened
from collector.schema.model import Schema
from collector.schema.stored_document import load_plain, load_stored
from collector.sinks.sink import (
    ErasableSink,
    Opening,
    is_erasable,
    open_sink,
    own_directory,
)
from collector.spool import FILE_NAME as SPOOL_NAME

__all__ = [
    "COPIES",
    "EarlierSinks",
    "earlier_sinks",
    "in_force",
    "noted_copies",
    "noted_schemas",
    "ran_elsewhere",
]

_Plain = Mapping[str, Any]
COPIES = "approved_copies"
"""The member of a configuration's settings in the ledger that has the states of approved copies."""


@dataclass
class EarlierSinks:
    """``sinks`` are those that hold something of ours, under names of their own. ``unreached`` says
    in words where else something may be, which cannot be read or is not recognisably ours.
    ``directories`` are the names that those sinks had which left files in their own directories."""

    sinks: dict[str, SinkSettings] = field(default_factory=dict)
    unreached: list[str] = field(default_factory=list)
    directories: dict[str, str] = field(default_factory=dict)


def earlier_sinks(
    data: Path, schemas: tuple[Schema, ...], current: Mapping[str, SinkSettings]
) -> EarlierSinks:
    """Find the sinks that the ledger of a data directory names, besides the ``current`` ones."""
    seen = {_place(data, name, sink) for name, sink in current.items()}
    with_directories = {(name, sink.type) for name, sink in current.items() if sink.has_state}
    search = _Search(data, schemas, seen, with_directories)
    try:
        configurations = list(_configurations(data / SPOOL_NAME))
    except DeliveryError:
        search.note_unreached("where earlier configurations wrote: the ledger cannot be read")
        configurations = []
    for settings, places in configurations:
        base = _base(data, settings.get("data"))
        for name, values in _sinks(settings).items():
            search.add(name, _made(name, values), base, places.get(name))
    return search.found


def ran_elsewhere(data: Path, on: Mapping[str, SinkSettings]) -> bool:
    """Return whether a sidecar last ran with sinks at other places than those of ``on``."""
    last, _ = next(_configurations(data / SPOOL_NAME, newest=True), (None, None))
    if last is None or not _sinks(last):
        return False
    base, places = _base(data, last.get("data")), set[str]()
    for name, values in _sinks(last).items():
        sink = _made(name, values)
        if sink is None:
            return True
        paths = {key: _absolute(path, base) for key, path in sink.files().items()}
        if sink.is_on:
            places.add(_place(data, name, sink.model_copy(update=paths)))
    return places != {_place(data, name, sink) for name, sink in on.items()}


def noted_schemas(data: Path) -> tuple[Schema, ...]:
    """Return the schemas with which a sidecar last ran in a data directory, if its ledger tells all
    of them; else none."""
    with suppress(DeliveryError):
        if (data / SPOOL_NAME).is_file():
            with opened(data / SPOOL_NAME) as ledger:
                documents = dict(ledger.documents())
                loaded = [load_stored(documents.get(d) or b"") for d in in_force(ledger).values()]
            found = tuple(schema for schema in loaded if schema is not None)
            return found if len(found) == len(loaded) else ()
    return ()


def in_force(ledger: Ledger) -> dict[str, str]:
    """Return the digests of the schemas with which a sidecar last ran, by their names, the default
    first: those that the last configuration names, or the last one that was noted."""
    noted = dict[str, str]()
    for entry in ledger.entries():
        if entry.kind == "schema":
            name, digest = (entry.fact("schema") or "").partition("/")[0], entry.fact("digest")
            noted.pop(name, None)
            noted[name] = digest or ""
    document = ledger.document(ledger.digest("configuration")) or b""
    names = [name for name in _names(document.partition(b"\n")[0]) if name in noted]
    return {name: noted[name] for name in names or list(noted)[-1:]}


def noted_copies(settings: bytes) -> dict[str, str] | None:
    """Return the state of the approved copy of each schema, by the second line of the document of a
    configuration; ``None`` if it is no such line."""
    found = load_plain(settings)
    copies = found.get(COPIES) if isinstance(found, dict) else None
    return copies if isinstance(copies, dict) else None


def _names(flows: bytes) -> Iterator[str]:
    """Yield the names of the schemas of a configuration, by the first line of its document."""
    found = load_plain(flows)
    for each in found if isinstance(found, list) else [found]:
        if isinstance(each, dict) and isinstance(each.get("schema"), str):
            yield each["schema"].partition("/")[0]


def _configurations(
    spool: Path, *, newest: bool = False
) -> Iterator[tuple[_Plain, Mapping[str, str]]]:
    """Yield the settings of each configuration, or of the newest, and the place of each sink: the
    second line of its document, and a part of the first, the flows."""
    if not spool.is_file():
        return
    with opened(spool) as ledger:
        digests = {ledger.digest("configuration")}
        if not newest:
            digests = {e.fact("digest") for e in ledger.entries() if e.kind == "configuration"}
        documents = [text for digest, text in ledger.documents() if digest in digests]
    for document in documents:
        flows, _, settings = map(load_plain, (document or b"").partition(b"\n"))
        if isinstance(settings, dict):
            yield settings, _places(flows)


def _places(flows: Any) -> dict[str, str]:
    sinks = flows.get("sinks") if isinstance(flows, dict) else None
    found = {} if not isinstance(sinks, dict) else sinks
    return {name: str(each["place"]) for name, each in found.items() if "place" in each}


def _sinks(settings: _Plain) -> dict[str, dict[str, Any]]:
    """Return the stated settings of each sink."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        section, _, rest = str(key).partition(".")
        name, _, setting = rest.partition(".")
        if section == "sinks" and is_sink_name(name) and value is not None:
            found.setdefault(name, {})[setting] = value
    return found


def _made(name: str, values: Mapping[str, Any]) -> SinkSettings | None:
    """Make settings; ``None`` for a type that there is no more, or that takes others now."""
    with suppress(ConfigError, ValidationError, TypeError):
        return settings_of(values.get("type", name))(**{"type": name, **values})
    return None


@dataclass
class _Search:
    """Looks at the place of each sink once. ``seen`` are places that are known already, and
    ``with_directories`` names and types of sinks whose own directories are."""

    data: Path
    schemas: tuple[Schema, ...]
    seen: set[str]
    with_directories: set[tuple[str, str | None]]
    found: EarlierSinks = field(default_factory=EarlierSinks)

    def note_unreached(self, what: str) -> None:
        """Note a place that cannot be reached."""
        if what not in self.found.unreached:
            self.found.unreached.append(what)

    def add(
        self, name: str, sink: SinkSettings | None, base: Path | None, noted: str | None
    ) -> None:
        """Add a sink if it was on, and is none that was seen before. ``noted`` is the place that
        the flows of its configuration state."""
        if sink is None:
            self.note_unreached(f"sink {name} of an earlier configuration: its type is not there")
            return
        paths = {key: _absolute(path, base) for key, path in sink.files().items()}
        sink = sink.model_copy(update=paths)
        place = _place(self.data, name, sink)
        own = own_directory(self.data, name)
        is_known = (name, sink.type) in self.with_directories
        has_directory = sink.has_state and not is_known and own.is_dir()
        if not sink.is_on or (place in self.seen and not has_directory):
            return
        self.seen.add(place)
        settled = sink.settled(own) if is_erasable(sink) else None
        is_ours: bool | None
        if noted is not None and not sink.is_local and sink.place(own) != noted:
            is_ours, place = False, noted  # a reference of its settings leads elsewhere now
        elif settled is not None:
            sink, is_ours = settled, self._is_ours(name, settled)
        else:  # its place follows from its name, which may be another sink's now
            is_ours = False
        if is_ours:
            key = f"{name} (earlier {len(self.found.sinks) + 1})"
            self.found.sinks[key] = sink
            if has_directory:
                self.with_directories.add((name, sink.type))
                self.found.directories[key] = name
        elif is_ours is not None:
            self.note_unreached(f"sink {name} of an earlier configuration: {place}")

    def _is_ours(self, name: str, sink: SinkSettings) -> bool | None:
        """Return whether something of ours is at a sink's place; ``None`` if nothing is there."""
        if not all(path.is_absolute() for path in sink.files().values()):
            return False  # relative to a directory that is not known
        try:
            opening = Opening(name, self.schemas, self.data, is_offline=True)
            with open_sink(sink, opening) as made:
                if isinstance(made, ErasableSink) and made.exists:
                    return made.is_ours
                place = sink.place(own_directory(self.data, name))
                return False if sink.is_local and _has_copies(Path(place)) else None
        except (CollectorError, OSError):
            return False


def _has_copies(place: Path) -> bool:
    """Return whether other programs have left files of a sink under other names, as by rotation."""
    beside = place.parent.glob(f"{escape(place.name)}[-.~]*")
    return any(each.is_file() for each in beside if each.suffix != ".state")


def _place(data: Path, name: str, sink: SinkSettings) -> str:
    place = sink.place(own_directory(data, name))
    if sink.is_local:
        return str(Path(place).resolve())
    names_location = type(sink).place is not SinkSettings.place
    return place if names_location else f"{name} {place}"


def _base(data: Path, stated: object) -> Path | None:
    """Return the directory in which a sidecar ran that called its data directory so; ``None`` if
    that does not tell."""
    if not isinstance(stated, str) or Path(stated).is_absolute():
        return None
    parts, ending = data.resolve().parts, Path(stated).parts
    is_below = ".." not in ending and parts[len(parts) - len(ending) :] == ending
    return Path(*parts[: len(parts) - len(ending)]) if is_below else None


def _absolute(path: Path, base: Path | None) -> Path:
    """Return where a relative path leads, from ``base`` or from here, if something is there."""
    for folder in filter(None, (base, Path.cwd())):
        if not path.is_absolute() and ((folder / path).exists() or base is not None):
            return folder / path
    return path
