"""Sinks of earlier configurations: the ledger notes each configuration with which a sidecar ran.

The records of such a sink may still exist, although the current configuration does not name it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from collector.config.sink_settings import SinkSettings, is_sink_name
from collector.config.sink_types import settings_of
from collector.config.values import plain_value
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

_Plain = Mapping[str, Any]
_NO_RECIPIENT = "no recipient is named"
COPIES = "approved_copies"
"""The member of a configuration's settings in the ledger that has the states of approved copies."""


@dataclass
class EarlierSinks:
    """``sinks`` are the earlier sinks that hold something of ours, under new names. ``unreached``
    says in words where data of ours may be that we could not check. ``beyond`` says what is out of
    reach: sinks that cannot forget, and locations without our mark. ``directories`` has, by new
    name, the former name of each sink that left files in its own directory. ``elsewhere`` are the
    new names of those whose location belongs to another sink now."""

    sinks: dict[str, SinkSettings] = field(default_factory=dict)
    unreached: list[str] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)
    directories: dict[str, str] = field(default_factory=dict)
    elsewhere: set[str] = field(default_factory=set)


def earlier_sinks(
    data: Path, schemas: tuple[Schema, ...], current: Mapping[str, SinkSettings]
) -> EarlierSinks:
    """Find the sinks that the ledger of a data directory names, without the ``current`` ones."""
    seen = {_place(data, name, sink) for name, sink in current.items()}
    with_directories = {(name, sink.type) for name, sink in current.items() if sink.has_state}
    search = _Search(data, schemas, seen, with_directories)
    try:
        configurations = list(_configurations(data / SPOOL_NAME))
    except DeliveryError:
        search.note(search.found.unreached, "earlier configurations: the ledger cannot be read")
        configurations = []
    for noted in configurations:
        for name, values in _sinks(noted.settings).items():
            search.add(name, _made(name, values), noted)
    return search.found


def ran_elsewhere(data: Path, on: Mapping[str, SinkSettings]) -> bool:
    """Return whether the last sidecar's sinks were at other places than the sinks in ``on``."""
    last = next(_configurations(data / SPOOL_NAME, newest=True), None)
    if last is None or not _sinks(last.settings):
        return False
    base, places = _base(data, last.settings.get("data")), set[str]()
    for name, values in _sinks(last.settings).items():
        sink = _made(name, values)
        if sink is None:
            return True
        paths = {key: _absolute(path, base) for key, path in sink.files().items()}
        if sink.is_on:
            places.add(_place(data, name, sink.model_copy(update=paths)))
    return places != {_place(data, name, sink) for name, sink in on.items()}


def noted_schemas(data: Path) -> tuple[Schema, ...]:
    """Return the schemas with which a sidecar last ran in a data directory, if its ledger has all
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
    """Return the digests of the schemas with which a sidecar last ran, by name, the default first.
    These are the schemas that the last configuration names, or else the last noted schema."""
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
    """Return the state of each schema's approved copy, from the second line of a configuration's
    document; ``None`` if the line does not have it."""
    found = load_plain(settings)
    copies = found.get(COPIES) if isinstance(found, dict) else None
    return copies if isinstance(copies, dict) else None


def _names(flows: bytes) -> Iterator[str]:
    """Yield the names of a configuration's schemas, from the first line of its document."""
    found = load_plain(flows)
    for each in found if isinstance(found, list) else [found]:
        if isinstance(each, dict) and isinstance(each.get("schema"), str):
            yield each["schema"].partition("/")[0]


class _Noted(NamedTuple):
    """A configuration from the ledger: its settings, the place of each sink according to the flows,
    and the sinks that were dropped after it ran."""

    settings: _Plain
    places: Mapping[str, str]
    dropped: frozenset[str]


def _configurations(spool: Path, *, newest: bool = False) -> Iterator[_Noted]:
    """Yield each configuration, or only the newest. Its document has the flows in the first line,
    and the settings in the second."""
    if not spool.is_file():
        return
    with opened(spool) as ledger:
        last, ran, dropped = ledger.digest("configuration"), dict[str, int](), dict[str, int]()
        for entry in ledger.entries():
            if entry.kind == "configuration":
                ran[entry.fact("digest") or ""] = entry.sequence
            elif entry.kind == "drop":
                dropped[entry.fact("sink") or ""] = entry.sequence
        documents = [
            (digest, text)
            for digest, text in ledger.documents()
            if digest == last or (digest in ran and not newest)
        ]
    for digest, document in documents:
        flows, _, settings = map(load_plain, (document or b"").partition(b"\n"))
        since = {
            name for name, at in dropped.items() if at > ran.get(digest, at) and digest != last
        }
        if isinstance(settings, dict):
            yield _Noted(settings, _places(flows), frozenset(since))


def _places(flows: Any) -> dict[str, str]:
    """Return the place of each sink, which is the same for all schemas."""
    first = flows[0] if isinstance(flows, list) and flows else flows
    sinks = first.get("sinks") if isinstance(first, dict) else None
    found = {} if not isinstance(sinks, dict) else sinks
    return {name: str(each["place"]) for name, each in found.items() if "place" in each}


def _sinks(settings: _Plain) -> dict[str, dict[str, Any]]:
    """Return the stated settings of each sink. The settings of a subsection are a mapping."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        section, _, rest = str(key).partition(".")
        name, *within = rest.split(".")
        if section == "sinks" and within and is_sink_name(name) and value is not None:
            part = found.setdefault(name, {})
            for each in within[:-1]:
                part = part.setdefault(each, {})
            part[within[-1]] = value
    return found


def _made(name: str, values: Mapping[str, Any]) -> SinkSettings | None:
    """Make the settings of a sink. Return ``None`` if its type no longer exists, or now takes other
    settings. Leave out defaults, because a type need not accept them from a file."""
    with suppress(ConfigError, ValidationError, TypeError):
        type_ = settings_of(values.get("type", name))
        stated = {
            key: value
            for key, value in values.items()
            if key not in type_.model_fields or value != _default(type_.model_fields[key])
        }
        return type_(**{"type": name, **stated})
    return None


def _default(info: FieldInfo) -> Any:
    """Return the default of a setting as the ledger has it."""
    if info.is_required():
        return PydanticUndefined
    return plain_value(info, info.get_default(call_default_factory=True))


@dataclass
class _Search:
    """Looks at the place of each sink once. ``seen`` are the places that are known already.
    ``with_directories`` are the names and types of sinks whose own directories are known."""

    data: Path
    schemas: tuple[Schema, ...]
    seen: set[str]
    with_directories: set[tuple[str, str | None]]
    found: EarlierSinks = field(default_factory=EarlierSinks)

    def note(self, listed: list[str], what: str) -> None:
        """Note a place once."""
        if what not in listed:
            listed.append(what)

    def add(self, name: str, sink: SinkSettings | None, noted: _Noted) -> None:
        """Add a sink if it was on and its place is new."""
        named = f"sink {name} of an earlier configuration"
        # The operator dropped this sink for good, so not reaching it is no failure.
        unreached = self.found.beyond if name in noted.dropped else self.found.unreached
        if sink is None:
            self.note(unreached, f"{named}: its type is not installed, or takes other settings now")
            return
        base = _base(self.data, noted.settings.get("data"))
        paths = {key: _absolute(path, base) for key, path in sink.files().items()}
        sink = sink.model_copy(update=paths)
        place = _place(self.data, name, sink)
        own = own_directory(self.data, name)
        is_known = (name, sink.type) in self.with_directories
        has_directory = sink.has_state and not is_known and own.is_dir()
        is_seen = place in self.seen
        if not sink.is_on or (is_seen and not has_directory):
            return
        self.seen.add(place)
        stated = noted.places.get(name)
        if stated is not None and not sink.is_local and sink.place(own) != stated:
            where = f"{named}: {stated}, which its settings do not lead to any more"
            self.note(self.found.beyond if not is_erasable(sink) else unreached, where)
            return
        if not is_erasable(sink):
            where = sink.place(own)
            self.note(self.found.beyond, f"{named}: {where}, {sink.recipient or _NO_RECIPIENT}")
            return
        settled = sink.settled(own)
        found = "unknown" if settled is None else self._look(name, settled)
        if found == "ours" and settled is not None:
            key = f"{name} (earlier {len(self.found.sinks) + 1})"
            self.found.sinks[key] = settled
            if has_directory:
                self.with_directories.add((name, sink.type))
                self.found.directories[key] = name
                self.found.elsewhere |= {key} if is_seen else set()
        elif found == "others":
            self.note(self.found.beyond, f"{named}: {place}, which does not bear a mark of ours")
        elif found == "unknown":  # also if its place follows from a name that another sink has now
            self.note(unreached, f"{named}: {place}, which cannot be looked at")

    def _look(
        self, name: str, sink: SinkSettings
    ) -> Literal["ours", "others", "nothing", "unknown"]:
        """Return whose data are at a sink's place."""
        if not all(path.is_absolute() for path in sink.files().values()):
            return "unknown"  # relative to an unknown directory
        with suppress(CollectorError, OSError):
            opening = Opening(name, self.schemas, self.data, is_offline=True)
            with open_sink(sink, opening) as made:
                if isinstance(made, ErasableSink) and made.exists:
                    return "ours" if made.is_ours else "others"
                place = sink.place(own_directory(self.data, name))
                return "others" if sink.is_local and _has_copies(Path(place)) else "nothing"
        return "unknown"


def _has_copies(place: Path) -> bool:
    """Return whether other programs have left renamed files of a sink, such as rotated ones."""
    beside = place.parent.glob(f"{escape(place.name)}[-.~]*")
    return any(each.is_file() for each in beside if each.suffix != ".state")


def _place(data: Path, name: str, sink: SinkSettings) -> str:
    place = sink.place(own_directory(data, name))
    if sink.is_local:
        return str(Path(place).resolve())
    names_location = type(sink).place is not SinkSettings.place
    return place.rstrip("/") if names_location else f"{name} {place}"


def _base(data: Path, stated: object) -> Path | None:
    """Return the working directory of a sidecar, from the path that its settings state for the data
    directory; ``None`` if that path does not show it."""
    if not isinstance(stated, str) or Path(stated).is_absolute():
        return None
    parts, ending = data.resolve().parts, Path(stated).parts
    is_below = ".." not in ending and parts[len(parts) - len(ending) :] == ending
    return Path(*parts[: len(parts) - len(ending)]) if is_below else None


def _absolute(path: Path, base: Path | None) -> Path:
    """Resolve a relative path from ``base``, or from the working directory if a file is there."""
    for folder in filter(None, (base, Path.cwd())):
        if not path.is_absolute() and ((folder / path).exists() or base is not None):
            return folder / path
    return path
