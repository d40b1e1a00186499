"""Writes and syncs fail while a sidecar serves. Nothing acknowledged is lost, nothing refused is
kept, and each received event is stored, spooled or rejected at every step.

``COLLECTOR_FAULTS`` is the number of additional lives with a random fault (3).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from time import monotonic

import orjson
import pytest

from tests.sidecar.account import Account, kept
from tests.support.deadline import WAIT_SECONDS, eventually, wait_until
from tests.support.delivery import delivered
from tests.support.failing_disk import Fault, Say, Tracer, failures, metric, sending
from tests.support.sidecar import Sidecar, started

pytestmark = pytest.mark.long

_LIVES = int(os.environ.get("COLLECTOR_FAULTS", "3"))
_STEP_SECONDS = 0.3
_LONGEST_SECONDS = WAIT_SECONDS

_SPOOL = ("spool.db", "spool.db-wal")
_STORE = ("store.db", "store.db-wal")
_LINES = ("records.ndjson", "records.ndjson.state")
_INDEXES = ("spool.db-shm", "store.db-shm")


def _check(sidecar: Sidecar, account: Account) -> None:
    """Check what is kept while no request is under way: it adds up, in metrics too."""
    found = kept(sidecar.directory / "collector-data")
    assert account.faults(found) == []
    assert metric(sidecar, "collector_events_total{") == account.received()


def _tracer(directory: Path, files: Sequence[str], *faults: Fault) -> Tracer:
    paths = [directory / "collector-data" / name for name in files]
    return Tracer(directory / "strace.log", paths, faults)


def _through(sidecar: Sidecar, account: Account, tracer: Tracer) -> Counter[str]:
    """Send until each fault has occurred and is over; check the books at every step. Return how
    many requests got which answer, and how often health had which state."""
    seen, end = Counter[str](), monotonic() + _LONGEST_SECONDS
    while True:
        with sending(sidecar, account, Random()) as load:
            load.ended.wait(_STEP_SECONDS)
        _check(sidecar, account)
        seen["steps"] += 1
        seen.update({str(status): times for status, times in load.statuses.items()})
        seen.update({f"ready {status}": times for status, times in load.ready.items()})
        is_over = tracer.over and set(load.statuses) == {200}
        if is_over and eventually(lambda: not kept(sidecar.directory / "collector-data").waiting):
            return seen
        assert monotonic() < end, f"it does not go on by itself: {tracer.counted()}"


@pytest.mark.parametrize(
    "faults",
    [
        (Fault("pwrite64", "ENOSPC", 60, 66), Fault("fdatasync", "EIO", 30, 34)),
        (Fault("pwrite64", "EIO", 60, 66), Fault("fdatasync", "ENOSPC", 30, 34)),
    ],
)
def test_a_spool_that_cannot_be_written(
    faults: tuple[Fault, Fault], tmp_path: Path, say: Say
) -> None:
    """It answers 503 and is not ready meanwhile, then takes requests again by itself."""
    account, tracer = Account(), _tracer(tmp_path, _SPOOL, *faults)
    with started(tmp_path, command=tracer.command) as sidecar:
        seen = _through(sidecar, account, tracer)
        assert metric(sidecar, "collector_spool_errors_total") > 0
        assert metric(sidecar, "collector_spool_damaged_files") == 0
        assert sidecar.stop()[0] == 0
    found = kept(tmp_path / "collector-data")
    assert account.faults(found) == []
    assert not found.waiting
    say(f"spool: {dict(tracer.counted())}; {dict(seen)}")
    assert seen["503"]
    assert seen["ready 503"]


@pytest.mark.parametrize(
    ("sink", "files", "faults"),
    [
        (
            "store",
            _STORE,
            (Fault("pwrite64", "ENOSPC", 20, 21), Fault("fdatasync", "EIO", 9, 10)),
        ),
        (
            "ndjson",
            _LINES,
            (Fault("pwrite64", "EIO", 20, 21), Fault("fsync", "ENOSPC", 30, 31)),
        ),
    ],
)
def test_a_sink_that_cannot_be_written(
    sink: str, files: Sequence[str], faults: tuple[Fault, Fault], tmp_path: Path, say: Say
) -> None:
    """Acknowledged records wait in the spool, and reach the sink once, without intervention."""
    account, tracer = Account(), _tracer(tmp_path, files, *faults)
    lines = tmp_path / "collector-data" / "records.ndjson"
    environ = {"COLLECTOR__SINKS__NDJSON__PATH": str(lines)}
    with started(tmp_path, command=tracer.command, environ=environ) as sidecar:
        seen = _through(sidecar, account, tracer)
        assert failures(sidecar, sink) > 0
        delivered(sidecar)  # to the file, too
        assert sidecar.stop()[0] == 0, sidecar.log
    found = kept(tmp_path / "collector-data")
    assert account.faults(found) == []
    assert not found.waiting
    say(f"{sink}: {dict(tracer.counted())}; {dict(seen)}")
    assert not seen["503"]
    assert not seen["ready 503"]
    records = map(orjson.loads, lines.read_bytes().splitlines())
    assert Counter(record["client.address"] for record in records) == found.stored


def _drawn(random: Random) -> tuple[Sequence[str], list[Fault]]:
    """Draw a persistent fault of some files from some time on, and perhaps one more for the next
    open. The first calls of a thread are its start, which may fail in other ways."""
    files = random.choice((_SPOOL, _STORE, _INDEXES, (*_SPOOL, *_STORE, *_INDEXES)))
    if files is _INDEXES:
        call, first = "pwrite64", random.randint(1, 9)
    else:
        call = random.choice(("pwrite64", "fdatasync"))
        first = random.randint(12, 120 if call == "pwrite64" else 40)
    faults = [Fault(call, random.choice(("ENOSPC", "EIO")), first, 9999)]
    if random.random() < 0.5:
        call, error, first = random.choice(
            (("openat", "EMFILE", 20), ("openat", "ENOSPC", 20), ("unlink", "EIO", 3))
        )
        faults.append(Fault(call, error, first, 9999))
    return files, faults


def test_killed_while_writes_fail(tmp_path: Path, say: Say) -> None:
    """Kill it during the fault; after the next start, everything acknowledged is there."""
    random, account, hits = Random(), Account(), Counter[str]()
    data = tmp_path / "collector-data"
    with started(tmp_path) as sidecar:
        assert sidecar.stop()[0] == 0
    lives = 0
    while lives < _LIVES or not hits:  # some faults do not occur in the available time
        lives += 1
        files, faults = _drawn(random)
        tracer = _tracer(tmp_path, files, *faults)
        serving = started(tmp_path, command=tracer.command)
        with serving as sidecar, sending(sidecar, account, random) as load:
            eventually(tracer.counted, 2.0)
            load.ended.wait(random.uniform(0, 0.5))
            sidecar.process.kill()
            sidecar.process.wait(WAIT_SECONDS)
        hits.update(tracer.counted())
        assert account.faults(kept(data)) == [], faults
        with started(tmp_path) as sidecar, sending(sidecar, account, random) as load:
            wait_until(lambda: load.statuses)
        assert set(load.statuses) == {200}
    with started(tmp_path) as sidecar:
        wait_until(lambda: not kept(data).waiting)
        assert sidecar.stop()[0] == 0
    say(f"killed {lives} times while writes failed: {dict(hits)}")
    found = kept(data)
    assert account.faults(found) == []
    assert list(data.glob("*damaged*")) == []
