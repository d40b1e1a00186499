"""A sidecar and the commands with a PostgreSQL sink: nothing in them knows of its type."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from time import sleep

import pytest

from tests.support.command import Ended, run
from tests.support.deadline import wait_until
from tests.support.failing_disk import metric
from tests.support.ledgers import entries_of
from tests.support.postgres import PostgresServer
from tests.support.sidecar import Sidecar, started

pytestmark = pytest.mark.servers

_DEAD_SECONDS = float(os.environ.get("COLLECTOR_DEAD_SECONDS", "5"))
_ASKED = ("--from", "2020-01-01", "--to", "2090-01-01")


@pytest.fixture
def folder(server: PostgresServer, tmp_path: Path) -> Path:
    """A directory with a configuration, and a server without tables of ours."""
    server.reset()
    text = (
        f"data: data\nsinks: {{warehouse: {{type: postgres, party: first, url: '{server.url}'}}}}\n"
    )
    (tmp_path / "collector.yaml").write_text(text)
    return tmp_path


def _run(folder: Path, *words: str) -> Ended:
    return run(*words, "--config", "collector.yaml", directory=folder)


def _send(sidecar: Sidecar, number: int) -> None:
    event = f'{{"ip": "203.0.113.{number}", "os": {{"type": "linux"}}}}\n'.encode()
    assert sidecar.send(event).status == 200


def _rows(server: PostgresServer) -> int:
    with suppress(Exception):
        ((number,),) = server.ask("SELECT count(*) FROM collector.conferencing")
        return int(number)
    return -1


def test_the_commands(server: PostgresServer, folder: Path) -> None:
    assert _run(folder, "config", "check").code == 0
    with started(folder, "--config", "collector.yaml") as sidecar:
        for number in (7, 8, 8):
            _send(sidecar, number)
        wait_until(lambda: _rows(server) == 3)
        assert sidecar.stop()[0] == 0
    flows = _run(folder, "config", "flows", "--json").json
    place = f"postgres://{server.directory}:5432/telemetry/collector"
    assert flows["sinks"]["warehouse"]["place"] == place
    both = {"store": 2, "warehouse": 2}
    asked = ("--field", "client.address=203.0.113.8", *_ASKED)
    found = _run(folder, "subject", "export", *asked).json
    assert {n: sum(map(len, each.values())) for n, each in found["sinks"].items()} == both
    verdicts = {each["id"]: each["verdict"] for each in _verified(folder)}
    assert verdicts["needed-only"] == "holds"
    done = _run(folder, "subject", "erase", *asked, "--json").json
    assert done["sinks"] == both
    assert any(place in each and "write-ahead log" in each for each in done["beyond"])
    assert _rows(server) == 1
    (entry,) = entries_of(folder / "data" / "spool.db", "erasure")
    assert entry.fact("places") == "store=2 warehouse=2"
    assert _run(folder, "store", "prune", "--json").code == 0


def _verified(folder: Path) -> list[dict[str, str]]:
    done = _run(folder, "claims", "--verify", "--json")
    claims: list[dict[str, str]] = done.json["claims"]
    return claims


def test_what_does_not_belong_there(server: PostgresServer, folder: Path) -> None:
    """A value of no kind breaks a claim; a table of another program leaves it open, as does a
    server that does not answer."""
    with started(folder, "--config", "collector.yaml") as sidecar:
        _send(sidecar, 7)
        wait_until(lambda: _rows(server) == 1)
        assert sidecar.stop()[0] == 0

    def verdict() -> str:
        return next(each["verdict"] for each in _verified(folder) if each["id"] == "needed-only")

    server.ask("CREATE TABLE collector.people (name text)")
    assert verdict() == "unproven"
    server.ask("DROP TABLE collector.people")
    server.ask("UPDATE collector.conferencing SET \"os.type\" = 'see you at nine'")
    assert verdict() == "broken"
    server.ask("UPDATE collector.conferencing SET \"os.type\" = 'linux'")
    server.stop()
    try:
        assert verdict() == "unproven"
    finally:
        server.start()
    assert verdict() == "holds"


def test_a_server_that_is_dead_for_a_while(server: PostgresServer, folder: Path) -> None:
    """The sidecar starts without it; the store gets the records meanwhile."""
    server.stop()
    try:
        checked = _run(folder, "config", "check")
        assert (checked.code, b"E514" in checked.err) == (0, True)
        with started(folder, "--config", "collector.yaml") as sidecar:
            for number in range(1, 21):
                _send(sidecar, number)
            delivered = 'collector_sink_records_total{outcome="delivered",sink="store"}'
            wait_until(lambda: metric(sidecar, delivered) == 20)
            sleep(_DEAD_SECONDS)
            asked = ("--field", "client.address=203.0.113.7", *_ASKED)
            done = _run(folder, "subject", "export", *asked)
            assert (done.code, b"warehouse: " in done.err) == (1, True), done.err
            server.start()
            wait_until(lambda: _rows(server) == 20)
            _send(sidecar, 21)
            wait_until(lambda: _rows(server) == 21)
            server.kill()
            _send(sidecar, 22)
            server.start()
            wait_until(lambda: _rows(server) == 22)
            assert sidecar.stop()[0] == 0
            assert "203.0.113" not in "".join(sidecar.log)
    finally:
        if server.process is None:
            server.start()
