"""The settings of a ``Collector``: from its arguments and, above them, from the environment.

An operator has the last word without touching code: ``COLLECTOR_SDK_MODE=off`` is enough. Nothing
of what was written is ever quoted: a fault says which setting it is, and what should stand there.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from collector.errors import ConfigFaults, Fault
from collector.sdk.target import Target, local_store, target
from collector.sdk.values import Check, choice, place, seconds, secret, size, text, whole, words

__all__ = ["PREFIX", "Mode", "Setting", "Settings", "WhenFull", "read", "settings"]

PREFIX = "COLLECTOR_SDK_"
"""What the environment variables of settings begin with."""

Mode = Literal["on", "local", "off"]
WhenFull = Literal["newest", "oldest"]


def _is(check: Check, says: str) -> dict[str, Any]:
    return {"check": check, "says": says}


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """What a ``Collector`` goes by. Times are in seconds. ``repr`` shows nothing: the token is a
    secret."""

    mode: Mode = field(
        default="on",
        metadata=_is(
            choice("on", "local", "off"),
            "`on`; `local`: nothing leaves this machine; `off`: nothing is looked at or kept.",
        ),
    )
    schema: str = field(
        default="conferencing",
        metadata=_is(text(), "The schema: a shipped one's name, or the path of a file."),
    )
    to: str = field(
        default="",
        metadata=_is(
            text(),
            "Where records go: `sqlite:///`, `ndjson:///`, `http://`, `https://` or `unix:///`."
            " Unless said, as `local`.",
        ),
    )
    local: str = field(
        default="",
        metadata=_is(
            text(),
            "Where they go instead in mode `local`, if `to` is a sidecar: a `sqlite:///` or"
            " `ndjson:///`. Unless said, a store in the user's data directory.",
        ),
    )
    queue: int = field(
        default=100_000,
        metadata=_is(whole(1, 10_000_000), "How many records may wait in memory at most."),
    )
    when_full: WhenFull = field(
        default="newest",
        metadata=_is(
            choice("newest", "oldest"),
            "Which record goes when no more may wait: the `newest`, or the `oldest`.",
        ),
    )
    batch: int = field(
        default=2_000, metadata=_is(whole(1, 20_000), "How many records are delivered together.")
    )
    interval: float = field(
        default=1.0,
        metadata=_is(seconds(0.0, 3600.0), "How long the first of them waits for others."),
    )
    timeout: float = field(
        default=10.0, metadata=_is(seconds(0.1, 300.0), "How long a sidecar may take to answer.")
    )
    exit_timeout: float = field(
        default=5.0,
        metadata=_is(
            seconds(0.0, 3600.0),
            "How long `flush`, `close` and the end of the process wait for delivery.",
        ),
    )
    spool: Path | None = field(
        default=None,
        metadata=_is(
            place(),
            "A directory in which records wait for delivery on disk; then they outlive a crash.",
        ),
    )
    spool_limit: int = field(
        default=1 << 30,
        metadata=_is(size(1 << 10, 1 << 40), "How many bytes of records may wait there."),
    )
    token: str = field(
        default="", metadata=_is(secret(), "The bearer token that the sidecar asks for.")
    )
    ca: Path | None = field(
        default=None,
        metadata=_is(
            place(), "Who signs the sidecar's certificate, a PEM file; else the system's."
        ),
    )
    certificate: Path | None = field(
        default=None,
        metadata=_is(place(), "The certificate to show to the sidecar, a PEM file with its key."),
    )
    consent: tuple[str, ...] = field(
        default=(),
        metadata=_is(
            words(),
            "Optional purposes that are refused, between commas; `all` for all of them. What the"
            " argument refuses, which is also a dict or a bool, is refused besides.",
        ),
    )

    def __repr__(self) -> str:
        return "<Settings>"

    @property
    def target(self) -> Target:
        """Where records go, in this mode."""
        wanted = target(self.to) if self.to else None
        if wanted is not None and (wanted.is_file or self.mode != "local"):
            return wanted
        return target(self.local) if self.local else local_store()


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, for the documentation."""

    name: str
    variable: str
    default: Any
    says: str


def settings() -> list[Setting]:
    """All of them, in order."""
    return [
        Setting(each.name, PREFIX + each.name.upper(), each.default, each.metadata["says"])
        for each in dataclasses.fields(Settings)
    ]


def read(arguments: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of some arguments (``None``: not given), with the environment over them.

    Raises ``ConfigFaults``, whose ``faults`` are all that is wrong.
    """
    environ = os.environ if environ is None else environ
    found: dict[str, Any] = {}
    faults: list[Fault] = []
    for each in dataclasses.fields(Settings):
        variable = PREFIX + each.name.upper()
        is_set = variable in environ
        value = environ[variable] if is_set else arguments.get(each.name)
        if value is None:
            continue
        try:
            found[each.name] = each.metadata["check"](value)
        except ValueError as error:
            name, file = (variable, "environment") if is_set else (each.name, "arguments")
            faults.append(Fault(file, 0, 0, name, str(error), "E209"))
    faults += _unknown(environ)
    if not faults:
        result = Settings(**found)
        faults += _contradictions(result)
        if not faults:
            return result
    raise ConfigFaults(faults)


def _unknown(environ: Mapping[str, str]) -> list[Fault]:
    """Variables that look like settings: a slip in one could leave telemetry on."""
    known = {setting.variable for setting in settings()}
    number = sum(name.startswith(PREFIX) and name not in known for name in environ)
    if not number:
        return []
    names = ", ".join(sorted(known))
    message = f"{number} variables begin with {PREFIX} and are no setting; these are: {names}"
    return [Fault("environment", 0, 0, "", message, "E208")]


def _contradictions(read: Settings) -> list[Fault]:
    faults = []
    for name in ("to", "local"):
        value = getattr(read, name)
        try:
            found = target(value) if value else None
        except ValueError as error:
            faults.append(Fault("settings", 0, 0, name, str(error), "E209"))
            continue
        if name == "local" and found is not None and not found.is_file:
            message = "this must be a `sqlite:///` or an `ndjson:///`"
            faults.append(Fault("settings", 0, 0, name, message, "E209"))
    return faults
