"""Files and directories of Collector are their owner's alone, and no symbolic link is followed."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from collector.config.model import Config
from collector.errors import ConfigError, DeliveryError
from collector.files import (
    Tightened,
    failing_as,
    foreign_entries,
    make_private,
    short_path,
    tighten_directory,
    walk,
    write_private,
)
from collector.schema import load_schema
from collector.server.process import tighten_all
from collector.sinks.store import Store
from collector.spool import FILE_NAME, Spool
from collector.spool.tables import aside_batches
from tests.support.database import query
from tests.support.raising import raises
from tests.support.rows import for_each

SCHEMA = load_schema("conferencing")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_link_to_a_store_is_refused(tmp_path: Path) -> None:
    """Records never go where a link leads, be it to a file, to another store or to none."""
    other = tmp_path / "other.db"
    Store(other, SCHEMA).close()
    before = other.read_bytes()
    (tmp_path / "text").write_text("a file of another program")
    for number, target in enumerate((other, tmp_path / "text", tmp_path / "none")):
        link = tmp_path / f"{number}.db"
        link.symlink_to(target)
        with raises("E203", ConfigError, match="symbolic link"):
            Store(link, SCHEMA)
    assert not (tmp_path / "none").exists()
    assert other.read_bytes() == before


@for_each("end", ["-wal", "-shm", "-journal"])
def test_a_link_beside_a_store_is_refused(tmp_path: Path, end: str) -> None:
    """SQLite would write records there too."""
    target = tmp_path / "elsewhere"
    (tmp_path / f"store.db{end}").symlink_to(target)
    with pytest.raises(ConfigError, match="symbolic link"):
        Store(tmp_path / "store.db", SCHEMA)
    assert not target.exists()


def test_a_store_that_others_can_read_is_tightened(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = Store(path, SCHEMA)
    names = [path, *(path.with_name(f"store.db{end}") for end in ("-wal", "-shm"))]
    for name in names:
        name.chmod(0o666)
    Store(path, SCHEMA).close()
    assert [mode(name) for name in names if name.exists()] == [0o600] * len(names)
    store.close()
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(tmp_path / "sock"))
    for kind in ("directory", "pipe"):
        with pytest.raises(ConfigError):
            Store(tmp_path / kind, SCHEMA)


def test_a_lock_outlives_a_second_look(tmp_path: Path) -> None:
    """POSIX drops a process's locks on a file when any of its handles is closed."""
    path = tmp_path / "store.db"
    make_private(path)
    with path.open("r+b") as handle:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        make_private(path)
        child = os.fork()
        if not child:  # another process must not get the lock
            with path.open("r+b") as other:
                try:
                    fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0


def test_a_data_directory_is_tightened(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    data.chmod(0o755)
    with Spool(data / "spool.db"):
        pass
    assert mode(data) == 0o700
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    (shared / "README").write_text("of another program")
    with Spool(shared / "spool.db"):
        pass
    assert mode(shared) == 0o755
    assert mode(shared / "spool.db") == 0o600
    (tmp_path / "link").symlink_to(data)
    data.chmod(0o755)
    assert tighten_directory(tmp_path / "link") == Tightened(1)
    assert mode(data) == 0o700


def test_all_files_of_a_sidecar_are_tightened(tmp_path: Path) -> None:
    data, lake, key = tmp_path / "data", tmp_path / "lake", tmp_path / "key.pem"
    data.mkdir()
    lake.mkdir()
    with Spool(data / "spool.db"):
        Store(data / "store.db", SCHEMA).close()
    names = ["store.db", "spool.db", "spool.db.damaged-1", "ledger.key", "collector.lock"]
    files = [*(data / name for name in names), lake / "records", lake / "records.1"]
    for path in files:
        path.touch()
        path.chmod(0o644)
    key.touch()
    key.chmod(0o644)
    data.chmod(0o755)
    sinks = {"ndjson": {"path": lake / "records"}}
    config = Config.model_validate(
        {"data": data, "sinks": sinks, "tls": {"certificate": key, "key": key}}
    )
    assert tighten_all(config, [SCHEMA]) == Tightened(len(files) + 2, 0)
    assert [mode(path) for path in files] == [0o600] * len(files)
    assert (mode(data), mode(key), mode(lake)) == (0o700, 0o640, 0o755)
    assert tighten_all(config, [SCHEMA]) == Tightened()
    (data / "of another program").touch()
    data.chmod(0o755)
    assert tighten_all(config, [SCHEMA]) == Tightened(0, 1)
    assert mode(data) == 0o755


def test_a_store_in_a_directory_of_others_is_not_lost(tmp_path: Path) -> None:
    """An SDK's store may lie in a program's own directory, whose mode is left alone."""
    folder = tmp_path / "program"
    folder.mkdir()
    folder.chmod(0o755)
    store = Store(folder / "telemetry.db", SCHEMA)
    assert (mode(folder), mode(folder / "telemetry.db")) == (0o755, 0o600)
    store.close()
    assert query(folder / "telemetry.db", "SELECT count(*) FROM conferencing") == [(0,)]


def test_a_private_file_is_whole_or_not_there(tmp_path: Path) -> None:
    """It is its owner's alone, and never written over another file or through a link."""
    path, link = tmp_path / "new", tmp_path / "link"
    write_private(path, [b"one ", b"two"])
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"one two", 0o600)
    link.symlink_to(tmp_path / "elsewhere")
    for there in (path, link):
        with pytest.raises(FileExistsError):
            write_private(there, [b"three"])
    assert path.read_bytes() == b"one two"

    def broken() -> Iterator[bytes]:
        yield b"one"
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        write_private(tmp_path / "broken", broken())
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "new"]


def test_an_error_of_the_disk_is_replaced_whole() -> None:
    failure = DeliveryError("E503", "the disk is full")
    with pytest.raises(DeliveryError) as caught, failing_as(failure):
        raise OSError(28, "no space", "/data/10.0.0.1")
    assert (caught.value.__context__, caught.value.__cause__) == (None, None)
    with pytest.raises(FileNotFoundError), failing_as(failure, but=FileNotFoundError):
        raise FileNotFoundError
    with pytest.raises(ValueError, match="other"), failing_as(failure):
        raise ValueError("other")


def test_a_set_aside_batch_that_cannot_be_read(tmp_path: Path) -> None:
    """The error of SQLite is not in the context of ours."""
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 999)
    with pytest.raises(DeliveryError, match="E507") as caught:
        aside_batches(tmp_path / FILE_NAME)
    assert caught.value.__context__ is None


def test_the_path_of_a_socket_may_be_long(tmp_path: Path) -> None:
    """The system takes about 100 bytes; a longer path leads through a handle of its directory."""
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    for place in (tmp_path / "control.sock", folder / "control.sock"):
        with (
            closing(socket.socket(socket.AF_UNIX)) as listening,
            closing(socket.socket(socket.AF_UNIX)) as other,
        ):
            with short_path(place) as path:
                listening.bind(path)
                listening.listen()
            with short_path(place) as path:
                other.connect(path)
        assert place.is_socket()


def test_what_a_walk_finds(tmp_path: Path) -> None:
    """Entries of any type, in order. Links are followed if asked for, and each directory once."""
    for name in ("b/one", "a", "b/c/two"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "pipe")
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(tmp_path / "sock"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to("missing")
    (tmp_path / "to-a").symlink_to("a")

    def found(*, follow: bool) -> list[str]:
        entries = walk(tmp_path, follow=follow)
        return [each.readable.relative_to(tmp_path).as_posix() for each in entries]

    every = "a b empty nowhere pipe sock to-a b/c b/loop b/one b/c/two".split()
    assert found(follow=False) == found(follow=True) == every
    kinds = [each.kind for each in walk(tmp_path)]
    assert kinds[:7] == ["file", *["directory"] * 2, "link", "pipe", "socket", "link"]
    assert foreign_entries(tmp_path, {"file": str, "directory": str}) == [
        tmp_path / name for name in ("nowhere", "pipe", "sock", "to-a", "b/loop")
    ]
    assert list(walk(tmp_path / "missing")) == []


def test_a_walk_names_what_it_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reader decides what that means."""
    (tmp_path / "shut").mkdir()
    scan = os.scandir

    def refuse(path: Path) -> object:
        if path.name == "shut":
            raise PermissionError(13, "")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    _, entry = walk(tmp_path)
    assert foreign_entries(tmp_path, {"directory": str}) == [tmp_path / "shut"]
    assert (entry.path, entry.status) == (tmp_path / "shut", None)
    with pytest.raises(OSError, match="denied"):
        _ = entry.readable
