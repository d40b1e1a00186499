"""``kill -9`` at random moments under load: everything acknowledged stays, once, and nothing else.

``COLLECTOR_KILLS`` is the number of kills (4; ``make nightly`` sets 1,000). A data directory lives
through 25 of them. Parallel test processes run several directories at a time.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import monotonic, sleep

import pytest

from tests.sidecar.account import Account, Kept, kept
from tests.sidecar.clients import clients
from tests.support.command import run
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.delivery import held
from tests.support.sidecar import COMMAND, FREE_PORTS, Sidecar, started

pytestmark = pytest.mark.long

_KILLS = int(os.environ.get("COLLECTOR_KILLS", "4"))
_LIVES = 25
_MOST_LOAD_SECONDS = 0.25
_START_SECONDS = 1.0


@dataclass
class Kills:
    """How many kills there were, and when they hit."""

    all: int = 0
    inside: int = 0
    whole: int = 0
    starts: int = 0

    def under_load(self, sidecar: Sidecar, account: Account, random: Random) -> None:
        """Let clients send for a while, then kill the sidecar."""
        senders = clients(sidecar, account, random)
        for client in senders:
            client.start()
        wait_until(lambda: any(client.began for client in senders))
        sleep(random.uniform(0.02, _MOST_LOAD_SECONDS))
        at = monotonic()
        sidecar.process.kill()
        sidecar.process.wait(WAIT_SECONDS)
        for client in senders:
            client.join(WAIT_SECONDS)
            assert not client.is_alive()
        self.all += 1
        self.inside += any(0 < client.began <= at for client in senders)
        self.whole += any(0 < client.whole <= at for client in senders)

    def while_starting(self, directory: Path, random: Random) -> None:
        """Start the sidecar, and kill it at a random moment of its start."""
        nowhere = subprocess.DEVNULL
        process = subprocess.Popen(
            COMMAND, cwd=directory, env=os.environ | FREE_PORTS, stdout=nowhere, stderr=nowhere
        )
        sleep(random.uniform(0.2, _START_SECONDS))
        process.kill()
        process.wait(WAIT_SECONDS)
        self.starts += 1

    def __str__(self) -> str:
        return (
            f"{self.all} kills under load, {self.inside} of them between a request's first byte and"
            f" its answer ({self.whole} with all of it sent); {self.starts} more while starting"
        )


def _passes(sidecar: Sidecar, account: Account) -> Kept:
    """Check that a new event is acknowledged and stored in time. Return what the directory then
    holds."""
    parcel = account.parcel()
    answer = sidecar.send(parcel.body)
    parcel.answered(answer.status, answer.body)
    assert answer.status == 200
    data = sidecar.directory / "collector-data"
    wait_until(lambda: parcel.addresses[0] in kept(data).stored)
    return kept(data)


@pytest.mark.parametrize("life", range(-(-_KILLS // _LIVES)))
def test_nothing_acknowledged_is_lost(
    life: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random, account, kills = Random(), Account(), Kills()
    data = tmp_path / "collector-data"
    for _ in range(min(_LIVES, _KILLS - life * _LIVES)):
        with started(tmp_path) as sidecar:
            found = _passes(sidecar, account)
            assert account.faults(found) == []
            assert not found.waiting
            kills.under_load(sidecar, account, random)
        if random.random() < 0.25:
            kills.while_starting(tmp_path, random)
    with started(tmp_path) as sidecar:
        _passes(sidecar, account)
        assert sidecar.stop()[0] == 0
    found = kept(data)
    assert account.faults(found) == []
    ended = run("ledger", "verify", "--data", data, "--json")
    assert ended.code == 0, ended.err
    said = ended.json
    rejected = sum(said["rejected"].values())
    assert said["received"] == found.stored.total() + rejected
    assert list(data.glob("*damaged*")) == []
    unanswered = account.unanswered(found)
    with capsys.disabled():
        print(
            f"\n{kills}; {account.received():,} of {said['received']:,} events acknowledged,"
            f" {unanswered} requests kept without an answer; {found.stored.total():,} stored +"
            f" {rejected:,} rejected",
            file=sys.stderr,
        )
    assert {parcel.answer for parcel in account.parcels} <= {0, 200}
    assert account.received() > 0
    assert 2 * kills.inside >= kills.all


def _changed(data: Path, *statements: str) -> Kept:
    """Copy a directory, change the copy's store, and return what it holds."""
    copy = data.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(data, copy)
    with closing(sqlite3.connect(copy / "store.db")) as store:
        for statement in statements:
            store.execute(statement)
        store.commit()
    return kept(copy)


def test_the_account_sees_what_is_wrong(tmp_path: Path) -> None:
    """The account reports rows that are lost, doubled, foreign or incomplete."""
    account = Account()
    with started(tmp_path) as sidecar:
        for answer in (0, 200, 503):
            parcel = account.parcel(2, bad=1)
            sidecar.send(parcel.body)
            parcel.answer = answer
        _passes(sidecar, account)
        assert sidecar.stop()[0] == 0
    data = tmp_path / "collector-data"
    unanswered, acknowledged, refused, _ = (each.addresses[0] for each in account.parcels)
    assert account.faults(kept(data)) == [f"{refused} and so on: refused and kept"]
    account.parcels[2].answer = 200
    assert account.faults(kept(data)) == []
    where = 'FROM conferencing WHERE "client.address" ='
    sums = "received 10 is not stored 6 + spooled 0 + rejected 3"
    for statement, expected in {
        f"DELETE {where} '{acknowledged}'": [f"{acknowledged} and so on: acknowledged and lost"],
        f"DELETE {where} '{unanswered}'": [f"{unanswered} and so on: kept in part"],
    }.items():
        faults = account.faults(_changed(data, statement))
        assert [each for each in faults if "ledger" not in each] == [*expected, sums]
    twice = "UPDATE conferencing SET count = 2"
    assert f"{acknowledged} and so on: kept more than once" in account.faults(_changed(data, twice))
    foreign = f"UPDATE conferencing SET \"client.address\" = '::1' {where[17:]} '{acknowledged}'"
    faults = account.faults(_changed(data, foreign))
    assert "::1: never sent" in faults
    assert f"{acknowledged} and so on: acknowledged and lost" in faults


@contextmanager
def _unchanged(path: Path) -> Iterator[None]:
    """Read a database during the block, which keeps writes in its log."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as db:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM batches").fetchone()
        yield


def test_a_spool_that_forgets_is_found_out(tmp_path: Path) -> None:
    """Acknowledged batches wait in the spool. After a kill its log is deleted; the account misses
    them."""
    account = Account()
    data = tmp_path / "collector-data"
    with started(tmp_path) as sidecar:
        _passes(sidecar, account)
        with held(data / "store.db"), _unchanged(data / "spool.db"):
            lost = account.parcel(3)
            answer = sidecar.send(lost.body)
            lost.answered(answer.status, answer.body)
            assert lost.answer == 200
            sidecar.process.kill()
            sidecar.process.wait(WAIT_SECONDS)
    assert kept(data).waiting.total() == 3
    (data / "spool.db-wal").unlink()
    with started(tmp_path) as sidecar:
        faults = account.faults(_passes(sidecar, account))
    assert f"{lost.addresses[0]} and so on: acknowledged and lost" in faults
