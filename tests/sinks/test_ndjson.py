"""The file of records: whole, once, rotated, private, and readable after a crash."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from collector.contracts import Batch
from collector.errors import ConfigError, DeliveryError
from collector.filter.stored import read
from collector.schema import load_schema
from collector.sinks.ndjson import NdjsonFile
from tests.support.raising import raises

_MINUTE = "2026-11-24T10:20:00Z"
_LAYOUT = load_schema("conferencing").layout


def _batch(number: int, records: int = 3, received: str = _MINUTE) -> Batch:
    lines = (
        b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.%d"}\n' % n
        for n in range(records)
    )
    payload = b"".join(lines)
    return read(Batch(number.to_bytes(16), received, layout=_LAYOUT, payload=payload))


def _records(*paths: Path) -> Iterator[dict[str, Any]]:
    for path in paths:
        yield from map(json.loads, path.read_bytes().splitlines())


def test_lines_are_records_with_their_minute(tmp_path: Path) -> None:
    path = tmp_path / "data" / "records.ndjson"
    with NdjsonFile(path) as sink:
        sink.deliver(_batch(1, 100), _batch(2, 50, "2026-11-24T10:21:00Z"))
    found = list(_records(path))
    assert all(list(record) == ["schema", "client.address", "received"] for record in found)
    assert sum(record["received"] == _MINUTE for record in found) == 100
    assert len(found) == 150
    order = [record["received"] for record in found]
    assert order != sorted(order)


def test_what_a_crash_left_half_way_is_cut_off(tmp_path: Path) -> None:
    """Bytes beyond the noted length are of a batch that was never acknowledged."""
    path = tmp_path / "records.ndjson"
    with NdjsonFile(path) as sink:
        sink.deliver(_batch(1))
    with path.open("ab") as file:
        file.write(b'{"schema":"conferencing/1.0.0","client.addr')
    with NdjsonFile(path) as sink:
        sink.deliver(_batch(2))
    assert len(list(_records(path))) == 6


def test_files_are_rotated_and_so_many_stay(tmp_path: Path) -> None:
    path = tmp_path / "records.ndjson"
    with NdjsonFile(path, rotate=1_000, keep=2) as sink:
        for number in range(20):
            sink.deliver(_batch(number, 4))
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == [path.name, f"{path.name}.1", f"{path.name}.2", f"{path.name}.state"]
    for name in names[:3]:
        assert 0 < (tmp_path / name).stat().st_size <= 1_000
        list(_records(tmp_path / name))


def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with NdjsonFile(tmp_path / "records.ndjson", rotate=100) as sink:
            sink.deliver(_batch(1))
            sink.deliver(_batch(2))
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert modes == {0o600}


def test_only_what_was_spooled_is_written(tmp_path: Path) -> None:
    """Nothing of the batches beside it is kept either."""
    path = tmp_path / "records.ndjson"
    with NdjsonFile(path) as sink:
        with pytest.raises(DeliveryError, match="E503"):
            sink.deliver(_batch(1), Batch(b"2" * 16, _MINUTE, [{"a": 1}]))
        assert path.read_bytes() == b""
        sink.deliver(_batch(1))
    assert len(list(_records(path))) == 3


def test_a_file_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "records.ndjson"
    with NdjsonFile(path):
        for taken in (path, path / "below"):
            with raises("E203", ConfigError):
                NdjsonFile(taken)


def test_a_shared_file_has_the_records_of_all(tmp_path: Path) -> None:
    """Several sinks open, write and rotate it at once."""
    path = tmp_path / "records.ndjson"
    sinks = [NdjsonFile(path, shared=True, rotate=2000) for _ in range(3)]
    for number in range(24):
        sinks[number % 3].deliver(_batch(number), _batch(number))
        if number % 5 == 0:
            sinks.append(NdjsonFile(path, shared=True))  # it writes a mark, and no record
    for sink in sinks:
        sink.close()
    files = [each for each in tmp_path.iterdir() if not each.name.endswith(".state")]
    assert len(files) > 1
    assert len(list(_records(*files))) == 24 * 3


def test_a_shared_file_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.sinks.record_files._LOCK_SECONDS", 0.05)
    path = tmp_path / "records.ndjson"
    with NdjsonFile(path, shared=True) as sink:
        sink.deliver(_batch(1))
        with NdjsonFile(path):
            with pytest.raises(DeliveryError, match="E503"):
                sink.deliver(_batch(2))
            with pytest.raises(ConfigError, match="E203"):
                NdjsonFile(path, shared=True)
        sink.deliver(_batch(2))
    assert len(list(_records(path))) == 6


def test_a_shared_file_that_was_moved_away_keeps_the_records_of_all(tmp_path: Path) -> None:
    """A process that finds it gone truncates nothing that another has written since."""
    path, moved = tmp_path / "records.ndjson", tmp_path / "moved.ndjson"
    with NdjsonFile(path, shared=True) as first, NdjsonFile(path, shared=True) as second:
        first.deliver(_batch(1))
        second.deliver(_batch(2))
        path.rename(moved)
        with suppress(DeliveryError):
            first.deliver(_batch(3))
        first.deliver(_batch(3))
    assert len(list(_records(moved))) == 6
    assert len(list(_records(path))) == 3


@pytest.mark.parametrize("text", [b"dear diary\n", b'{"ours": false}\n', b"\n", b"\0" * 9])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "diary.ndjson"
    path.write_bytes(text)
    with raises("E203", ConfigError, match="something else"):
        NdjsonFile(path)
    assert path.read_bytes() == text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device", "directory"])
def test_what_is_no_file_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    """The system's null device would lose its mode."""
    path, device = tmp_path / "records.ndjson", tmp_path / "null"
    os.mkfifo(device)
    if "device" in kind:
        device.unlink()
        try:
            os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("making a device is for root")
    device.chmod(0o666)
    if kind == "directory":
        path.mkdir()
    elif kind == "link to a device":
        path.symlink_to(device)
    else:
        path = device
    before = sorted(tmp_path.iterdir())
    with raises("E203", ConfigError):
        NdjsonFile(path)
    assert sorted(tmp_path.iterdir()) == before
    assert stat.S_IMODE(device.stat().st_mode) == 0o666


def test_records_without_their_marks_are_ours(tmp_path: Path) -> None:
    path = tmp_path / "records.ndjson"
    with NdjsonFile(path) as file:
        file.deliver(_batch(1))
    path.with_name("records.ndjson.state").unlink()
    with NdjsonFile(path) as file:
        file.deliver(_batch(2))
    assert len(list(_records(path))) == 6
