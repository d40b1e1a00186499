"""Shipped schemas as they were parsed before: by digest, and up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.schema import resources
from collector.schema.reading import bytes_source, parsed, read
from collector.schema.source import Source
from collector.schema.yaml_text import text_source

KEEP = "python -c 'from collector.schema.reading import keep_parsed; keep_parsed()'"


def test_they_are_up_to_date() -> None:
    """The file is written anew whenever a schema changes."""
    assert resources.parsed().read_bytes() == parsed(), f"run: {KEEP}"


@pytest.mark.parametrize("name", resources.names())
def test_they_are_what_a_parser_reads(name: str) -> None:
    """Values and positions; each source has its own."""
    data = (resources.shipped() / f"{name}.yaml").read_bytes()
    kept, fresh = bytes_source(data, Source(name)), text_source(data.decode(), Source(name))
    assert (kept.value, kept.places, kept.values) == (fresh.value, fresh.places, fresh.values)
    assert kept.faults == fresh.faults == []
    kept.value.clear()
    assert bytes_source(data, Source(name)).value == fresh.value


def test_a_changed_file_is_parsed(tmp_path: Path) -> None:
    """By a byte."""
    data = (resources.shipped() / "conferencing.yaml").read_bytes()
    path = tmp_path / "mine.yaml"
    path.write_bytes(data.replace(b"\n", b"\n\n", 1))
    kept, changed = read(resources.shipped() / "conferencing.yaml", "x"), read(path, "x")
    assert changed.value == kept.value
    assert changed.places != kept.places
