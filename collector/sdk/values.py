"""The kinds of values that settings of the SDK have, from Python or from a text.

A check returns the value or raises ``ValueError`` with a message of constants: what was written is
never quoted, since a secret may have slipped into the wrong variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Check", "choice", "place", "seconds", "secret", "size", "text", "whole", "words"]

Check = Callable[[Any], Any]

_WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII).fullmatch
_SECONDS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?(ms|s|m|h)?", re.ASCII).fullmatch
_SIZE = re.compile(r"([0-9]{1,15}) ?(B|KiB|MiB|GiB)?", re.ASCII).fullmatch
_SECRET = re.compile(r"[\x21-\x7e]{1,4096}", re.ASCII).fullmatch
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII).fullmatch
_TIMES = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_UNITS = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def choice(*names: str) -> Check:
    """One of some words."""
    message = f"this must be one of {', '.join(names)}"

    def check(value: Any) -> str:
        if isinstance(value, str) and value in names:
            return value
        raise ValueError(message)

    return check


def whole(least: int, most: int) -> Check:
    """A whole number."""
    message = f"this must be a whole number from {least} to {most}"
    return _between(least, most, lambda text: int(text) if _WHOLE(text) else None, message)


def size(least: int, most: int) -> Check:
    """A number of bytes, which may have a unit: ``64MiB``."""
    message = f"this must be from {least} to {most} bytes, as a number with B, KiB, MiB or GiB"

    def read(text: str) -> int | None:
        found = _SIZE(text)
        return int(found[1]) * _UNITS[found[2]] if found else None

    return _between(least, most, read, message)


def seconds(least: float, most: float) -> Check:
    """A time in seconds, which may have a unit: ``500ms``."""
    message = f"this must be from {least:g} to {most:g} seconds, as a number with ms, s, m or h"

    def read(text: str) -> float | None:
        found = _SECONDS(text)
        return float(found[1]) * _TIMES[found[2]] if found else None

    check = _between(least, most, read, message, float)
    return lambda value: float(check(value))


def _between(
    least: float, most: float, read: Callable[[str], float | None], message: str, *more: type
) -> Check:
    """A number within limits, of exact type ``int`` or another one; or a text that is ``read``."""

    def check(value: Any) -> Any:
        number = read(value) if isinstance(value, str) else value
        if number is not None and type(number) in (int, *more) and least <= number <= most:
            return number
        raise ValueError(message)

    return check


def text() -> Check:
    """A text that is not empty."""

    def check(value: Any) -> str:
        plain = os.fspath(value) if isinstance(value, os.PathLike) else value
        if isinstance(plain, str) and plain.strip() and plain.isprintable():
            return plain
        raise ValueError("this must be a text of printable characters, and not empty")

    return check


def words() -> Check:
    """Words between commas."""

    def check(value: Any) -> tuple[str, ...]:
        named = tuple(word.strip() for word in value.split(",")) if isinstance(value, str) else ()
        if named and all(map(_WORD, named)):
            return named
        raise ValueError("this must be lower-case words between commas")

    return check


def secret() -> Check:
    """Printable ASCII without blanks."""

    def check(value: Any) -> str:
        if isinstance(value, str) and _SECRET(value):
            return value
        raise ValueError("this must be 1 to 4096 printable ASCII characters without blanks")

    return check


def place() -> Check:
    """The path of a file or a directory."""

    def check(value: Any) -> Path:
        return Path(text()(value))

    return check
