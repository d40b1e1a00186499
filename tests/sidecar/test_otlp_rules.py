"""The rules of OTLP, as a sender meets them at the whole sidecar with its real spool and store."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

from tests.sidecar.senders import METHODS
from tests.support.deadline import WAIT_SECONDS, eventually, stays
from tests.support.rows import for_each
from tests.support.sidecar import Sidecar, started

pytestmark = pytest.mark.long

_JSON, _PROTOBUF = "application/json", "application/x-protobuf"
_PATHS = [f"/v1/{signal}" for signal in METHODS]
_STORE = "collector-data/store.db"


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """One for all rules that do not fill it."""
    with started(tmp_path_factory.mktemp("rules")) as running:
        yield running


def _post(sidecar: Sidecar, body: bytes, kind: str = _JSON, path: str = "/v1/logs") -> Any:
    return sidecar.request("POST", path, body, {"Content-Type": kind})


def _request(address: str, number: int | str) -> dict[str, Any]:
    """A log record with numbers of 64 bits, wherever OTLP has one."""
    value: dict[str, Any] = {"key": "size", "value": {"intValue": number}}
    texts = {"client.address": address, "os.type": "linux"}
    attributes = [{"key": key, "value": {"stringValue": text}} for key, text in texts.items()]
    record = {
        "timeUnixNano": number,
        "observedTimeUnixNano": number,
        "severityNumber": 9,
        "body": {"intValue": number},
        "attributes": [*attributes, value],
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "flags": 1,
    }
    scope = {"scope": {"name": "a", "attributes": [value]}, "logRecords": [record]}
    return {"resourceLogs": [{"resource": {"attributes": [value]}, "scopeLogs": [scope]}]}


def _with_more(value: Any) -> Any:
    """The same with members that no version of OTLP has, in every object."""
    if isinstance(value, list):
        return [_with_more(each) for each in value]
    if isinstance(value, dict):
        more = {"newlyAdded": {"a": [1, "2", None]}, "another_one": 1e300}
        return {**{key: _with_more(each) for key, each in value.items()}, **more}
    return value


def _count(sidecar: Sidecar, address: str, seconds: float = WAIT_SECONDS) -> int:
    """How many records of an address reach the store, as soon as one has."""
    query = 'SELECT sum(count) FROM conferencing WHERE "client.address" = ?'

    def count() -> int:
        with closing(sqlite3.connect(sidecar.directory / _STORE, timeout=WAIT_SECONDS)) as db:
            return int(db.execute(query, (address,)).fetchone()[0] or 0)

    return eventually(count, seconds)


_LARGE = 9_007_199_254_740_993  # no floating-point number is this


@for_each("way", ["texts", "numbers", "more members", "protobuf"])
def test_one_meaning_however_it_is_written(sidecar: Sidecar, way: str) -> None:
    """64-bit integers as strings or as numbers, members that we do not know, protobuf: full
    success, of which nothing is said, in the type of the request; and the record is stored."""
    address = f"203.0.113.{len(way)}"
    request = _request(address, _LARGE if way == "numbers" else str(_LARGE))
    if way == "protobuf":
        for record in request["resourceLogs"][0]["scopeLogs"][0]["logRecords"]:
            del record["traceId"], record["spanId"]  # hexadecimal in OTLP only
        message = ParseDict(request, logs_service_pb2.ExportLogsServiceRequest())
        answer = _post(sidecar, message.SerializeToString(), _PROTOBUF)
        assert (answer.status, answer.body) == (200, b"")
    else:
        request = _with_more(request) if way == "more members" else request
        answer = _post(sidecar, json.dumps(request).encode())
        assert (answer.status, answer.body) == (200, b"{}")
    assert answer.headers["content-type"] == (_PROTOBUF if way == "protobuf" else _JSON)
    assert _count(sidecar, address) == 1


@for_each("path", _PATHS)
def test_empty_requests_leave_nothing(sidecar: Sidecar, path: str) -> None:
    """Success, and no receipt: nothing was received."""
    before = _events(sidecar)
    empty = [(b"", _PROTOBUF, b""), (b"{}", _JSON, b"{}"), (b"\x0a\x00", _PROTOBUF, b"")]
    for body, kind, said in empty:
        answer = _post(sidecar, body, kind, path)
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, said, kind)
    assert _events(sidecar) == before


def _events(sidecar: Sidecar) -> list[bytes]:
    """What is counted of events so far."""
    lines = sidecar.admin("/metrics").body.splitlines()
    return [line for line in lines if line.startswith(b"collector_events_")]


@for_each(
    ("method", "path", "kind", "body", "status"),
    [
        ("POST", "/v1/logs", _PROTOBUF, b"\xff", 400),
        ("POST", "/v1/logs", _JSON, b"{", 400),
        ("POST", "/v1/profiles", _PROTOBUF, b"", 404),
        ("GET", "/v1/logs", _PROTOBUF, b"", 405),
        ("POST", "/v1/logs", _PROTOBUF, b"\x0a" * (9 << 20), 413),
        ("POST", "/v1/logs", "text/plain", b"", 415),
    ],
)
def test_what_is_final(
    sidecar: Sidecar, method: str, path: str, kind: str, body: bytes, status: int
) -> None:
    """No client tries these again, and none is told to."""
    answer = sidecar.request(method, path, body, {"Content-Type": kind})
    assert answer.status == status
    assert "retry-after" not in answer.headers
    if kind == _PROTOBUF and path != "/v1/profiles":
        assert answer.headers["content-type"] == _PROTOBUF
        assert status_pb2.Status.FromString(answer.body).message
    else:
        assert answer.headers["content-type"] == _JSON
        assert answer.json["error"]["message"]


@for_each(
    ("method", "message", "code"),
    [
        (METHODS["logs"], b"\xff", grpc.StatusCode.INVALID_ARGUMENT),
        (METHODS["logs"], b"\x0a" * (9 << 20), grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("/opentelemetry.Profiles/Export", b"", grpc.StatusCode.UNIMPLEMENTED),
    ],
)
def test_what_is_final_over_grpc(
    sidecar: Sidecar, method: str, message: bytes, code: grpc.StatusCode
) -> None:
    """Codes that are not tried again; RESOURCE_EXHAUSTED without ``RetryInfo`` is one."""
    error = _refused(sidecar, method, message)
    assert error.code() is code
    assert "grpc-status-details-bin" not in dict(error.trailing_metadata())


def _refused(sidecar: Sidecar, method: str, message: bytes) -> Any:
    place = f"127.0.0.1:{sidecar.ports['grpc']}"
    with grpc.insecure_channel(place) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(method)(message, timeout=WAIT_SECONDS)
    return caught.value


@contextmanager
def _full(directory: Path) -> Iterator[tuple[Sidecar, Callable[[], object]]]:
    """A sidecar whose spool is full, as somebody holds its store; and what lets go of it."""
    limit = {"COLLECTOR__SPOOL__LIMIT": "1MiB"}
    line = b'{"ip_address":"203.0.113.1","os_type":"linux"}\n'
    with (
        started(directory, environ=limit) as sidecar,
        closing(
            sqlite3.connect(directory / _STORE, timeout=WAIT_SECONDS, isolation_level=None)
        ) as db,
    ):
        db.execute("BEGIN IMMEDIATE")
        for number in (5000, 100, 1):
            statuses = [sidecar.send(line * number).status]
            while statuses[-1] == 200:
                statuses.append(sidecar.send(line * number).status)
            assert statuses[-1] == 503
        yield sidecar, db.rollback


def test_what_may_be_tried_again(tmp_path: Path) -> None:
    """503 with ``Retry-After``, UNAVAILABLE with ``RetryInfo``; nothing of it was kept."""
    request = _request("192.0.2.1", 1)
    del request["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["traceId"]
    del request["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["spanId"]
    message = ParseDict(request, logs_service_pb2.ExportLogsServiceRequest()).SerializeToString()
    with _full(tmp_path) as (sidecar, release):
        answer = _post(sidecar, json.dumps(request).encode())
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert (answer.headers["content-type"], answer.json["code"]) == (_JSON, 14)
        answer = _post(sidecar, message, _PROTOBUF)
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert answer.headers["content-type"] == _PROTOBUF
        assert status_pb2.Status.FromString(answer.body).code == 14
        error = _refused(sidecar, METHODS["logs"], message)
        details = dict(error.trailing_metadata())["grpc-status-details-bin"]
        again = error_details_pb2.RetryInfo()
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert status_pb2.Status.FromString(details).details[0].Unpack(again)
        assert again.retry_delay.seconds == 5
        release()
        assert _count(sidecar, "203.0.113.1") > 0
        assert _count(sidecar, "192.0.2.1", 0.5) == 0


def test_the_sdk_tries_again(tmp_path: Path) -> None:
    """By itself, until the record is kept; in the store it is once."""
    from opentelemetry.exporter.otlp.proto.http._log_exporter import (  # noqa: PLC0415
        OTLPLogExporter,
    )
    from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor  # noqa: PLC0415

    with _full(tmp_path) as (sidecar, release):
        place = f"http://127.0.0.1:{sidecar.ports['http']}/v1/logs"
        exporter: Any = OTLPLogExporter(endpoint=place, timeout=WAIT_SECONDS)
        results = []
        export = exporter.export

        def watched(batch: Any) -> Any:
            results.append(export(batch))
            return results[-1]

        exporter.export = watched
        provider = LoggerProvider()
        provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        attributes = {"client.address": "192.0.2.2"}
        emit = partial(provider.get_logger("t").emit, body="x", attributes=attributes)
        sending = threading.Thread(target=emit)
        sending.start()
        stays(lambda: not results, 0.5)
        release()
        sending.join(WAIT_SECONDS)
        assert [result.name for result in results] == ["SUCCESS"]
        assert _count(sidecar, "192.0.2.2") == 1
        provider.shutdown()
