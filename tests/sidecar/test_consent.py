"""Consent at a real sidecar: a refusal, in whatever way it comes, removes fields from every file
and sink."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import orjson
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from collector.sdk import Collector
from tests.filter.test_event_consent import made
from tests.sidecar.senders import METHODS
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS
from tests.support.delivery import delivered, held
from tests.support.sidecar import Sidecar, UnixConnection, started
from tests.support.unpacked import every_byte

_CANARY = "canary-51c7"
_EVENT = {
    "client.address": "203.0.113.7",
    "os.name": "Linux",
    "os.version": "22",
    "view.dark": True,
}
_NEITHER = {"client.address"}
_NO_PLANNING = {"client.address", "os.version", "view.dark"}
_LINES = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    """A sidecar with a store for everything, and a file for planning only."""
    made(tmp_path)
    sink = "COLLECTOR__SINKS__NDJSON__"
    environ = {
        "COLLECTOR__SCHEMA": str(tmp_path / "made.yaml"),
        "COLLECTOR__DATA": str(tmp_path),
        "COLLECTOR__HTTP__UNIX": str(tmp_path / "in.sock"),
        f"{sink}PATH": str(tmp_path / "planning.ndjson"),
        f"{sink}PURPOSES": "planning",
    }
    with started(tmp_path, environ=environ) as running:
        yield running


def rows(path: Path) -> list[set[str]]:
    """The fields of each row of the store, repeated by its count."""
    with closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT * FROM made")
        names = [column[0] for column in found.description]
        each = [dict(zip(names, row, strict=True)) for row in found]
    return [
        {name for name, value in row.items() if value is not None} - {"count", "received"}
        for row in each
        for _ in range(row["count"])
    ]


def lines(path: Path) -> list[set[str]]:
    """The fields of each line, repeated by its count."""
    each = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    return [
        {*one} - {"schema", "count", "received"} for one in each for _ in range(one.get("count", 1))
    ]


def _logs(*, choices: bool) -> bytes:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    for name, value in _EVENT.items():
        one = record.attributes.add(key=name).value
        if isinstance(value, bool):
            one.bool_value = value
        else:
            one.string_value = str(value)
    if choices:
        said = record.attributes.add(key="choices").value.kvlist_value
        said.values.add(key="planning").value.bool_value = False
        said.values.add(key=_CANARY).value.string_value = _CANARY
    return bytes(request.SerializeToString())


def _send(sidecar: Sidecar) -> list[set[str]]:
    """Send every kind of refusal. Return the fields that the store must have."""
    text, left = orjson.dumps(_EVENT), list[set[str]]()
    for headers, fields in (
        ({"Sec-GPC": "1"}, _NEITHER),
        ({"DNT": "1"}, _NEITHER),
        ({"Sec-GPC": "0", "DNT": "null"}, {*_EVENT}),
    ):
        answer = sidecar.request("POST", "/v1/events", text, _LINES | headers)
        assert answer.json == {"received": 1, "admitted": 1, "rejected": {}}
        left.append(fields)
    for headers, fields in (({"Sec-GPC": "1"}, _NEITHER), ({}, {*_EVENT})):
        assert _over_the_socket(sidecar, text, headers) == 200
        left.append(fields)
    said = [["planning", _CANARY], {"planning": False, _CANARY: _CANARY}, _CANARY, {}]
    events = [orjson.dumps({**_EVENT, "choices": one}) for one in said]
    assert sidecar.send(b"\n".join(events)).json["admitted"] == 4
    assert sidecar.send(b"[%b]" % b",".join(events), "application/json").json["admitted"] == 4
    left += 2 * [_NO_PLANNING, _NO_PLANNING, _NEITHER, {*_EVENT}]
    kind = {"Content-Type": "application/x-protobuf"}
    for choices, headers in ((True, {}), (False, {"Sec-GPC": "1"})):
        body = _logs(choices=choices)
        assert sidecar.request("POST", "/v1/logs", body, kind | headers).status == 200
    with grpc.insecure_channel(f"127.0.0.1:{sidecar.ports['grpc']}") as channel:
        export = channel.unary_unary(METHODS["logs"])
        for choices, metadata in (
            (True, ()),
            (False, (("sec-gpc", "1"),)),
            (False, (("dnt", "1"),)),
        ):
            export(_logs(choices=choices), metadata=metadata, timeout=WAIT_SECONDS)
    left += [_NO_PLANNING, _NEITHER, _NO_PLANNING, _NEITHER, _NEITHER]
    return left + _records(sidecar)


def _over_the_socket(sidecar: Sidecar, body: bytes, headers: dict[str, str]) -> int:
    connection = UnixConnection(sidecar.directory / "in.sock")
    with closing(connection):
        connection.request("POST", "/v1/events", body, _LINES | headers)
        return connection.getresponse().status


def _records(sidecar: Sidecar) -> list[set[str]]:
    """Send records that our SDK has filtered, or that claim so. Return the fields that the store
    must have."""
    record = orjson.dumps({"schema": "made/1.0.0", **_EVENT})
    for granted in ("security crashes", "security crashes unknown", "", "a,b"):
        headers = _LINES | {"Collector-Granted": granted}
        answer = sidecar.request("POST", "/v1/records", record, headers)
        assert answer.json["admitted"] == 1
    to = f"http://127.0.0.1:{sidecar.ports['http']}"
    schema = sidecar.directory / "made.yaml"
    with Collector(schema, to, consent=["planning"]) as telemetry:
        assert telemetry.emit(_EVENT)
        assert telemetry.emit({**_EVENT, "choices": ["crashes"]})
        assert telemetry.flush(WAIT_SECONDS)
    return [_NO_PLANNING, _NO_PLANNING, _NEITHER, _NEITHER, _NO_PLANNING, _NEITHER]


def test_what_is_refused_is_nowhere(sidecar: Sidecar, tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    with held(store):
        left = _send(sidecar)
        batches = query(tmp_path / "spool.db", "SELECT granted, payload FROM batches")
        everything = every_byte(*tmp_path.glob("*.db*"))
    assert delivered(sidecar) == len(left)
    ordered = [sorted(map(sorted, found)) for found in (rows(store), left)]
    assert ordered[0] == ordered[1]
    planning = {"os.name", "os.version"}
    file = lines(tmp_path / "planning.ndjson")
    assert sorted(map(sorted, file)) == [sorted(planning) for one in left if one == {*_EVENT}]
    assert {granted for granted, _ in batches} == {None, "security crashes", "security"}
    assert b"granted" not in b"".join(payload for _, payload in batches)
    files = [p for p in tmp_path.iterdir() if p.is_file() and p.suffix != ".yaml"]
    everything += b"".join(p.read_bytes() for p in files)
    assert _CANARY.encode() not in everything + "".join(sidecar.log).encode()
    metrics = sidecar.admin("/metrics").body
    assert b'purpose_refused"' in metrics
    assert _CANARY.encode() not in metrics


def test_it_says_that_it_heeds_gpc(sidecar: Sidecar) -> None:
    """The specification's resource, and its form."""
    answer = sidecar.request("GET", "/.well-known/gpc.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json == {"gpc": True, "lastUpdate": "2026-11-26"}
    assert sidecar.request("HEAD", "/.well-known/gpc.json").status == 200
    assert sidecar.request("POST", "/.well-known/gpc.json", b"{}", _LINES).status == 405
    foreign = sidecar.request("GET", "/.well-known/gpc.json", None, {"Host": "evil.example"})
    assert foreign.status == 421


def test_all_refused_is_withheld(sidecar: Sidecar) -> None:
    """An event without any field left is counted as withheld."""
    event = orjson.dumps({"os.name": "Linux", "view.dark": True})
    answer = sidecar.request("POST", "/v1/events", event, _LINES | {"Sec-GPC": "1"})
    assert answer.json == {"received": 1, "admitted": 0, "rejected": {"consent_withheld": 1}}
