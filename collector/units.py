"""Durations and sizes: one notation for schemas, the configuration and the SDK's settings.

A number and a unit: ``5s`` is five seconds everywhere, ``64MiB`` is 64 · 2²⁰ bytes. A reader
returns ``None`` for other texts; its caller raises the error with its document's own code.
"""

from __future__ import annotations

import re

DURATION = "a number with ms, s, m or h, for example 5s"
"""The notation of ``parse_duration``, for messages."""
SIZE = "a number of bytes, or a number with KiB, MiB, GiB or TiB, for example 4MiB"
"""The notation of ``parse_size``, for messages."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
_SETTING_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
DURATION_FORM = r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?(ms|s|m|h)"
SIZE_FORM = "([0-9]{1,15}) ?(B|KiB|MiB|GiB|TiB)?"
_DURATION = re.compile(DURATION_FORM, re.ASCII).fullmatch
_SIZE = re.compile(SIZE_FORM, re.ASCII).fullmatch
_SPAN = re.compile(r"([1-9][0-9]{0,5})([smhdwy])", re.ASCII).fullmatch


def parse_duration(text: str) -> float | None:
    """Read the duration of a setting, in seconds: ``500ms``, ``1.5h``, ``0s``."""
    found = _DURATION(text)
    return float(found[1]) * _SETTING_SECONDS[found[2]] if found else None


def parse_size(text: str) -> int | None:
    """Read the size of a setting, in bytes: ``64MiB``, ``4096``."""
    found = _SIZE(text)
    return int(found[1]) * _BYTES[found[2] or "B"] if found else None


def parse_span(text: str, units: str) -> int | None:
    """Read a time span of a schema, in seconds: ``30d``, where ``units`` are the letters allowed.

    Schemas use whole numbers above zero, without a blank, so that a span has one spelling. A year
    has 365 days.
    """
    found = _SPAN(text)
    return int(found[1]) * _SECONDS[found[2]] if found and found[2] in units else None


def duration_text(seconds: float) -> str:
    """Write a duration that ``parse_duration`` reads as the same value."""
    if seconds >= _SETTING_SECONDS["h"] and seconds % _SETTING_SECONDS["h"] == 0:
        return f"{int(seconds // _SETTING_SECONDS['h'])}h"
    units = ("s", "ms") if seconds >= 1 else ("ms", "s")
    numbers = (f"{seconds / _SETTING_SECONDS[unit]:.6f}".rstrip("0").rstrip(".") for unit in units)
    texts = [f"{number}{unit}" for number, unit in zip(numbers, units, strict=True)]
    return next((text for text in texts if parse_duration(text) == seconds), texts[0])


def size_text(size: int) -> str:
    """Write a size for ``parse_size``, in the largest unit without a fraction."""
    for unit, factor in reversed(_BYTES.items()):
        if size and size % factor == 0 and unit != "B":
            return f"{size // factor}{unit}"
    return str(size)


def span_text(seconds: int) -> str:
    """Write a span for ``parse_span``, in days at most."""
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % _SECONDS[unit] == 0)
    return f"{seconds // _SECONDS[unit]}{unit}"
