"""``kill -9`` at random moments: what was acknowledged is there, once, and nothing else is."""

from __future__ import annotations

import os
import random
import re
import time
from pathlib import Path

import orjson
import pytest

from collector.spool import Spool
from tests.spool.killed import FIRST_LARGE, LARGE, SINKS, drain, send
from tests.support.deadline import WAIT_SECONDS
from tests.support.forkserver import begin
from tests.support.ledgers import check_ledger
from tests.support.make_batches import drained

ROUNDS = int(os.environ.get("COLLECTOR_KILLS", "20"))
ROOT = Path(__file__).parents[2]


def _killed(
    folder: Path, start: int, seconds: float, *words: str, said: bytes = b"<.+\n", times: int
) -> str:
    """What a process said that was killed so long after it had said something so many times, its
    first words in any case, however busy the machine is."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as output, Path(os.devnull).open("rb") as nothing:
        try:
            streams = (nothing.fileno(), writing, 2)
            arguments = [str(folder), str(start), *words]
            process = begin("tests.spool.killed", arguments, streams, ROOT, os.environ)
        finally:
            os.close(writing)
        heard = os.read(reading, 1 << 16)
        while len(re.findall(said, heard)) < times and (piece := os.read(reading, 1 << 16)):
            heard += piece
        time.sleep(seconds)
        process.kill()
        process.wait(WAIT_SECONDS)
        return (heard + output.read()).decode()


def _files(folder: Path) -> list[int]:
    """The numbers in the file and those before it."""
    paths = [path for path in folder.glob("out.ndjson*") if path.suffix != ".state"]
    lines = b"".join(path.read_bytes() for path in paths)
    return [orjson.loads(line)["n"] for line in lines.splitlines()]


@pytest.mark.long
def test_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    """Two sinks drain at different paces. When all is sent again, exactly what is not there is
    new."""
    acknowledged: set[int] = set()
    sent: set[int] = set()
    under_way = 0
    for number in range(ROUNDS):
        seconds, times = random.uniform(0, 0.02), 2 * (number % 20)
        said = _killed(tmp_path, number * 1_000_000, seconds, times=times).splitlines()
        sent |= {int(line[1:]) for line in said if line[0] == ">"}
        done = {int(line[1:]) for line in said if line[0] == "<"}
        under_way += bool(sent - done)
        acknowledged |= done
    with Spool(tmp_path / "spool.db", sinks=SINKS) as spool:
        assert (spool.state().damaged, spool.state().errors) == (0, 0)
        slow = drained(spool, "slow")
        drain(spool, tmp_path, 0)
    filed = _files(tmp_path)
    for found in (slow, filed):
        assert len(found) == len(set(found)), "twice"
        assert acknowledged <= set(found), "lost"
        assert set(found) <= sent, "made up"
    assert set(slow) == set(filed)
    verified = check_ledger(tmp_path / "spool.db")
    assert not verified.breaks
    assert verified.admitted == len(slow)
    assert verified.received == 2 * len(slow)
    with Spool(tmp_path / "spool.db", sinks=["again"]) as spool:
        again = [(number, send(spool, number)) for number in sorted(sent)]
        new = [number for number, future in again if future.result(WAIT_SECONDS) is None]
        assert set(new) == sent - set(slow)
        assert drained(spool, "again") == new
    print(f"{ROUNDS} kills, {under_way} with puts under way, {len(acknowledged)} acknowledged")
    assert len(acknowledged) > 10 * ROUNDS
    assert under_way >= ROUNDS // 2


@pytest.mark.long
def test_a_large_request_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    acknowledged: set[int] = set()
    sent: set[int] = set()
    under_way, folder = 0, tmp_path
    for number in range(ROUNDS):
        start, seconds = number * 1_000_000, random.uniform(0, 0.3)
        heard = _killed(folder, start, seconds, "large", said=rb"<\d{13}\n", times=number % 2)
        said = heard.splitlines()
        begun = {int(line[1:]) for line in said if line[0] == ">"}
        done = {int(line[1:]) for line in said if line[0] == "<"}
        sent, acknowledged = sent | begun, acknowledged | done
        under_way += any(each >= FIRST_LARGE for each in begun - done)
    with Spool(folder / "spool.db", sinks=SINKS) as spool:
        assert (spool.state().damaged, spool.state().errors) == (0, 0)
        found = drained(spool, "slow")
    large = sorted(each for each in found if each >= FIRST_LARGE)
    firsts = [each for each in large if each % LARGE == 0]
    assert large == [each for first in firsts for each in range(first, first + LARGE)]
    there = {*firsts, *(each for each in found if each < FIRST_LARGE)}
    assert acknowledged <= there <= sent
    verified = check_ledger(folder / "spool.db")
    assert verified.admitted == len(found) == len(set(found))
    print(f"{ROUNDS} kills, {under_way} under way, {len(firsts)} large requests whole")
    assert under_way > 0
    assert firsts
