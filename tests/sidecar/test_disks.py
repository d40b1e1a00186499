"""Full disks, read-only directories and clocks that jump while a sidecar serves: nothing
acknowledged is lost, and the books balance at every step."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import pytest

from tests.conftest import required
from tests.sidecar.account import Account, Kept, kept
from tests.support.command import run
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, eventually, wait_until
from tests.support.failing_disk import Say, Sending, clock, fill, metric, sending, small_disk
from tests.support.latency import at_most
from tests.support.sidecar import COMMAND, Sidecar, started

pytestmark = pytest.mark.long

_STEP_SECONDS = 0.3
_DAY = 86400


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 40 MB."""
    with small_disk(tmp_path / "disk", 40) as place:
        yield place


def _step(
    sidecar: Sidecar,
    account: Account,
    is_seen: Callable[[Sending], object] = lambda load: load.statuses[200],
) -> Sending:
    """Send until a condition holds, and a moment longer; check that the books balance then."""
    with sending(sidecar, account, Random()) as load:
        assert eventually(lambda: is_seen(load)), load.statuses
        load.ended.wait(_STEP_SECONDS)
    assert account.faults(_kept(sidecar.directory)) == []
    return load


def _kept(directory: Path) -> Kept:
    """Read what is kept from a copy elsewhere, because SQLite needs disk space to read. Logs are
    copied first: data that moves from them to the files meanwhile is then in both. If a file
    changes during the copy, copy again."""
    copy = directory.with_name("copy")
    for files in (("spool.db-wal", "spool.db"), ("store.db-wal", "store.db")):
        wait_until(partial(_is_copied, directory / "collector-data", copy, files))
    return kept(copy)


def _is_copied(data: Path, copy: Path, files: Sequence[str]) -> bool:
    """Copy files; return whether none of them has changed meanwhile."""
    before = [_state(data / name) for name in files]
    copy.mkdir(exist_ok=True)
    for name in files:
        for old in (copy / name, copy / f"{name}-shm"):
            old.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            shutil.copyfile(data / name, copy / name)
    return before == [_state(data / name) for name in files]


def _state(path: Path) -> tuple[int, int, int] | None:
    with suppress(FileNotFoundError):
        found = path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns
    return None


def _is_full(load: Sending) -> bool:
    return bool(load.statuses[503] and load.ready[503])


def _works_again(load: Sending) -> bool:
    return load.statuses[200] > 3 and load.ready[200] > 3


def _full_and_freed(sidecar: Sidecar, account: Account) -> int:
    """Fill the disk, then make room. Return how many requests were refused meanwhile."""
    ballast = sidecar.directory / "ballast"
    fill(ballast)
    refused = _step(sidecar, account, _is_full).statuses[503]
    ballast.unlink()
    _step(sidecar, account, _works_again)
    wait_until(lambda: not _kept(sidecar.directory).waiting)
    said = ("spool_failing", "spool_recovered")
    wait_until(lambda: {*said} <= {line["event"] for line in sidecar.events})
    return refused


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_a_full_disk_that_is_freed_again(ending: str, disk: Path, say: Say) -> None:
    account, data, ballast = Account(), disk / "collector-data", disk / "ballast"
    with started(disk) as sidecar:
        refused = _full_and_freed(sidecar, account)
        refused += _full_and_freed(sidecar, account)
        untold = sum(parcel.events for parcel in account.parcels if not parcel.answer)
        counted = metric(sidecar, "collector_events_total{")
        assert account.received() <= counted <= account.received() + untold
        fill(ballast)
        refused += _step(sidecar, account, _is_full).statuses[503]
        if ending == "stop":
            assert sidecar.stop()[0] == 0, sidecar.log
        else:
            sidecar.process.kill()
            sidecar.process.wait(WAIT_SECONDS)
    fill(ballast)
    assert account.faults(_kept(disk)) == []
    with started(disk) as sidecar:
        refused += _step(sidecar, account, _is_full).statuses[503]
        ballast.unlink()
        _step(sidecar, account, _works_again)
        wait_until(lambda: not _kept(disk).waiting)
        assert sidecar.stop()[0] == 0
    assert account.faults(_kept(disk)) == []
    assert list(data.glob("*damaged*")) == []
    say(f"full disk: {refused} requests refused, {account.received():,} events acknowledged")


def _attributes(change: str, path: Path) -> None:
    """Change a directory's attributes; the file system may not support them."""
    done = subprocess.run(
        ["chattr", change, str(path)], capture_output=True, check=False, timeout=WAIT_SECONDS
    )
    if done.returncode:
        required("the right to make a directory immutable")


def test_a_directory_that_nobody_may_write(disk: Path, say: Say) -> None:
    account, data, ballast = Account(), disk / "collector-data", disk / "ballast"
    with started(disk) as sidecar:
        _step(sidecar, account)
        _attributes("+i", data)
        try:
            _step(sidecar, account)
            fill(ballast)  # makes the sidecar close its files
            refused = _step(sidecar, account, _is_full).statuses[503]
            ballast.unlink()
            with sending(sidecar, account, Random()) as load:
                load.ended.wait(_STEP_SECONDS)
            assert account.faults(_kept(disk)) == []
        finally:
            _attributes("-i", data)
        _step(sidecar, account, _works_again)
        assert sidecar.stop()[0] == 0
    found = _kept(disk)
    assert account.faults(found) == []
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, timeout=WAIT_SECONDS)
    ended = subprocess.run(COMMAND, cwd=disk, capture_output=True, check=False, timeout=120)
    assert ended.returncode == 78
    assert b"E203" in ended.stderr
    assert b"Traceback" not in ended.stderr
    assert run("ledger", "verify", "--data", data).code == 0
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True, timeout=WAIT_SECONDS)
    with started(disk) as sidecar:
        _step(sidecar, account)
        assert sidecar.stop()[0] == 0
    assert account.faults(_kept(disk)) == []
    say(f"nobody may write: {refused} refused, {load.statuses[503]} while it could not be opened")


@pytest.mark.timed
def test_a_clock_that_jumps(tmp_path: Path, say: Say) -> None:
    moved, account, data = clock(tmp_path), Account(), tmp_path / "collector-data"
    for jumps in ((3600, -3600, 400 * _DAY), (-17000 * _DAY, 10 * _DAY)):
        moved.move(0)  # the start prunes what has expired today
        with started(tmp_path, environ=moved.environ) as sidecar:
            for seconds in (0, *jumps):
                moved.move(seconds)
                load = _step(sidecar, account)
                assert set(load.statuses) == set(load.ready) == {200}
                wait_until(lambda: not kept(data).waiting)
                assert metric(sidecar, "collector_spool_oldest_age_seconds") < at_most(5)
            assert sidecar.stop()[0] == 0
    years = {
        row[0][:4] for row in query(data / "store.db", "SELECT DISTINCT received FROM conferencing")
    }
    assert account.faults(kept(data)) == []
    assert len(years) >= 3, years
    assert run("ledger", "verify", "--data", data).code == 0
    say(f"clock: events of the years {sorted(years)}, {account.received():,} acknowledged")


def test_a_start_on_a_full_disk_that_widens(disk: Path) -> None:
    """The configuration that last ran cannot be read before there is room, so until then nothing is
    taken. Then the sidecar ends with 78 without storing or delivering anything. With
    `--allow-widening` it serves."""
    ballast, wider = disk / "ballast", {"COLLECTOR__SCHEMA": "conferencing"}
    with started(disk, environ={"COLLECTOR__SCHEMA": "web"}) as sidecar:
        assert sidecar.send(b"{}\n").status == 200
        assert sidecar.stop()[0] == 0
    fill(ballast)
    with started(disk, environ=wider) as sidecar:
        assert sidecar.send(b"{}\n").status == 503
        assert sidecar.admin("/readyz").status == 503
        ballast.unlink()
        assert sidecar.process.wait(WAIT_SECONDS) == 78
        assert sidecar.reader is not None
        sidecar.reader.join(WAIT_SECONDS)
        assert any("[E222]" in line for line in sidecar.log)
    spool = disk / "collector-data" / "spool.db"
    assert query(spool, "SELECT count(*), sum(received) FROM receipts") == [(1, 1)]
    with started(disk, "--allow-widening", environ=wider) as sidecar:
        assert sidecar.send(b"{}\n").status == 200


def test_a_first_start_on_a_full_disk(disk: Path) -> None:
    """The sidecar ends with 75, or serves once there is room; a later start works."""
    ballast = disk / "ballast"
    fill(ballast)
    ended = subprocess.run(COMMAND, cwd=disk, capture_output=True, check=False, timeout=120)
    assert ended.returncode == 75, ended.stderr
    assert b"Traceback" not in ended.stderr
    ballast.unlink()
    with started(disk) as sidecar:
        assert sidecar.send(b"{}\n").status == 200
