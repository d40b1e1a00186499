"""A sidecar whose sink is an OTLP receiver: a second sidecar, or a receiver that answers with
failures and quotes what it was sent."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import Any

import pytest

from collector.sinks.otlp.settings import UID
from tests.support import failing_disk as faults
from tests.support.command import run
from tests.support.database import query
from tests.support.deadline import wait_until
from tests.support.delivery import delivered
from tests.support.failing_disk import metric
from tests.support.otlp_receivers import (
    ECHO,
    Answer,
    Received,
    attributes,
    grpc_receiver,
    http_receiver,
    partial,
    taken,
)
from tests.support.processes import peak
from tests.support.sidecar import Sidecar, started

_AWAY_SECONDS = float(os.environ.get("COLLECTOR_AWAY", "30"))
_LONGEST_PAUSES = 5 * 45.0
"""The pauses of a sink that has failed for long, between this many attempts."""
_SECRET = "Bearer b1946ac9-of-the-test"
_CHAT = "canary-of-a-chat"
_STORED = "SELECT client_address, os_type FROM conferencing_view ORDER BY client_address"


def _events(number: int, start: int = 0) -> bytes:
    events = (
        {"ip_address": f"203.0.{at >> 8}.{at & 255}", "os": {"type": "linux"}, "chat": [_CHAT]}
        for at in range(start, start + number)
    )
    return b"\n".join(json.dumps(event).encode() for event in events)


@contextmanager
def _sender(folder: Path, port: int, protocol: str) -> Iterator[Sidecar]:
    """Run a sidecar that sends to a port and has a store; the folder has everything that it
    writes."""
    folder.mkdir()
    settings = {
        "type": "otlp",
        "protocol": protocol,
        "endpoint": f"http://127.0.0.1:{port}",
        "headers": {"authorization": "env:OTLP_SINK_TOKEN"},
        "party": "processor",
        "recipient": "Example Observability",
        "country": "NL",
        "purposes": ["service_operations"],
        "timeout": "60s",  # a late answer would make the sender send twice
    }
    (folder / "c.yaml").write_text(json.dumps({"data": "data", "sinks": {"backend": settings}}))
    environ = {"OTLP_SINK_TOKEN": _SECRET, "COLLECTOR__LOG__LEVEL": "debug"}
    with started(folder, "--config", "c.yaml", environ=environ) as sidecar:
        try:
            yield sidecar
            code, _ = sidecar.stop()
        finally:
            (folder / "log").write_text("\n".join(sidecar.log))
    assert code == 0


def _swept(folder: Path) -> None:
    """Check that no file and no log has a secret or an answer's text."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert (folder / "log") in files
    for file in files:
        content = file.read_bytes()
        for canary in (ECHO, _SECRET, _CHAT):
            assert canary.encode() not in content, file.name


@pytest.mark.parametrize("protocol", ["http", pytest.param("grpc", marks=pytest.mark.long)])
def test_a_second_sidecar_receives(tmp_path: Path, protocol: str) -> None:
    """The second sidecar's schema reads the attributes as the first one wrote them, and it keeps
    the same records. The sink has only the fields for its purposes."""
    (tmp_path / "second").mkdir()
    second_data = {"COLLECTOR__DATA": str(tmp_path / "second" / "data")}
    with (
        started(tmp_path / "second", environ=second_data) as second,
        _sender(tmp_path / "first", second.ports[protocol], protocol) as first,
    ):
        assert first.send(_events(300)).json["admitted"] == 300
        delivered(first)
        wait_until(lambda: delivered(second) == 300)
    kept = query(tmp_path / "first" / "data" / "store.db", _STORED)
    assert len(kept) == 300
    found = query(tmp_path / "second" / "data" / "store.db", _STORED)
    assert sorted(found) == sorted(kept)
    _swept(tmp_path / "first")
    _names_the_receiver(tmp_path / "first")


def _names_the_receiver(folder: Path) -> None:
    """An answer about a person says that their records are there too, and who has them."""
    day = datetime.now(UTC).date()
    window = ("--from", day - timedelta(days=1), "--to", day)
    found = run(
        *("subject", "export", "--config", "c.yaml", "--field", "client.address=203.0.0.7"),
        *window,
        directory=folder,
    )
    assert len(found.json["sinks"]["store"]["conferencing"]) == 1
    assert "sink backend: Example Observability, NL" in found.json["beyond"]
    assert (found.code, found.json["unreached"]) == (0, [])


class _Receiver:
    """Answers with failures, one after the other, and takes everything at the end."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)

    def __call__(self, _request: object, headers: Mapping[str, str]) -> Answer:
        assert headers["authorization"] == _SECRET
        return self._answers.pop(0) if self._answers else taken()


def _uids(received: Received) -> Counter[str]:
    return Counter(attributes(record)[UID] for record in received.records)


_HTTP_FAILURES = [
    Answer(503, ECHO.encode(), {"Retry-After": "1", "X-Echo": ECHO}),
    Answer(401, ECHO.encode()),
    Answer(307, ECHO.encode(), {"Location": "http://127.0.0.1:1/v1/logs"}),
    Answer(500, ECHO.encode() * 100_000),
]
_GRPC_FAILURES = [Answer(14), Answer(16), Answer(2), Answer(13)]


@pytest.mark.long
@pytest.mark.parametrize(
    ("receiver", "failures", "protocol"),
    [(http_receiver, _HTTP_FAILURES, "http"), (grpc_receiver, _GRPC_FAILURES, "grpc")],
)
def test_nothing_is_lost_and_nothing_is_said(
    tmp_path: Path, receiver: Any, failures: list[Answer], protocol: str
) -> None:
    """Each failure quotes the request. Records wait, are sent again, and appear in no log."""
    with receiver(_Receiver(*failures)) as received:
        with _sender(tmp_path / "first", received.port, protocol) as first:
            assert first.send(_events(500)).json["admitted"] == 500
            delivered(first)
            assert faults.failures(first, "backend") >= len(failures)
            assert "backend" in first.admin("/readyz?verbose").body.decode()
            assert ECHO.encode() not in first.admin("/metrics").body
        assert sum(_uids(received).values()) == len(_uids(received)) == 500
    _swept(tmp_path / "first")


@pytest.mark.long
def test_what_is_rejected_is_set_aside(tmp_path: Path) -> None:
    """The batch is not sent again. It is counted, logged and listed."""
    with http_receiver(_Receiver(partial(7))) as received:
        with _sender(tmp_path / "first", received.port, "http") as first:
            first.send(_events(20))
            delivered(first)
            first.send(_events(10, 20))
            delivered(first)
            name = 'collector_sink_set_aside_records{sink="backend"}'
            assert metric(first, name) == 20
            wait_until(lambda: "batches_set_aside" in str(first.events))
        assert [len(each.resource_logs[0].scope_logs[0].log_records) for each in received.requests]
        assert sum(_uids(received).values()) == 30
    _swept(tmp_path / "first")


@pytest.mark.outages
@pytest.mark.timeout(240 + _LONGEST_PAUSES + _AWAY_SECONDS)
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_receiver_that_is_away(tmp_path: Path, protocol: str) -> None:
    """Nothing is lost, the store's records do not wait, and memory stays bounded."""
    is_away, sent = Event(), 0
    is_away.set()

    def answer(_request: object, _headers: object) -> Answer:
        if not is_away.is_set():
            return taken()
        return Answer(503 if protocol == "http" else 14, ECHO.encode())

    receiver = http_receiver if protocol == "http" else grpc_receiver
    with receiver(answer) as received:
        with _sender(tmp_path / "first", received.port, protocol) as first:
            end = monotonic() + _AWAY_SECONDS
            while monotonic() < end:
                first.send(_events(200, sent % 60_000))
                sent += 200
                sleep(0.05 if sent < 60_000 else 1.0)
            stored = 'collector_sink_records_total{outcome="delivered",sink="store"}'
            wait_until(lambda: metric(first, stored) > 0)
            assert not received.records
            is_away.clear()
            wait_until(lambda: received.records, _LONGEST_PAUSES)
            delivered(first)
            assert peak(first.process.pid) < 256
        assert len(_uids(received)) == sum(_uids(received).values()) == sent
    _swept(tmp_path / "first")
