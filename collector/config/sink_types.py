"""The types of sinks: a table of built-in ones, and entry points of other packages.

A type is loaded only when a configuration names it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from collector.config.sink_settings import SinkSettings, is_sink_name
from collector.errors import ConfigError

GROUP = "collector.sinks"
"""The group of entry points: the name is the type's, the value its class."""


class BuiltInType(NamedTuple):
    """A type of this package: the place of its class, and its scheme in the SDK's ``to=``, followed
    by a path, or with ``has_address`` by an address."""

    value: str
    scheme: str
    has_address: bool = False


BUILT_IN: Mapping[str, BuiltInType] = {
    "store": BuiltInType("collector.sinks.store:StoreSink", "sqlite"),
    "ndjson": BuiltInType("collector.sinks.ndjson:NdjsonSink", "ndjson"),
    "otlp": BuiltInType("collector.sinks.otlp:OtlpSink", "otlp", has_address=True),
    "postgres": BuiltInType("collector.sinks.postgres:PostgresSink", "postgres", has_address=True),
    "parquet": BuiltInType("collector.sinks.parquet:ParquetSink", "parquet"),
    "nats": BuiltInType("collector.sinks.nats:NatsSink", "nats", has_address=True),
    "kafka": BuiltInType("collector.sinks.kafka:KafkaSink", "kafka", has_address=True),
}
"""The types of this package."""
DEFAULTS = ("store", "ndjson")
"""Every configuration has a sink of each of these types, under the type's name, on or off."""
STAND_IN = "ndjson"
"""In a dry run, this type replaces a sink that cannot write to another place."""
_SCHEMES: Mapping[str, str] = {each.scheme: name for name, each in BUILT_IN.items()}


def names() -> list[str]:
    """Return the names of all types that are installed, without loading one."""
    return list(dict.fromkeys([*BUILT_IN, *(each.name for each in _offered())]))


def type_of(scheme: str) -> str | None:
    """Return the type that the SDK's ``to=SCHEME:///PATH`` names, without loading it; ``None`` if
    none is installed. The scheme of another package's type is the type's name."""
    if scheme in _SCHEMES:
        return _SCHEMES[scheme]
    return scheme if scheme not in BUILT_IN and scheme in names() else None


def takes_address(type_: str) -> bool:
    """Return whether an address follows the scheme of a type, such as ``postgres://HOST``."""
    return type_ in BUILT_IN and BUILT_IN[type_].has_address


def settings_of(type_: str) -> type[SinkSettings]:
    """Return the settings' class of a type. Raises as ``sink_class``."""
    return sink_class(type_)[1]


def built_in_settings(type_: str) -> type[SinkSettings]:
    """Return the settings' class of a type of this package, whatever other packages offer."""
    return _loaded(EntryPoint(type_, BUILT_IN[type_].value, GROUP))[1]


class UnknownSinkType(ConfigError):
    """E107: no installed package offers sinks of a type."""

    def __init__(self) -> None:
        super().__init__("E107", "there is no such type of sinks")


@cache
def sink_class(type_: str) -> tuple[type, type[SinkSettings]]:
    """Load a type of sinks; return its class and its settings' class.

    Raises ``ConfigError``: E107 for a type that is not installed, E201 for one that two packages
    offer, that cannot be imported, or whose class is not a type of sinks.
    """
    found = {each.value: each for each in _offered() if each.name == type_}
    if type_ in BUILT_IN:
        if found:
            raise ConfigError(
                "E201",
                "an installed package offers a sink type with the name of a built-in one; remove"
                " it",
            )
        return _loaded(EntryPoint(type_, BUILT_IN[type_].value, GROUP))
    if not found:
        raise UnknownSinkType
    if len(found) > 1:
        raise ConfigError(
            "E201", "two installed packages offer a sink type of this name; remove one"
        )
    return _loaded(*found.values())


def _loaded(entry: EntryPoint) -> tuple[type, type[SinkSettings]]:
    found: Any = None
    with suppress(Exception):  # a package may fail in any way when it is imported
        found = entry.load()
    settings = getattr(found, "Settings", None)
    is_sink = isinstance(found, type) and callable(getattr(found, "deliver", None))
    if is_sink and isinstance(settings, type) and issubclass(settings, SinkSettings):
        return found, settings
    message = (
        "the package of this sink type cannot be used: its entry point does not load, or is not"
    )
    raise ConfigError("E201", f"{message} a class with `deliver` and `Settings`")


def _offered() -> list[EntryPoint]:
    return _offered_in(tuple(sys.path))


@cache
def _offered_in(path: tuple[str, ...]) -> list[EntryPoint]:
    """Read the entry points of packages in these directories, which takes a tenth of a command's
    start."""
    return [each for each in entry_points(group=GROUP) if is_sink_name(each.name)]
