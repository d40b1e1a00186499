"""``config check`` refuses what ``serve`` refuses, and neither makes anything before."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, chdir, closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from collector.config import Loaded, examine
from collector.errors import ConfigFaults
from collector.ops.log import EventLog
from collector.server.preflight import check, find_faults
from collector.server.process import Receivers, opened
from collector.sinks.ndjson import BEGIN
from collector.spool.tables import DEFINITION
from tests.support.certificates import Authority
from tests.support.make_batches import told_checkpoints
from tests.support.make_schemas import PLAIN
from tests.support.rows import for_each
from tests.support.tcp import free_port

_OFF = {
    "COLLECTOR__HTTP__ADDRESS": "127.0.0.1:0",
    "COLLECTOR__ADMIN__ADDRESS": "127.0.0.1:0",
    "COLLECTOR__GRPC__ADDRESS": "off",
    "COLLECTOR__DATA": "d",
}


def _database(*statements: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with closing(sqlite3.connect(path)) as db:
            for statement in statements:
                db.execute(statement)
            db.commit()

    return make


def _socket(path: Path) -> None:
    """A socket file that a dead process left."""
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(path))


_LOG = EventLog("error")
_DELIVERED = "CREATE TABLE _delivered (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE) STRICT"
_MAKERS: dict[str, Callable[[Path], object]] = {
    "directory": Path.mkdir,
    "text": lambda path: path.write_text("some text\n"),
    "page": lambda path: path.write_text("some text\n" * 999),
    "empty": Path.touch,
    "records": lambda path: path.write_bytes(BEGIN + b'plain/1"}\n'),
    "database": _database("CREATE TABLE a (b)"),
    "version-1": _database("CREATE TABLE a (b)", "PRAGMA user_version = 1"),
    "of-another-format": _database(
        _DELIVERED,
        "CREATE TABLE about AS SELECT 99 AS format",
        "PRAGMA user_version = 99",
        f"PRAGMA application_id = {DEFINITION.application}",
    ),
    "typed": _database(
        _DELIVERED,
        'CREATE TABLE conferencing ("client.address" BLOB) STRICT',
        "PRAGMA user_version = 1",
    ),
    "link": lambda path: path.symlink_to("nowhere"),
    "link-to-a": lambda path: path.symlink_to("a"),
    "link-to-d": lambda path: path.symlink_to("d"),
    "socket": _socket,
    "pipe": os.mkfifo,
}

_REFUSED = f"""
sinks.ndjson.path=out                         | sinks.ndjson.path E203 | out directory
sinks.ndjson.path=out                         | sinks.ndjson.path E203 | out text
sinks.ndjson.path=out                         | sinks.ndjson.path E203 | out link
sinks.ndjson.path=out                         | sinks.ndjson.path E203 | out pipe
sinks.ndjson.path=out                         | sinks.ndjson.path E203 | out.state directory
sinks.ndjson.path=out                         | sinks.ndjson.path E203 | out.1.new directory
sinks.ndjson.path={"x" * 256}                 | sinks.ndjson.path E203 |
sinks.ndjson.path={"x" * 250}                 | sinks.ndjson.path E203 |
sinks.ndjson.path=none/{"x" * 256}            | sinks.ndjson.path E203 |
sinks.ndjson.path=out data=out                | sinks.ndjson.path E122 |
sinks.ndjson.path=out data=./out.state        | sinks.ndjson.path E122 |
claims=none                                   | claims E203 |
claims=in                                     | claims E203 | in directory
tls.certificate=in tls.key=in                 | tls.certificate E212 | in pipe
sinks.ndjson.path=out data=out/data           | sinks.ndjson.path E122 data E203 |
sinks.ndjson.path=a sinks.b.type=ndjson sinks.b.path=a/c | sinks.b.path E122 |
sinks.ndjson.path=a sinks.b.type=ndjson sinks.b.path=a.1 | sinks.b.path E122 |
sinks.ndjson.path=d/sinks/b/store.db sinks.b.type=store | sinks.ndjson.path E122 |
sinks.ndjson.path=d/sinks/b sinks.b.type=store | sinks.ndjson.path E122 |
http.unix=out sinks.ndjson.path=out           | http.unix E122 |
http.unix=out.state sinks.ndjson.path=out     | http.unix E122 |
http.unix=d/store.db                          | http.unix E122 |
http.unix=d/spool.db                          | http.unix E122 |
http.unix=d/spool.db-wal                      | http.unix E122 |
http.unix=d/collector.lock                    | http.unix E122 |
http.unix=d/sinks                             | http.unix E122 |
http.unix=d                                   | http.unix E122 |
http.unix=in data=in/data                     | http.unix E122 data E203 |
http.unix=in                                  | http.unix E207 | in text
http.unix=in                                  | http.unix E207 | in directory
http.unix=in                                  | http.unix E207 | in link
                                              | data E203 | d link
data=d/e                                      | data E203 | d link
                                              | data E203 | d empty
data=d/e                                      | data E203 | d empty
data={"x" * 256}                              | data E203 |
data=none/{"x" * 256}                         | data E203 |
data={"/".join(["x" * 100] * 5)}              | data E203 |
data=/proc/none                               | data E203 |
data=none/d                                   | data E203 |
data=/none/such/d                             | data E203 |
sinks.store.path=none/such/x.db               | sinks.store.path E203 |
sinks.ndjson.path=none/such/x                 | sinks.ndjson.path E203 |
sinks.b.type=parquet sinks.b.path=none/lake   | sinks.b.path E203 |
                                              | data E203 | d/collector.lock directory
                                              | data E203 | d/spool.db directory
                                              | data E203 | d/spool.db of-another-format
                                              | data E203 | d/spool.db-wal directory
                                              | data E203 | d/spool.db.part directory
                                              | data E203 | d/store.db directory
                                              | data E501 | d/store.db text
                                              | data E501 | d/store.db page
                                              | data E501 | d/store.db database
                                              | data E501 | d/store.db version-1
                                              | data E501 | d/store.db database d/store.db-wal text
                                              | data E501 | d/store.db of-another-format
                                              | data E504 | d/store.db typed
sinks.b.type=store                            | data E203 | d/sinks text
sinks.store.path=x                            | sinks.store.path E501 | x text
sinks.store.path=x data=x/y                   | sinks.store.path E122 data E203 |
sinks.store.path=x sinks.ndjson.path=x-wal    | sinks.ndjson.path E122 |
""".strip("\n").splitlines()
"""Settings, the faults that they have, and what is there before."""


def _tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """What is below a folder: mode, inode and content of each file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (state.st_mode, state.st_ino, content)
    return found


def _loaded(settings: Mapping[str, str]) -> Loaded:
    variables = {
        f"COLLECTOR__{name.upper().replace('.', '__')}": value for name, value in settings.items()
    }
    return examine(None, _OFF | variables)


def _faults(loaded: Loaded) -> dict[str, str]:
    return {one.field: one.code for one in (*loaded.faults, *find_faults(loaded))}


def _refusal(loaded: Loaded) -> dict[str, str]:
    """The faults with which a sidecar does not start."""
    with pytest.raises(ConfigFaults) as caught, opened(loaded, _LOG):
        pass
    return {one.field: one.code for one in caught.value.faults}


@for_each("case", _REFUSED)
def test_a_fault_is_found_before_anything_is_made(case: str, tmp_path: Path) -> None:
    written, fault, there = (part.split() for part in case.split("|"))
    with chdir(tmp_path):
        for path, kind in zip(there[::2], there[1::2], strict=True):
            Path(path).parent.mkdir(exist_ok=True)
            _MAKERS[kind](Path(path))
        before = _tree(tmp_path)
        loaded = _loaded(dict(setting.split("=") for setting in written))
        faults = dict(zip(fault[::2], fault[1::2], strict=True))
        assert _faults(loaded) == faults
        if not loaded.faults:
            assert _refusal(loaded) == faults
        assert _tree(tmp_path) == before


def _two_addresses(folder: Path, first: str, second: str) -> Loaded:
    """Two receivers, which may be open to others."""
    pair = Authority(folder).issue("server")
    environ = {
        "COLLECTOR__DATA": str(folder / "data"),
        "COLLECTOR__HTTP__ADDRESS": first,
        "COLLECTOR__ADMIN__ADDRESS": second,
        "COLLECTOR__GRPC__ADDRESS": "off",
        "COLLECTOR__TLS__CERTIFICATE": str(pair.certificate),
        "COLLECTOR__TLS__KEY": str(pair.key),
        "COLLECTOR__AUTH__TOKENS": "ab" * 32,
    }
    return examine(None, environ)


@for_each(
    ("first", "second"),
    [
        ("127.0.0.1:{}", "localhost:{}"),
        ("[::1]:{}", "localhost:{}"),
        ("[::1]:{}", "[0:0::1]:{}"),
        ("127.0.0.1:{}", "[::ffff:127.0.0.1]:{}"),
        ("127.0.0.1:{}", "0.0.0.0:{}"),
        ("127.0.0.1:{}", "[::]:{}"),
        ("[::]:{}", "[::1]:{}"),
        ("127.0.0.1:{}", "127.1:{}"),  # a name, for all that its form says
        ("0.0.0.0:{}", "127.2:{}"),
    ],
)
def test_one_port_by_two_names(first: str, second: str, tmp_path: Path) -> None:
    """Two receivers cannot share it; different ports, or any free ones, are no fault."""
    port = free_port()
    assert _faults(_two_addresses(tmp_path, first.format(port), second.format(port))) == {
        "admin.address": "E122"
    }
    assert _faults(_two_addresses(tmp_path, first.format(0), second.format(0))) == {}
    assert not (tmp_path / "data").exists()


@for_each("host", ["a" * 64 + ".example", "a..example", "no-such-host.invalid"])
def test_a_name_that_leads_nowhere(host: str, tmp_path: Path) -> None:
    """It is a fault of its setting, whatever is wrong with it."""
    loaded = _two_addresses(tmp_path, f"{host}:0", "off")
    assert _faults(loaded) == _refusal(loaded) == {"http.address": "E207"}


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """What another process has locked."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def _listen(path: Path) -> Iterator[None]:
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(path))
        listening.listen()
        yield


@pytest.mark.parametrize(
    ("settings", "use", "path", "faults"),
    [
        ({}, _lock, "d/collector.lock", {"data": "E203"}),
        ({"sinks.ndjson.path": "out"}, _lock, "out.state", {"sinks.ndjson.path": "E203"}),
        ({"http.unix": "in"}, _listen, "in", {"http.unix": "E207"}),
    ],
)
def test_what_another_process_uses_is_no_fault_of_the_settings(
    settings: dict[str, str],
    use: Callable[[Path], AbstractContextManager[None]],
    path: str,
    faults: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be the sidecar that runs with them. A second one does not start, and makes nothing."""
    monkeypatch.chdir(tmp_path)
    with use(Path(path)):
        before = _tree(tmp_path)
        loaded = _loaded(settings)
        assert _faults(loaded) == {}
        assert _refusal(loaded) == faults
        assert _tree(tmp_path) == before


def test_a_ledger_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a warning that what widens was not found out."""
    monkeypatch.chdir(tmp_path)
    loaded = _loaded({})
    with opened(loaded, _LOG):
        pass
    assert check(loaded).warnings == []
    (tmp_path / "d" / "spool.db").write_bytes(b"nothing of a database" * 1000)
    (warning,) = check(loaded).warnings
    assert (warning.code, "not known" in warning.message) == ("E507", True)


def test_a_port_that_is_taken_is_no_fault_of_the_settings(tmp_path: Path) -> None:
    """Likewise, and only for the start."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        loaded = _two_addresses(tmp_path, f"127.0.0.1:{taken.getsockname()[1]}", "off")
        assert _faults(loaded) == {}
        assert _refusal(loaded) == {"http.address": "E207"}
    assert not (tmp_path / "data").exists()


def test_a_sidecar_that_runs_or_was_killed_can_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are as they are while it writes, or as a kill left them."""
    monkeypatch.chdir(tmp_path)
    loaded = _loaded({"sinks.ndjson.path": "out", "http.unix": "d/collector.sock"})
    assert _faults(loaded) == {}
    with told_checkpoints(), opened(loaded, _LOG):
        assert _faults(loaded) == {}
        shutil.copytree("d", "copy", ignore=shutil.ignore_patterns("*.sock", "*-shm"))
    assert (Path("copy") / "store.db-wal").stat().st_size
    with opened(_loaded({"data": "copy"}), _LOG):
        pass


_NAMES = ["a", "a.state", "a.1.new", "b", "d", "d/a", "d/store.db", "d/store.db-wal", "d/spool.db"]
_NAMES += ["d/spool.db-wal", "d/spool.db.part", "d/collector.lock", "d/sinks", "d/sinks/more"]
_PLACES = [*_NAMES, "b/a", "a/d", "a.1", "d/in.sock", "d/sinks/more/store.db", "x" * 250]
_ADDRESSES = ["127.0.0.1:0", "localhost:{}", "127.0.0.1:{}", "[::1]:{}", "off"]


@pytest.mark.long
@given(
    st.dictionaries(st.sampled_from(_NAMES), st.sampled_from(list(_MAKERS)), max_size=5),
    st.fixed_dictionaries(
        {"data": st.sampled_from(["d", "a", "b/d", "a/d", "a.state"])},
        optional={
            "http.address": st.sampled_from(_ADDRESSES),
            "admin.address": st.sampled_from(_ADDRESSES),
            "http.unix": st.sampled_from(_PLACES),
            "sinks.ndjson.path": st.sampled_from(_PLACES),
            "sinks.store.path": st.sampled_from(_PLACES),
            "sinks.more.type": st.just("store"),
        },
    ),
)
def test_what_the_check_finds_is_what_keeps_it_from_starting(
    there: dict[str, str], settings: dict[str, str]
) -> None:
    """No fault: it starts. A fault: it does not, and nothing was made or changed."""
    with TemporaryDirectory() as name:
        port, folder = free_port(), Path(name)
        with chdir(folder):
            for path, kind in sorted(there.items()):
                with suppress(OSError, sqlite3.Error):
                    _MAKERS[kind](Path(path))
            Path("s.yaml").write_text(PLAIN)
            settings = {name: value.format(port) for name, value in settings.items()}
            before = _tree(folder)
            loaded = _loaded({"schema": "./s.yaml", **settings})
            faults = _faults(loaded)
            assert _tree(folder) == before
            event("fault" if faults else "start")
            if not faults:
                _start(loaded)
            elif not loaded.faults:
                assert _refusal(loaded) == faults
                assert _tree(folder) == before


def _start(loaded: Loaded) -> None:
    async def run(receivers: Receivers) -> None:
        await receivers.start()
        await receivers.stop(0)

    with opened(loaded, _LOG) as (_, receivers):
        asyncio.run(run(receivers))
