"""Files that are torn, damaged or missing after a kill. The sidecar starts, says what it set aside,
and delivers the rest of the spool to the store; intact batches are never lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from collector.sqlite.wal import last_commit
from tests.sidecar.account import Account, kept
from tests.support.command import run, run_process
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.delivery import held
from tests.support.failing_disk import metric
from tests.support.sidecar import FREE_PORTS, Sidecar, started

pytestmark = pytest.mark.long

_REQUESTS = 40
_FRAME_BYTES = 24 + 8192


def _send(sidecar: Sidecar, account: Account) -> None:
    parcel = account.parcel(Random().randint(1, 30), 1)
    answer = sidecar.send(parcel.body)
    parcel.answered(answer.status, answer.body)
    assert answer.status == 200


def _killed_with_batches(directory: Path) -> Account:
    """Leave acknowledged batches in the log of a spool whose sidecar was killed."""
    account = Account()
    with started(directory) as sidecar, held(directory / "collector-data" / "store.db"):
        for _ in range(_REQUESTS):
            _send(sidecar, account)
        sidecar.process.kill()
        sidecar.process.wait(WAIT_SECONDS)
    return account


def _torn(log: Path) -> None:
    """Append half a frame to the log, as a power cut leaves it."""
    with log.open("ab") as handle:
        handle.write(os.urandom(5000))


def _changed(log: Path) -> None:
    """Change a byte in the valid part: SQLite would ignore all frames from there on."""
    with log.open("r+b") as handle:
        handle.seek(_FRAME_BYTES * last_commit(log) // 2)
        byte = handle.read(1)[0]
        handle.seek(-1, os.SEEK_CUR)
        handle.write(bytes([byte ^ 0x55]))


def _ended(directory: Path, account: Account) -> tuple[dict[str, object], float]:
    """Run the sidecar for one event. Return what the ledger says then, and the number of files set
    aside."""
    with started(directory) as sidecar:
        damaged = metric(sidecar, "collector_spool_damaged_files")
        assert sidecar.admin("/readyz").status == 200
        _send(sidecar, account)
        wait_until(lambda: not kept(directory / "collector-data").waiting)
        assert sidecar.stop()[0] == 0
    assert ("spool_damaged" in {line["event"] for line in sidecar.events}) == bool(damaged)
    ended = run("ledger", "verify", "--data", directory / "collector-data", "--json")
    assert ended.code == 0, ended.err
    said: dict[str, object] = ended.json
    return said, damaged


@pytest.mark.parametrize(("harm", "is_damage"), [(_torn, False), (_changed, True)])
def test_a_log_that_is_torn_or_damaged(
    harm: Callable[[Path], None], is_damage: bool, tmp_path: Path
) -> None:
    """A torn log loses nothing. A damaged log loses no more than the damaged page held: later
    commits are there, the file is set aside, and the ledger says that its chain ended."""
    account, data = _killed_with_batches(tmp_path), tmp_path / "collector-data"
    before = kept(data)
    assert account.faults(before) == []
    harm(data / "spool.db-wal")
    said, damaged = _ended(tmp_path, account)
    found = kept(data)
    assert bool(damaged) == bool(said["breaks"]) == bool([*data.glob("*damaged*")]) == is_damage
    lost = [p for p in account.parcels if not all(found.stored[a] == 1 for a in p.addresses)]
    assert len(lost) <= (10 if is_damage else 0)
    assert account.parcels[-1] not in lost
    assert max(found.stored.values()) == 1


def test_a_log_that_is_removed_while_it_serves(tmp_path: Path) -> None:
    """It is open, and a stop writes it into the file: nothing is lost."""
    account, data = Account(), tmp_path / "collector-data"
    with started(tmp_path) as sidecar:
        with held(data / "store.db"):
            for number in range(_REQUESTS):
                if number == _REQUESTS // 2:
                    (data / "spool.db-wal").unlink()
                _send(sidecar, account)
        wait_until(lambda: metric(sidecar, "collector_spool_batches") == 0)
        assert sidecar.stop()[0] == 0
    _ended(tmp_path, account)
    stored = kept(data).stored
    assert all(stored[address] == 1 for p in account.parcels for address in p.addresses)


@pytest.mark.parametrize(
    ("name", "code"),
    [("spool.db", b"E203"), ("store.db", b"E501"), ("sinks/lake/segments.db", b"E501")],
)
@pytest.mark.parametrize("version", [0, 2])
def test_a_directory_of_an_unknown_format_is_refused(
    tmp_path: Path, name: str, code: bytes, version: int
) -> None:
    """The sidecar does not start (78), says why, and changes nothing. An unknown format is not
    damage, so nothing is set aside."""
    lake = {"COLLECTOR__SINKS__LAKE__TYPE": "parquet", "COLLECTOR__SINKS__LAKE__PATH": "lake"}
    data = tmp_path / "collector-data"
    with started(tmp_path, environ=lake) as sidecar:
        assert sidecar.send(b'{"ip": "203.0.113.7"}').status == 200
        assert sidecar.stop()[0] == 0
    query(data / name, f"PRAGMA user_version = {version}")
    if name == "spool.db":
        query(data / name, f"UPDATE about SET format = {version}")
    before = (data / name).read_bytes()
    done = run_process("serve", env=FREE_PORTS | lake, directory=tmp_path)
    assert done.code == 78, done.err
    assert code in done.err
    assert b"a format that this version of Collector does not know" in done.err
    assert (data / name).read_bytes() == before
    assert not [*data.glob("*damaged*")]
