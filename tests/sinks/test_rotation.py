"""Finished files: which there are, and which of them stay."""

from __future__ import annotations

from pathlib import Path

from collector.sinks.rotation import files_of, rotate


def _files(directory: Path, *names: str) -> Path:
    path = directory / "r.ndjson"
    for name in names:
        (directory / name).write_text(name)
    return path


def _texts(directory: Path) -> dict[str, str]:
    return {each.name: each.read_text() for each in directory.iterdir() if each.is_file()}


def test_files_are_known_by_their_numbers(tmp_path: Path) -> None:
    """In their order, and nothing else that lies there."""
    path = _files(tmp_path, "r.ndjson", "r.ndjson.10", "r.ndjson.9", "r.ndjson.1", "r.ndjson.1.new")
    _files(tmp_path, "r.ndjson.state", "r.ndjson2.1", "r.ndjson.20261124")
    assert [each.name for each in files_of(path)] == [
        *("r.ndjson", "r.ndjson.1", "r.ndjson.9", "r.ndjson.10", "r.ndjson.20261124")
    ]
    assert files_of(tmp_path / "no" / "r.ndjson") == []


def test_each_moves_up_by_one_and_the_last_goes(tmp_path: Path) -> None:
    """Also where one is missing."""
    path = _files(tmp_path, "r.ndjson", "r.ndjson.2", "r.ndjson.3")
    rotate(path, 3)
    assert _texts(tmp_path) == {"r.ndjson.1": "r.ndjson", "r.ndjson.3": "r.ndjson.2"}


def test_fewer_stay_when_fewer_are_to(tmp_path: Path) -> None:
    """What more were kept before; not what somebody else has put away by its day."""
    path = _files(tmp_path, "r.ndjson", *(f"r.ndjson.{number}" for number in range(1, 12)))
    _files(tmp_path, "r.ndjson.20261124")
    (tmp_path / "r.ndjson.12").mkdir()
    rotate(path, 1)
    assert _texts(tmp_path) == {
        "r.ndjson.1": "r.ndjson",
        "r.ndjson.20261124": "r.ndjson.20261124",
    }
