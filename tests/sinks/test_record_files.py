"""Files of records on disk: rewritten, pruned once a day, rotated, and known by their names."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import orjson
import pytest

from collector.contracts import Batch
from collector.errors import DeliveryError
from collector.sinks import record_files
from collector.sinks.ndjson import NdjsonFile
from collector.sinks.record_files import (
    Change,
    PruneSchedule,
    all_pieces,
    files_of,
    rewrite,
    rotate,
    unfinished,
)

_MINUTE = "2026-11-24T10:20:00Z"


def _batch(*numbers: int) -> Batch:
    records = ({"schema": "s/1.0.0", "n": f"n{number:06}"} for number in numbers)
    payload = b"".join(orjson.dumps(record) + b"\n" for record in records)
    return Batch(numbers[0].to_bytes(16), _MINUTE, [], payload=payload)


def _without(*numbers: int) -> Change:
    gone = [f"n{number:06}".encode() for number in numbers]

    def change(text: bytes) -> tuple[bytes, int]:
        lines = text.splitlines(keepends=True)
        left = [line for line in lines if not any(each in line for each in gone)]
        return b"".join(left), len(lines) - len(left)

    return change


def _numbers(directory: Path) -> set[int]:
    text = b"".join(path.read_bytes() for path in directory.glob("r.ndjson*") if _is_lines(path))
    return {int(orjson.loads(line)["n"][1:]) for line in text.splitlines()}


def _is_lines(path: Path) -> bool:
    return path.suffix != ".state"


def test_it_goes_from_all_files(tmp_path: Path) -> None:
    """Finished ones too; then the file goes on, its batches are known, and it is private."""
    path = tmp_path / "r.ndjson"
    with NdjsonFile(path, rotate=3000) as file:
        for first in range(0, 200, 20):
            file.deliver(_batch(*range(first, first + 20)))
        assert len(list(tmp_path.glob("r.ndjson.[0-9]"))) > 2
        assert file.revise(_without(*range(0, 200, 2))) == 100
        assert _numbers(tmp_path) == set(range(1, 200, 2))
        file.deliver(_batch(*range(180, 200)))
        file.deliver(_batch(*range(300, 320)))
        assert _numbers(tmp_path) == {*range(1, 200, 2), *range(300, 320)}
        assert file.revise(_without(7)) == 1
    with NdjsonFile(path, rotate=3000) as file:
        file.deliver(_batch(*range(300, 320)))
    assert _numbers(tmp_path) == {*range(1, 200, 2), *range(300, 320)} - {7}
    assert {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()} == {0o600}
    assert not list(tmp_path.glob("*.new"))


def test_a_file_of_which_nothing_goes_is_not_touched(tmp_path: Path) -> None:
    """It stays the same file for a program that follows it."""
    path = tmp_path / "r.ndjson"
    with NdjsonFile(path) as file:
        file.deliver(_batch(1, 2))
        before = path.stat()
        assert file.revise(_without(3)) == 0
    assert path.stat().st_ino == before.st_ino


def test_cut_short_it_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """A crash before the new file takes its place: the old one is whole, and is gone on with; what
    was left lying there is removed."""
    path = tmp_path / "r.ndjson"
    with NdjsonFile(path) as file:
        file.deliver(_batch(1, 2))

        def crash(inode: int, length: int) -> None:
            file._note(inode, length)
            raise InterruptedError

        with pytest.raises(InterruptedError):
            rewrite(path, _without(1), crash)
    assert unfinished(path).exists()
    with NdjsonFile(path) as file:
        assert _numbers(tmp_path) == {1, 2}
        assert not unfinished(path).exists()
        file.deliver(_batch(1, 2))
        file.deliver(_batch(3))
    assert _numbers(tmp_path) == {1, 2, 3}


def test_processes_that_share_a_file_go_on(tmp_path: Path) -> None:
    """The other one sees that the file is another, and opens it."""
    path = tmp_path / "r.ndjson"
    with NdjsonFile(path, shared=True) as one, NdjsonFile(path, shared=True) as other:
        one.deliver(_batch(1, 2))
        other.deliver(_batch(3))
        assert one.revise(_without(1)) == 1
        other.deliver(_batch(4))
        one.deliver(_batch(5))
    assert _numbers(tmp_path) == {2, 3, 4, 5}


def test_it_prunes_itself_once_a_day(tmp_path: Path) -> None:
    """One file at each delivery, even of nothing, until all are done."""
    path = tmp_path / "r.ndjson"
    with NdjsonFile(path, rotate=1000) as file:
        for first in range(0, 100, 20):
            file.deliver(_batch(*range(first, first + 20)))
    told: list[int] = []
    with NdjsonFile(path, rotate=1000, prune=_without(*range(80)), pruned=told.append) as file:
        file.deliver()
        assert len(_numbers(tmp_path)) > 20
        for _ in range(10):
            file.deliver()
        assert (_numbers(tmp_path), told) == (set(range(80, 100)), [80])
        file.deliver(_batch(1))
        assert 1 in _numbers(tmp_path)
        assert not file.is_held


def test_a_directory_that_takes_no_file_is_said(tmp_path: Path) -> None:
    """Nothing is lost by that."""
    with NdjsonFile(tmp_path / "x" / "r.ndjson") as file:
        file.deliver(_batch(1, 2))
        unfinished(file.path).mkdir()
        with pytest.raises(DeliveryError, match="E503"):
            file.revise(_without(1))
        unfinished(file.path).rmdir()
        file.deliver(_batch(3))
        assert file.path.read_bytes().count(b"\n") == 3


def test_only_what_is_ours_is_removed(tmp_path: Path) -> None:
    """The remains of interrupted rewriting of this file and of finished ones; no other files."""
    path = tmp_path / "records.ndjson"
    ours = [tmp_path / f"records.ndjson{number}.new" for number in ("", ".1", ".12")]
    others = [tmp_path / f"records.ndjson{end}" for end in ("2.new", ".old.new", ".1.newer")]
    for each in (*ours, *others):
        each.touch()
    with NdjsonFile(path):
        assert not any(each.exists() for each in ours)
        assert all(each.exists() for each in others)


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


def _again(
    rounds: PruneSchedule, times: int, revise: Callable[[Path, Change], int] = _revise
) -> None:
    rounds.due = min(rounds.due, monotonic())
    for _ in range(times):
        rounds.go_on(revise)


def test_a_round_goes_from_file_to_file(path: Path) -> None:
    """One each time, then a day of rest; it tells once, and of nothing if there was nothing."""
    told: list[int] = []
    rounds = PruneSchedule(path, _without_old, told.append)
    for left in (3, 2, 1, 0):
        assert told == []
        rounds.go_on(_revise)
        assert _old(path) == left
    assert told == [4]
    path.write_bytes(b"old\n")
    rounds.go_on(_revise)
    assert _old(path) == 1
    assert rounds.due - monotonic() > 23 * _HOUR
    rounds.due = 0.0
    _again(rounds, 4)
    rounds.due = 0.0
    _again(rounds, 4)
    assert told == [4, 1]


def test_a_file_that_cannot_be_changed_is_no_end_of_it(path: Path) -> None:
    """It is said, the others are, and the next round is in an hour."""
    in_the_way = path.with_name("r.ndjson.2")
    in_the_way.unlink()
    in_the_way.mkdir()
    rounds = PruneSchedule(path, _without_old)
    _again(rounds, 3)
    assert not rounds.is_held
    _again(rounds, 1)
    assert rounds.is_held
    assert _old(path) == 0
    assert _HOUR - 60 < rounds.due - monotonic() <= _HOUR
    in_the_way.rmdir()
    rounds.due = 0.0
    _again(rounds, 3)
    assert not rounds.is_held


def test_files_that_move_up_meanwhile_are_not_forgotten(path: Path) -> None:
    """One is finished between two that are changed."""
    rounds = PruneSchedule(path, _without_old)
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
    """Files beyond the limit go; not those that another program has named by their day."""
    path = _files(tmp_path, "r.ndjson", *(f"r.ndjson.{number}" for number in range(1, 12)))
    _files(tmp_path, "r.ndjson.20261124")
    (tmp_path / "r.ndjson.12").mkdir()
    rotate(path, 1)
    assert _texts(tmp_path) == {
        "r.ndjson.1": "r.ndjson",
        "r.ndjson.20261124": "r.ndjson.20261124",
    }


def _four(directory: Path) -> Path:
    path = directory / "r.ndjson"
    for number, end in enumerate(("", ".1", ".2", ".3")):
        path.with_name(f"r.ndjson{end}").write_bytes(b"%d\n" % number)
    return path


def test_files_that_are_renamed_while_they_are_read(tmp_path: Path) -> None:
    """Each is read, and once, whatever names they have by then."""
    path = _four(tmp_path)
    found = all_pieces(path)
    read = [next(found)]
    rotate(path, 8)
    path.write_bytes(b"4\n")
    assert [*read, *found] == [b"0\n", b"1\n", b"2\n", b"3\n"]


def test_files_that_are_renamed_while_they_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are opened again."""
    path, done = _four(tmp_path), list[bool]()

    def listed(path: Path) -> list[Path]:
        found = files_of(path)
        if not done:
            done.append(True)
            rotate(path, 8)
            path.write_bytes(b"4\n")
        return found

    monkeypatch.setattr(record_files, "files_of", listed)
    assert [*all_pieces(path)] == [b"4\n", b"0\n", b"1\n", b"2\n", b"3\n"]


def test_too_many_files_to_open_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are read; if they are renamed meanwhile, that is said."""
    monkeypatch.setattr(record_files, "_MOST_OPEN", 2)
    path = _four(tmp_path)
    assert [*all_pieces(path)] == [b"0\n", b"1\n", b"2\n", b"3\n"]
    found = all_pieces(path)
    next(found)
    rotate(path, 8)
    with pytest.raises(OSError, match="renames"):
        list(found)
