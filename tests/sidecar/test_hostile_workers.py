"""A hostile program replaces a worker. The others go on, the keeper stays small, and nothing false
is kept.

``tests/server/test_keeper.py`` tests the effect of each single message.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from time import monotonic, sleep

import pytest

from collector.claims.verification import check
from collector.config import examine
from collector.testing import canaries, scan
from tests.sidecar.account import kept
from tests.sidecar.hostile import CANARY, FLOODS
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.failing_disk import metric
from tests.support.processes import command
from tests.support.sidecar import Sidecar, started

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="memory is read from /proc"
)

_SECONDS = 3.0
_MOST_MB = 256
_EVENT = b'{"ip_address": "203.0.113.9", "device": {"type": "phone"}}\n'
_SHORT = ("content", "arbitrary bytes")
"""The floods that the usual tests include."""
_ROOT = Path(__file__).parents[2]


def _peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _served(sidecar: Sidecar) -> Counter[int]:
    """Statuses of senders during the flood; it lasts longer on a busy machine."""
    found: Counter[int] = Counter()
    end = monotonic() + _SECONDS
    while monotonic() < end or (found[200] < 5 and monotonic() < end + WAIT_SECONDS):
        found[sidecar.send(_EVENT).status] += 1
        sleep(0.02)
    return found


def _is_distrusted(sidecar: Sidecar) -> bool:
    return any(each["event"] == "worker_distrusted" for each in sidecar.events)


@pytest.mark.long
@pytest.mark.parametrize(
    "flood",
    [each if each in _SHORT else pytest.param(each, marks=pytest.mark.long) for each in FLOODS],
)
def test_nothing_of_a_lie_is_stored(flood: str, tmp_path: Path) -> None:
    """One of two workers floods the keeper. The other is served, every row is valid, the counts add
    up, the log is short, and the keeper's memory is bounded."""
    before = f"from tests.sidecar import hostile\nhostile.take_place({str(tmp_path)!r}, {flood!r})"
    settings = {"COLLECTOR__WORKERS": "2", "COLLECTOR__SANDBOX": "off", "PYTHONPATH": str(_ROOT)}
    program = command(tmp_path, before)
    with started(tmp_path, environ=settings, command=program) as sidecar:
        statuses = _served(sidecar)
        peak = _peak(sidecar.process.pid)
        if flood in ("a lie", "content", "arbitrary bytes"):
            wait_until(lambda: _is_distrusted(sidecar))
            wait_until(lambda: metric(sidecar, "collector_workers ") == 2)
        assert sidecar.send(_EVENT).status in (200, 503)
        assert sidecar.stop()[0] == 0
    print(f"{flood}: {dict(statuses)}, {peak:.0f} MB")
    assert peak < _MOST_MB
    assert statuses.keys() <= {200, 503}
    assert statuses[200] >= 5
    assert len(sidecar.log) < 700
    _is_valid(tmp_path)


def _is_valid(folder: Path) -> None:
    """Only valid rows are stored, as many as the ledger says."""
    data = folder / "collector-data"
    assert scan([data], [CANARY]) == []
    config = examine(None, {"COLLECTOR__DATA": str(data)}).config
    found = check(config, canaries(2), scan, meetings=5)
    assert (found["stored"], found["ledger"]) == ((), ())
    there = kept(data)
    assert there.ledger.flaws == []
    rejected = sum(there.ledger.rejected.values())
    assert there.ledger.received == there.stored.total() + there.waiting.total() + rejected
