"""Rounds over files of records: each in turn, once a day, whatever becomes of them meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from collector.sinks.files import NdjsonFile
from collector.sinks.rewriting import Change, rewrite
from collector.sinks.rotation import rotate
from collector.sinks.rounds import Rounds

_HOUR = 3600


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file and three that are finished, each with a line that is old, and one that is not."""
    path = tmp_path / "r.ndjson"
    for end in ("", ".1", ".2", ".3"):
        path.with_name(f"r.ndjson{end}").write_bytes(b"old\nnew\n")
    return path


def _without_old(text: bytes) -> tuple[bytes, int]:
    return text.replace(b"old\n", b""), text.count(b"old\n")


def _revise(path: Path, change: Change) -> int:
    return rewrite(path, change)


def _old(path: Path) -> int:
    """How many files have an old line."""
    return sum(b"old" in each.read_bytes() for each in path.parent.iterdir() if each.is_file())


def _again(rounds: Rounds, times: int, revise: Callable[[Path, Change], int] = _revise) -> None:
    rounds._due = min(rounds._due, monotonic())
    for _ in range(times):
        rounds.go_on(revise)


def test_a_round_goes_from_file_to_file(path: Path) -> None:
    """One each time, then a day of rest; it tells once, and of nothing if there was nothing."""
    told: list[int] = []
    rounds = Rounds(path, _without_old, told.append)
    for left in (3, 2, 1, 0):
        assert told == []
        rounds.go_on(_revise)
        assert _old(path) == left
    assert told == [4]
    path.write_bytes(b"old\n")
    rounds.go_on(_revise)
    assert _old(path) == 1
    assert rounds._due - monotonic() > 23 * _HOUR
    rounds._due = 0.0
    _again(rounds, 4)
    rounds._due = 0.0
    _again(rounds, 4)
    assert told == [4, 1]


def test_a_file_that_cannot_be_changed_is_no_end_of_it(path: Path) -> None:
    """It is said, the others are, and the next round is in an hour."""
    in_the_way = path.with_name("r.ndjson.2")
    in_the_way.unlink()
    in_the_way.mkdir()
    rounds = Rounds(path, _without_old)
    _again(rounds, 3)
    assert not rounds.is_held
    _again(rounds, 1)
    assert rounds.is_held
    assert _old(path) == 0
    assert _HOUR - 60 < rounds._due - monotonic() <= _HOUR
    in_the_way.rmdir()
    rounds._due = 0.0
    _again(rounds, 3)
    assert not rounds.is_held


def test_files_that_move_up_meanwhile_are_not_forgotten(path: Path) -> None:
    """One is finished between two that are changed."""
    rounds = Rounds(path, _without_old)
    _again(rounds, 2)
    rotate(path, 8)
    path.write_bytes(b"new\n")
    _again(rounds, 3)
    assert _old(path) == 0


def test_whoever_takes_the_files_away_is_no_end_of_it(tmp_path: Path) -> None:
    """There is nothing to do then, and what is delivered is taken."""
    path = tmp_path / "r.ndjson"
    with NdjsonFile(path, prune=_without_old) as file:
        path.unlink()
        file.deliver()
        assert not file.is_held
