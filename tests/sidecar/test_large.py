"""Large requests to a real sidecar: each record is kept once, and no other sender waits."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from itertools import islice
from pathlib import Path
from random import Random
from threading import Thread
from time import sleep

import orjson
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from collector import load_schema
from collector.contracts import MOST_EVENTS
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, eventually
from tests.support.ledgers import check_ledger
from tests.support.sidecar import Answer, Sidecar, started

pytestmark = [pytest.mark.long, pytest.mark.timed]

_IS_FULL = os.environ.get("COLLECTOR_BOMBS") == "full"
_SECONDS = WAIT_SECONDS
_SCHEMAS = ("conferencing", "conferencing-strict", "participants-qos", "webrtc", "web")
_HONEST = "203.0.113.7"


def _many(schema: str) -> str:
    """The address of large bodies; ``webrtc`` takes none but those of the whole internet."""
    return "2606:4700::1111" if schema == "webrtc" else "::"


def _event(schema: str, address: str) -> dict[str, str]:
    """The members of an event; an address of ``webrtc`` counts in a local candidate only."""
    if schema == "webrtc":
        return {"type": "local-candidate", "address": address}
    return {"client.address": address}


def _json(schema: str) -> bytes:
    if schema == "participants-qos":
        return orjson.dumps({"participants": [{"ip_address": "::"}] * MOST_EVENTS})
    return orjson.dumps([_event(schema, _many(schema))] * MOST_EVENTS)


def _ndjson(schema: str) -> bytes:
    if schema == "participants-qos":
        line = orjson.dumps({"participants": [{"ip_address": "::"}] * 100}) + b"\n"
        return line * (MOST_EVENTS // 101)
    return (orjson.dumps(_event(schema, _many(schema))) + b"\n") * MOST_EVENTS


def _records(schema: str) -> bytes:
    record = {"schema": load_schema(schema).layout.schema, "client.address": _many(schema)}
    return (orjson.dumps(record) + b"\n") * MOST_EVENTS


def _logs(schema: str) -> bytes:
    request = ExportLogsServiceRequest()
    logs = request.resource_logs.add().scope_logs.add()
    item = logs.log_records.add()
    for key, value in _event(schema, _many(schema)).items():
        item.attributes.add(key=key).value.string_value = value
    logs.log_records.extend([logs.log_records[0]] * (MOST_EVENTS - 1))
    body: bytes = request.SerializeToString()
    return body


_FORMS = {
    "/v1/events json": (_json, "application/json"),
    "/v1/events ndjson": (_ndjson, "application/x-ndjson"),
    "/v1/records": (_records, "application/x-ndjson"),
    "/v1/logs": (_logs, "application/x-protobuf"),
}


def _rows(data: Path, schema: str) -> Counter[str]:
    """How many events of each address the store has."""
    text = f'SELECT "client.address", sum(count) FROM "{schema}" GROUP BY 1'
    return Counter(dict(query(data / "store.db", text)))


def _until(data: Path, schema: str, expected: Counter[str], seconds: float = _SECONDS) -> None:
    """Wait until the store has this much of some addresses."""

    def is_there() -> bool:
        found = _rows(data, schema)
        return all(found[address] == number for address, number in expected.items())

    assert eventually(is_there, seconds), (_rows(data, schema), expected)


def _post(sidecar: Sidecar, path: str, body: bytes, kind: str) -> Answer:
    return sidecar.request("POST", path.split(maxsplit=1)[0], body, {"Content-Type": kind})


@pytest.mark.parametrize("schema", _SCHEMAS)
def test_the_next_sender_does_not_wait(tmp_path: Path, schema: str) -> None:
    """After a large request of each form; in the end all of it is there, once."""
    address = "9.9.9.9" if schema == "webrtc" else _HONEST
    honest = orjson.dumps(
        {"participants": [{"ip_address": address}]}
        if schema == "participants-qos"
        else _event(schema, address)
    )
    kept = "203.0.113.0" if schema == "conferencing-strict" else address
    with started(tmp_path, environ={"COLLECTOR__SCHEMA": schema}) as sidecar:
        data, admitted = tmp_path / "collector-data", 0
        for sent, (form, (make, kind)) in enumerate(_FORMS.items(), 1):
            answer = _post(sidecar, form, make(schema), kind)
            assert answer.status == 200, (form, answer)
            admitted += answer.json["admitted"] if "events" in form else MOST_EVENTS
            assert sidecar.send(honest, "application/json").json["admitted"] == 1
            _until(data, schema, Counter({kept: sent}))
        _until(data, schema, Counter({_many(schema): admitted, kept: len(_FORMS)}))
        assert sidecar.stop()[0] == 0
    assert _rows(data, schema) == Counter({_many(schema): admitted, kept: len(_FORMS)})


def _addresses() -> Iterator[str]:
    return (f"10.{a}.{b}.{c}" for a in range(256) for b in range(256) for c in range(256))


def test_a_large_request_through_kills(tmp_path: Path) -> None:
    """It is sent again under its key after each; whatever was written of it by then, each record is
    there once in the end, and counted once."""
    addresses, random = list(islice(_addresses(), MOST_EVENTS)), Random()
    schema = load_schema("conferencing").layout.schema
    records = ({"schema": schema, "client.address": address} for address in addresses)
    body = b"".join(orjson.dumps(record) + b"\n" for record in records)
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": "0" * 31 + "1"}

    def post(sidecar: Sidecar) -> None:
        with suppress(OSError, HTTPException):
            sidecar.request("POST", "/v1/records", body, headers)

    for _ in range(9 if _IS_FULL else 4):
        with started(tmp_path) as sidecar:
            sender = Thread(target=post, args=(sidecar,))
            sender.start()
            sleep(random.uniform(0.02, 0.6))
            sidecar.process.kill()
            sidecar.process.wait()
            sender.join()
    with started(tmp_path) as sidecar:
        answer = sidecar.request("POST", "/v1/records", body, headers)
        assert answer.json["admitted"] == MOST_EVENTS
        _until(tmp_path / "collector-data", "conferencing", Counter(addresses))
        assert sidecar.stop()[0] == 0
    assert _rows(tmp_path / "collector-data", "conferencing") == Counter(addresses)
    found = check_ledger(tmp_path / "collector-data" / "spool.db")
    assert found.received == MOST_EVENTS
