"""The types of settings' values: addresses, sizes, durations, paths, hashes.

Each is read from a value of YAML, or from a text of the environment. Messages are constants and
never quote a value, since a secret may be in the wrong line.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, to_jsonable_python

from collector.addresses import Address, is_ip
from collector.errors import ConfigError
from collector.units import DURATION, SIZE, duration_text, parse_duration, parse_size, size_text

_MOST_CHARACTERS = 4096
_MOST_SCHEMAS = 8
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?", re.ASCII).fullmatch
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII).fullmatch
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII).fullmatch
_ORIGIN = re.compile(r"https?://([^/:@?#\s]{1,253}|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?").fullmatch
_PURPOSE = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*", re.ASCII).fullmatch
_COUNTRY = re.compile(r"[A-Z]{2}", re.ASCII).fullmatch
_HTTPS = re.compile(r"https://([A-Za-z0-9._-]{1,253}|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?(/[!-~]*)?")
_PLAIN_LOOPBACK = re.compile(r"http://(localhost|127\.[0-9.]{5,11}|\[::1\])(:[0-9]{1,5})?/?")
_BUCKET = re.compile(r"(s3|gs|az):/(/[A-Za-z0-9][A-Za-z0-9._-]{0,254}){1,9}/?", re.ASCII)
_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,127}|file:[^\s].{0,4095}", re.ASCII)
_LONGEST_UNIX_PATH = 100
_MOST_WORKERS = 64
_MOST_SECRET = 4096


def _fault(message: str) -> PydanticCustomError:
    return PydanticCustomError("E107", message)


def _listen(value: Any) -> Address | None:
    if value is False or value == "off":  # YAML 1.1 reads `off` as false
        return None
    if isinstance(value, str):
        host, colon, port = value.rpartition(":")
        is_bracketed = host.startswith("[") and host.endswith("]")
        host = host[1:-1] if is_bracketed else host
        is_host = is_bracketed == (":" in host) and bool(is_ip(host) or _NAME(host))
        if is_host and colon and _PORT(port) and int(port) < 1 << 16:
            return Address(host, int(port))
    raise _fault("this must be `host:port`, such as `127.0.0.1:4318` or `[::1]:4318`, or `off`")


def _size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and (size := parse_size(value)) is not None:
        return size
    raise _fault(f"this must be a size: {SIZE}")


def _duration(value: Any) -> float:
    if isinstance(value, str) and (seconds := parse_duration(value)) is not None:
        return seconds
    raise _fault(f"this must be a duration: {DURATION}")


def _location(value: Any) -> Path | None:
    if isinstance(value, Path):
        return value
    if isinstance(value, str) and value.strip() and value.isprintable():
        return Path(value)
    raise _fault("this must be a path, without control characters")


def _printable(value: str) -> str:
    if value.isprintable():
        return value
    raise _fault("this must be on one line, without control characters")


def _unix(value: Any) -> Path | None:
    path = _location(value)
    if len(str(path).encode(errors="replace")) > _LONGEST_UNIX_PATH:
        raise _fault(f"the path of a socket has at most {_LONGEST_UNIX_PATH} bytes; shorten it")
    return path


def _key_set(value: Any) -> str:
    """Read a path, or an https address without a user and a fragment."""
    if isinstance(value, Path):
        return str(value)
    is_address = isinstance(value, str) and "://" in value
    if is_address and (not _HTTPS.fullmatch(value) or "#" in value or len(value) > 2048):
        raise _fault("this must be a path, or an address such as `https://meet.example.com/jwks`")
    return value if is_address else str(_location(value))


def _endpoint(value: Any) -> str:
    is_text = isinstance(value, str) and len(value) <= 2048
    if is_text and (_HTTPS.fullmatch(value) or _PLAIN_LOOPBACK.fullmatch(value)):
        return str(value)
    raise _fault("this must be an address that begins with `https://`, or `http://` on loopback")


def _bucket(value: Any) -> str:
    if isinstance(value, str) and _BUCKET.fullmatch(value):
        return value
    raise _fault("this must be a bucket, such as `s3://recordings/eu`; `gs` and `az` are others")


def _reference(value: Any) -> str:
    if isinstance(value, str) and value.isprintable() and _REFERENCE.fullmatch(value):
        return value
    raise _fault("this must be `env:NAME` or `file:PATH`; the secret itself does not belong here")


def _whole(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch("[0-9]{1,12}", value, re.ASCII):
        return int(value)
    raise _fault("this must be a whole number")


def _workers(value: Any) -> int | str:
    if value == "auto":
        return "auto"
    number = _whole(value)
    if 1 <= number <= _MOST_WORKERS:
        return number
    raise _fault(f"this must be 1 to {_MOST_WORKERS}, or `auto`")


def _sandbox(value: Any) -> str:
    if value is False:  # YAML 1.1 reads `off` as false
        return "off"
    if value in ("required", "auto", "off"):
        return str(value)
    raise _fault("this must be `required`, `auto` or `off`")


def _flag(value: Any) -> bool:
    found = {True: True, "true": True, False: False, "false": False}.get(
        value if isinstance(value, bool | str) else ""
    )
    if found is None:
        raise _fault("this must be true or false")
    return found


def _list(value: Any) -> tuple[Any, ...]:
    """Read a list of YAML, or a text of the environment with commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    if isinstance(value, list):
        return tuple(value)
    raise _fault("this must be a list")


def _schemas(value: Any) -> tuple[str, ...]:
    """Read the references of schemas."""
    found = _list(value)
    for number, each in enumerate(found, 1):
        if not isinstance(each, str) or not 0 < len(each) <= _MOST_CHARACTERS:
            raise _fault(f"entry {number} must be a shipped schema's name, or the path of a file")
        _printable(each)
    if not found or len(found) > _MOST_SCHEMAS:
        raise _fault(f"this must be a list of 1 to {_MOST_SCHEMAS} schemas")
    if len(set(found)) < len(found):
        raise _fault("a schema is in this list twice; leave it out once")
    return found


def _hash(value: Any) -> str:
    if isinstance(value, str) and _HASH(value):
        return value
    raise _fault(
        "this must be the SHA-256 of a token, as 64 small hexadecimal digits; the token itself"
        " does not belong here"
    )


def _host(value: Any) -> str:
    if isinstance(value, str) and (_NAME(value) or is_ip(value)):
        return value.lower()
    raise _fault("this must be a host name or an IP address, without a port")


def _origin(value: Any) -> str:
    if isinstance(value, str) and _ORIGIN(value):
        return value.lower()
    raise _fault("this must be an origin, such as `https://app.example.com`, without a path")


def _purposes(value: Any) -> tuple[str, ...]:
    names = _list(value)
    is_named = all(isinstance(name, str) and _PURPOSE(name) and len(name) <= 64 for name in names)
    if not names or not is_named or len(set(names)) < len(names):
        raise _fault("this must be a list of purposes of the schema, each only once")
    return names


def _recipient(value: Any) -> str:
    if isinstance(value, str) and value.isprintable() and value.strip() and len(value) <= 200:
        return value.strip()
    raise _fault("this must be a name, on one line and of at most 200 characters")


def _country(value: Any) -> str:
    if isinstance(value, str) and _COUNTRY(value):
        return value
    raise _fault("this must be the two capital letters of a country (ISO 3166-1), such as `DE`")


Listen = Annotated[Address | None, BeforeValidator(_listen)]
Size = Annotated[int, BeforeValidator(_size)]
Duration = Annotated[float, BeforeValidator(_duration)]
Line = Annotated[str, AfterValidator(_printable), Field(min_length=1, max_length=_MOST_CHARACTERS)]
Location = Annotated[Path | None, BeforeValidator(_location)]
UnixSocket = Annotated[Path | None, BeforeValidator(_unix)]
Whole = Annotated[int, BeforeValidator(_whole)]
KeySet = Annotated[str | None, BeforeValidator(_key_set)]
Endpoint = Annotated[str | None, BeforeValidator(_endpoint)]
Bucket = Annotated[str | None, BeforeValidator(_bucket)]
Reference = Annotated[str | None, BeforeValidator(_reference)]
WorkerCount = Annotated[int | str, BeforeValidator(_workers)]
Sandbox = Annotated[str, BeforeValidator(_sandbox)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Hash = Annotated[str, BeforeValidator(_hash)]
Host = Annotated[str, BeforeValidator(_host)]
Origin = Annotated[str, BeforeValidator(_origin)]
Hashes = Annotated[tuple[Hash, ...], BeforeValidator(_list), Field(max_length=1000)]
Names = Annotated[tuple[Host, ...], BeforeValidator(_list), Field(max_length=1000)]
Origins = Annotated[tuple[Origin, ...], BeforeValidator(_list), Field(max_length=1000)]

SchemaList = Annotated[tuple[str, ...], BeforeValidator(_schemas)]
Purposes = Annotated[tuple[str, ...] | None, BeforeValidator(_purposes)]
Recipient = Annotated[str | None, BeforeValidator(_recipient)]
Country = Annotated[str | None, BeforeValidator(_country)]


def resolved(reference: str) -> str:
    """Return the text that a ``Reference`` leads to, on one line, without blanks around it.

    Raises ``ConfigError`` E202 where it leads to no text of 1 to 4096 printable characters.
    """
    scheme, _, place = reference.partition(":")
    text = ""
    with suppress(OSError, ValueError):
        if scheme == "env":
            text = os.environ.get(place, "")
        else:
            with Path(place).open(encoding="ascii") as file:
                text = file.read(_MOST_SECRET + 1)
    text = text.strip()
    if text and len(text) <= _MOST_SECRET and text.isprintable():
        return text
    message = "the reference leads to no secret; set the environment variable or write the file"
    raise ConfigError("E202", message)


def plain_value(info: FieldInfo, value: Any) -> Any:
    """Return a setting's value as plain data in the notation of the file, from which the same value
    is read again; of secrets the number."""
    reads = {getattr(mark, "func", None) for mark in info.metadata}
    if _listen in reads:
        return "off" if value is None else str(value)
    if _size in reads:
        return size_text(value)
    if _duration in reads:
        return duration_text(value)
    if info.annotation == tuple[Hash, ...]:
        return len(value)
    return to_jsonable_python(value, fallback=str)
