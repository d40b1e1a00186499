"""Files of records with less in them: what goes is gone from every file, and nothing else is."""

from __future__ import annotations

import stat
from pathlib import Path

import orjson
import pytest

from collector.contracts import Batch
from collector.errors import DeliveryError
from collector.sinks.files import NdjsonFile
from collector.sinks.rewriting import Change, rewrite, unfinished

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
    """Whoever follows it does not see a new one."""
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
        with pytest.raises(DeliveryError) as caught:
            file.revise(_without(1))
        assert caught.value.code == "E508"
        unfinished(file.path).rmdir()
        file.deliver(_batch(3))
        assert file.path.read_bytes().count(b"\n") == 3


def test_only_what_is_ours_is_removed(tmp_path: Path) -> None:
    """What a cut rewriting has left of this file and of its finished ones; nobody else's files."""
    path = tmp_path / "records.ndjson"
    ours = [tmp_path / f"records.ndjson{number}.new" for number in ("", ".1", ".12")]
    others = [tmp_path / f"records.ndjson{end}" for end in ("2.new", ".old.new", ".1.newer")]
    for each in (*ours, *others):
        each.touch()
    with NdjsonFile(path):
        assert not any(each.exists() for each in ours)
        assert all(each.exists() for each in others)
