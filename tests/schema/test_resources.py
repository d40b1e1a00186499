"""Where schemas, catalogues and samples lie."""

from __future__ import annotations

from pathlib import Path

from collector.schema import resources


def test_names() -> None:
    files = set(resources.shipped().glob("*.yaml")) - {resources.claims()}
    assert resources.names() == sorted(path.stem for path in files)
    assert all(
        resources.schema(name) == resources.shipped() / f"{name}.yaml" for name in resources.names()
    )


def test_references() -> None:
    """A separator or an ending makes a path; anything else must be a shipped name."""
    for path in ("a.yaml", "a.yml", "./conferencing", "a/b", "a\\b"):
        assert resources.schema(path) == Path(path)
    for unknown in ("a", "", "conferencing ", "taxonomy", "claims", "CONFERENCING"):
        assert resources.schema(unknown) is None


def test_samples(tmp_path: Path) -> None:
    folder = tmp_path / "mine.samples"
    folder.mkdir()
    for name in ("b.pass.json", "a.fail.json", "notes.txt"):
        (folder / name).touch()
    assert [path.name for path in resources.samples(tmp_path / "mine.yaml")] == [
        "a.fail.json",
        "b.pass.json",
    ]
    assert resources.samples(tmp_path / "other.yaml") == []
