"""Shipped schemas as they were parsed before: by digest, and up to date."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import orjson
import pytest

from collector.schema import reading, resources
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
    path = resources.shipped() / f"{name}.yaml"
    kept, fresh = read(path, name), text_source(path.read_text(), Source(name))
    assert (kept.value, kept.places, kept.values) == (fresh.value, fresh.places, fresh.values)
    assert kept.faults == fresh.faults == []
    kept.value.clear()
    assert read(path, name).value == fresh.value


def test_only_shipped_files_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file is parsed, whatever is kept under its digest; all are, if that is damaged."""
    data = b"name: mine\n"
    kept = orjson.dumps({sha256(data).hexdigest(): {"value": {"name": "another"}, "at": {}}})
    monkeypatch.setattr(reading, "_text", lambda: kept)
    assert bytes_source(data, Source("mine")).value == {"name": "mine"}
    monkeypatch.setattr(reading, "_text", lambda: b"{")
    path = resources.shipped() / "conferencing.yaml"
    assert read(path, "x").value == text_source(path.read_text(), Source("x")).value


def test_a_changed_file_is_parsed(tmp_path: Path) -> None:
    """By a byte."""
    data = (resources.shipped() / "conferencing.yaml").read_bytes()
    path = tmp_path / "mine.yaml"
    path.write_bytes(data.replace(b"\n", b"\n\n", 1))
    kept, changed = read(resources.shipped() / "conferencing.yaml", "x"), read(path, "x")
    assert changed.value == kept.value
    assert changed.places != kept.places
