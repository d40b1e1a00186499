"""Files, buckets and uploads of sealed chunks."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from sqlite3 import Connection
from typing import Any
from unittest.mock import patch

import pytest

from collector.errors import ConfigError
from collector.recording import tasks
from collector.recording.names import OBJECTS, chunk_key, prefix, read_key
from collector.recording.refusals import Refused
from collector.recording.storage import Bucket, ChunkFiles
from collector.recording.vault import Vault, opened_to_read
from collector.recording.verification import verify
from tests.recording.vaults import (
    RECORDING,
    add,
    content,
    create,
    destroy,
    erase,
    loop,
    opened,
    pending,
    queued,
)
from tests.support.deadline import wait_until
from tests.support.rows import for_each

TRACK = "a" * 32


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _bucket(directory: Path) -> Bucket:
    return Bucket((directory / "bucket").as_uri(), {})


def test_keys_of_chunks_are_read_back() -> None:
    """Any other key is of no chunk."""
    assert read_key(chunk_key(RECORDING, TRACK, 12)) == (TRACK, 12)
    for name in ("x.age", "01.age", "1.age.part", "1", "", "-1.age", "99999999999.age"):
        assert read_key(prefix(RECORDING, TRACK) + name)[1] == -1


def test_directories_of_files_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that lead to a chunk: else a crash of the machine could take it with them."""
    synced = list[Path]()
    monkeypatch.setattr("collector.recording.storage.sync", synced.append)
    files, name = ChunkFiles(tmp_path / "objects"), chunk_key(RECORDING, TRACK, 0)
    with ThreadPoolExecutor() as pool:
        files.write(name, b"sealed", 0, pool.submit)
    path = tmp_path / "objects" / name
    assert set(synced) >= {each for each in path.parents if each.is_relative_to(tmp_path)}


def test_files_are_private_and_replaced(tmp_path: Path) -> None:
    """What a crash left of a file is overwritten."""
    files, name = ChunkFiles(tmp_path / "objects"), chunk_key(RECORDING, TRACK, 0)
    with ThreadPoolExecutor() as pool:
        files.write(name, b"first and longer", 0, pool.submit)
        files.write(name, b"second", 0, pool.submit)
    assert files.read(name) == b"second"
    assert files.read(chunk_key(RECORDING, TRACK, 1)) is None
    assert list(files.keys(prefix(RECORDING))) == [name]
    for path in (tmp_path / "objects").rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077
    files.remove(prefix(RECORDING, TRACK))
    files.remove(prefix(RECORDING, TRACK))
    assert list(files.keys(prefix(RECORDING))) == []


def test_all_files_are_removed_although_one_goes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, others = ChunkFiles(tmp_path / "objects"), list[Path]()
    with ThreadPoolExecutor() as pool:
        for number in range(4):
            files.write(chunk_key(RECORDING, TRACK, number), b"sealed", 0, pool.submit)

    def unlink(name: str, **options: Any) -> None:
        if not others:
            others.extend(path for path in tmp_path.rglob("*.age") if path.name != name)
            real(others[0])
        real(name, **options)

    real = os.unlink
    monkeypatch.setattr(os, "unlink", unlink)
    files.remove(prefix(RECORDING, TRACK))
    assert len(others) == 3
    assert list(files.keys(prefix(RECORDING))) == []


def test_objects_are_created_and_never_replaced(tmp_path: Path) -> None:
    """An equal one is taken for this one; any other is an error, and stays as it is."""
    bucket, name = _bucket(tmp_path), chunk_key(RECORDING, TRACK, 0)
    asyncio.run(bucket.put(name, b"sealed", _digest(b"sealed")))
    asyncio.run(bucket.put(name, b"sealed", _digest(b"sealed")))
    with pytest.raises(OSError, match="another object"):
        asyncio.run(bucket.put(name, b"other", _digest(b"other")))
    assert bucket.get(name) == b"sealed"
    assert bucket.get(chunk_key(RECORDING, TRACK, 1)) is None
    assert list(bucket.keys(prefix(RECORDING))) == [name]
    asyncio.run(bucket.remove(prefix(RECORDING, TRACK)))
    asyncio.run(bucket.remove(prefix(RECORDING, TRACK)))
    assert list(bucket.keys(prefix(RECORDING))) == []


@for_each("url", ["nonsense", "s3://", "ftp://host/x", "az://", "http://"])
def test_urls_that_cannot_be_used(url: str) -> None:
    """The message holds nothing of URL and options."""
    with pytest.raises(ConfigError, match="E122") as found:
        Bucket(url, {"aws_secret_access_key": "canary"})
    assert "canary" not in str(found.value)


def test_chunks_move_to_the_bucket(tmp_path: Path) -> None:
    """They are read from there, and leave no file; those of a local recording stay."""
    with opened(tmp_path / "vault", bucket=(tmp_path / "bucket").as_uri()) as vault:
        create(vault)
        add(vault)
        wait_until(lambda: queued(vault) == 0)
        wait_until(lambda: not list((tmp_path / "vault").rglob("*.age")))
        assert len(list((tmp_path / "bucket").rglob("*.age"))) == 3
        expected = b"".join(content("cam", number) for number in range(3))
        assert b"".join(vault.read(RECORDING, "cam")) == expected
        assert verify(vault, RECORDING) == []
        destroy(vault, "cam")
        wait_until(lambda: not pending(vault))
        assert not list((tmp_path / "bucket").rglob("*.age"))
        assert verify(vault, RECORDING) == []
        host = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
        create(vault, "f" * 32, recipient=host)
        add(vault, recording="f" * 32)
        assert queued(vault) == 0
        assert len(list((tmp_path / "vault").rglob("*.age"))) == 3


def test_a_killed_upload_leaves_nothing_of_a_destroyed_track(tmp_path: Path) -> None:
    """A directory as a bucket has a part of an object then, which obstore does not list."""
    bucket = tmp_path / "bucket"
    with opened(tmp_path / "vault", bucket=bucket.as_uri()) as vault:
        create(vault)
        add(vault)
        wait_until(lambda: queued(vault) == 0)
        path = next(bucket.rglob("0.age"))
        path.with_name("0.age#1").write_bytes(b"age-encryption.org/v1")
        destroy(vault, "cam")
        wait_until(lambda: not pending(vault))
        assert [each for each in bucket.rglob("*") if each.is_file()] == []


def _pause(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have a bucket that fails asked again after so many seconds."""
    for name in ("_PAUSE_SECONDS", "_LONGEST_PAUSE_SECONDS"):
        monkeypatch.setattr(tasks, name, seconds)


def test_a_foreign_object_stops_its_own_chunk_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not replaced; the chunk stays on disk and can be read; the others are uploaded."""
    bucket = tmp_path / "bucket"
    with opened(tmp_path / "vault") as vault:
        create(vault)
        add(vault, "cam", range(1))
        found = vault.keys.find(RECORDING, "cam")
    assert found is not None
    for number in range(1, 7):
        path = bucket / chunk_key(RECORDING, found.object, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"foreign")
    _pause(monkeypatch, 0.02)
    with opened(tmp_path / "vault", bucket=bucket.as_uri()) as vault:
        add(vault, "cam", range(1, 9))
        wait_until(lambda: queued(vault) == 6)
        wait_until(lambda: loop(vault).bucket_errors > 12)
        wait_until(lambda: loop(vault).is_failing)  # not after a round of the others alone
        assert path.read_bytes() == b"foreign"
        wait_until(lambda: len(_queued_files(vault, found.object)) == 6)
        assert vault.store.queued()[0] == sum(
            p.stat().st_size for p in _queued_files(vault, found.object)
        )
        expected = b"".join(content("cam", number) for number in range(9))
        assert b"".join(vault.read(RECORDING, "cam")) == expected


@pytest.mark.parametrize("pause", [0.01, 3600.0])
def test_a_removal_that_is_refused_holds_up_no_upload(
    tmp_path: Path, pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again after pauses of its own; the bucket is not said to fail."""
    bucket = tmp_path / "bucket"
    _pause(monkeypatch, pause)
    with opened(tmp_path / "vault", bucket=bucket.as_uri()) as vault:
        create(vault)
        add(vault)
        wait_until(lambda: queued(vault) == 0)
        folder = next(bucket.rglob("0.age")).parent
        shutil.rmtree(folder)
        folder.write_text("no directory")
        destroy(vault, "cam")
        wait_until(lambda: loop(vault).bucket_errors)
        add(vault, "mix", range(20), owner="mixed")
        wait_until(lambda: queued(vault) == 0)
        assert not loop(vault).is_failing
        assert len(pending(vault)) == 1
        if pause < 1:
            wait_until(lambda: loop(vault).bucket_errors > 3)
            folder.unlink()
            wait_until(lambda: not pending(vault))


def test_a_list_that_cannot_be_read_now_ends_no_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pause(monkeypatch, 0.01)
    with opened(tmp_path / "here", bucket=(tmp_path / "bucket").as_uri()) as vault:
        for name in ("uploads", "due", "next_due"):
            query, fails = getattr(vault.store, name), [Refused("unavailable")]

            def failing(*values: Any, query: Any = query, fails: list[Refused] = fails) -> Any:
                if fails:
                    raise fails.pop()
                return query(*values)

            monkeypatch.setattr(vault.store, name, failing)
            loop(vault).wake()
            wait_until(lambda: not fails)  # noqa: B023 - called here only
        create(vault)
        add(vault)
        loop(vault).wake()
        wait_until(lambda: queued(vault) == 0)


def test_an_erasure_that_is_made_again_is_no_fault(tmp_path: Path) -> None:
    """What the bucket got late is, until it is removed."""
    bucket, directory = tmp_path / "bucket", tmp_path / "vault"
    with opened(directory, bucket=bucket.as_uri()) as vault:
        create(vault)
        add(vault)
        wait_until(lambda: queued(vault) == 0)
        with patch.object(Bucket, "remove", side_effect=OSError):
            erase(vault)
            wait_until(lambda: loop(vault).bucket_errors)
            assert verify(vault, RECORDING) == [
                "the erasure is not complete: the bucket still holds objects of the recording"
            ]
        wait_until(lambda: not pending(vault))
        assert not list(bucket.rglob("*.age"))

        def again(db: Connection) -> None:
            vault.store.add_task(db, "again", RECORDING, due=time.time() + 1.0)

        vault.store.commit(again)
        assert verify(vault, RECORDING) == []
    late = bucket / chunk_key(RECORDING, TRACK, 0)
    late.parent.mkdir(parents=True)
    late.write_bytes(b"sealed")
    with opened_to_read(directory, bucket=bucket.as_uri()) as reader:
        (fault,) = verify(reader, RECORDING)
    assert "is there" in fault
    with opened(directory, bucket=bucket.as_uri()) as vault:
        wait_until(lambda: not pending(vault))
        assert verify(vault, RECORDING) == []


def _queued_files(vault: Vault, object_: str) -> list[Path]:
    folder = vault.files.path(prefix(RECORDING, object_))
    return [path for path in folder.iterdir() if path.name != "0.age"]


def test_the_queue_is_bounded(tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    options: dict[str, Any] = {"bucket": bucket.as_uri(), "queue_bytes": 100_000}
    with opened(tmp_path / "vault", **options) as vault:
        (bucket / "recordings").write_text("no directory")
        create(vault)
        with pytest.raises(Refused, match="full"):
            add(vault, "cam", range(100), size=10_000)
        number = vault.tracks(RECORDING)[0].chunks
        assert 5 <= number <= 10
        size, files = vault.store.queued()
        assert 50_000 < size <= 100_000
        assert files == number
        wait_until(lambda: loop(vault).is_failing)
    with opened(tmp_path / "vault", **options | {"queue_bytes": 1}) as vault:
        assert queued(vault) == number  # counted anew
        with pytest.raises(Refused, match="full"):
            add(vault, "cam", range(number, number + 1))
        (bucket / "recordings").unlink()
        wait_until(lambda: queued(vault) == 0)
        wait_until(lambda: not loop(vault).is_failing)
        assert vault.store.queued()[0] == 0
        assert verify(vault, RECORDING) == []


def test_an_object_in_a_directory_is_the_file_itself(tmp_path: Path) -> None:
    """Nothing is copied where file and bucket are on one disk; no object is replaced by it."""
    bucket, name = _bucket(tmp_path), chunk_key(RECORDING, TRACK, 0)
    file = tmp_path / "file"
    file.write_bytes(b"sealed")
    assert bucket.link(name, file)
    assert bucket.get(name) == b"sealed"
    assert (tmp_path / "bucket" / name).samefile(file)
    other = tmp_path / "other"
    other.write_bytes(b"other")
    assert not bucket.link(name, other)
    assert not bucket.link(chunk_key(RECORDING, TRACK, 1), tmp_path / "missing")
    assert bucket.get(name) == b"sealed"


def test_a_file_that_is_written_anew_changes_no_object(tmp_path: Path) -> None:
    """A crash may leave a chunk's file and its object, which are the same file."""
    bucket, files, name = _bucket(tmp_path), ChunkFiles(tmp_path), chunk_key(RECORDING, TRACK, 0)
    with ThreadPoolExecutor() as pool:
        files.write(name, b"first", 0, pool.submit)
        assert bucket.link(name, files.path(name))
        files.write(name, b"second", 0, pool.submit)
    assert bucket.get(name) == b"first"
    assert files.read(name) == b"second"


def test_an_object_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    """It is none of ours, and would fill the memory."""
    bucket = Bucket(tmp_path.as_uri(), {})
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    assert bucket.get("large") == b""


def test_what_is_not_looked_at_is_no_empty_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that cannot be read is an error, and a link to one is a key of its own."""
    files = ChunkFiles(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / OBJECTS / "link").symlink_to(tmp_path / "elsewhere")
    assert [*files.keys(f"{OBJECTS}/")] == [f"{OBJECTS}/link"]
    assert [*files.keys("nothing/")] == []

    def refused(_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.scandir", refused)
    with pytest.raises(PermissionError):
        list(files.keys(f"{OBJECTS}/"))
