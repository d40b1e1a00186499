"""Disks that are full, and writes that fail: nothing is acknowledged that is not kept, and it goes
on by itself."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.contracts import RequestKey
from collector.errors import ConfigError, DeliveryError
from collector.spool import Spool
from tests.conftest import required
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.failing_disk import fill
from tests.support.ledgers import check_ledger
from tests.support.make_batches import commit, drained, entry
from tests.support.programs import script, threads


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A real file system with room for 3 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, check=False, timeout=WAIT_SECONDS)
    if done.returncode:
        required("the right to mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, timeout=WAIT_SECONDS)


def _try(spool: Spool, number: int) -> bool:
    """Whether a number was acknowledged."""
    refusal = None
    try:
        commit(spool, entry(number, rejected={"malformed": 1}, text="x" * 2000))
    except DeliveryError as error:
        refusal = error
    assert refusal is None or (refusal.code, refusal.__context__) == ("E506", None)
    return refusal is None


def _check(path: Path, spool: Spool, acknowledged: list[int]) -> None:
    found = drained(spool)
    spool.close()
    assert len(found) == len(set(found))
    assert set(acknowledged) <= set(found)
    verified = check_ledger(path)
    assert not verified.breaks
    assert verified.received == 2 * verified.admitted == 2 * len(found)


def test_a_full_disk_that_is_freed_again(small: Path) -> None:
    """The spool takes entries again by itself when there is room."""
    path = small / "spool.db"
    spool = Spool(path, sinks=["sink"])
    acknowledged, refused, number = [], 0, 0
    for _ in range(3):
        for _ in range(20):
            number += 1
            if _try(spool, number):
                acknowledged.append(number)
        fill(small / "ballast")
        failures = 0
        while failures < 3:
            number += 1
            if _try(spool, number):
                acknowledged.append(number)
            else:
                failures += 1
        refused += failures
        (small / "ballast").unlink()
        number += 1
        while not _try(spool, number):
            number += 1
        acknowledged.append(number)
    assert spool.state().errors >= 3
    assert spool.state().damaged == 0
    assert refused >= 9
    _check(path, spool, acknowledged)


def test_what_was_refused_is_new_when_it_is_sent_again(small: Path) -> None:
    """Its key went with it; the key of what was kept did not."""
    kept, refused = RequestKey(b"k" * 16), RequestKey(b"r" * 16)
    with Spool(small / "spool.db", sinks=["sink"]) as spool:
        assert spool.put(entry(1), key=kept).result(WAIT_SECONDS) is None
        fill(small / "ballast")
        number = 2
        while _try(spool, number):
            number += 1
        with pytest.raises(DeliveryError):
            spool.put(entry(0, text="x" * 200_000), key=refused).result(WAIT_SECONDS)
        (small / "ballast").unlink()
        wait_until(lambda: _try(spool, -1))
        assert spool.put(entry(1), key=kept).result(WAIT_SECONDS) is not None
        assert spool.put(entry(0), key=refused).result(WAIT_SECONDS) is None
        assert drained(spool).count(0) == 1


def test_it_starts_on_a_full_disk(small: Path) -> None:
    path = small / "spool.db"
    with Spool(path, sinks=["sink"]) as spool:
        assert all(_try(spool, number) for number in range(5))
    fill(small / "ballast")
    with Spool(path, sinks=["sink"]) as spool:
        assert not _try(spool, 5) or spool.state().is_ready
        (small / "ballast").unlink()
        wait_until(lambda: spool.state().is_ready)
        wait_until(lambda: _try(spool, 6))
        assert {0, 1, 2, 3, 4, 6} <= set(drained(spool))
    fill(small / "ballast")
    for each in ("spool.db", "spool.db-wal", "spool.db-shm"):
        (small / each).unlink(missing_ok=True)
    fill(small / "more")
    with Spool(path, sinks=["sink"]) as spool:
        assert not _try(spool, 1)
        (small / "ballast").unlink()
        (small / "more").unlink()
        wait_until(lambda: _try(spool, 2))


def test_closing_on_a_full_disk_ends(small: Path) -> None:
    spool = Spool(small / "spool.db", sinks=["sink"])
    assert _try(spool, 1)
    fill(small / "ballast")
    while _try(spool, 2):
        pass
    spool.close()
    (small / "ballast").unlink()
    with Spool(small / "spool.db", sinks=["sink"]) as spool:
        assert 1 in drained(spool)


def test_a_read_only_directory(small: Path) -> None:
    Spool(small / "spool.db").close()
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True, timeout=WAIT_SECONDS)
    with pytest.raises(ConfigError, match="E203"):
        Spool(small / "spool.db")


_LIMITED = """
import resource, signal, sys
from pathlib import Path
from collector.spool import Spool
from tests.spool.test_faults import _check, _try
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
spool = Spool(path, sinks=["sink"])
acknowledged = [n for n in range(20) if _try(spool, n)]
refused = 0
for size in (100_000, 140_000, 200_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    for n in range(size, size + 25):
        if _try(spool, n):
            acknowledged.append(n)
        else:
            refused += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
n = 1_000_000
while not _try(spool, n):
    n += 1
acknowledged.append(n)
errors = spool.state().errors
_check(path, spool, acknowledged)
print(len(acknowledged), refused, errors)
"""


def test_writes_that_fail_beyond_a_size(tmp_path: Path) -> None:
    """To SQLite, this is an I/O error."""
    done = script(_LIMITED, tmp_path / "spool.db")
    acknowledged, refused, errors = map(int, done.stdout.split())
    assert refused > 10
    assert errors > 0
    assert acknowledged > 20


def test_everything_that_waits_is_refused_at_once(small: Path) -> None:
    with Spool(small / "spool.db", sinks=["sink"], limit=1 << 30) as spool:
        assert _try(spool, 1)
        fill(small / "ballast")
        outcomes: list[bool] = []
        with threads(*(lambda n=n: outcomes.append(_try(spool, n)) for n in range(2, 200))):
            pass
        assert len(outcomes) == 198
        assert not all(outcomes)
        (small / "ballast").unlink()
        wait_until(lambda: _try(spool, 1000))


_HOLDING = """
import sys
from collector.spool import Spool
spool = Spool(sys.argv[1])
print(1, flush=True)
sys.stdin.read()
"""


def test_two_processes_on_one_directory(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDING, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        with pytest.raises(ConfigError, match="in use"):
            Spool(path)
        process.send_signal(signal.SIGKILL)
    Spool(path).close()


def test_a_file_that_is_lost_while_it_is_open(path: Path) -> None:
    """What comes later is delivered, though its numbers begin anew."""
    with Spool(path, sinks=["sink"]) as spool:
        commit(spool, *map(entry, range(9)))
        drained(spool)
        for each in path.parent.glob(f"{path.name}*"):
            each.unlink()
        spool._fail(OSError())
        wait_until(lambda: spool.state().errors == 1 and spool.state().is_ready)
        commit(spool, entry(10), entry(11))
        assert drained(spool) == [10, 11]
