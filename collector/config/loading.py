"""Load settings from a file and the environment, or list all of their faults.

A fault says where it is and what should be there. It never quotes the value.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from collector.config import sink_types
from collector.config.model import SWITCH, Config, Sinks, settings, variable
from collector.config.rules import RULES
from collector.config.sink_settings import Section, SinkSettings, is_sink_name
from collector.config.sink_types import UnknownSinkType, settings_of
from collector.config.values import plain_value
from collector.documents import ENVIRONMENT, Document, Layers, Loc, Place, fields_by_key, nearest
from collector.documents import read as read_document
from collector.errors import ConfigError, ConfigFaults, Fault, SchemaError
from collector.extras import NO_GRPC_ORIGIN, is_installed
from collector.schema import resources

FileStats = Mapping[Path, tuple[int, ...] | None]
"""Distinguishes versions of files; ``None`` for a missing one."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each comes from: ``default``, ``environment``, or file and line.

    ``faults`` lists every fault. ``sound`` says whether a setting has the value that was written,
    and not a default in place of a faulty one.
    """

    config: Config
    origins: Mapping[str, str]
    faults: tuple[Fault, ...] = ()
    faulty: frozenset[str] = frozenset()
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Line and column of the values in the file, and of the names of its sinks."""
    file: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The environment that they were read from, to be read again."""
    stats: FileStats = field(default_factory=dict, repr=False)
    """The state, before reading, of each file that the settings come from or name."""

    @property
    def lacks_grpc(self) -> bool:
        """Whether gRPC is off only because grpcio is not installed."""
        return self.origins["grpc.address"] == NO_GRPC_ORIGIN

    def files(self) -> Iterator[tuple[str, str, Path]]:
        """Yield the files that are read for these settings: the setting, the code, the path."""
        return _named_files(self.config)

    def sound(self, name: str) -> bool:
        """Return whether neither a setting nor a section around it has a fault."""
        parts = name.split(".")
        return not any(".".join(parts[: end + 1]) in self.faulty for end in range(len(parts)))

    def fault(self, name: str, message: str, code: str) -> Fault:
        """Return a fault at the place that a setting's value comes from. The fault of a whole sink
        (``sinks.NAME``) is at its name."""
        origin, place = self.origins[name], self.places.get(name)
        if place is None:
            return Fault(origin, 0, 0, name, message, code)
        return Fault(origin.rpartition(":")[0], *place, name, message, code)

    def schema_faults(self, error: SchemaError) -> list[Fault]:
        """Return the faults of schemas. A missing schema is a fault of the setting that names
        it."""
        name = self.config.schema_setting
        return [
            self.fault(name, one.message, one.code) if one.is_absent else one
            for one in error.faults
        ]


PREFIX = "COLLECTOR__"
"""The prefix of the environment variables of settings."""

_GRPC = ("grpc", "address")
Members = dict[str, type[Section] | type[Sinks] | None]


def load(path: Path | None = None) -> Config:
    """Return the settings of a file, with the environment over it.

    Raises ``ConfigFaults``, which lists all faults.
    """
    return read(path).config


def read(file: Path | Document | None = None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Do the same, also for a file that was read already, and return the origin of each setting."""
    loaded = examine(file, environ)
    if loaded.faults:
        raise ConfigFaults(loaded.faults)
    return loaded


def examine(file: Path | Document | None = None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Do the same, with defaults in place of faulty settings. Raises nothing.

    Without grpcio, the default of ``grpc.address`` is ``off``, unless there is no other receiver.
    """
    path = file if isinstance(file, Path) else None
    seen = file_stats([] if path is None else [path])
    if file is None:
        file = Document("defaults", value={}, start=(0, 0))
    draft = _Draft(file if isinstance(file, Document) else read_document(file))
    draft.find_sinks(environ)
    draft.take_file()
    draft.take_variables(environ)
    config = draft.build_section(Config, ())
    if path is not None:
        config = config.in_directory(path.parent)
    origins = {one.name: draft.origin(one.loc) for one in settings(draft.sinks)}
    origins |= {f"sinks.{name}": draft.origin_of_sink(("sinks", name)) for name in draft.sinks}
    if draft.can_do_without_grpc(config) and not is_installed("grpc"):
        config = _without_grpc(config)
        origins["grpc.address"] = NO_GRPC_ORIGIN
    for rule in RULES:
        for about, code, message in rule(config):
            draft.report_rule(about, code, message)
    return Loaded(
        config,
        origins,
        tuple(sorted(dict.fromkeys(draft.faults), key=_order)),
        frozenset(".".join(map(str, loc)) for loc in draft.faulty),
        dict(draft.places()),
        path,
        environ,
        {**file_stats(_watched(config)), **seen},
    )


def file_stats(paths: Iterable[Path]) -> FileStats:
    """Return the state of files; for links, also of their targets. Never raises."""
    found: dict[Path, tuple[int, ...] | None] = {}
    for path in paths:
        found[path] = None
        with suppress(OSError, ValueError):
            of = os.stat(path)  # noqa: PTH116 - what a link leads to
            facts = of.st_dev, of.st_ino, of.st_mode, of.st_size, of.st_mtime_ns
            found[path] = (*facts, path.is_symlink())
    return found


def _named_files(config: Config) -> Iterator[tuple[str, str, Path]]:
    for reference in config.references:
        if resources.is_path(reference):
            yield config.schema_setting, "E101", Path(reference)
    for name, path in (
        ("tls.certificate", config.tls.certificate),
        ("tls.key", config.tls.key),
        ("tls.client_ca", config.tls.client_ca),
        ("claims", config.claims),
    ):
        if path is not None:
            yield name, "E203", path


def _watched(config: Config) -> Iterator[Path]:
    """Yield the files whose changes cause a reload: those that the settings name, and approved
    copies."""
    yield from (named for _, _, named in _named_files(config))
    yield from map(config.approved_copy, config.references)


def _without_grpc(config: Config) -> Config:
    grpc = config.grpc.model_copy(update={"address": None})
    return config.model_copy(update={"grpc": grpc})


def _order(fault: Fault) -> tuple[bool, int, int, str]:
    return (fault.file == ENVIRONMENT, fault.line, fault.column, fault.field)


class _Draft(Layers):
    """Settings as the document has them, with the settings of each sink that it names."""

    def __init__(self, document: Document) -> None:
        super().__init__(document, "docs/configuration.md", plain_value)
        self.refused: set[str] = set()
        self.sinks: dict[str, type[SinkSettings]] = Sinks().sections()

    def find_sinks(self, environ: Mapping[str, str]) -> None:
        """Find the named sinks, and the settings that each one has by its type."""
        value = self.document.value
        written = value.get("sinks") if isinstance(value, dict) else None
        types: dict[str, tuple[str, bool]] = {}
        for name, part in written.items() if isinstance(written, dict) else ():
            type_ = part.get("type") if isinstance(part, dict) else None
            if is_sink_name(name):
                types[name] = (type_, True) if isinstance(type_, str) else (name, False)
        for name, key, text in _sink_variables(environ):
            if key == "TYPE" and text:
                types[name] = (text, True)
                self.from_environment.add(("sinks", name, "type"))
            else:
                types.setdefault(name, (name, False))
        faults = [
            fault
            for name, (type_, is_written) in types.items()
            if (fault := self._find_sink(name, type_, is_written=is_written))
        ]
        self.words = frozenset(str(word) for one in settings(self.sinks) for word in one.loc)
        for loc, code, message in faults:
            self.report(loc, code, message)

    def _find_sink(self, name: str, type_: str, *, is_written: bool) -> tuple[Loc, str, str] | None:
        """Find the settings of a sink; return the fault of its type, with its place."""
        known = sink_types.names()
        try:
            self.sinks[name] = settings_of(type_)
            return None
        except UnknownSinkType as error:
            if not is_written:
                return None  # an unknown name is reported as an unknown setting
            hint = nearest(type_, known) or f"; there are {', '.join(known)}"
            code, message = error.code, f"{error.message}{hint}"
        except ConfigError as error:
            code, message = error.code, error.message
        self.refused.add(name)
        self.sinks.setdefault(name, SinkSettings)
        return ("sinks", name, "type"), code, message

    def take_file(self) -> None:
        """Read the settings of the file, and its faults."""
        for fault in self.document.faults:
            name = self.shown(tuple(fault.field.split("."))) if fault.field else ""
            self.faults.append(fault._replace(field=name))
        value = self.document.value
        if isinstance(value, dict):
            self._take(Config, value, ())
        elif value is not None:
            self.report(
                (),
                "E107",
                "a configuration must be a mapping of settings, such as `log: {level: info}`",
            )

    def _take(self, section: type[Section | Sinks], value: dict[str, Any], loc: Loc) -> None:
        known = self._members(section)
        for key, part in value.items():
            inner = (*loc, key)
            within = known.get(key)
            if key not in known:
                self._report_unknown(inner, list(known))
            elif loc == ("sinks",) and key in self.refused:
                continue
            elif within is None:
                self.values[inner] = part
            elif isinstance(part, dict):
                self._take(within, part, inner)
            elif (
                issubclass(within, Section)
                and SWITCH in within.model_fields
                and isinstance(part, bool | str)
            ):
                self.values[(*inner, SWITCH)] = part
                for known_places in (self.document.places, self.document.values):
                    known_places[(*inner, SWITCH)] = known_places[inner]
            elif part is not None:  # an empty section has no settings
                self.report(inner, "E107", "this must be a mapping of settings, such as `{a: 1}`")

    def _report_unknown(self, loc: Loc, known: list[str]) -> None:
        problem, key = "there is no such setting here", str(loc[-1])
        if loc[:-1] == ("sinks",):
            problem, known = (
                "no type of sinks has this name; add the sink's `type`",
                sink_types.names(),
            )
            if not is_sink_name(key):
                message = "the name of a sink must be 1 to 32 lower-case letters, digits and `-`"
                self.report(loc, "E105", f"{message}, and begin with a letter")
                return
        others = "there is only" if len(known) == 1 else "there are"
        hint = nearest(key, known) or f"; {others} {', '.join(known)}"
        self.report(loc, "E105", f"{problem}{hint}")

    def take_variables(self, environ: Mapping[str, str]) -> None:
        """Read the settings of the environment."""
        known: dict[str, Loc] = {one.variable: one.loc for one in settings(self.sinks)}
        known |= {variable(one.loc[:-1]): one.loc for one in settings(self.sinks) if one.is_switch}
        self.take_environment(environ, PREFIX, known)

    def build_section(self, section: type[Section], loc: Loc) -> Any:
        """Build a section and those in it, with defaults in place of faulty settings."""
        parts: dict[str, Any] = {}
        for key, within in self._members(section).items():
            if within is Sinks:
                parts[key] = self._build_sinks((*loc, key))
            elif within is not None and issubclass(within, Section):
                parts[key] = self.build_section(within, (*loc, key))
        return self.build(section, loc, parts)

    def _build_sinks(self, loc: Loc) -> Sinks:
        """Build all sinks except those with faulty settings."""
        made: dict[str, SinkSettings] = {}
        for name, section in self.sinks.items():
            if name in self.refused:
                continue
            with suppress(ValidationError):  # a required setting is faulty and reported
                sink: SinkSettings = self.build_section(section, (*loc, name))
                made[name] = sink.model_copy(update={"type": sink.type or name})
        return Sinks(made)

    def _members(self, section: type[Section | Sinks]) -> Members:
        """Return the keys of a section, with the sections among them."""
        return dict(self.sinks) if section is Sinks else _members(section)

    def report_rule(self, about: tuple[Loc, ...], code: str, message: str) -> None:
        """Record a fault between settings, unless one of them is faulty in itself."""
        parts = {loc[:end] for loc in about for end in range(1, len(loc) + 1)}
        if not self.faulty & parts:
            self.add(about[0], code, message)

    def can_do_without_grpc(self, config: Config) -> bool:
        """Return whether gRPC is on only by default, and another receiver is on too."""
        has_others = config.http.address is not None or config.http.unix is not None
        return has_others and _GRPC not in self.values

    def places(self) -> Iterator[tuple[str, Place]]:
        """Yield the places of the settings and sinks in the file."""
        for loc in self.values.keys() - self.from_environment:
            yield ".".join(map(str, loc)), self.document.values[loc]
        for name in self.sinks:
            if at := self.document.places.get(("sinks", name)):
                yield f"sinks.{name}", at

    def origin_of_sink(self, loc: Loc) -> str:
        """Return where a sink is named: in the file, in the environment, or by default."""
        if loc in self.document.places:
            return f"{self.document.file}:{self.document.places[loc][0]}"
        has_variable = any(each[: len(loc)] == loc for each in self.from_environment)
        return ENVIRONMENT if has_variable else "default"


def _members(section: type[Section | Sinks]) -> Members:
    found: Members = {}
    for key, info in fields_by_key(section).items() if issubclass(section, Section) else ():
        within: Any = info.annotation
        is_section = isinstance(within, type) and issubclass(within, Section | Sinks)
        found[key] = within if is_section else None
    return found


def _sink_variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield the variables of sinks: the sink's name, the key, the value."""
    for variable_name, value in environ.items():
        begin, _, rest = variable_name.partition(f"{PREFIX}SINKS__")
        name, _, key = rest.lower().replace("_", "-").partition("--")
        if not begin and is_sink_name(name):
            yield name, key.upper().replace("-", "_"), value
