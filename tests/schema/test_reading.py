"""Shipped schemas as they were parsed before: by digest, and up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.documents import read
from collector.schema import resources

KEEP = (
    "python -c 'from collector.schema import resources as r;"
    ' (r.shipped() / "parsed.json").write_bytes(r.parse_shipped())\''
)


def test_they_are_up_to_date() -> None:
    """The file is written anew whenever a schema changes."""
    kept = (resources.shipped() / "parsed.json").read_bytes()
    assert kept == resources.parse_shipped(), f"run: {KEEP}"


@pytest.mark.parametrize("name", resources.names())
def test_they_are_what_a_parser_reads(name: str) -> None:
    """Each has its own values."""
    path = resources.shipped() / f"{name}.yaml"
    resources.parsed(path).clear()
    assert resources.parsed(path) == read(path).value


def test_only_shipped_files_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file is parsed, and so is a changed one; all are, if what is kept is damaged."""
    data = (resources.shipped() / "conferencing.yaml").read_bytes()
    path, kept = tmp_path / "mine.yaml", (resources.shipped() / "parsed.json").read_bytes()
    path.write_bytes(data)
    assert resources.parsed(path) is None
    monkeypatch.setattr(resources, "shipped", lambda: tmp_path)
    assert resources.parsed(path) is None
    (tmp_path / "parsed.json").write_bytes(kept)
    assert resources.parsed(path)["schema"] == "conferencing"
    path.write_bytes(data + b"\n")
    assert resources.parsed(path) is None
    (tmp_path / "parsed.json").write_bytes(b"{")
    path.write_bytes(data)
    assert resources.parsed(path) is None
