"""A sink takes nothing, and its batches fill the spool while the sidecar serves. Senders' answers,
the admin address, the log, metrics and ``status`` say so, name the sink, and stop saying so by
themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from time import sleep
from typing import NamedTuple

import pytest

from tests.support.command import run
from tests.support.database import query
from tests.support.deadline import wait_until
from tests.support.failing_disk import fill, metric, small_disk
from tests.support.otlp_receivers import Answer, http_receiver, taken
from tests.support.postgres import PostgresServer
from tests.support.postgres import server as server  # noqa: PLC0414 - a fixture
from tests.support.sidecar import Sidecar, started

_EVENTS = 600
_QUIET_SECONDS = 2.5
"""In this time the sidecar looks at its state at least twice."""
_CANARY = "203.0.113."


class _Outage(NamedTuple):
    """A sink that takes nothing, its configuration, and how to end the outage."""

    sink: str
    end: Callable[[], object]


def _config(folder: Path, sink: str) -> None:
    (folder / "collector.yaml").write_text(
        f"data: data\nspool: {{limit: 1MiB}}\nsinks:\n  store: true\n  warehouse: {sink}\n"
    )


@contextmanager
def _refusing(folder: Path) -> Iterator[_Outage]:
    """A relay that refuses everything."""
    may_take = Event()
    refusal = Answer(503, b"canary", {"Retry-After": "1"})
    with http_receiver(lambda *_: taken() if may_take.is_set() else refusal) as received:
        endpoint = f"http://127.0.0.1:{received.port}"
        _config(folder, f"{{type: otlp, party: first, endpoint: '{endpoint}', protocol: http}}")
        yield _Outage("warehouse", may_take.set)


@contextmanager
def _stopped(folder: Path, server: PostgresServer) -> Iterator[_Outage]:
    """A PostgreSQL server that is down."""
    server.reset()
    _config(folder, f"{{type: postgres, party: first, url: '{server.url}'}}")
    server.stop()
    try:
        yield _Outage("warehouse", server.start)
    finally:
        if server.process is None:
            server.start()


def _body(number: int) -> bytes:
    return b"".join(
        b'{"ip": "203.0.%d.%d", "os": {"type": "linux"}}\n' % (number % 256, each % 256)
        for each in range(_EVENTS)
    )


def _said(sidecar: Sidecar, event: str) -> list[dict[str, object]]:
    return [line for line in sidecar.events if line["event"] == event]


def _filled(sidecar: Sidecar) -> int:
    """Send until there is no room. Return how many requests were taken."""
    for number in range(1000):
        answer = sidecar.send(_body(number))
        if answer.status != 200:
            assert (answer.status, answer.json["error"]["code"]) == (503, "E505")
            assert int(answer.headers["retry-after"]) > 0
            return number
    raise AssertionError("the spool takes more than its limit")


def _try(folder: Path, outage: _Outage) -> None:
    with started(folder, "--config", "collector.yaml") as sidecar:
        taken_before = _filled(sidecar)
        wait_until(lambda: metric(sidecar, 'collector_spool_batches{sink="store"}') == 0)
        ready = sidecar.admin("/readyz")
        why = f"[-] spool full\n[-] sink {outage.sink} blocking\n"
        assert (ready.status, ready.body.decode()) == (503, f"{why}not ready\n")
        assert f"[-] sink {outage.sink} blocking" in sidecar.admin("/readyz?verbose").body.decode()
        assert metric(sidecar, "collector_spool_writable") == 0
        assert metric(sidecar, f'collector_spool_blocking{{sink="{outage.sink}"}}') == 1
        assert metric(sidecar, "collector_spool_blocking") == 1
        waiting = metric(sidecar, f'collector_spool_bytes{{sink="{outage.sink}"}}')
        assert waiting == metric(sidecar, "collector_spool_used_bytes") > 900_000
        records = metric(sidecar, f'collector_spool_records{{sink="{outage.sink}"}}')
        assert records == taken_before * _EVENTS
        age = f'collector_spool_oldest_age_seconds{{sink="{outage.sink}"}}'
        wait_until(lambda: metric(sidecar, age) > 1)
        wait_until(lambda: _said(sidecar, "spool_full"))
        for _ in range(3):
            assert sidecar.send(_body(0)).status == 503
            assert sidecar.admin("/readyz").status == 503
        sidecar.send(b'{"ip": "203.0.113.1"}\n')  # it may still fit
        assert sidecar.admin("/readyz").status == 503
        sleep(_QUIET_SECONDS)
        (line,) = _said(sidecar, "spool_full")
        assert (line["level"], line["code"], line["sink"]) == ("error", "E505", outage.sink)
        assert _said(sidecar, "spool_failing") == []
        status = run("status", "--config", "collector.yaml", "--json", directory=folder)
        assert (status.code, status.json["ready"]) == (1, False)
        assert status.json["spool"]["blocking"] == [outage.sink]
        assert status.json["sinks"][outage.sink]["waiting"]["records"] >= records
        outage.end()
        wait_until(lambda: sidecar.admin("/readyz").status == 200)
        assert metric(sidecar, "collector_spool_writable") == 1
        wait_until(lambda: _said(sidecar, "spool_has_room"))
        assert sidecar.send(_body(1)).status == 200
        wait_until(lambda: metric(sidecar, "collector_spool_used_bytes") == 0)
        assert metric(sidecar, f'collector_spool_lag_seconds{{sink="{outage.sink}"}}') >= 0
        assert len(_said(sidecar, "spool_full")) == len(_said(sidecar, "spool_has_room")) == 1
        status = run("status", "--config", "collector.yaml", directory=folder)
        assert (status.code, b"blocking" in status.out) == (0, False)
        assert sidecar.stop()[0] == 0
        assert not any(_CANARY in each or "canary" in each for each in sidecar.log)
    ((stored,),) = query(folder / "data" / "store.db", "SELECT sum(count) FROM conferencing")
    assert stored in ((taken_before + 1) * _EVENTS, (taken_before + 1) * _EVENTS + 1)


def test_a_relay_that_refuses(tmp_path: Path) -> None:
    """It blocks the spool, and is named; the store, which takes everything, is not."""
    with _refusing(tmp_path) as outage:
        _try(tmp_path, outage)


@pytest.mark.servers
def test_a_server_that_is_down(tmp_path: Path, server: PostgresServer) -> None:
    """The same with PostgreSQL; afterwards each record is there once."""
    with _stopped(tmp_path, server) as outage:
        _try(tmp_path, outage)
    ((rows,),) = server.ask("SELECT sum(count) FROM collector.conferencing")
    assert rows in range(_EVENTS, 1000 * _EVENTS)


@pytest.mark.long
def test_it_is_full_at_once_after_a_restart(tmp_path: Path) -> None:
    """The sidecar is not ready even before it refuses a request."""
    with _refusing(tmp_path) as outage:
        for _ in range(2):
            with started(tmp_path, "--config", "collector.yaml") as sidecar:
                while sidecar.send(b'{"ip": "203.0.113.1"}\n' * 20).status == 200:
                    sidecar.send(_body(1))
                assert sidecar.admin("/readyz").status == 503
                sidecar.process.kill()
        with started(tmp_path, "--config", "collector.yaml") as sidecar:
            ready = sidecar.admin("/readyz")
            assert (ready.status, b"sink warehouse blocking" in ready.body) == (503, True)
            outage.end()
            wait_until(lambda: sidecar.admin("/readyz").status == 200)


@pytest.mark.long
def test_a_sink_that_is_not_in_the_configuration_any_more(tmp_path: Path) -> None:
    """Reports name the sink, and neither the disk nor the store, which takes everything. Once the
    waiting batches are dropped, there is room."""
    with _refusing(tmp_path), started(tmp_path, "--config", "collector.yaml") as sidecar:
        taken_before = _filled(sidecar)
        wait_until(lambda: metric(sidecar, 'collector_spool_batches{sink="store"}') == 0)
        assert sidecar.stop()[0] == 0
    (tmp_path / "collector.yaml").write_text("data: data\nspool: {limit: 1MiB}\n")
    with started(tmp_path, "--config", "collector.yaml") as sidecar:
        while sidecar.send(_body(1)).status == 200:
            taken_before += 1
        why = b"[-] spool full\n[-] sink warehouse blocking\nnot ready\n"
        wait_until(lambda: sidecar.admin("/readyz").body == why)
        assert metric(sidecar, 'collector_spool_blocking{sink="warehouse"}') == 1
        assert metric(sidecar, "collector_spool_blocking") == 1
        wait_until(lambda: _said(sidecar, "spool_full"))
        assert [line["sink"] for line in _said(sidecar, "spool_full")] == ["warehouse"]
        status = run("status", "--config", "collector.yaml", "--json", directory=tmp_path)
        assert status.json["spool"]["blocking"] == ["warehouse"]
        drop = ("store", "drop", "warehouse", "--config", "collector.yaml", "--yes")
        assert run(*drop, directory=tmp_path).code == 0
        wait_until(lambda: sidecar.admin("/readyz").status == 200)
        assert sidecar.send(_body(2)).status == 200
        assert metric(sidecar, "collector_spool_blocking") == 0
        assert sidecar.stop()[0] == 0
    ((stored,),) = query(tmp_path / "data" / "store.db", "SELECT sum(count) FROM conferencing")
    assert stored == (taken_before + 1) * _EVENTS


@pytest.mark.long
def test_a_full_disk_is_another_fault(tmp_path: Path) -> None:
    """It has its own code, event and state. It names no sink, and is not reported as a full
    spool."""
    with small_disk(tmp_path / "disk", 40) as disk, started(disk) as sidecar:
        assert sidecar.send(_body(1)).status == 200
        fill(disk / "ballast")

        def refused() -> bool:
            answer = sidecar.send(_body(2))
            return answer.status == 503 and answer.json["error"]["code"] == "E506"

        wait_until(refused)
        wait_until(lambda: sidecar.admin("/readyz").body == b"[-] spool failing\nnot ready\n")
        assert metric(sidecar, "collector_spool_writable") == 0
        wait_until(lambda: _said(sidecar, "spool_failing"))
        (line,) = _said(sidecar, "spool_failing")
        assert line["code"] == "E506"
        (disk / "ballast").unlink()
        wait_until(lambda: sidecar.send(_body(3)).status == 200)
        wait_until(lambda: _said(sidecar, "spool_recovered"))
        assert sidecar.admin("/readyz").status == 200
        assert _said(sidecar, "spool_full") == []
