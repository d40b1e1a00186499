"""The settings of a ``Collector``: its arguments, overridden by environment variables.

So an operator can change them without a change of code: ``COLLECTOR_SDK_MODE=off`` is enough. A
fault names the setting and says what it accepts; it never quotes a value, which may be a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field

from collector.config.sink_settings import Section
from collector.config.values import Size, Whole, plain_value
from collector.documents import Document, Layers, fault, fields_by_key
from collector.errors import ConfigFaults
from collector.sdk.target import Target, local_store, target
from collector.units import DURATION, parse_duration

PREFIX = "COLLECTOR_SDK_"
"""The beginning of each setting's environment variable."""

Mode = Literal["on", "local", "off"]
WhenFull = Literal["newest", "oldest"]


def _seconds(value: Any) -> float:
    found = value if type(value) in (int, float) else None
    if isinstance(value, str):
        found = parse_duration(value)
        found = parse_duration(f"{value}s") if found is None else found
    if found is None:
        raise fault("E107", f"write a number of seconds, or {DURATION}")
    return float(found)


def _text(value: Any) -> str:
    plain = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(plain, str) and plain.strip() and plain.isprintable():
        return plain
    raise fault("E107", "write one or more printable characters")


def _path(value: Any) -> Path:
    return Path(_text(value))


def _words(value: Any) -> tuple[str, ...]:
    named = tuple(word.strip() for word in value.split(",")) if isinstance(value, str) else ()
    if named and all(re.fullmatch("[a-z][a-z0-9_-]{0,63}", word) for word in named):
        return named
    raise fault("E107", "write lower-case words with commas between them")


def _secret(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]{1,4096}", value):
        return value
    raise fault("E107", "write 1 to 4096 printable ASCII characters without blanks")


def _target(url: str) -> str:
    try:
        target(url)
    except ValueError as error:
        message = str(error)
    else:
        return url
    raise fault("E107", message)


def _file(url: str) -> str:
    if target(_target(url)).is_file:
        return url
    raise fault("E107", "write `sqlite:///PATH` or `ndjson:///PATH`")


_Seconds = Annotated[float, BeforeValidator(_seconds)]
_Text = Annotated[str, BeforeValidator(_text)]
_Path = Annotated[Path | None, BeforeValidator(_path)]


class Settings(Section):
    """The settings of one ``Collector``. Times are in seconds, sizes in bytes. ``repr`` shows no
    value: the token is a secret."""

    mode: Mode = Field(
        "on", description="`on`; `local`: nothing leaves this machine; `off`: events are ignored."
    )
    schema_: _Text = Field(
        "conferencing",
        alias="schema",
        description="The schema: the name of a shipped one, or the path of a file.",
    )
    to: Annotated[_Text, AfterValidator(_target)] = Field(
        "",
        description="Where records go: `sqlite:///`, `ndjson:///`, `postgres://`, `otlp+https://`,"
        " `http://`, `https://` or `unix:///`. Default: as `local`.",
    )
    local: Annotated[_Text, AfterValidator(_file)] = Field(
        "",
        description="Where records go in mode `local`, if `to` is a sidecar: a `sqlite:///` or"
        " `ndjson:///`. Default: a store in the user's data directory.",
    )
    queue: Annotated[Whole, Field(ge=1, le=10_000_000)] = Field(
        100_000, description="The largest number of records in the queue."
    )
    when_full: WhenFull = Field(
        "newest",
        description="The record that is dropped when the queue is full: the `newest`, or the"
        " `oldest`.",
    )
    batch: Annotated[Whole, Field(ge=1, le=20_000)] = Field(
        2_000, description="The largest number of records delivered together."
    )
    interval: Annotated[_Seconds, Field(ge=0, le=3600)] = Field(
        1.0, description="How long the first record of a batch waits for others."
    )
    timeout: Annotated[_Seconds, Field(ge=0.1, le=300)] = Field(
        10.0,
        description="The time limit of one exchange with a sidecar: connection, request and"
        " response.",
    )
    exit_timeout: Annotated[_Seconds, Field(ge=0, le=3600)] = Field(
        5.0, description="How long `flush`, `close` and the end of the process wait for delivery."
    )
    spool: _Path = Field(
        None,
        description="A directory for records that wait for delivery on disk; they outlive a crash.",
    )
    spool_limit: Annotated[Size, Field(ge=1 << 10, le=1 << 40)] = Field(
        1 << 30, description="The largest size of the records in the spool."
    )
    token: Annotated[str, BeforeValidator(_secret)] = Field(
        "", description="The bearer token for the sidecar."
    )
    ca: _Path = Field(
        None,
        description="The authorities that may sign the sidecar's certificate, a PEM file. Default:"
        " the system's.",
    )
    certificate: _Path = Field(
        None, description="The client's certificate for the sidecar, a PEM file with its key."
    )
    consent: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(
        (),
        description="Optional purposes that are refused, between commas; `all` refuses each. The"
        " argument may also be a dict or a bool; both are applied.",
    )

    def __repr__(self) -> str:
        return "<Settings>"

    def __str__(self) -> str:
        return repr(self)

    @property
    def target(self) -> Target:
        """Where records go in this mode."""
        wanted = target(self.to) if self.to else None
        if wanted is not None and (wanted.is_file or self.mode != "local"):
            return wanted
        return target(self.local) if self.local else local_store()


class SettingHelp(NamedTuple):
    """One setting, for the documentation."""

    name: str
    variable: str
    default: Any
    description: str


def settings() -> list[SettingHelp]:
    """List all settings in order."""
    return [
        SettingHelp(name, PREFIX + name.upper(), info.default, info.description or "")
        for name, info in fields_by_key(Settings).items()
    ]


def read(arguments: Mapping[str, Any]) -> Settings:
    """Read the settings from arguments (``None``: not given) and the environment, which overrides
    them.

    Raises ``ConfigFaults`` with all faults at once.
    """
    document = Document("arguments", start=(0, 0))
    words = frozenset(fields_by_key(Settings))
    layers = Layers(document, "docs/sdk.md", plain_value, words)
    layers.values = {(name,): arguments[name] for name in words if arguments.get(name) is not None}
    layers.take_environment(
        os.environ, PREFIX, {each.variable: (each.name,) for each in settings()}
    )
    found = layers.build(Settings)
    if layers.faults:
        raise ConfigFaults(layers.faults)
    return found
