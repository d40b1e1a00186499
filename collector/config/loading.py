"""Load settings from a file and the environment, or list all of their faults.

No fault quotes a value: it says where it is, and what should stand there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from collector.config import sink_types
from collector.config.extras import NO_GRPC_ORIGIN, is_installed
from collector.config.model import SWITCH, Config, Setting, Sinks, settings, variable
from collector.config.rules import RULES
from collector.config.sink_settings import Section, SinkSettings, is_sink_name
from collector.config.sink_types import UnknownSinkType, settings_of
from collector.config.values import plain_value
from collector.errors import CODES, ConfigError, ConfigFaults, Fault, SchemaError
from collector.schema import resources
from collector.schema.checks import nearest
from collector.schema.reading import read as read_yaml
from collector.schema.source import Loc as SourceLoc
from collector.schema.source import Source

FileStats = Mapping[Path, tuple[int, ...] | None]
"""What tells the versions of files apart; ``None`` for one that is not there."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each comes from: ``default``, ``environment``, or file and line.

    ``faults`` are all that is wrong; ``sound`` says whether a setting is what was written.
    """

    config: Config
    origins: Mapping[str, str]
    faults: tuple[Fault, ...] = ()
    faulty: frozenset[str] = frozenset()
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Line and column of the values that stand in the file, and of the names of its sinks."""
    file: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Where they were read, to be read there again."""
    stats: FileStats = field(default_factory=dict, repr=False)
    """Of each file that settings are read from or name, from before it was read."""

    @property
    def lacks_grpc(self) -> bool:
        """Whether gRPC is off for no other reason than that grpcio is not installed."""
        return self.origins["grpc.address"] == NO_GRPC_ORIGIN

    def files(self) -> Iterator[tuple[str, str, Path]]:
        """Yield the files that are read for these settings: the setting, the code, the path."""
        return _named_files(self.config)

    def sound(self, name: str) -> bool:
        """Return whether nothing is wrong with a setting, nor with a section that it is in."""
        parts = name.split(".")
        return not any(".".join(parts[: end + 1]) in self.faulty for end in range(len(parts)))

    def fault(self, name: str, message: str, code: str) -> Fault:
        """Return a fault of a setting, at the place where its value comes from; or of a sink as a
        whole (``sinks.NAME``), at its name."""
        origin, place = self.origins[name], self.places.get(name)
        if place is None:
            return Fault(origin, 0, 0, name, message, code)
        return Fault(origin.rpartition(":")[0], *place, name, message, code)

    def schema_faults(self, error: SchemaError) -> list[Fault]:
        """Return the faults of schemas; one that is not there is a fault of its setting."""
        name = self.config.schema_setting
        return [
            self.fault(name, one.message, one.code) if one.is_absent else one
            for one in error.faults
        ]


PREFIX = "COLLECTOR__"
"""The prefix of the environment variables of settings."""

_ENVIRONMENT = "environment"
_DEFAULTS = "defaults"
_GRPC = ("grpc", "address")
_LIKENESS = 0.8
"""How like a known name a key must be to be quoted in a fault: a secret may stand for a key."""
Loc = tuple[str, ...]
Members = dict[str, type[Section] | type[Sinks] | None]


def load(path: Path | None = None) -> Config:
    """Return the settings of a file, with the environment over it.

    Raises ``ConfigFaults``, whose ``faults`` are all that is wrong.
    """
    return read(path).config


def read(file: Path | Source | None = None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Do the same, and return the origin of each setting; also for a file that is read already."""
    loaded = examine(file, environ)
    if loaded.faults:
        raise ConfigFaults(loaded.faults)
    return loaded


def examine(file: Path | Source | None = None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Do the same, with defaults in the place of faulty settings. Raises nothing.

    Where grpcio is not installed, the default of ``grpc.address`` is ``off``, unless nothing else
    would receive.
    """
    path = file if isinstance(file, Path) else None
    seen = file_stats([] if path is None else [path])
    if file is None:
        file = Source("", value={})
    draft = _Draft(file if isinstance(file, Source) else read_yaml(file, str(file)))
    draft.find_sinks(environ)
    draft.take_file()
    draft.take_environment(environ)
    config = draft.build(Config, ())
    if path is not None:
        config = config.in_directory(path.parent)
    sinks: list[Loc] = [("sinks", name) for name in draft.sinks]
    origins = {one.name: draft.origin(one.loc) for one in settings(draft.sinks)}
    origins |= {".".join(loc): draft.origin_of_sink(loc) for loc in sinks}
    if draft.can_do_without_grpc(config) and not is_installed("grpc"):
        config = _without_grpc(config)
        origins["grpc.address"] = NO_GRPC_ORIGIN
    for rule in RULES:
        for about, code, message in rule(config):
            draft.report_rule(about, code, message)
    return Loaded(
        config,
        origins,
        tuple(sorted(set(draft.faults), key=_order)),
        frozenset(map(".".join, draft.faulty)),
        {
            **{".".join(loc): draft.source.values[loc] for loc in draft.written},
            **{".".join(loc): at for loc in sinks if (at := draft.source.places.get(loc))},
        },
        path,
        environ,
        {**file_stats(_watched(config)), **seen},
    )


def file_stats(paths: Iterable[Path]) -> FileStats:
    """Look at files, whether they are links, and at what links lead to; never raises."""
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
    """Yield the files whose changes matter: those that are named, and approved copies."""
    yield from (named for _, _, named in _named_files(config))
    yield from map(config.approved_copy, config.references)


def _without_grpc(config: Config) -> Config:
    grpc = config.grpc.model_copy(update={"address": None})
    return config.model_copy(update={"grpc": grpc})


def _order(fault: Fault) -> tuple[bool, int, int, str]:
    return (fault.file == _ENVIRONMENT, fault.line, fault.column, fault.field)


@dataclass(slots=True)
class _Draft:
    """Values as they were written, setting by setting, and their faults."""

    source: Source
    values: dict[Loc, Any] = field(default_factory=dict)
    from_environment: set[Loc] = field(default_factory=set)
    faulty: set[Loc] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    sinks: dict[str, type[SinkSettings]] = field(default_factory=lambda: Sinks().sections())

    def find_sinks(self, environ: Mapping[str, str]) -> None:
        """Find the sinks that are named, and the settings that each has by its type."""
        written = self.source.value.get("sinks") if isinstance(self.source.value, dict) else None
        types: dict[str, tuple[str, bool]] = {}
        for name, part in written.items() if isinstance(written, dict) else ():
            type_ = part.get("type") if isinstance(part, dict) else None
            if is_sink_name(name):
                types[name] = (type_, True) if isinstance(type_, str) else (name, False)
        for name, key, value in _sink_variables(environ):
            if key == "TYPE" and value:
                types[name] = (value, True)
                self.from_environment.add(("sinks", name, "type"))
            else:
                types.setdefault(name, (name, False))
        for name, (type_, is_written) in types.items():
            self._find_sink(name, type_, is_written=is_written)

    def _find_sink(self, name: str, type_: str, *, is_written: bool) -> None:
        known = sink_types.names()
        try:
            self.sinks[name] = settings_of(type_)
            return
        except UnknownSinkType as error:
            if not is_written:
                return  # of a name that is no type, the fault is that it is no setting
            hint = nearest(type_, known) or f"; there are {', '.join(known)}"
            code, message = error.code, f"{error.message}{hint}"
        except ConfigError as error:
            code, message = error.code, error.message
        self.refused.add(name)
        self.sinks.setdefault(name, SinkSettings)
        self.report(("sinks", name, "type"), code, message)

    def take_file(self) -> None:
        for fault in self.source.faults:
            message = fault.message.replace("a schema document", "a configuration file")
            name = self.shown(tuple(fault.field.split("."))) if fault.field else ""
            self.faults.append(fault._replace(field=name, message=message))
        value = self.source.value
        if isinstance(value, dict):
            self._take(Config, value, ())
        elif value is not None:
            self.report((), "E107", "a configuration must be a mapping of sections to settings")

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
                for known_places in (self.source.places, self.source.values):
                    known_places[(*inner, SWITCH)] = known_places[inner]
            elif part is not None:  # a section with nothing in it says nothing
                self.report(inner, "E107", "this must be a section: a mapping of keys to values")

    def _report_unknown(self, loc: Loc, known: list[str]) -> None:
        problem = "there is no such setting here"
        if loc[:-1] == ("sinks",):
            problem = "there is no such type of sinks, and no `type` that says another"
            known = sink_types.names()
            if not is_sink_name(loc[-1]):
                problem = "the name of a sink has small letters, digits and `-`, and at most 32"
        hint = nearest(loc[-1], known) or f"; there are {', '.join(known)}"
        self.report(loc, "E105", f"{problem}{hint}", at_key=True)

    def take_environment(self, environ: Mapping[str, str]) -> None:
        known = {one.variable: one.loc for one in settings(self.sinks)}
        known |= {variable(loc[:-1]): loc for loc in known.values() if loc[-1] == SWITCH}
        for name in sorted(environ):
            if not name.startswith(PREFIX):
                continue
            if name in known:
                self.values[known[name]] = environ[name]
                self.from_environment.add(known[name])
            else:
                hint = nearest(name, list(known)) if "__" in name[len(PREFIX) :] else ""
                hint = hint or "; see docs/configuration.md"
                message = f"no setting has this variable{hint}"
                parts = tuple(name[len(PREFIX) :].lower().split("__"))
                shown_name = name if "…" not in self.shown(parts) else f"{PREFIX}…"
                self.faults.append(Fault(_ENVIRONMENT, 0, 0, shown_name, message, "E105"))

    def build(self, section: type[Section], loc: Loc) -> Any:
        """Build a section, with defaults in the place of faulty settings."""
        parts: dict[str, Any] = {}
        for key, within in self._members(section).items():
            inner = (*loc, key)
            if within is Sinks:
                parts[key] = self._build_sinks(inner)
            elif within is not None and issubclass(within, Section):
                parts[key] = self.build(within, inner)
            elif inner in self.values and self._is_written(inner):
                parts[key] = self.values[inner]
        details: list[ErrorDetails] = []
        try:
            return section(**parts)
        except ValidationError as error:
            details = error.errors(include_input=False, include_url=False)
        for detail in details:
            self._report_detail(section, loc, detail)
        sound = {key: part for key, part in parts.items() if (*loc, key) not in self.faulty}
        return section(**sound)

    def _build_sinks(self, loc: Loc) -> Sinks:
        """Build all sinks but those whose settings are faulty."""
        made: dict[str, SinkSettings] = {}
        for name, section in self.sinks.items():
            if name in self.refused:
                continue
            with suppress(ValidationError):  # a required setting is faulty, which is told
                sink: SinkSettings = self.build(section, (*loc, name))
                made[name] = sink.model_copy(update={"type": sink.type or name})
        return Sinks(made)

    def _members(self, section: type[Section | Sinks]) -> Members:
        """Return the keys of a section, with the sections among them."""
        return dict(self.sinks) if section is Sinks else _members(section)

    def _is_written(self, loc: Loc) -> bool:
        value = self.values[loc]
        if value is None or (loc in self.from_environment and value == ""):
            message = "nothing is written here; fill it in, or leave it out"
            self.report(loc, "E107", message)
            return False
        return True

    def _report_detail(self, section: type[Section], loc: Loc, detail: ErrorDetails) -> None:
        if not detail["loc"]:
            self.report(loc, "E107", "the settings of this section do not fit together")
            return
        key = str(detail["loc"][0])
        info = next(i for n, i in section.model_fields.items() if key in (n, i.alias))
        item = (*loc, *detail["loc"])
        self.report((*loc, key), "E107", _message(Setting(loc, info), detail), item)

    def report(
        self, loc: Loc, code: str, message: str, item: SourceLoc = (), *, at_key: bool = False
    ) -> None:
        """Keep a fault of one setting, which is not looked at any further. ``item`` is what of its
        value is faulty; the place of the fault is the value, or the key itself."""
        self.faulty.add(loc)
        self._keep(loc, code, message, item, at_key=at_key)

    def _keep(
        self, loc: Loc, code: str, message: str, item: SourceLoc = (), *, at_key: bool = False
    ) -> None:
        name = self.shown(loc)
        if loc in self.from_environment:
            self.faults.append(Fault(_ENVIRONMENT, 0, 0, name, message, code))
        elif not self.source.file:
            self.faults.append(Fault(_DEFAULTS, 0, 0, name, message, code))
        else:
            fault = self.source.fault(loc, code, message)._replace(field=name)
            values = self.source.values
            if loc in values and not at_key:
                line, column = values.get(item or loc, values[loc])
                fault = fault._replace(line=line, column=column)
            self.faults.append(fault)

    def shown(self, loc: Loc) -> str:
        """Name a setting, without keys that resemble no known one."""
        known = {word for one in settings(self.sinks) for word in one.loc}
        return ".".join(
            part if part in known or get_close_matches(part, known, cutoff=_LIKENESS) else "…"
            for part in loc
        )

    def report_rule(self, about: tuple[Loc, ...], code: str, message: str) -> None:
        """Keep a fault between settings, unless one of them is faulty in itself."""
        parts = {loc[:end] for loc in about for end in range(1, len(loc) + 1)}
        if not self.faulty & parts:
            self._keep(about[0], code, message)

    def can_do_without_grpc(self, config: Config) -> bool:
        """Return whether gRPC is on by default only, and something else receives."""
        has_others = config.http.address is not None or config.http.unix is not None
        return has_others and _GRPC not in self.values

    @property
    def written(self) -> set[Loc]:
        """The settings whose values stand in the file."""
        return self.values.keys() - self.from_environment

    def origin_of_sink(self, loc: Loc) -> str:
        """Return where a sink is named: in the file, in the environment, or by default."""
        if loc in self.source.places:
            return f"{self.source.file}:{self.source.places[loc][0]}"
        has_variable = any(each[: len(loc)] == loc for each in self.from_environment)
        return _ENVIRONMENT if has_variable else "default"

    def origin(self, loc: Loc) -> str:
        if loc in self.from_environment:
            return _ENVIRONMENT
        if loc in self.values:
            return f"{self.source.file}:{self.source.places[loc][0]}"
        return "default"


def _members(section: type[Section | Sinks]) -> Members:
    found: Members = {}
    for name, info in section.model_fields.items() if issubclass(section, Section) else ():
        within: Any = info.annotation
        is_section = isinstance(within, type) and issubclass(within, Section | Sinks)
        found[info.alias or name] = within if is_section else None
    return found


def _sink_variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield the variables of sinks: the sink's name, the key, the value."""
    for variable_name, value in environ.items():
        begin, _, rest = variable_name.partition(f"{PREFIX}SINKS__")
        name, _, key = rest.lower().replace("_", "-").partition("--")
        if not begin and is_sink_name(name):
            yield name, key.upper().replace("-", "_"), value


_LIMITS = {"ge": "at least", "le": "at most"}


def _message(setting: Setting, detail: ErrorDetails) -> str:
    """Describe a pydantic error in our words; its own text is used only if it is one of ours."""
    if detail["type"] == "missing":
        return "this must be said; see the documentation of this type of sinks"
    if detail["type"] in CODES:
        return detail["msg"]
    context = detail.get("ctx") or {}
    if detail["type"] == "literal_error":
        return f"this must be one of {context.get('expected')}"
    limits: Iterator[str] = (
        f"{_LIMITS[key]} {plain_value(setting.info, limit)}"
        for key, limit in context.items()
        if key in _LIMITS
    )
    return f"this must be {' and '.join(limits) or 'of another form; see docs/configuration.md'}"
