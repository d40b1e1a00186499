"""From a file and the environment to settings, or to the list of everything that is wrong.

Nothing of what was written is ever quoted: a fault says where it is, and what should stand there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from collector.config.loaded import Loaded
from collector.config.model import Config, Setting, settings, variable
from collector.config.rules import RULES
from collector.config.section import Section
from collector.config.sinks import SWITCH
from collector.config.values import shown
from collector.errors import ConfigFaults, Fault
from collector.schema.checks import nearest
from collector.schema.source import Source
from collector.schema.source import read as read_yaml

__all__ = ["PREFIX", "examine", "load", "read"]

PREFIX = "COLLECTOR__"
"""What the environment variables of settings begin with."""

_ENVIRONMENT = "environment"
_DEFAULTS = "defaults"
_CODES = {"E101": "E206", "E102": "E206", "E103": "E211", "E104": "E206"}
"""Faults of YAML under the codes of configuration; all others are E209."""
_WORD = re.compile(r"[A-Za-z_]{1,40}").fullmatch
Loc = tuple[str, ...]


def load(path: Path | None = None) -> Config:
    """The settings of a file, with the environment over it.

    Raises ``ConfigFaults``, whose ``faults`` are all that is wrong.
    """
    return read(path).config


def read(file: Path | Source | None = None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """The same, with the origin of each setting; also of a file that has been read already."""
    loaded = examine(file, environ)
    if loaded.faults:
        raise ConfigFaults(loaded.faults)
    return loaded


def examine(file: Path | Source | None = None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """The same, with defaults instead of what is faulty. Raises nothing."""
    if file is None:
        file = Source("", value={})
    draft = _Draft(file if isinstance(file, Source) else read_yaml(file, str(file)))
    draft.take_file()
    draft.take_environment(environ)
    config = draft.build(Config, ())
    for rule in RULES:
        for about, code, message in rule(config):
            draft.report_rule(about, code, message)
    return Loaded(
        config,
        {one.name: draft.origin(one.loc) for one in settings()},
        tuple(sorted(set(draft.faults), key=_order)),
        frozenset(map(".".join, draft.faulty)),
    )


def _order(fault: Fault) -> tuple[bool, int, int, str]:
    return (fault.file == _ENVIRONMENT, fault.line, fault.column, fault.field)


@dataclass(slots=True)
class _Draft:
    """What was written, setting by setting, and what is wrong with it."""

    source: Source
    values: dict[Loc, Any] = field(default_factory=dict)
    from_environment: set[Loc] = field(default_factory=set)
    faulty: set[Loc] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)

    def take_file(self) -> None:
        for fault in self.source.faults:
            code = _CODES.get(fault.code, "E209")
            message = fault.message.replace("a schema document", "a configuration file")
            self.faults.append(fault._replace(field=_safe(fault.field), code=code, message=message))
        value = self.source.value
        if isinstance(value, dict):
            self._take(Config, value, ())
        elif value is not None:
            self.report((), "E209", "a configuration must be a mapping of sections to settings")

    def _take(self, section: type[Section], value: dict[str, Any], loc: Loc) -> None:
        known = _members(section)
        for key, part in value.items():
            inner = (*loc, key)
            within = known.get(key)
            if key not in known:
                hint = nearest(key, list(known)) or f"; there are {', '.join(known)}"
                self.report(inner, "E208", f"there is no such setting here{hint}")
            elif within is None:
                self.values[inner] = part
            elif isinstance(part, dict):
                self._take(within, part, inner)
            elif SWITCH in within.model_fields and isinstance(part, bool | str):
                self.values[(*inner, SWITCH)] = part
                self.source.places[(*inner, SWITCH)] = self.source.places[inner]
            elif part is not None:  # a section with nothing in it says nothing
                self.report(inner, "E209", "this must be a section: a mapping of keys to values")

    def take_environment(self, environ: Mapping[str, str]) -> None:
        known = {one.variable: one.loc for one in settings()}
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
                shown_name = name if _WORD(name) else f"{PREFIX}…"
                self.faults.append(Fault(_ENVIRONMENT, 0, 0, shown_name, message, "E208"))

    def build(self, section: type[Section], loc: Loc) -> Any:
        """The section, with defaults instead of what is faulty."""
        parts: dict[str, Any] = {}
        for key, within in _members(section).items():
            inner = (*loc, key)
            if within is not None:
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

    def _is_written(self, loc: Loc) -> bool:
        value = self.values[loc]
        if value is None or (loc in self.from_environment and value == ""):
            message = "nothing is written here; fill it in, or leave it out"
            self.report(loc, "E209", message)
            return False
        return True

    def _report_detail(self, section: type[Section], loc: Loc, detail: ErrorDetails) -> None:
        key = str(detail["loc"][0])
        info = next(i for n, i in section.model_fields.items() if key in (n, i.alias))
        self.report((*loc, key), "E209", _message(Setting(loc, info), detail))

    def report(self, loc: Loc, code: str, message: str) -> None:
        """Keep a fault of one setting, which is not looked at any further."""
        self.faulty.add(loc)
        self._keep(loc, code, message)

    def _keep(self, loc: Loc, code: str, message: str) -> None:
        name = ".".join(part if _WORD(part) else "…" for part in loc)
        if loc in self.from_environment:
            self.faults.append(Fault(_ENVIRONMENT, 0, 0, name, message, code))
        elif not self.source.file:
            self.faults.append(Fault(_DEFAULTS, 0, 0, name, message, code))
        else:
            place = self.source.fault(loc, code, message)
            self.faults.append(place._replace(field=name))

    def report_rule(self, about: tuple[Loc, ...], code: str, message: str) -> None:
        """Keep a fault between settings, unless one of them is faulty in itself."""
        parts = {loc[:end] for loc in about for end in range(1, len(loc) + 1)}
        if not self.faulty & parts:
            self._keep(about[0], code, message)

    def origin(self, loc: Loc) -> str:
        if loc in self.from_environment:
            return _ENVIRONMENT
        if loc in self.values:
            return f"{self.source.file}:{self.source.places[loc][0]}"
        return "default"


def _members(section: type[Section]) -> dict[str, type[Section] | None]:
    """The keys of a section, with the sections among them."""
    found: dict[str, type[Section] | None] = {}
    for name, info in section.model_fields.items():
        within = info.annotation
        if isinstance(within, type) and issubclass(within, Section):
            found[info.alias or name] = within
        else:
            found[info.alias or name] = None
    return found


def _safe(name: str) -> str:
    return ".".join(part if _WORD(part) else "…" for part in name.split(".")) if name else ""


_LIMITS = {"ge": "at least", "le": "at most"}


def _message(setting: Setting, detail: ErrorDetails) -> str:
    """One pydantic error in our words. Its own text is not used unless it is one of ours."""
    if detail["type"] == "E209":
        return detail["msg"]
    context = detail.get("ctx") or {}
    if detail["type"] == "literal_error":
        return f"this must be one of {context.get('expected')}"
    limits: Iterator[str] = (
        f"{_LIMITS[key]} {shown(setting.info, limit)}"
        for key, limit in context.items()
        if key in _LIMITS
    )
    return f"this must be {' and '.join(limits) or 'of another form; see docs/configuration.md'}"
