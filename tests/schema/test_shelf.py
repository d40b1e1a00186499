"""Where schemas, catalogues and samples lie."""

from __future__ import annotations

from pathlib import Path

from collector.schema import shelf


def test_names() -> None:
    """Every shipped file but that of the claims is a schema, and every name a file."""
    files = set(shelf.shipped().glob("*.yaml")) - {shelf.claims()}
    assert shelf.names() == sorted(path.stem for path in files)
    assert all(shelf.schema(name) == shelf.shipped() / f"{name}.yaml" for name in shelf.names())


def test_references() -> None:
    """A separator or an ending makes a path; anything else must be a shipped name."""
    for path in ("a.yaml", "a.yml", "./conferencing", "a/b", "a\\b"):
        assert shelf.schema(path) == Path(path)
    for unknown in ("a", "", "conferencing ", "taxonomy", "claims", "CONFERENCING"):
        assert shelf.schema(unknown) is None


def test_samples(tmp_path: Path) -> None:
    """Samples are the JSON files in a folder called like the schema, sorted."""
    folder = tmp_path / "mine.samples"
    folder.mkdir()
    for name in ("b.pass.json", "a.fail.json", "notes.txt"):
        (folder / name).touch()
    assert [path.name for path in shelf.samples(tmp_path / "mine.yaml")] == [
        "a.fail.json",
        "b.pass.json",
    ]
    assert shelf.samples(tmp_path / "other.yaml") == []
