"""``collector ledger``: receipts on stdout, flaws on stderr, and the exit code of the outcome."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import orjson
import pytest

from collector.spool import Spool
from tests.cli.process import run
from tests.spool.make import drained, entry


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with three receipts."""
    with Spool(tmp_path / "spool.db", sinks=["sink"]) as spool:
        for n in range(3):
            spool.put(entry(n, rejected={"malformed": 1}, text="canary")).result()
        drained(spool)
    return tmp_path


def test_show(data: Path) -> None:
    """A table of the newest for people, whole receipts as JSON."""
    shown = run("ledger", "show", "--data", data, "--last", 2)
    assert shown.code == 0
    assert shown.err == b""
    lines = shown.out.decode().splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["2", "3"]
    assert "1 malformed" in lines[1]
    listed = orjson.loads(run("ledger", "show", "--data", data, "--last", 0, "--json").out)
    assert [receipt["sequence"] for receipt in listed] == [1, 2, 3]
    assert listed[0]["rejected"] == {"malformed": 1}
    assert listed[1]["previous"] == listed[0]["hash"]


def test_verify_holds(data: Path) -> None:
    """Sums, the tip, and exit 0; also while a process has it open."""
    with Spool(data / "spool.db"):
        done = run("ledger", "verify", "--data", data)
    assert done.code == 0
    out = done.out.decode().splitlines()
    assert out[0] == "3 receipts: 6 received = 3 admitted + 3 rejected"
    assert out[-1] == "the ledger holds"
    told = orjson.loads(run("ledger", "verify", "--data", data, "--json").out)
    assert told["ok"] is True
    assert (told["receipts"], told["received"], told["admitted"]) == (3, 6, 3)
    assert told["tip"]["hash"] in out[-2]


def test_verify_fails(data: Path) -> None:
    """Exit 1, and where."""
    db = sqlite3.connect(data / "spool.db")
    db.execute("DELETE FROM receipts WHERE sequence = 2")
    db.commit()
    db.close()
    done = run("ledger", "verify", "--data", data)
    assert done.code == 1
    assert b"receipt 3: receipt 2 is missing before it" in done.err
    assert b"does not hold" in done.out
    told = run("ledger", "verify", "--data", data, "--json")
    assert told.code == 1
    flaws = orjson.loads(told.out)["flaws"]
    assert flaws == [{"sequence": 3, "message": "receipt 2 is missing before it"}]


def test_a_noted_tip(data: Path) -> None:
    """It holds as long as that receipt is there."""
    first = orjson.loads(run("ledger", "show", "--data", data, "--json").out)[0]["hash"]
    assert run("ledger", "verify", "--data", data, "--noted", first).code == 0
    assert run("ledger", "verify", "--data", data, "--noted", "00" * 32).code == 1
    assert run("ledger", "verify", "--data", data, "--noted", "nonsense").code == 2


def test_damage_is_told(data: Path) -> None:
    """A file that was set aside, and the chain that began then."""
    path = data / "spool.db"
    path.write_bytes(path.read_bytes()[:20_000])
    with Spool(path, sinks=["sink"]) as spool:
        spool.put(entry(9)).result()
    done = run("ledger", "verify", "--data", data)
    assert done.code == 0
    assert b"a new chain begins at receipt" in done.out
    assert b"1 damaged files were set aside" in done.out


def test_directories_that_cannot_be_used(tmp_path: Path) -> None:
    """No spool there is exit 78; one that cannot be read is a failed check, and shows nothing."""
    assert run("ledger", "verify", "--data", tmp_path / "none").code == 78
    (tmp_path / "spool.db").write_bytes(b"canary")
    done = run("ledger", "verify", "--data", tmp_path)
    assert done.code == 1
    assert b"[E507]" in done.err
    assert b"canary" not in done.err + done.out
