"""Sinks with a share of the spool are down under load while the keeper is killed. A sink that skips
misses exactly what the ledger says, one that refuses misses nothing, and every sender was told.

``COLLECTOR_SHARE_KILLS`` is the number of kills (3; ``make nightly`` sets 50),
``COLLECTOR_SHARE_RECORDS`` the least number of records while the sink is down (20,000; 100,000).
"""

from __future__ import annotations

import http.client
import os
import signal
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from threading import Event, Timer
from time import monotonic
from typing import Any

import orjson
import pytest

from tests.support.command import run
from tests.support.database import query
from tests.support.deadline import wait_until
from tests.support.failing_disk import metric
from tests.support.ledgers import check_ledger, entries_of
from tests.support.otlp_receivers import Answer, http_receiver, taken
from tests.support.sidecar import Sidecar, started

_KILLS = int(os.environ.get("COLLECTOR_SHARE_KILLS", "3"))
_RECORDS = int(os.environ.get("COLLECTOR_SHARE_RECORDS", "20000"))
_EVENTS = 500
_FIRST = int(IPv4Address("10.0.0.0"))
_AWAY = Answer(503, b"canary", {"Retry-After": "1"})
_ACCOUNTED = ("delivered", "set_aside", "skipped", "expired", "erased", "damaged")


class _Senders:
    """Sends requests one after the other, each person once, and records their outcomes."""

    def __init__(self) -> None:
        self.next = _FIRST
        self.stored: set[str] = set()
        self.refused: set[str] = set()
        self.unknown: set[str] = set()
        self.seconds: list[float] = []

    @property
    def number(self) -> int:
        """The number of events that were sent."""
        return self.next - _FIRST

    def send(self, sidecar: Sidecar) -> bool:
        """Send a request; return whether there was an answer."""
        people = {str(IPv4Address(self.next + each)) for each in range(_EVENTS)}
        self.next += _EVENTS
        body = b"".join(b'{"ip": "%s"}\n' % each.encode() for each in people)
        began = monotonic()
        try:
            answer = sidecar.send(body)
        except (OSError, http.client.HTTPException):
            self.unknown |= people
            return False
        self.seconds.append(monotonic() - began)
        if answer.status == 200:
            self.stored |= people
        else:
            assert (answer.status, int(answer.headers["retry-after"]) > 0) == (503, True)
            self.refused |= people
        return True


def _configured(folder: Path, port: int, when_full: str) -> Path:
    path = folder / "collector.json"
    sink = {"type": "otlp", "endpoint": f"http://127.0.0.1:{port}", "party": "first"}
    sink |= {"limit": "1MiB", "when_full": when_full}
    sinks = {"store": True, "backend": sink}
    settings = {"data": str(folder / "data"), "spool": {"limit": "8MiB"}, "sinks": sinks}
    path.write_bytes(orjson.dumps(settings))
    return path


def _told(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = run("status", "--data", folder / "data", "--json").json["sinks"]
    for each in found.values():
        accounted = sum(each[name] for name in _ACCOUNTED) + each["waiting"]["records"]
        assert each["taken"] == accounted, each
    return found


def _has_all(folder: Path) -> bool:
    return not any(each["waiting"]["records"] for each in _told(folder).values())


@pytest.mark.long
@pytest.mark.timeout(300 + 10 * _KILLS + _RECORDS // 100)
@pytest.mark.parametrize("when_full", ["skip", "refuse"])
def test_a_sink_that_is_away_while_the_keeper_is_killed(tmp_path: Path, when_full: str) -> None:
    """The store gets everything that was stored. The other sink gets it too; if it skips, it misses
    what its ledger entries say. The numbers in all receipts and counters add up."""
    random, senders, is_away, kills = Random(), _Senders(), Event(), 0
    with http_receiver(lambda *_: _AWAY if is_away.is_set() else taken()) as receiver:
        file = _configured(tmp_path, receiver.port, when_full)
        told_all = when_full == "skip"
        while kills < _KILLS or senders.number < _RECORDS or not (told_all or senders.refused):
            (is_away.set if when_full == "skip" or random.random() < 0.7 else is_away.clear)()
            with started(tmp_path, "--config", str(file)) as sidecar:
                killing = Timer(random.uniform(0.2, 3.0), sidecar.process.kill)
                killing.start()
                while senders.send(sidecar):
                    pass
                killing.join()
                sidecar.process.wait()
            kills += 1
        is_away.clear()
        with started(tmp_path, "--config", str(file)) as sidecar:
            wait_until(lambda: _has_all(tmp_path), 120)
            wait_until(lambda: sidecar.admin("/readyz").status == 200)
            senders.send(sidecar)
            wait_until(lambda: _has_all(tmp_path), 120)
            told = _told(tmp_path)["backend"]
            sidecar.stop()
        delivered = {*receiver.people()}
    rows = query(tmp_path / "data" / "store.db", 'SELECT "client.address" FROM conferencing')
    stored = [address for (address,) in rows]
    assert len(stored) == len({*stored}) == told["taken"], "each is there once"
    assert senders.stored <= {*stored} <= senders.stored | senders.unknown
    assert delivered <= {*stored}
    missed = len({*stored} - delivered)
    gaps = entries_of(tmp_path / "data" / "spool.db", "gap")
    stated = sum(int(each.fact("records") or 0) for each in gaps)
    assert missed == told["skipped"] == stated
    assert bool(gaps) == (when_full == "skip")
    assert (missed > 0, bool(senders.refused)) == (when_full == "skip", when_full == "refuse")
    check_ledger(tmp_path / "data" / "spool.db")
    assert run("ledger", "verify", "--data", tmp_path / "data").code == 0
    counts = f"{len(stored):,} stored, {missed:,} missed, {len(gaps)} gaps"
    print(f"\n{when_full}: {kills} kills, {counts}")


def test_a_share_is_seen(tmp_path: Path) -> None:
    """A sink that refuses makes the sidecar unready; reports name it with its waiting batches. A
    sink that skips affects nobody else; the log says when it begins and ends."""
    is_away = Event()
    is_away.set()
    name, senders = "backend", _Senders()
    with http_receiver(lambda *_: _AWAY if is_away.is_set() else taken()) as receiver:
        file = _configured(tmp_path, receiver.port, "refuse")
        with started(tmp_path, "--config", str(file)) as sidecar:
            while not senders.refused:
                senders.send(sidecar)
            wait_until(lambda: "spool_full" in str(sidecar.events))
            ready = sidecar.admin("/readyz?verbose")
            assert (ready.status, f"[-] sink {name} blocking" in str(ready.body)) == (503, True)
            assert f"sink {name}: " in str(ready.body)
            assert "[+] spool ok" in str(ready.body)
            status = _told(tmp_path)
            assert (status[name]["state"], status["store"]["state"]) == ("blocking", "ok")
            assert 0.9 < status[name]["share"] <= 1
            assert metric(sidecar, f'collector_spool_blocking{{sink="{name}"}}') == 1
            assert metric(sidecar, f'collector_sink_limit_bytes{{sink="{name}"}}') == 1 << 20
            _configured(tmp_path, receiver.port, "skip")
            assert run("config", "reload", "--data", tmp_path / "data").code == 0
            senders.refused.clear()
            wait_until(lambda: sidecar.admin("/readyz").status == 200)
            senders.send(sidecar)
            assert not senders.refused
            sidecar.stop(signal.SIGKILL)
        with started(tmp_path, "--config", str(file)) as sidecar:
            wait_until(lambda: not _told(tmp_path)["store"]["waiting"]["records"])
            for _ in range(20):
                senders.send(sidecar)
            assert not senders.refused
            wait_until(lambda: "sink_skipping" in str(sidecar.events))
            ready = sidecar.admin("/readyz?verbose")
            assert (ready.status, f"[!] sink {name} skipping" in str(ready.body)) == (200, True)
            assert "skipped" in str(ready.body)
            assert metric(sidecar, f'collector_sink_skipping{{sink="{name}"}}') == 1
            assert b"skipped" in run("status", "--data", tmp_path / "data").out
            page = sidecar.admin("/status").body.decode()
            assert "skips" in page
            is_away.clear()
            wait_until(lambda: "sink_skipping_done" in str(sidecar.events), 60)
            outcome = f'collector_sink_records_total{{outcome="skipped",sink="{name}"}}'
            assert metric(sidecar, outcome) == _told(tmp_path)[name]["skipped"] > 0
            wait_until(lambda: entries_of(tmp_path / "data" / "spool.db", "gap"))
            sidecar.stop()
    check_ledger(tmp_path / "data" / "spool.db")
