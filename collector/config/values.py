"""The kinds of values that settings have: addresses, sizes, durations, paths, hashes.

Each is read from what YAML gives, or from a text of the environment. Messages are constants: what
was written is never quoted, since a secret may have slipped into the wrong line.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

__all__ = [
    "Address",
    "Country",
    "Duration",
    "Flag",
    "Hash",
    "Hashes",
    "Host",
    "Listen",
    "Location",
    "Names",
    "Origins",
    "Purposes",
    "Recipient",
    "Size",
    "UnixSocket",
    "Whole",
    "shown",
]

_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_TIMES = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"([0-9]{1,12}) ?(B|KiB|MiB|GiB|TiB)?", re.ASCII).fullmatch
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?(ms|s|m|h)", re.ASCII).fullmatch
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?", re.ASCII).fullmatch
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII).fullmatch
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII).fullmatch
_ORIGIN = re.compile(r"https?://([^/:@?#\s]{1,253}|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?").fullmatch
_PURPOSE = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*", re.ASCII).fullmatch
_COUNTRY = re.compile(r"[A-Z]{2}", re.ASCII).fullmatch
_LONGEST_UNIX_PATH = 100


class Address(NamedTuple):
    """Where to listen: a host name or an IP address without brackets, and a port (0: any free)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A name other than ``localhost`` might lead
        anywhere."""
        if self.host.lower() == "localhost":
            return True
        try:
            address = ip_address(self.host)
        except ValueError:
            return False
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _refused(message: str) -> PydanticCustomError:
    return PydanticCustomError("E209", message)


def _listen(value: Any) -> Address | None:
    if value is False or value == "off":  # what YAML 1.1 reads for `off` is meant by it
        return None
    if isinstance(value, str):
        host, colon, port = value.rpartition(":")
        is_bracketed = host.startswith("[") and host.endswith("]")
        host = host[1:-1] if is_bracketed else host
        is_host = is_bracketed == (":" in host) and bool(_is_ip(host) or _NAME(host))
        if is_host and colon and _PORT(port) and int(port) < 1 << 16:
            return Address(host, int(port))
    raise _refused("this must be `host:port`, such as `127.0.0.1:4318` or `[::1]:4318`, or `off`")


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and (found := _SIZE(value)):
        return int(found[1]) * _UNITS[found[2] or "B"]
    raise _refused("this must be a size: bytes, or a number with KiB, MiB or GiB, such as `4MiB`")


def _shown_size(size: int) -> str:
    for unit, factor in reversed(_UNITS.items()):
        if size and size % factor == 0 and unit != "B":
            return f"{size // factor}{unit}"
    return str(size)


def _duration(value: Any) -> float:
    if isinstance(value, str) and (found := _DURATION(value)):
        return float(found[1]) * _TIMES[found[2]]
    raise _refused("this must be a duration: a number with ms, s, m or h, such as `5s`")


def _shown_duration(seconds: float) -> str:
    return f"{seconds:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"


def _location(value: Any) -> Path | None:
    if isinstance(value, str) and value.strip() and "\0" not in value:
        return Path(value)
    raise _refused("this must be a path")


def _unix(value: Any) -> Path | None:
    path = _location(value)
    if len(str(path).encode(errors="replace")) > _LONGEST_UNIX_PATH:
        raise _refused(f"the path of a socket has at most {_LONGEST_UNIX_PATH} bytes; shorten it")
    return path


def _whole(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch("[0-9]{1,12}", value, re.ASCII):
        return int(value)
    raise _refused("this must be a whole number")


def _flag(value: Any) -> bool:
    found = {True: True, "true": True, False: False, "false": False}.get(
        value if isinstance(value, bool | str) else ""
    )
    if found is None:
        raise _refused("this must be true or false")
    return found


def _list(value: Any) -> tuple[Any, ...]:
    """A list of YAML, or a text of the environment with commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    if isinstance(value, list):
        return tuple(value)
    raise _refused("this must be a list")


def _hash(value: Any) -> str:
    if isinstance(value, str) and _HASH(value):
        return value
    raise _refused(
        "this must be the SHA-256 of a token, as 64 small hexadecimal digits; the token itself"
        " does not belong here"
    )


def _host(value: Any) -> str:
    if isinstance(value, str) and (_NAME(value) or _is_ip(value)):
        return value.lower()
    raise _refused("this must be a host name or an IP address, without a port")


def _origin(value: Any) -> str:
    if isinstance(value, str) and _ORIGIN(value):
        return value.lower()
    raise _refused("this must be an origin, such as `https://app.example.com`, without a path")


def _purposes(value: Any) -> tuple[str, ...]:
    names = _list(value)
    is_named = all(isinstance(name, str) and _PURPOSE(name) and len(name) <= 64 for name in names)
    if not names or not is_named or len(set(names)) < len(names):
        raise _refused("this must be a list of purposes of the schema, each only once")
    return names


def _recipient(value: Any) -> str:
    if isinstance(value, str) and value.isprintable() and value.strip() and len(value) <= 200:
        return value.strip()
    raise _refused("this must be a name, on one line and of at most 200 characters")


def _country(value: Any) -> str:
    if isinstance(value, str) and _COUNTRY(value):
        return value
    raise _refused("this must be the two capital letters of a country (ISO 3166-1), such as `DE`")


Listen = Annotated[Address | None, BeforeValidator(_listen)]
Size = Annotated[int, BeforeValidator(_size)]
Duration = Annotated[float, BeforeValidator(_duration)]
Location = Annotated[Path | None, BeforeValidator(_location)]
UnixSocket = Annotated[Path | None, BeforeValidator(_unix)]
Whole = Annotated[int, BeforeValidator(_whole)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Hash = Annotated[str, BeforeValidator(_hash)]
Host = Annotated[str, BeforeValidator(_host)]
Origin = Annotated[str, BeforeValidator(_origin)]
Hashes = Annotated[tuple[Hash, ...], BeforeValidator(_list), Field(max_length=1000)]
Names = Annotated[tuple[Host, ...], BeforeValidator(_list), Field(max_length=1000)]
Origins = Annotated[tuple[Origin, ...], BeforeValidator(_list), Field(max_length=1000)]

Purposes = Annotated[tuple[str, ...] | None, BeforeValidator(_purposes)]
Recipient = Annotated[str | None, BeforeValidator(_recipient)]
Country = Annotated[str | None, BeforeValidator(_country)]


def shown(info: FieldInfo, value: Any) -> Any:
    """A value of a setting as one would write it, as plain data; of secrets only the number."""
    reads = {getattr(mark, "func", None) for mark in info.metadata}
    if _listen in reads:
        return "off" if value is None else str(value)
    if _size in reads:
        return _shown_size(value)
    if _duration in reads:
        return _shown_duration(value)
    if isinstance(value, tuple):
        return len(value) if info.annotation == tuple[Hash, ...] else list(value)
    return str(value) if isinstance(value, Path) else value
