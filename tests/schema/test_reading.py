"""Shipped documents, whose values are kept in JSON: up to date, and the same as what is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector import documents
from collector.documents import Document, parsed, read, read_bytes, shipped

WRITE = (
    "python -c 'from collector import documents as d;"
    ' (d.shipped() / "parsed.json").write_bytes(d.parsed())\''
)


def test_it_is_up_to_date() -> None:
    assert (shipped() / "parsed.json").read_bytes() == parsed(), f"run: {WRITE}"


def test_values_and_places_are_those_of_the_file() -> None:
    """A fault stands at its place, though the document was not parsed."""
    path = shipped() / "conferencing.yaml"
    kept, whole = read(path), read_bytes(path.read_bytes(), Document(str(path)))
    assert (kept.unplaced is None, kept.value) == (False, whole.value)
    loc = ("fields", "os.type", "kind")
    assert kept.fault(loc, "E107", "") == whole.fault(loc, "E107", "")
    assert whole.places[loc] != (1, 1)


def test_only_shipped_documents_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are parsed if the stored parse is damaged."""
    data, kept = ((shipped() / each).read_bytes() for each in ("web.yaml", "parsed.json"))
    path = tmp_path / "web.yaml"
    path.write_bytes(data)
    assert read(path).unplaced is None
    monkeypatch.setattr(documents, "shipped", lambda: tmp_path)
    for held, written, is_known in (
        (kept, data, True),
        (kept, data + b"\n", False),
        (b"{", data, False),
    ):
        (tmp_path / "parsed.json").write_bytes(held)
        path.write_bytes(written)
        found = read(path)
        assert (found.unplaced is not None, found.value["schema"]) == (is_known, "web")
