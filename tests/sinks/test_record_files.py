"""Files of records on disk: rewritten, pruned once a day, rotated, and known by their names."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import orjson
import pytest

from collector.contracts import Batch, Part, Removal, to_minute
from collector.errors import DeliveryError
from collector.filter.redaction import Rule
from collector.schema import load_schema
from collector.sinks import record_files
from collector.sinks.ndjson import NdjsonFile, NdjsonSettings, NdjsonSink
from collector.sinks.record_files import all_pieces, files_of, rewrite, rotate, unfinished
from collector.sinks.sink import Opening

_MINUTE = "2026-11-24T10:20:00Z"


def _batch(*numbers: int) -> Batch:
    records = ({"schema": "s/1.0.0", "n": f"n{number:06}"} for number in numbers)
    payload = b"".join(orjson.dumps(record) + b"\n" for record in records)
    return Batch(numbers[0].to_bytes(16), _MINUTE, [], payload=payload)


def _without(*numbers: int) -> Rule:
    return Rule(others=[Part(field="n", value=f"n{number:06}") for number in numbers])


def _rewritten(file: NdjsonFile, rule: Rule) -> int:
    """Rewrite all files; return how many lines went."""
    return sum(file.rewrite([rule], each)[0].records for each in files_of(file.path))


def _numbers(directory: Path) -> set[int]:
    text = b"".join(path.read_bytes() for path in directory.glob("r.ndjson*") if _is_lines(path))
    return {int(orjson.loads(line)["n"][1:]) for line in text.splitlines()}


def _is_lines(path: Path) -> bool:
    return path.suffix != ".state"


def test_it_goes_from_all_files(tmp_path: Path) -> None:
    path = tmp_path / "r.ndjson"
    with NdjsonFile(path, rotate=3000) as file:
        for first in range(0, 200, 20):
            file.deliver(_batch(*range(first, first + 20)))
        assert len(list(tmp_path.glob("r.ndjson.[0-9]"))) > 2
        assert _rewritten(file, _without(*range(0, 200, 2))) == 100
        assert _numbers(tmp_path) == set(range(1, 200, 2))
        file.deliver(_batch(*range(180, 200)))
        file.deliver(_batch(*range(300, 320)))
        assert _numbers(tmp_path) == {*range(1, 200, 2), *range(300, 320)}
        assert _rewritten(file, _without(7)) == 1
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
        assert _rewritten(file, _without(3)) == 0
    assert path.stat().st_ino == before.st_ino


def test_cut_short_it_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """A crash comes before the new file takes its place."""
    path = tmp_path / "r.ndjson"
    with NdjsonFile(path) as file:
        file.deliver(_batch(1, 2))

        def crash(inode: int, length: int) -> None:
            file._note(inode, length)
            raise InterruptedError

        with pytest.raises(InterruptedError):
            rewrite(path, [_without(1)], crash)
    assert unfinished(path).exists()
    with NdjsonFile(path) as file:
        assert _numbers(tmp_path) == {1, 2}
        assert not unfinished(path).exists()
        file.deliver(_batch(1, 2))
        file.deliver(_batch(3))
    assert _numbers(tmp_path) == {1, 2, 3}


def test_processes_that_share_a_file_go_on(tmp_path: Path) -> None:
    path = tmp_path / "r.ndjson"
    with NdjsonFile(path, shared=True) as one, NdjsonFile(path, shared=True) as other:
        one.deliver(_batch(1, 2))
        other.deliver(_batch(3))
        assert _rewritten(one, _without(1)) == 1
        other.deliver(_batch(4))
        one.deliver(_batch(5))
    assert _numbers(tmp_path) == {2, 3, 4, 5}


def test_a_directory_that_takes_no_file_is_said(tmp_path: Path) -> None:
    with NdjsonFile(tmp_path / "x" / "r.ndjson") as file:
        file.deliver(_batch(1, 2))
        unfinished(file.path).mkdir()
        with pytest.raises(DeliveryError, match="E503"):
            _rewritten(file, _without(1))
        unfinished(file.path).rmdir()
        file.deliver(_batch(3))
        assert file.path.read_bytes().count(b"\n") == 3


def test_only_what_is_ours_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "records.ndjson"
    ours = [tmp_path / f"records.ndjson{number}.new" for number in ("", ".1", ".12")]
    others = [tmp_path / f"records.ndjson{end}" for end in ("2.new", ".old.new", ".1.newer")]
    for each in (*ours, *others):
        each.touch()
    with NdjsonFile(path):
        assert not any(each.exists() for each in ours)
        assert all(each.exists() for each in others)


_OLD, _NEW = (to_minute(datetime.now(UTC) - timedelta(days=days)) for days in (100, 1))


def _line(minute: str) -> bytes:
    return b'{"schema":"conferencing/1.0.0","os.type":"linux","received":"%b"}\n' % minute.encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file and three that are finished, each with a line that is old, and one that is not."""
    path = tmp_path / "lines" / "r.ndjson"
    path.parent.mkdir()
    for end in ("", ".1", ".2", ".3"):
        path.with_name(f"r.ndjson{end}").write_bytes(_line(_OLD) + _line(_NEW))
    return path


def _old(path: Path) -> int:
    """How many files have an old line."""
    files = [each for each in path.parent.iterdir() if each.is_file()]
    return sum(_OLD.encode() in each.read_bytes() for each in files)


def _opened(path: Path, told: list[Removal] | None = None) -> NdjsonSink:
    report = [] if told is None else told
    opening = Opening("lines", (load_schema("conferencing"),), path.parents[1], report.append)
    return NdjsonSink(NdjsonSettings(type="ndjson", path=path), opening)


def _prune(sink: NdjsonSink) -> None:
    """Let it prune to the end."""
    sink.prune_at = 0.0
    while sink.prune_at <= monotonic():
        sink.idle()


def test_a_pruning_goes_from_file_to_file(path: Path) -> None:
    """Then it rests for a day. It is told once, and not if there was nothing."""
    told: list[Removal] = []
    with _opened(path, told) as sink:
        steps = sink.steps(sink.expiry(datetime.now(UTC)))
        for left in (3, 2):
            next(steps)
            assert _old(path) == left
        _prune(sink)
        assert (_old(path), told) == (0, [Removal(2)])
        assert sink.prune_at - monotonic() > 23 * 3600
        _prune(sink)
        assert told == [Removal(2)]


def test_a_file_that_cannot_be_changed_is_no_end_of_it(path: Path) -> None:
    """It is said, and the next round is soon."""
    in_the_way = path.with_name("r.ndjson.2")
    in_the_way.unlink()
    in_the_way.mkdir()
    with _opened(path) as sink:
        for _ in range(2):
            _prune(sink)
        assert sink.is_held
        assert _old(path) == 0
        assert sink.prune_at - monotonic() <= 60
        in_the_way.rmdir()
        _prune(sink)
        assert not sink.is_held


def test_files_that_move_up_meanwhile_are_not_forgotten(path: Path) -> None:
    with _opened(path) as sink:
        steps = sink.steps(sink.expiry(datetime.now(UTC)))
        next(steps)
        next(steps)
        rotate(path, 8)
        path.write_bytes(_line(_NEW))
        assert [each.is_swept for each in steps] == [True] * 4
    assert _old(path) == 0


def test_whoever_takes_the_files_away_is_no_end_of_it(path: Path) -> None:
    with _opened(path) as sink:
        path.unlink()
        _prune(sink)
        assert not sink.is_held
        sink.deliver(_batch(1))


def _files(directory: Path, *names: str) -> Path:
    path = directory / "r.ndjson"
    for name in names:
        (directory / name).write_text(name)
    return path


def _texts(directory: Path) -> dict[str, str]:
    return {each.name: each.read_text() for each in directory.iterdir() if each.is_file()}


def test_files_are_known_by_their_numbers(tmp_path: Path) -> None:
    path = _files(tmp_path, "r.ndjson", "r.ndjson.10", "r.ndjson.9", "r.ndjson.1", "r.ndjson.1.new")
    _files(tmp_path, "r.ndjson.state", "r.ndjson2.1", "r.ndjson.20261124")
    assert [each.name for each in files_of(path)] == [
        *("r.ndjson", "r.ndjson.1", "r.ndjson.9", "r.ndjson.10", "r.ndjson.20261124")
    ]
    assert files_of(tmp_path / "no" / "r.ndjson") == []


def test_each_moves_up_by_one_and_the_last_goes(tmp_path: Path) -> None:
    path = _files(tmp_path, "r.ndjson", "r.ndjson.2", "r.ndjson.3")
    rotate(path, 3)
    assert _texts(tmp_path) == {"r.ndjson.1": "r.ndjson", "r.ndjson.3": "r.ndjson.2"}


def test_fewer_stay_when_fewer_are_to(tmp_path: Path) -> None:
    """Files that another program has named by their day stay."""
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
    path = _four(tmp_path)
    found = all_pieces(path)
    read = [next(found)]
    rotate(path, 8)
    path.write_bytes(b"4\n")
    assert [*read, *found] == [b"0\n", b"1\n", b"2\n", b"3\n"]


def test_files_that_are_renamed_while_they_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    monkeypatch.setattr(record_files, "_MOST_OPEN", 2)
    path = _four(tmp_path)
    assert [*all_pieces(path)] == [b"0\n", b"1\n", b"2\n", b"3\n"]
    found = all_pieces(path)
    next(found)
    rotate(path, 8)
    with pytest.raises(OSError, match="renames"):
        list(found)
