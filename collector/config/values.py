"""The types of settings: addresses, sizes, durations, paths, hashes.

Each is read from a YAML value, or from the text of an environment variable. Messages are constants
and never quote a value, since a secret may be in the wrong line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, to_jsonable_python

from collector.addresses import Address, is_ip
from collector.documents import Hint, fault, pattern
from collector.errors import ConfigError
from collector.units import (
    DURATION,
    DURATION_FORM,
    SIZE,
    SIZE_FORM,
    duration_text,
    parse_duration,
    parse_size,
    size_text,
)

_MOST_CHARACTERS = 4096
_MOST_SCHEMAS = 8
_NAME = partial(re.fullmatch, r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?", flags=re.ASCII)
_PORT = partial(re.fullmatch, r"[0-9]{1,5}", flags=re.ASCII)
_PURPOSE = partial(re.fullmatch, r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*", flags=re.ASCII)
_HTTPS = r"https://([A-Za-z0-9._-]{1,253}|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?(/[!-~]*)?"
_PLAIN_LOOPBACK = r"http://(localhost|127\.[0-9.]{5,11}|\[::1\])(:[0-9]{1,5})?/?"
_LONGEST_UNIX_PATH = 100
_MOST_WORKERS = 64
_MOST_SECRET = 4096


_fault = partial(fault, "E107")


def _choice(known: Mapping[Any, Any], message: str) -> tuple[BeforeValidator, WithJsonSchema]:
    """Return the annotations of a setting that is one word of a closed list. Editors get the
    list."""

    def check(value: Any) -> Any:
        if isinstance(value, bool | str) and value in known:
            return known[value]
        raise _fault(message)

    return BeforeValidator(check), WithJsonSchema({"enum": list(known)})


def matching(form: str, message: str) -> tuple[BeforeValidator, Hint]:
    """Return the annotations of a setting that is a text of this form. Editors get the form."""

    def check(value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(form, value, re.ASCII):
            return value
        raise _fault(message)

    return BeforeValidator(check), pattern(form, message)


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
    raise _fault("write `host:port`, such as `127.0.0.1:4318` or `[::1]:4318`, or `off`")


def _size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and (size := parse_size(value)) is not None:
        return size
    raise _fault(f"write a size: {SIZE}")


def _duration(value: Any) -> float:
    if isinstance(value, str) and (seconds := parse_duration(value)) is not None:
        return seconds
    raise _fault(f"write a duration: {DURATION}")


def _location(value: Any) -> Path | None:
    if isinstance(value, Path):
        return value
    if isinstance(value, str) and value.strip() and value.isprintable():
        return Path(value)
    raise _fault("write a path, without control characters")


def _printable(value: str) -> str:
    if value.isprintable():
        return value
    raise _fault("write one line, without control characters")


def _unix(value: Any) -> Path | None:
    path = _location(value)
    if len(str(path).encode(errors="replace")) > _LONGEST_UNIX_PATH:
        raise _fault(
            f"the path of a socket may have at most {_LONGEST_UNIX_PATH} bytes; shorten it"
        )
    return path


def _key_set(value: Any) -> str:
    """Read a path, or an https address without a user and a fragment."""
    if isinstance(value, Path):
        return str(value)
    is_address = isinstance(value, str) and "://" in value
    if is_address and (not re.fullmatch(_HTTPS, value) or "#" in value or len(value) > 2048):
        raise _fault("write a path, or an address such as `https://meet.example.com/jwks`")
    return value if is_address else str(_location(value))


def _whole(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch("[0-9]{1,12}", value, re.ASCII):
        return int(value)
    raise _fault("this must be a whole number")


def _workers(value: Any) -> int | str:
    if value == "auto":
        return "auto"
    with suppress(PydanticCustomError):
        if 1 <= (number := _whole(value)) <= _MOST_WORKERS:
            return number
    raise _fault(f"write a number from 1 to {_MOST_WORKERS}, or `auto`")


def _list(value: Any) -> tuple[Any, ...]:
    """Read a list of YAML, or a text of the environment with commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    if isinstance(value, list):
        return tuple(value)
    raise _fault("write a list, such as `[a, b]`")


def _schemas(value: Any) -> tuple[str, ...]:
    found = _list(value)
    for number, each in enumerate(found, 1):
        if not isinstance(each, str) or not 0 < len(each) <= _MOST_CHARACTERS:
            raise _fault(
                f"entry {number} must be the name of a shipped schema, or the path of a schema file"
            )
        _printable(each)
    if not found or len(found) > _MOST_SCHEMAS:
        raise _fault(f"list 1 to {_MOST_SCHEMAS} schemas")
    if len(set(found)) < len(found):
        raise _fault("a schema is in this list twice; delete one of them")
    return found


def _host(value: Any) -> str:
    if isinstance(value, str) and (_NAME(value) or is_ip(value)):
        return value.lower()
    raise _fault("write a host name or an IP address, without a port")


def _purposes(value: Any) -> tuple[str, ...]:
    names = _list(value)
    is_named = all(isinstance(name, str) and _PURPOSE(name) and len(name) <= 64 for name in names)
    if not names or not is_named or len(set(names)) < len(names):
        raise _fault("list purposes of the schema, none twice")
    return names


def _recipient(value: Any) -> str:
    if isinstance(value, str) and value.isprintable() and value.strip() and len(value) <= 200:
        return value.strip()
    raise _fault("write one line of at most 200 characters")


_COUNTED = WithJsonSchema({"type": ["integer", "string"], "pattern": "^[0-9]{1,12}$"})
_LIST = Hint(type=["array", "string"])

Listen = Annotated[
    Address | None,
    BeforeValidator(_listen),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": "^off$|:[0-9]{1,5}$"}, {"const": False}]}
    ),
]
Size = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema({"type": ["integer", "string"]}),
    pattern(SIZE_FORM, f"write a size: {SIZE}"),
]
Duration = Annotated[
    float,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string"}),
    pattern(DURATION_FORM, f"write a duration: {DURATION}"),
]
Line = Annotated[str, AfterValidator(_printable), Field(min_length=1, max_length=_MOST_CHARACTERS)]
Location = Annotated[Path | None, BeforeValidator(_location)]
UnixSocket = Annotated[Path | None, BeforeValidator(_unix)]
Whole = Annotated[int, BeforeValidator(_whole), _COUNTED]
KeySet = Annotated[str | None, BeforeValidator(_key_set)]
Endpoint = Annotated[
    str | None,
    *matching(
        f"(?=.{{1,2048}}$)({_HTTPS}|{_PLAIN_LOOPBACK})",
        "write an address that begins with `https://`, or with `http://` on this machine",
    ),
]
Bucket = Annotated[
    str | None,
    *matching(
        r"(s3|gs|az):/(/[A-Za-z0-9][A-Za-z0-9._-]{0,254}){1,9}/?",
        "write a bucket, such as `s3://recordings/eu`, or one of `gs://` or `az://`",
    ),
]
Reference = Annotated[
    str | None,
    AfterValidator(_printable),
    *matching(
        r"env:[A-Za-z_][A-Za-z0-9_]{0,127}|file:[^\s].{0,4095}",
        "write where the secret is, `env:NAME` or `file:PATH`; never the secret itself",
    ),
]
WorkerCount = Annotated[
    int | str,
    BeforeValidator(_workers),
    WithJsonSchema({"type": ["integer", "string"], "minimum": 1, "maximum": _MOST_WORKERS}),
    Hint(pattern="^([0-9]{1,12}|auto)$"),
]
Sandbox = Annotated[
    str,
    *_choice(
        {"required": "required", "auto": "auto", "off": "off", False: "off"},  # as in YAML 1.1
        "write `required`, `auto` or `off`",
    ),
]
Flag = Annotated[
    bool,
    *_choice(
        {True: True, False: False, "true": True, "false": False}, "this must be true or false"
    ),
]
Hash = Annotated[
    str,
    *matching(
        "[0-9a-f]{64}",
        "write the SHA-256 of a token, 64 lower-case hexadecimal digits; never the token itself",
    ),
]
Host = Annotated[str, BeforeValidator(_host)]
Origin = Annotated[
    str,
    AfterValidator(str.lower),
    *matching(
        r"https?://([^/:@?#\s]{1,253}|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?",
        "write an origin, such as `https://app.example.com`, without a path",
    ),
]
Hashes = Annotated[tuple[Hash, ...], BeforeValidator(_list), Field(max_length=1000), _LIST]
Names = Annotated[tuple[Host, ...], BeforeValidator(_list), Field(max_length=1000), _LIST]
Origins = Annotated[tuple[Origin, ...], BeforeValidator(_list), Field(max_length=1000), _LIST]
SchemaList = Annotated[tuple[str, ...], BeforeValidator(_schemas), _LIST]
Purposes = Annotated[tuple[str, ...] | None, BeforeValidator(_purposes), _LIST]
Recipient = Annotated[str | None, BeforeValidator(_recipient)]
Country = Annotated[
    str | None,
    *matching("[A-Z]{2}", "write the two capital letters of a country (ISO 3166-1), such as `DE`"),
]


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
    message = "there is no secret; set the environment variable, or write the file"
    raise ConfigError("E202", message)


def plain_value(info: FieldInfo, value: Any) -> Any:
    """Return a setting's value as plain data in the notation of the file, which reads as the same
    value. For secrets, return how many there are."""
    union = get_args(info.annotation)  # `Size | None` keeps the marks of `Size` in its first part
    marks = (
        *info.metadata,
        *(mark for each in union for mark in getattr(each, "__metadata__", ())),
    )
    reads = {getattr(mark, "func", None) for mark in marks}
    if _listen in reads:
        return "off" if value is None else str(value)
    if _size in reads:
        return None if value is None else size_text(value)
    if _duration in reads:
        return duration_text(value)
    if info.annotation == tuple[Hash, ...]:
        return len(value)
    return to_jsonable_python(value, fallback=str)
