"""A real sidecar with several schemas: which one a request names, and what is kept apart."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

import grpc  # type: ignore[import-untyped]
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from collector.contracts import PendingBatch, to_minute
from collector.filter import Filter
from collector.schema import load_schema
from collector.spool import Spool
from collector.spool.idempotency import request_key
from tests.sidecar.senders import METHODS
from tests.support.command import run
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.failing_disk import metric
from tests.support.rows import for_each
from tests.support.sidecar import Sidecar, started

_JSON = {"Content-Type": "application/json"}
_LINES = "application/x-ndjson"
_BOTH = {"COLLECTOR__SCHEMAS": "conferencing,web"}
_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
_CANARY = "canary-73e0"


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar with two schemas, a store for everything and a file for security."""
    folder = tmp_path_factory.mktemp("schemas")
    environ = {
        **_BOTH,
        "COLLECTOR__HTTP__PREFERENCES": "true",
        "COLLECTOR__SINKS__NDJSON__PATH": str(folder / "planned.ndjson"),
        "COLLECTOR__SINKS__NDJSON__PURPOSES": "capacity_planning",
    }
    with started(folder, environ=environ) as running:
        yield running


def _data(sidecar: Sidecar) -> Path:
    return sidecar.directory / "collector-data"


def _counted(sidecar: Sidecar) -> Counter[str]:
    """The number of events that each schema has admitted and rejected."""
    name = 'collector_events_total{outcome="%s",schema="%s"}'
    return Counter(
        {
            f"{schema} {outcome}": int(metric(sidecar, name % (outcome, schema)))
            for schema in ("conferencing", "web")
            for outcome in ("admitted", "rejected")
        }
    )


def _post(sidecar: Sidecar, path: str, schema: str | None = None, **more: str) -> int:
    named = {} if schema is None else {"Collector-Schema": schema}
    body = json.dumps({"ip": "203.0.113.7", "os": {"type": "linux"}}).encode()
    headers = {**_JSON, "User-Agent": _AGENT, **named, **more}
    return sidecar.request("POST", path, body, headers).status


def test_a_request_names_its_schema(sidecar: Sidecar) -> None:
    """In the query, escaped or not, or in a header. If it names none, it means the first one."""
    before = _counted(sidecar)
    for path in ("/v1/events", "/v1/events?schema=conferencing", "/v1/events?a=b&%73chema=web"):
        assert _post(sidecar, path) == 200
    assert _post(sidecar, "/v1/events", "web") == 200
    assert _post(sidecar, "/v1/events?schema=%77eb", "web") == 200
    assert _counted(sidecar) - before == {"conferencing admitted": 2, "web admitted": 3}
    store = _data(sidecar) / "store.db"
    wait_until(lambda: (query(store, "SELECT sum(count) FROM web")[0][0] or 0) >= 3)
    assert ("127.0.0.1",) in query(store, 'SELECT DISTINCT "client.address" FROM web')
    found = query(store, 'SELECT DISTINCT "client.address" FROM conferencing')
    assert ("127.0.0.1",) not in found


@for_each(
    ("path", "schema"),
    [
        (f"/v1/events?schema={_CANARY}", None),
        ("/v1/events", _CANARY),
        ("/v1/events?schema=web", "conferencing"),
        ("/v1/events?schema=web&schema=conferencing", None),
        ("/v1/events?schema=", None),
        ("/v1/events?schema", None),
        ("/v1/events", "Web"),
        ("/v1/events", "web/1.0.0"),
        ("/v1/events", "conferencing, web"),
        ("/v1/events", "../web"),
    ],
)
def test_another_name_is_not_found(sidecar: Sidecar, path: str, schema: str | None) -> None:
    """404; nothing is counted, and neither the answer nor the log repeats the name."""
    before = _counted(sidecar)
    named = {} if schema is None else {"Collector-Schema": schema}
    answer = sidecar.request("POST", path, b'{"ip": "203.0.113.7"}', {**_JSON, **named})
    assert (answer.status, answer.json["error"]["code"]) == (404, "E413")
    assert _CANARY.encode() not in answer.body
    assert _counted(sidecar) == before
    assert _CANARY not in "".join(sidecar.log)


def _request(schema: str | None, body: bytes) -> bytes:
    named = "" if schema is None else f"Collector-Schema: {schema}\r\n"
    head = f"Host: localhost\r\nContent-Type: application/json\r\nUser-Agent: {_AGENT}\r\n{named}"
    return f"POST /v1/events HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_requests_of_one_connection(sidecar: Sidecar) -> None:
    """Each has its own schema, even if all are sent before the first answer and one in between is
    refused."""
    before, body = _counted(sidecar), b'{"client.address": "203.0.113.7"}'
    names = [None, "web", "none", "conferencing", "web", None, "web"]
    with socket.create_connection(("127.0.0.1", sidecar.ports["http"]), WAIT_SECONDS) as line:
        line.sendall(b"".join(_request(name, body) for name in names))
        said = b""
        while said.count(b"HTTP/1.1 ") < len(names) or not said.endswith(b"}"):
            more = line.recv(1 << 16)
            assert more
            said += more
    statuses = [int(part[:3]) for part in said.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 200, 404, 200, 200, 200, 200]
    assert _counted(sidecar) - before == {"conferencing admitted": 3, "web admitted": 3}


def test_otlp_over_grpc_names_it_in_metadata(sidecar: Sidecar) -> None:
    """An exporter sets it like any header. An unknown schema is not found, and the request is not
    read."""
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.attributes.add(key="client.address").value.string_value = "203.0.113.9"
    before = _counted(sidecar)
    with grpc.insecure_channel(f"127.0.0.1:{sidecar.ports['grpc']}") as channel:
        export = channel.unary_unary(METHODS["logs"])
        for metadata in ((), (("collector-schema", "web"),), (("collector-schema", "web"),) * 2):
            export(request.SerializeToString(), metadata=metadata, timeout=WAIT_SECONDS)
        for names in ((_CANARY,), ("web", "conferencing"), ("",)):
            several = tuple(("collector-schema", name) for name in names)
            with pytest.raises(grpc.RpcError) as raised:
                export(request.SerializeToString(), metadata=several, timeout=WAIT_SECONDS)
            assert raised.value.code() == grpc.StatusCode.NOT_FOUND
            assert _CANARY not in raised.value.details()
    assert _counted(sidecar) - before == {"conferencing admitted": 1, "web admitted": 2}


def _records(sidecar: Sidecar, *lines: str, key: str = "", named: str = "") -> tuple[int, object]:
    headers = {"Content-Type": _LINES, "Idempotency-Key": key or token_hex(16)}
    if named:
        headers["Collector-Schema"] = named
    body = "".join(f"{line}\n" for line in lines).encode()
    answer = sidecar.request("POST", "/v1/records", body, headers)
    return answer.status, answer.json.get("admitted", answer.json)


_WEB = '{"schema":"web/1.0.0","client.address":"203.0.113.8"}'
_CALL = '{"schema":"conferencing/1.0.0","client.address":"203.0.113.8"}'
_OTHER = '{"schema":"webrtc/1.0.0","client.address":"203.0.113.8"}'


def test_records_name_their_own(sidecar: Sidecar) -> None:
    """The first readable record decides. A body with two schemas, or with another one, is refused
    as a whole."""
    before = _counted(sidecar)
    assert _records(sidecar, _WEB) == (200, 1)
    assert _records(sidecar, _CALL) == (200, 1)
    assert _records(sidecar, "", "{", '{"schema":7}', _WEB.replace("1.0.0", "0.9.0"))[0] == 200
    assert _records(sidecar, _WEB, named="web") == (200, 1)
    for lines, named in (
        ((_WEB, _CALL), ""),
        ((_CALL, _WEB), ""),
        ((_OTHER,), ""),
        ((_OTHER, _WEB), ""),
        ((_WEB,), "conferencing"),
    ):
        assert _records(sidecar, *lines, named=named)[0] == 409
    assert _records(sidecar, _WEB, named=_CANARY)[0] == 404
    found = _counted(sidecar) - before
    assert (found["web admitted"], found["conferencing admitted"]) == (3, 1)


def test_a_key_is_of_one_schema(sidecar: Sidecar) -> None:
    """The same key under another schema is another request: it is stored, and not answered as a
    repetition."""
    before, key = _counted(sidecar), token_hex(16)
    for _ in range(3):
        assert _records(sidecar, _WEB, key=key) == (200, 1)
        assert _records(sidecar, _CALL, key=key) == (200, 1)
    assert _counted(sidecar) - before == {"conferencing admitted": 1, "web admitted": 1}


def test_a_refusal_is_of_the_purposes_of_each(sidecar: Sidecar) -> None:
    """The signal removes the optional fields of one schema; the other has none. The page shows the
    purposes of both."""
    store = _data(sidecar) / "store.db"
    body = {"ip": "203.0.113.44", "model": "iPhone 15 Pro", "os": {"type": "ios"}}
    signal = {**_JSON, "Sec-GPC": "1", "User-Agent": _AGENT}
    for name in ("conferencing", "web"):
        path = f"/v1/events?schema={name}"
        answer = sidecar.request("POST", path, json.dumps(body).encode(), signal)
        assert answer.json["admitted"] == 1
    where = "WHERE \"client.address\" = '203.0.113.44'"
    wait_until(lambda: query(store, f"SELECT count(*) FROM conferencing {where}") == [(1,)])
    found = query(store, f'SELECT "os.type", "device.model.name" FROM conferencing {where}')
    assert found == [("ios", None)]
    page = sidecar.request("GET", "/preferences").body
    assert b'value="capacity_planning"' in page
    assert b"security" not in page


def test_each_schema_has_receipts_a_label_and_an_entry(sidecar: Sidecar) -> None:
    assert _post(sidecar, "/v1/events", "web") == 200
    assert _post(sidecar, "/v1/events") == 200
    spool = _data(sidecar) / "spool.db"
    entries = query(spool, "SELECT facts FROM entries WHERE kind = 'schema' ORDER BY sequence")
    digests = [dict(line.split(" ", 1) for line in e.split("\n"))["digest"] for (e,) in entries]
    assert len(digests) == 2
    found = dict(query(spool, "SELECT schema, sum(admitted) FROM receipts GROUP BY schema"))
    counted = _counted(sidecar)
    assert found[digests[0]] == counted["conferencing admitted"]
    assert found[digests[1]] == counted["web admitted"]
    assert b'schema="web/1.0.0"' in sidecar.admin("/metrics").body
    planned = sidecar.directory / "planned.ndjson"
    wait_until(lambda: planned.exists() and b"conferencing" in planned.read_bytes())
    assert b'"web/' not in planned.read_bytes()


def _made(name: str) -> Iterator[PendingBatch]:
    """Yield the undelivered batch of one event of a schema."""
    schema, minute = load_schema(name), to_minute(datetime.now(UTC))
    made = Filter(schema).admit({"client.address": "203.0.113.8"})
    yield PendingBatch(schema.layout, minute, made.encode(), made.tally)


def _answered(folder: Path, schemas: str, **more: str) -> dict[str, str]:
    return {"COLLECTOR__SCHEMAS": schemas, "COLLECTOR__DATA": str(folder / "data"), **more}


def test_a_schema_is_taken_out_while_batches_wait(tmp_path: Path) -> None:
    """They reach the sink that gets all fields. For a sink that gets some fields they are set
    aside, and the log says so. When the schema is in force again, they are delivered. A retry key
    is known as before."""
    sinks = {
        "COLLECTOR__SINKS__NDJSON__PATH": str(tmp_path / "out.ndjson"),
        "COLLECTOR__SINKS__NDJSON__PURPOSES": "security",
    }
    key, out = token_hex(16), tmp_path / "out.ndjson"
    both = _answered(tmp_path, "web,conferencing", **sinks)
    with Spool(tmp_path / "data" / "spool.db", sinks=["store", "ndjson"]) as spool:
        known = request_key(bytes.fromhex(key), "records", "web", f"{_WEB}\n".encode())
        spool.put(*_made("web"), key=known).result()
        spool.put(*_made("conferencing")).result()
    with started(tmp_path, environ=_answered(tmp_path, "web", **sinks)) as sidecar:
        name = 'collector_sink_set_aside_records{sink="ndjson"}'
        wait_until(lambda: metric(sidecar, name) == 1)
        wait_until(lambda: any(each["event"] == "batches_set_aside" for each in sidecar.events))
        assert _records(sidecar, _CALL)[0] == 409
        assert _records(sidecar, _WEB, key=key) == (200, 1)
        wait_until(lambda: metric(sidecar, "collector_spool_batches") == 0)
        sidecar.stop()
    data = str(tmp_path / "data")
    shown = run("store", "set-aside", "--data", data, "--json").json
    assert [each["schema"] for each in shown["set_aside"]] == ["conferencing/1.0.0"]
    store = tmp_path / "data" / "store.db"
    assert query(store, "SELECT sum(count) FROM conferencing") == [(1,)]
    assert query(store, "SELECT sum(count) FROM web") == [(1,)]
    assert b"conferencing" not in out.read_bytes()
    done = run("store", "redeliver", "--json", env=both)
    assert done.json == {"delivered": 1, "left": 0}
    assert [json.loads(line)["schema"] for line in out.read_bytes().splitlines()] == [
        "web/1.0.0",
        "conferencing/1.0.0",
    ]


def test_a_schema_is_added_and_a_person_erased_of_both(tmp_path: Path) -> None:
    """Existing records stay; the ledger calls it widening; each table is pruned by its own
    retentions. A person's records of both schemas are erased, and the files hold."""
    only = {"COLLECTOR__DATA": str(tmp_path / "data"), "COLLECTOR__SCHEMA": "conferencing"}
    with started(tmp_path, environ=only) as sidecar:
        assert _records(sidecar, _CALL) == (200, 1)
        assert _records(sidecar, _WEB)[0] == 409
        sidecar.stop()
    both = _answered(tmp_path, "conferencing,web")
    with started(tmp_path, "--allow-widening", environ=both) as sidecar:
        assert _records(sidecar, _WEB) == (200, 1)
        assert _records(sidecar, _WEB.replace("203.0.113.8", "203.0.113.9")) == (200, 1)
        wait_until(lambda: metric(sidecar, "collector_spool_batches") == 0)
        sidecar.stop()
    spool, store = tmp_path / "data" / "spool.db", tmp_path / "data" / "store.db"
    entries = query(spool, "SELECT facts FROM entries WHERE kind = 'schema' ORDER BY sequence")
    changes = [dict(line.split(" ", 1) for line in e.split("\n"))["change"] for (e,) in entries]
    assert changes == ["first", "widening"]
    asked = ["--field", "client.address=203.0.113.8", "--from", "2026-01-01", "--to", "2099-01-01"]
    exported = run("subject", "export", *asked, env=both).json
    assert exported["schemas"] == ["conferencing/1.0.0", "web/1.0.0"]
    assert {name: len(rows) for name, rows in exported["sinks"]["store"].items()} == {
        "conferencing": 1,
        "web": 1,
    }
    by_ledger = run("subject", "export", *asked, "--data", str(tmp_path / "data"))
    assert by_ledger.json["sinks"] == exported["sinks"]
    assert run("subject", "erase", *asked, "--json", env=both).json["sinks"] == {"store": 2}
    assert query(store, "SELECT count(*) FROM conferencing") == [(0,)]
    assert query(store, "SELECT count(*) FROM web") == [(1,)]
    assert run("ledger", "verify", "--data", str(tmp_path / "data")).code == 0
