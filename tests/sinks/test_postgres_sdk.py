"""An application that writes into a PostgreSQL database by the SDK."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from collector import Collector
from collector.errors import CollectorError
from collector.sdk.target import target
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.servers


def _event(number: int) -> dict[str, object]:
    os_ = {"type": "android", "name": "Android"}
    return {"ip": f"203.0.113.{number}", "os": os_}


def _rows(server: PostgresServer) -> int:
    with suppress(psycopg.errors.UndefinedTable):
        ((number,),) = server.ask("SELECT count(*) FROM collector.conferencing")
        return int(number)
    return 0


@pytest.mark.parametrize("has_spool", [False, True])
def test_records_arrive(clean: PostgresServer, tmp_path: Path, *, has_spool: bool) -> None:
    spool = tmp_path / "spool" if has_spool else None
    with Collector("conferencing", clean.url, spool=spool) as telemetry:
        for number in range(1, 101):
            telemetry.emit(_event(number))
        assert telemetry.flush(WAIT_SECONDS)
        wait_until(lambda: _rows(clean) == 100)
        telemetry.emit(_event(101))
        assert telemetry.flush(WAIT_SECONDS)
        wait_until(lambda: _rows(clean) == 101)


def test_consent_is_withdrawn(clean: PostgresServer) -> None:
    with Collector("conferencing", clean.url) as telemetry:
        for number in (1, 2):
            telemetry.emit(_event(number))
        assert telemetry.flush(WAIT_SECONDS)
        done = telemetry.withdraw("client.address", "203.0.113.1", since="2020-01-01")
        assert (done.stored, done.is_swept) == (1, True)
        assert any("write-ahead log" in place for place in done.beyond)
    rows = clean.ask('SELECT host("client.address"), "os.name" FROM collector.conferencing')
    assert dict(rows)["203.0.113.1"] is None


def test_a_child_delivers_too(clean: PostgresServer) -> None:
    with Collector("conferencing", clean.url, exit_timeout=WAIT_SECONDS) as telemetry:
        telemetry.emit(_event(1))
        assert telemetry.flush(WAIT_SECONDS)
        child = os.fork()
        if child == 0:
            telemetry.emit(_event(2))
            os._exit(0 if telemetry.close(WAIT_SECONDS) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        telemetry.emit(_event(3))
    assert _rows(clean) == 3


def test_a_server_that_starts_later(clean: PostgresServer) -> None:
    clean.stop()
    try:
        with Collector("conferencing", clean.url, interval=0.1) as telemetry:
            telemetry.emit(_event(1))
            assert not telemetry.flush(1)
            clean.start()
            assert telemetry.flush(WAIT_SECONDS)
        wait_until(lambda: _rows(clean) == 1)
    finally:
        if clean.process is None:
            clean.start()


def test_a_password_does_not_belong_there() -> None:
    """Mode `local` does not write to another machine."""
    with pytest.raises(CollectorError, match="E107") as caught:
        Collector("conferencing", "postgres://collector:hunter2@db.example.com/telemetry")
    assert "hunter2" not in str(caught.value)
    assert not target("postgres://collector@db.example.com/telemetry").is_file
