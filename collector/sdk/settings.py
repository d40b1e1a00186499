"""The settings of a ``Collector``: its arguments, and above them the environment.

An operator has the last word without a change of code: ``COLLECTOR_SDK_MODE=off`` is enough. A
fault names the setting and says what it accepts; it never quotes a value, which may be a secret.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from collector.errors import ConfigFaults, Fault
from collector.sdk.target import Target, local_store, target
from collector.units import DURATION, SIZE, parse_duration, parse_size

PREFIX = "COLLECTOR_SDK_"
"""The beginning of each setting's environment variable."""

Mode = Literal["on", "local", "off"]
WhenFull = Literal["newest", "oldest"]

_Check = Callable[[Any], Any]
"""Returns the value of a setting from an argument or a text. Raises ``ValueError``, whose message
says what is accepted."""
_Reader = Callable[[str], float | None]
_LIKENESS = 0.7

_WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII).fullmatch
_SECRET = re.compile(r"[\x21-\x7e]{1,4096}", re.ASCII).fullmatch
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII).fullmatch


def _choice(*names: str) -> _Check:
    message = f"this must be one of {', '.join(names)}"

    def check(value: Any) -> str:
        if isinstance(value, str) and value in names:
            return value
        raise ValueError(message)

    return check


def _whole(low: int, high: int) -> _Check:
    message = f"this must be a whole number from {low} to {high}"
    return _number_check(low, high, lambda text: int(text) if _WHOLE(text) else None, message)


def _size(low: int, high: int) -> _Check:
    message = f"this must be from {low} to {high} bytes: {SIZE}"
    return _number_check(low, high, parse_size, message)


def _seconds(low: float, high: float) -> _Check:
    message = f"this must be from {low:g} to {high:g} seconds: a number of seconds, or {DURATION}"

    def read(text: str) -> float | None:
        found = parse_duration(text)
        return parse_duration(f"{text}s") if found is None else found

    check = _number_check(low, high, read, message, float)
    return lambda value: float(check(value))


def _number_check(low: float, high: float, read: _Reader, message: str, *more: type) -> _Check:
    """Accept a number within limits, of type ``int`` or one of ``more``, or a text for ``read``."""

    def check(value: Any) -> Any:
        number = read(value) if isinstance(value, str) else value
        if number is not None and type(number) in (int, *more) and low <= number <= high:
            return number
        raise ValueError(message)

    return check


def _text(value: Any) -> str:
    plain = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(plain, str) and plain.strip() and plain.isprintable():
        return plain
    raise ValueError("this must be a text of printable characters, and not empty")


def _path(value: Any) -> Path:
    return Path(_text(value))


def _words(value: Any) -> tuple[str, ...]:
    named = tuple(word.strip() for word in value.split(",")) if isinstance(value, str) else ()
    if named and all(map(_WORD, named)):
        return named
    raise ValueError("this must be lower-case words between commas")


def _secret(value: Any) -> str:
    if isinstance(value, str) and _SECRET(value):
        return value
    raise ValueError("this must be 1 to 4096 printable ASCII characters without blanks")


def _metadata(check: _Check, description: str) -> dict[str, Any]:
    return {"check": check, "description": description}


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """The settings of one ``Collector``. Times are in seconds, sizes in bytes. ``repr`` shows no
    value: the token is a secret."""

    mode: Mode = field(
        default="on",
        metadata=_metadata(
            _choice("on", "local", "off"),
            "`on`; `local`: nothing leaves this machine; `off`: events are ignored.",
        ),
    )
    schema: str = field(
        default="conferencing",
        metadata=_metadata(_text, "The schema: the name of a shipped one, or the path of a file."),
    )
    to: str = field(
        default="",
        metadata=_metadata(
            _text,
            "Where records go: `sqlite:///`, `ndjson:///`, `postgres://`, `otlp+https://`,"
            " `http://`, `https://` or `unix:///`. Default: as `local`.",
        ),
    )
    local: str = field(
        default="",
        metadata=_metadata(
            _text,
            "Where records go in mode `local`, if `to` is a sidecar: a `sqlite:///` or `ndjson:///`."
            " Default: a store in the user's data directory.",
        ),
    )
    queue: int = field(
        default=100_000,
        metadata=_metadata(_whole(1, 10_000_000), "The largest number of records in the queue."),
    )
    when_full: WhenFull = field(
        default="newest",
        metadata=_metadata(
            _choice("newest", "oldest"),
            "The record that is dropped when the queue is full: the `newest`, or the `oldest`.",
        ),
    )
    batch: int = field(
        default=2_000,
        metadata=_metadata(_whole(1, 20_000), "The largest number of records delivered together."),
    )
    interval: float = field(
        default=1.0,
        metadata=_metadata(
            _seconds(0.0, 3600.0), "How long the first record of a batch waits for others."
        ),
    )
    timeout: float = field(
        default=10.0,
        metadata=_metadata(
            _seconds(0.1, 300.0),
            "The time limit of one exchange with a sidecar: connection, request and response.",
        ),
    )
    exit_timeout: float = field(
        default=5.0,
        metadata=_metadata(
            _seconds(0.0, 3600.0),
            "How long `flush`, `close` and the end of the process wait for delivery.",
        ),
    )
    spool: Path | None = field(
        default=None,
        metadata=_metadata(
            _path, "A directory for records that wait for delivery on disk; they outlive a crash."
        ),
    )
    spool_limit: int = field(
        default=1 << 30,
        metadata=_metadata(
            _size(1 << 10, 1 << 40), "The largest size of the records in the spool."
        ),
    )
    token: str = field(default="", metadata=_metadata(_secret, "The bearer token for the sidecar."))
    ca: Path | None = field(
        default=None,
        metadata=_metadata(
            _path,
            "The authorities that may sign the sidecar's certificate, a PEM file. Default: the"
            " system's.",
        ),
    )
    certificate: Path | None = field(
        default=None,
        metadata=_metadata(
            _path, "The client's certificate for the sidecar, a PEM file with its key."
        ),
    )
    consent: tuple[str, ...] = field(
        default=(),
        metadata=_metadata(
            _words,
            "Optional purposes that are refused, between commas; `all` refuses each. The argument"
            " may also be a dict or a bool; both are applied.",
        ),
    )

    def __repr__(self) -> str:
        return "<Settings>"

    @property
    def target(self) -> Target:
        """Where records go in this mode."""
        wanted = target(self.to) if self.to else None
        if wanted is not None and (wanted.is_file or self.mode != "local"):
            return wanted
        return target(self.local) if self.local else local_store()


@dataclass(frozen=True, slots=True)
class SettingHelp:
    """One setting, for the documentation."""

    name: str
    variable: str
    default: Any
    description: str


def settings() -> list[SettingHelp]:
    """List all settings in order."""
    return [
        SettingHelp(
            each.name, PREFIX + each.name.upper(), each.default, each.metadata["description"]
        )
        for each in dataclasses.fields(Settings)
    ]


def read(arguments: Mapping[str, Any]) -> Settings:
    """Read the settings from arguments (``None``: not given) and the environment above them.

    Raises ``ConfigFaults``, whose ``faults`` are all faults at once.
    """
    found: dict[str, Any] = {}
    faults: list[Fault] = []
    for each in dataclasses.fields(Settings):
        variable = PREFIX + each.name.upper()
        is_set = variable in os.environ
        value = os.environ[variable] if is_set else arguments.get(each.name)
        if value is None:
            continue
        try:
            found[each.name] = each.metadata["check"](value)
        except ValueError as error:
            name, file = (variable, "environment") if is_set else (each.name, "arguments")
            faults.append(Fault(file, 0, 0, name, str(error), "E107"))
    faults += _unknown_variables()
    faults += _target_faults(found)
    if faults:
        raise ConfigFaults(faults)
    return Settings(**found)


def _unknown_variables() -> list[Fault]:
    """Find variables with our prefix that are no setting: a misspelt one could leave telemetry
    on."""
    known = sorted(setting.variable for setting in settings())
    unknown = [name for name in os.environ if name.startswith(PREFIX) and name not in known]
    if not unknown:
        return []
    from difflib import get_close_matches  # noqa: PLC0415 - only for a fault

    ends = {name.removeprefix(PREFIX): name for name in known}
    likely = (get_close_matches(name[len(PREFIX) :], ends, 1, _LIKENESS) for name in unknown)
    suggested = ", ".join(sorted({ends[found[0]] for found in likely if found}))
    hint = f"did you mean {suggested}? " if suggested else ""
    message = f"{len(unknown)} variables begin with {PREFIX} and are no setting; {hint}these are: "
    message += ", ".join(known)
    return [Fault("environment", 0, 0, "", message, "E105")]


def _target_faults(read: Mapping[str, Any]) -> list[Fault]:
    faults = []
    for name in ("to", "local"):
        value = read.get(name)
        try:
            found = target(value) if value else None
        except ValueError as error:
            faults.append(Fault("settings", 0, 0, name, str(error), "E107"))
            continue
        if name == "local" and found is not None and not found.is_file:
            message = "this must be a `sqlite:///` or an `ndjson:///`"
            faults.append(Fault("settings", 0, 0, name, message, "E107"))
    return faults
