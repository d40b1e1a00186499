"""Durations and sizes have one notation, in schemas, the configuration and the SDK."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from collector.config import read as read_config
from collector.errors import ConfigFaults
from collector.schema import scalars
from collector.sdk.settings import read as read_sdk
from collector.units import (
    DURATION,
    SIZE,
    duration_text,
    parse_duration,
    parse_size,
    parse_span,
    size_text,
    span_text,
)
from tests.support.rows import for_each

_UNITS = "smhdwy"


@for_each(
    ("text", "seconds"),
    [
        ("5s", 5.0),
        ("5 s", 5.0),
        ("0s", 0.0),
        ("500ms", 0.5),
        ("1.5m", 90.0),
        ("0.000001h", 0.0036),
        ("999999999h", 999_999_999 * 3600.0),
        *dict.fromkeys(
            ("5", "", "s", "5d", "5S", "-5s", "+5s", "1e3s", "5  s", " 5s", "5s\n", "٣s", "1.s"),
            None,
        ).items(),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    """A number and a unit; everything else is none."""
    assert parse_duration(text) == seconds


@for_each(
    ("text", "size"),
    [
        ("4096", 4096),
        ("4096B", 4096),
        ("64 MiB", 64 << 20),
        ("1TiB", 1 << 40),
        *dict.fromkeys(("", "MiB", "1TB", "1kib", "-1", "1.5MiB", "1MiB\n", "٣"), None).items(),
    ],
)
def test_sizes(text: str, size: int | None) -> None:
    """A number of bytes, or of a unit; everything else is none."""
    assert parse_size(text) == size


@for_each(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("30d", 30 * 86_400),
        ("1y", 365 * 86_400),
        *dict.fromkeys(("5", "05s", "0s", "1.5s", "5 s", "5ms", "1000000s", "5s\n"), None).items(),
    ],
)
def test_spans(text: str, seconds: int | None) -> None:
    """A whole number above zero and a unit, in one way only."""
    assert parse_span(text, _UNITS) == seconds
    assert parse_span(text, "") is None


@given(st.integers(0, 3_000_000))
def test_what_is_written_is_read(number: int) -> None:
    """Each writer has a text that its reader reads as the same number."""
    assert parse_size(size_text(number)) == number
    assert parse_duration(duration_text(number / 4)) == pytest.approx(number / 4, rel=1e-5)
    assert parse_duration(duration_text(number * 3600)) == number * 3600
    if number:
        assert parse_span(span_text(number), _UNITS) in (number, None)


def test_five_seconds_are_five_seconds_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a schema, the configuration, and an argument or a variable of the SDK."""
    assert TypeAdapter(scalars.Window).validate_python("5s").total_seconds() == 5
    path = tmp_path / "collector.yaml"
    path.write_text("limits: {header_time: 5s, body: 4MiB}\n")
    limits = read_config(path, {}).config.limits
    assert (limits.header_time, limits.body) == (5.0, 4 << 20)
    for timeout, limit in (("5s", "4MiB"), (5, 4 << 20)):
        found = read_sdk({"timeout": timeout, "spool_limit": limit})
        assert (found.timeout, found.spool_limit) == (5.0, 4 << 20)
    for timeout, limit in (("5s", "4MiB"), ("5", "4194304")):
        monkeypatch.setenv("COLLECTOR_SDK_TIMEOUT", timeout)
        monkeypatch.setenv("COLLECTOR_SDK_SPOOL_LIMIT", limit)
        found = read_sdk({})
        assert (found.timeout, found.spool_limit) == (5.0, 4 << 20)


def test_messages_name_the_notation(tmp_path: Path) -> None:
    """A number without a unit is a duration of the SDK only; each message has what is accepted."""
    assert DURATION == "a number with ms, s, m or h, for example 5s"
    assert SIZE == "a number of bytes, or a number with KiB, MiB, GiB or TiB, for example 4MiB"
    path = tmp_path / "collector.yaml"
    path.write_text("limits: {header_time: 5, body: 4MB}\n")
    with pytest.raises(ConfigFaults) as caught:
        read_config(path, {})
    for fault, notation in zip(caught.value.faults, (DURATION, SIZE), strict=True):
        assert notation in fault.message
    with pytest.raises(ConfigFaults) as caught:
        read_sdk({"timeout": "5 days", "spool_limit": "4MB"})
    for fault, notation in zip(caught.value.faults, (f"seconds, or {DURATION}", SIZE), strict=True):
        assert notation in fault.message
