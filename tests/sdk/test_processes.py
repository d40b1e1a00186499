"""Threads, forks, crashes and exits: every admitted record arrives once, and the tallies add up."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from collector.sdk import Collector
from tests.sdk.accounts import address, both_ways, spool_of
from tests.sdk.program import run_code
from tests.sdk.stores import addresses
from tests.support.deadline import WAIT_SECONDS
from tests.support.programs import threads
from tests.support.rows import for_each

_THREADS, _EACH = 8, int(os.environ.get("COLLECTOR_SDK_EVENTS", "2000"))
_MINUTES = 120.0


def test_threads(tmp_path: Path) -> None:
    """Eight of them, thousands of events each: all are delivered, each once."""
    path, total = tmp_path / "t.ndjson", _THREADS * _EACH
    with Collector(to=f"ndjson:///{path}", queue=total, exit_timeout=_MINUTES) as telemetry:

        def run(first: int) -> None:
            for number in range(first, first + _EACH):
                assert telemetry.emit({"ip": address(number), "chat": "not kept"})

        with threads(*(partial(run, n * _EACH) for n in range(_THREADS))):
            pass
    account = telemetry.tally()
    assert account.received == account.admitted == account.delivered == total
    assert account.content == {"chat": total}
    files = [path, *tmp_path.glob("t.ndjson.[0-9]*")]
    found = [line.split(b'"')[7] for file in files for line in file.read_bytes().splitlines()]
    assert len(found) == len(set(found)) == total


_CHILD = """
import logging, os, sys, threading, time, warnings
from collector import Collector
from collector.sdk import client

# On a machine that stands still nothing is cut short, and that another process has the file for
# longer than it should is no news.
os.environ["COLLECTOR_SDK_EXIT_TIMEOUT"], client._FORK_SECONDS = "60", 60
logging.getLogger("collector.sdk").addHandler(logging.NullHandler())
warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # of fork, since Python 3.12
to, spool = sys.argv[1], sys.argv[2] or None
def emit(telemetry, first, number):
    for at in range(first, first + number):
        assert telemetry.emit({"ip": f"10.0.{at >> 8}.{at & 255}"})
"""


def _run(code: str, to: str, spool: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run_code(_CHILD + code, to, spool or "")


def _ways(*often: tuple[str, bool]) -> pytest.MarkDecorator:
    """Every type of sink with and without a spool; the others only with the slower tests."""
    return pytest.mark.parametrize(
        ("scheme", "with_spool"),
        [
            pytest.param(*each, marks=() if each in often else pytest.mark.long)
            for each in product(("sqlite", "ndjson"), (False, True))
        ],
    )


@_ways(("sqlite", True), ("ndjson", False))
def test_fork(tmp_path: Path, scheme: str, with_spool: bool) -> None:
    """Parent and children emit before and after; each delivers its own records only."""
    path = tmp_path / ("t.db" if scheme == "sqlite" else "t.ndjson")
    code = """
with Collector(to=to, spool=spool, interval=0.05) as telemetry:
    emit(telemetry, 0, 100)
    children = []
    for child in range(3):
        pid = os.fork()
        if not pid:
            assert telemetry.tally().received == 0
            emit(telemetry, 100 + child * 100, 100)
            assert telemetry.close(50), telemetry.tally()
            account = telemetry.tally()
            assert account.admitted == account.delivered + account.spooled == 100, account
            os._exit(0)
        children.append(pid)
    emit(telemetry, 400, 100)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    assert telemetry.close(50)
account = telemetry.tally()
assert account.admitted + account.recovered == 200 == account.delivered, account
"""
    done = _run(code, f"{scheme}:///{path}", spool_of(tmp_path, with_spool))
    assert (done.returncode, done.stderr) == (0, "")
    assert addresses(path) == sorted(f"10.0.{at >> 8}.{at & 255}" for at in range(500))


@_ways(("sqlite", False), ("ndjson", True))
def test_the_parent_of_a_fork_closes_first(tmp_path: Path, scheme: str, with_spool: bool) -> None:
    """What the child emits before and after that is delivered; it can have the parent's spool."""
    path = tmp_path / ("t.db" if scheme == "sqlite" else "t.ndjson")
    code = """
telemetry = Collector(to=to, spool=spool, interval=0)
emit(telemetry, 0, 20)
assert telemetry.flush(50)
reading, writing = os.pipe()
pid = os.fork()
if not pid:
    if not spool:
        emit(telemetry, 20, 20)
        assert telemetry.flush(50)
    os.close(writing)
    os.read(reading, 1)
    emit(telemetry, 40, 20)
    assert telemetry.close(50) if spool else telemetry.flush(50)
    assert not spool or os.listdir(spool) == ["0"]
    os._exit(0)
assert telemetry.close(50)
os.close(writing)
assert os.waitpid(pid, 0)[1] == 0
"""
    done = _run(code, f"{scheme}:///{path}", spool_of(tmp_path, with_spool))
    assert (done.returncode, done.stderr) == (0, "")
    found = addresses(path)
    assert len(found) == len(set(found)) == (40 if with_spool else 60)


@both_ways
def test_a_fork_waits_for_a_delivery(tmp_path: Path, with_spool: bool) -> None:
    """A child that inherited half a transaction would find the store locked for ever."""
    code = """
from collector.sinks.store import StoreSink

inside, insert = threading.Event(), StoreSink._insert

def insert_slowly(*args, **kwargs):
    added = insert(*args, **kwargs)
    inside.set()
    time.sleep(0.2)
    return added

StoreSink._insert = insert_slowly
telemetry = Collector(to=to, spool=spool, interval=0)
emit(telemetry, 0, 1)
assert inside.wait(50)
pid = os.fork()
if not pid:
    emit(telemetry, 1, 1)
    assert telemetry.close(50), telemetry.tally()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert telemetry.close(50)
"""
    path = tmp_path / "t.db"
    done = _run(code, f"sqlite:///{path}", spool_of(tmp_path, with_spool))
    assert (done.returncode, done.stderr) == (0, "")
    assert addresses(path) == ["10.0.0.0", "10.0.0.1"]


@pytest.mark.parametrize(
    "method",
    ["fork", *(pytest.param(each, marks=pytest.mark.long) for each in ("spawn", "forkserver"))],
)
def test_multiprocessing(tmp_path: Path, method: str) -> None:
    """Workers of a pool end without closing anything; their records are delivered."""
    path = tmp_path / "t.ndjson"
    with Collector(to=f"ndjson:///{path}") as telemetry:
        telemetry.emit({"ip": "10.9.9.9"})
        context: Any = multiprocessing.get_context(method)
        workers = [context.Process(target=_work, args=(telemetry, n)) for n in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(WAIT_SECONDS)
        assert [worker.exitcode for worker in workers] == [0, 0]
    assert addresses(path) == sorted(
        ["10.9.9.9", *(f"10.0.{n}.{at}" for n in (0, 1) for at in range(50))]
    )


def _work(telemetry: Collector, number: int) -> None:
    for at in range(50):
        assert telemetry.emit({"ip": f"10.0.{number}.{at}"})


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "sys.exit(0)",
        "raise RuntimeError",
        "threading.Thread(target=lambda: (time.sleep(0.1), emit(telemetry, 100, 5))).start()",
        "import atexit; atexit.register(lambda: emit(telemetry, 100, 5))",
    ],
    ids=["end", "exit", "exception", "thread", "atexit"],
)
def test_the_end_of_a_process(tmp_path: Path, ending: str) -> None:
    """The process ends without ``close``: its records are delivered."""
    path = tmp_path / "t.db"
    code = f"""
telemetry = Collector(to=to, interval=3600)
emit(telemetry, 0, 100)
{ending}
"""
    done = _run(code, f"sqlite:///{path}")
    more = 5 if "emit" in ending else 0
    assert done.returncode == ("raise" in ending)
    assert done.stderr.count("Traceback") == ("raise" in ending)
    assert len(addresses(path)) == 100 + more


def test_emitting_after_the_end(tmp_path: Path) -> None:
    """A late destructor emits after the end: ``emit`` returns ``False``, and nothing else
    happens."""
    code = """
class Late:
    def __init__(self, telemetry):
        self.telemetry = telemetry
    def __del__(self):
        print(self.telemetry.emit({"ip": "::1"}))

telemetry = Collector(to=to)
emit(telemetry, 0, 1)
import builtins
builtins.late = Late(telemetry)
"""
    done = _run(code, f"sqlite:///{tmp_path}/t.db")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout in ("False\n", "")
    assert len(addresses(tmp_path / "t.db")) == 1


@for_each("ending", ["os.kill(os.getpid(), 15)", "os.kill(os.getpid(), 9)", "os._exit(3)"])
def test_a_crash_with_a_spool(tmp_path: Path, ending: str) -> None:
    """Every record from before the last flush is delivered once by the next process."""
    path, spool = tmp_path / "t.db", tmp_path / "spool"
    code = f"""
telemetry = Collector(to=to, spool=spool)
emit(telemetry, 0, 500)
assert telemetry.flush(30)
emit(telemetry, 500, 100)
{ending}
"""
    done = _run(code, f"sqlite:///{path}", spool)
    assert done.returncode not in (0, 1)
    with Collector(to=f"sqlite:///{path}", spool=spool) as telemetry:
        recovered = telemetry.tally().recovered
        assert telemetry.close(50)
    found = addresses(path)
    assert len(found) == len(set(found)) >= 500
    assert telemetry.tally().delivered == recovered
    expected = [f"10.0.{at >> 8}.{at & 255}" for at in range(600)]
    assert set(expected[:500]) <= set(found) <= set(expected)


def test_several_processes_share_a_spool(tmp_path: Path) -> None:
    """Each has a subdirectory of its own; a free one is used again."""
    spool, path = tmp_path / "spool", tmp_path / "t.db"
    first = Collector(to=f"sqlite:///{path}", spool=spool)
    second = Collector(to=f"sqlite:///{path}", spool=spool)
    for number, telemetry in enumerate((first, second)):
        assert telemetry.emit({"ip": f"10.0.0.{number}"})
        assert telemetry.close(50)
    assert sorted(each.name for each in spool.iterdir()) == ["0", "1"]
    with Collector(to=f"sqlite:///{path}", spool=spool) as third:
        third.emit({"ip": "10.0.0.2"})
    assert sorted(each.name for each in spool.iterdir()) == ["0", "1"]
    assert addresses(path) == ["10.0.0.0", "10.0.0.1", "10.0.0.2"]
    assert json.dumps(third.tally().as_dict())
