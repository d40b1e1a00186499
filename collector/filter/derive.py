"""Derive only device and system from a user-agent string.

The string itself is free text and is never stored. ua-parser recognises devices and systems by the
public table of uap-core, on an engine whose time is linear in the text (Rust's regex); its result
is then checked by the kind of the field, like any value of an event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from collector.extras import require

MAX_BYTES = 512
"""A longer string is not parsed (docs/schema.md)."""
NOTHING: dict[str, str] = {}

_MAX_REMEMBERED = 1024
_SYSTEMS = {
    "Windows": "windows",
    "Mac OS X": "darwin",
    "iOS": "ios",
    "iPadOS": "ios",
    "Android": "android",
    "Chrome OS": "chromeos",
    "Linux": "linux",
}
_LINUXES = frozenset(
    "Ubuntu,Kubuntu,Lubuntu,Xubuntu,Debian,Fedora,CentOS,Red Hat,SUSE,Gentoo,Arch Linux,Linux Mint,"
    "Mandriva,Mageia,PCLinuxOS,Slackware,Puppy,VectorLinux,Zenwalk".split(",")
)
_NAMES = {"Mac OS X": "macOS"}
_NO_BRAND = frozenset(["Generic", "Generic_Android", "Generic_Android_Tablet", "Spider"])


class Agents(dict[str, tuple[str | None, ...]]):
    """The values of ``names`` that user-agent strings yield, by string: a bounded cache.

    Raises ``ConfigError`` E201 if ua-parser is not installed.
    """

    __slots__ = ("names",)

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        if names:
            require("`derive: user_agent`", "user-agent", "ua_parser", "ua_parser_rs")
        self.names: tuple[str, ...] = tuple(names)

    def __repr__(self) -> str:
        return f"<Agents of {len(self)}>"

    def __missing__(self, user_agent: str) -> tuple[str | None, ...]:
        values = parse_user_agent(user_agent)
        result = tuple(map(values.get, self.names))
        if values:
            if len(self) >= _MAX_REMEMBERED:
                self.clear()
            self[user_agent] = result
        return result


def parse_user_agent(user_agent: str) -> dict[str, str]:
    """Return the values that a user-agent string yields, by field name."""
    try:
        if not user_agent or len(user_agent.encode()) > MAX_BYTES:
            return NOTHING
    except UnicodeEncodeError:
        return NOTHING
    result = _parse()(user_agent)
    values = {**_system(result.os), **_device(result.device)}
    kind = _type(user_agent, values)
    return {"device.type": kind, **values} if kind else values


@cache
def _parse() -> Callable[[str], Any]:
    """Load the parser, without ua-parser's own cache of strings."""
    from ua_parser import Parser  # noqa: PLC0415 - an extra, and heavy
    from ua_parser.loaders import load_lazy_builtins  # noqa: PLC0415
    from ua_parser.regex import Resolver  # noqa: PLC0415

    return Parser(Resolver(load_lazy_builtins())).parse


def _system(system: Any) -> dict[str, str]:
    if system is None or system.family == "Other":
        return NOTHING
    family: str = system.family
    values = {"os.name": _NAMES.get(family, family)}
    kind = "linux" if family in _LINUXES else _SYSTEMS.get(family)
    if kind:
        values["os.type"] = kind
    parts = [
        part for part in (system.major, system.minor, system.patch, system.patch_minor) if part
    ]
    if parts:
        values["os.version"] = ".".join(parts)
    return values


def _device(device: Any) -> dict[str, str]:
    """Apple's strings name a product line; others name the vendor's model."""
    if device is None or device.brand is None or device.brand in _NO_BRAND:
        return NOTHING
    values = {"device.manufacturer": device.brand}
    if device.model:
        is_name = device.brand == "Apple" or " " in device.model
        values["device.model.name" if is_name else "device.model.identifier"] = device.model
    return values


def _type(user_agent: str, values: dict[str, str]) -> str | None:
    """Tell a phone, a tablet or a desktop. Browsers on Android write ``Mobile`` on phones only."""
    system = values.get("os.type")
    if system == "ios":
        return "tablet" if values.get("device.model.name") == "iPad" else "phone"
    if system == "android":
        return "phone" if "Mobile" in user_agent else "tablet"
    return "desktop" if system in ("windows", "darwin", "linux") else None
