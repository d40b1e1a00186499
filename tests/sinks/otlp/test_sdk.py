"""An application that sends to a receiver of OTLP by the SDK."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from time import monotonic

import pytest

from collector import Collector
from collector.errors import CollectorError, ConfigError
from collector.sdk.target import target
from collector.sinks.otlp import OtlpSettings, OtlpSink
from collector.sinks.sink import Opening
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.otlp_receivers import ECHO, SECRET, Answer, http_receiver, partial, taken


def _event(number: int) -> dict[str, object]:
    return {"ip": f"203.0.113.{number}", "os": {"type": "android"}}


def test_records_arrive_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTLP_TEST_TOKEN", SECRET)
    for spool in (None, tmp_path / "spool"):
        with http_receiver() as received:
            to = f"otlp+http://localhost:{received.port}/a?api-key=env:OTLP_TEST_TOKEN"
            made = Collector("conferencing", to, spool=spool, exit_timeout=WAIT_SECONDS)
            with made as telemetry:
                assert SECRET not in repr(telemetry)
                for number in range(1, 101):
                    telemetry.emit(_event(number))
                assert telemetry.flush(WAIT_SECONDS)
            assert received.people() == {f"203.0.113.{number}": 1 for number in range(1, 101)}
            assert {each["api-key"] for each in received.headers} == {SECRET}
            assert set(received.paths) == {"/a/v1/logs"}


def test_a_receiver_that_comes_back(tmp_path: Path) -> None:
    """The next process sends what a spool holds; an end waits no longer than it may."""
    is_away = True
    with http_receiver(lambda *_: Answer(503, ECHO.encode()) if is_away else taken()) as received:
        to = f"otlp+http://localhost:{received.port}"
        before = {*threading.enumerate()}
        telemetry = Collector("conferencing", to, spool=tmp_path, exit_timeout=0.5)
        telemetry.emit(_event(1))
        start = monotonic()
        telemetry.close()
        assert monotonic() - start < WAIT_SECONDS / 2
        assert not received.records
        wait_until(lambda: not {*threading.enumerate()} - before)  # nothing is under way
        is_away = False
        with Collector("conferencing", to, spool=tmp_path) as telemetry:
            wait_until(lambda: received.records)
        assert received.people() == {"203.0.113.1": 1}


def test_what_is_rejected_is_counted() -> None:
    with http_receiver(lambda *_: partial(1)) as received:
        to = f"otlp+http://localhost:{received.port}"
        with Collector("conferencing", to) as telemetry:
            telemetry.emit(_event(1))
            assert telemetry.flush(WAIT_SECONDS)
            assert telemetry.tally().lost == {"refused": 1}
        assert len(received.requests) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_sends_its_own() -> None:
    with http_receiver() as received:
        with Collector("conferencing", f"otlp+http://localhost:{received.port}") as telemetry:
            telemetry.emit(_event(1))
            assert telemetry.flush(WAIT_SECONDS)
            child = os.fork()
            if not child:
                telemetry.emit(_event(2))
                os._exit(0 if telemetry.flush(WAIT_SECONDS) else 1)
            telemetry.emit(_event(3))
            assert telemetry.flush(WAIT_SECONDS)
            assert os.waitpid(child, 0)[1] == 0
        assert received.people() == {f"203.0.113.{number}": 1 for number in (1, 2, 3)}


def test_addresses_that_are_faulty() -> None:
    for to in [
        "otlp://otel.example.org",
        "otlp+grpc://otel.example.org",
        "otlp+http://otel.example.org",
        "otlp+https://user:secret@otel.example.org",
        "otlp+https://otel.example.org?api-key=secret",
        "otlp+https://otel.example.org?",
        "sqlite+https://otel.example.org",
    ]:
        with pytest.raises(CollectorError) as caught:
            Collector("conferencing", to)
        assert "E107" in str(caught.value)
        assert "secret" not in str(caught.value)


def test_it_is_no_place_of_this_machine() -> None:
    """Mode ``local`` does not use it."""
    found = target("otlp+https://otel.example.org")
    assert (found.is_sink, found.is_file) == (True, False)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "opentelemetry.proto.collector.logs.v1.logs_service_pb2"
    monkeypatch.setitem(sys.modules, module, None)
    settings = OtlpSettings.at_address("otlp", "otlp+https://otel.example.org")
    with pytest.raises(ConfigError, match=r"\[otlp\].*E201"):
        OtlpSink(settings, Opening("backend", (), Path()))
