"""The HTTP receiver over real sockets: requests that are accepted, responses, refusals."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from collector.contracts import SIGNALS
from collector.ingest.decompression import zstd_library
from collector.ingest.limits import MIB
from tests.conftest import required
from tests.ingest.serving import Server, exchange, serving
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.rows import for_each
from tests.support.tcp import is_refused

_EVENT = b'{"client":{"address":"203.0.113.7"},"os":{"type":"windows"},"chat":["not kept"]}'
_TAKEN = {"received": 1, "admitted": 1, "rejected": {}}
_NDJSON = "application/x-ndjson"
_RECORD = b'{"schema":"conferencing/1.0.0","os.type":"linux","count":3}\n'
_RECORDS = {"path": "/v1/records", "content_type": _NDJSON}
_KEY = "00112233445566778899aabbccddeeff"
_PROTOBUF = "application/x-protobuf"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A receiver with nothing configured."""
    with serving(tmp_path_factory.mktemp("http")) as running:
        yield running


# -- what is taken ------------------------------------------------------------------------------


def test_an_object(server: Server) -> None:
    """One event, and its counts."""
    reply = server.post(_EVENT)
    assert (reply.status, reply.json) == (200, _TAKEN)
    assert reply.headers["content-type"] == "application/json"
    assert "server" not in reply.headers
    assert reply.body == b'{"received":1,"admitted":1,"rejected":{}}'


def test_an_array(server: Server) -> None:
    """Many events; those that are none are counted."""
    reply = server.post(b"[" + _EVENT + b",1," + _EVENT + b"]")
    counts = {"received": 3, "admitted": 2, "rejected": {"not_an_object": 1}}
    assert (reply.status, reply.json) == (200, counts)


def test_lines(server: Server) -> None:
    """Bad lines are counted, the good ones are kept: 200."""
    reply = server.post(_EVENT + b"\n{\n\n[]\n" + _EVENT, content_type=_NDJSON)
    counts = {"received": 4, "admitted": 2, "rejected": {"malformed": 1, "not_an_object": 1}}
    assert (reply.status, reply.json) == (200, counts)
    assert server.post(b"{", content_type=_NDJSON).status == 200
    assert server.post(b"", content_type=_NDJSON).json["received"] == 0


@for_each(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(_EVENT)),
        ("zstd", zstd_library().compress(_EVENT)),
        ("deflate", zlib.compress(_EVENT)),
        ("deflate", zlib.compress(_EVENT)[2:-4]),
        ("identity", _EVENT),
    ],
)
def test_encodings(server: Server, encoding: str, body: bytes) -> None:
    """Each of them."""
    reply = server.post(body, content_encoding=encoding)
    assert (reply.status, reply.json) == (200, _TAKEN)


def test_a_large_body(server: Server) -> None:
    """3 MiB on the wire, almost 8 MiB after decompression, and chunks."""
    line = _EVENT + b" " * 1000 + b"\n"
    body = line * (3 * MIB // len(line))
    assert server.post(body, content_type=_NDJSON).json["admitted"] == body.count(b"\n")
    varied = b"".join(b'{"os":{"type":"linux"},"n":%d}\n' % number for number in range(200_000))
    reply = server.post(gzip.compress(varied, 1), content_type=_NDJSON, content_encoding="gzip")
    assert reply.json["received"] == 200_000
    client = server.client()
    client.request(
        "POST",
        "/v1/events",
        iter([body[at : at + 9999] for at in range(0, len(body), 9999)]),
        {"content-type": _NDJSON},
        encode_chunked=True,
    )
    assert json.loads(client.getresponse().read())["received"] == body.count(b"\n")
    client.close()


def test_records(server: Server) -> None:
    """They count as often as they say; a key changes nothing of the answer, and bad lines cost
    themselves."""
    for more in ({}, {"idempotency_key": _KEY}, {"idempotency_key": f'"{_KEY}"'}):
        reply = server.post(_RECORD + b"{\n", **_RECORDS, **more)
        assert reply.json == {"received": 4, "admitted": 3, "rejected": {"malformed": 1}}
    packed = server.post(gzip.compress(_RECORD), content_encoding="gzip", **_RECORDS)
    assert packed.json == {"received": 3, "admitted": 3, "rejected": {}}
    assert server.post(b"", **_RECORDS).json == {"received": 0, "admitted": 0, "rejected": {}}


def test_keys(tmp_path: Path) -> None:
    """Each request may have one."""
    with serving(tmp_path, mood="telling") as server:
        server.post(_RECORD, idempotency_key=_KEY, **_RECORDS)
        server.post(_RECORD, **_RECORDS)
        assert server.post(_EVENT, idempotency_key=_KEY).json == _TAKEN
        assert server.post(b"{}", "/v1/logs", idempotency_key=f'"{_KEY}"').status == 200
    keys = [line for line in server.stdout.read_text().splitlines() if line.startswith("key")]
    assert keys == [f"key {_KEY}", "key None", f"key {_KEY}", f"key {_KEY}"]


def test_queries_mean_nothing(server: Server) -> None:
    """The query is passed over."""
    assert server.post(_EVENT, "/v1/events?a=b&c").status == 200


def test_curl(server: Server) -> None:
    if (curl := shutil.which("curl")) is None:
        required("curl")
    assert curl is not None
    url = f"http://127.0.0.1:{server.port}/v1/events"
    for more in ([], ["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"]):
        command = [curl, "-sS", url, "-H", "Content-Type: application/json", "-d", "@-", *more]
        done = subprocess.run(command, input=_EVENT, capture_output=True, check=True, timeout=30)
        assert json.loads(done.stdout) == _TAKEN


# -- what is refused ----------------------------------------------------------------------------


@for_each(
    ("body", "headers", "status", "code"),
    [
        (b"{", {}, 400, "E422"),
        (b"", {}, 400, "E422"),
        (b"{}{}", {}, 400, "E422"),
        (b"\xff\xfe{}", {}, 400, "E422"),
        (_EVENT, {"path": "/v1/event"}, 404, "E413"),
        (_EVENT, {"path": "/v1/events/"}, 404, "E413"),
        (_EVENT, {"path": "/V1/events"}, 404, "E413"),
        (b"", {"path": "/", "method": "GET"}, 404, "E413"),
        (b"", {"method": "GET"}, 405, "E413"),
        (_EVENT, {"method": "PUT"}, 405, "E413"),
        (_EVENT, {"method": "DELETE", "path": "/v1/logs"}, 405, "E413"),
        (_EVENT, {"content_type": "text/plain"}, 415, "E410"),
        (_EVENT, {"content_type": "application/x-www-form-urlencoded"}, 415, "E410"),
        (_EVENT, {"content_type": _PROTOBUF}, 415, "E410"),
        (_RECORD, {"path": "/v1/records"}, 415, "E410"),
        (_RECORD, {**_RECORDS, "content_type": _PROTOBUF}, 415, "E410"),
        (_RECORD, {**_RECORDS, "idempotency_key": "7"}, 400, "E410"),
        (_RECORD, {**_RECORDS, "idempotency_key": _KEY + ", " + _KEY}, 400, "E410"),
        (_RECORD.replace(b"conferencing", b"web"), _RECORDS, 409, "E429"),
        (_EVENT + b"\n" + _RECORD.replace(b"conf", b"Conf"), _RECORDS, 409, "E429"),
        (_EVENT, {"content_encoding": "br"}, 415, "E410"),
        (_EVENT, {"content_encoding": "gzip, gzip"}, 415, "E410"),
        (_EVENT, {"content_encoding": "gzip"}, 400, "E422"),
        (gzip.compress(_EVENT) * 2, {"content_encoding": "gzip"}, 400, "E422"),
        (gzip.compress(gzip.compress(_EVENT)), {"content_encoding": "gzip"}, 400, "E422"),
        (_EVENT, {"origin": "https://meet.example"}, 403, "E412"),
        (bytes(8 * MIB + 1), {}, 413, "E416"),
    ],
)
def test_refusals_leave_the_server_and_mostly_the_connection(
    server: Server, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    """Status, code, and a connection that can be used again unless the answer says it cannot."""
    client = server.client()
    reply = exchange(client, body, **headers)
    assert (reply.status, reply.code) == (status, code)
    assert reply.headers["content-type"] == "application/json"
    closes = reply.headers.get("connection") == "close"
    assert closes == (len(body) > 4 * MIB)
    before = client.sock
    assert exchange(client, _EVENT).json == _TAKEN
    assert closes or client.sock is before
    client.close()


def test_what_becomes_too_large(server: Server) -> None:
    for body in (bytes(9 * MIB), (os.urandom(2000) + bytes(20_000)) * 400):
        reply = server.post(gzip.compress(body, 1), content_encoding="gzip")
        assert (reply.status, reply.code) == (413, "E416")


def test_too_many_items(server: Server) -> None:
    """A document of more than 50,000 is too large as a whole, however short; lines are counted."""
    body = b"[" + b"{}," * 60_000 + b"{}]"
    for path, made in (
        ("/v1/events", body),
        ("/v1/logs", b'{"resourceLogs":[{"scopeLogs":[{"logRecords":%s}]}]}' % body),
    ):
        reply = server.post(made, path)
        assert (reply.status, reply.code) == (413, "E416")
        assert "connection" not in reply.headers
    reply = server.post(b"{}\n" * 60_000, content_type=_NDJSON)
    assert (reply.status, reply.json["received"]) == (200, 60_000)


def test_headers_that_go_with_a_status(server: Server) -> None:
    """405 says what is allowed, 415 which encodings are."""
    assert server.post(b"", method="GET").headers["allow"] == "OPTIONS, POST"
    reply = server.post(_EVENT, content_encoding="br")
    assert reply.headers["accept-encoding"] == "gzip, zstd, deflate"


def test_head_and_options(server: Server) -> None:
    """HEAD is GET without a body; OPTIONS says what is allowed."""
    reply = server.post(b"", method="HEAD")
    assert (reply.status, reply.body) == (405, b"")
    reply = server.post(b"", method="OPTIONS")
    assert (reply.status, reply.body, reply.headers["allow"]) == (204, b"", "OPTIONS, POST")
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_large_bodies_are_refused_before_they_are_sent(server: Server) -> None:
    """``Expect`` is answered at once, by ``100 Continue`` or by a refusal of the body."""
    head = b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    answer = server.say(head + b"Content-Length: 9999999\r\nExpect: 100-continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    answer = server.say(head + b"Content-Length: 9999999999999\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    answer = server.say(head.replace(b"events", b"nothing") + b"Expect: 100-continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"connection: close" in answer


def test_chunks_without_end_are_refused(server: Server) -> None:
    """A body of unknown length is read up to the limit, and the sender hears why no further."""
    client = server.client()
    client.putrequest("POST", "/v1/events")
    client.putheader("Content-Type", "application/json")
    client.putheader("Transfer-Encoding", "chunked")
    client.endheaders()
    try:
        for _ in range(9 * 16):
            client.send(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
    except OSError:
        pass
    assert client.getresponse().status == 413
    client.close()


# -- OTLP ---------------------------------------------------------------------------------------

_OTLP = {
    "logs": ("resourceLogs", "scopeLogs", "logRecords", "rejectedLogRecords"),
    "traces": ("resourceSpans", "scopeSpans", "spans", "rejectedSpans"),
    "metrics": ("resourceMetrics", "scopeMetrics", "dataPoints", "rejectedDataPoints"),
}


@for_each("signal", SIGNALS)
def test_otlp_as_json(server: Server, signal: str) -> None:
    """Nothing is said of full success; rejected items are counted, as a string; an error has the
    code of gRPC besides ours."""
    reply = server.post(b"{}", f"/v1/{signal}")
    assert (reply.status, reply.json) == (200, {})
    assert reply.headers["content-type"] == "application/json"
    known = {"attributes": [{"key": "os.type", "value": {"stringValue": "linux"}}]}
    outer, scope, item, rejected = _OTLP[signal]
    items: Any = {item: [known, {}, {}]}
    body = {outer: [{scope: [{"metrics": [{"gauge": items}]} if signal == "metrics" else items]}]}
    reply = server.post(json.dumps(body).encode(), f"/v1/{signal}")
    assert reply.status == 200
    assert reply.json["partialSuccess"][rejected] == "2"
    assert "nothing_admitted 2" in reply.json["partialSuccess"]["errorMessage"]
    reply = server.post(b"\xff\xff\xff", f"/v1/{signal}")
    assert (reply.status, reply.json["code"], reply.code) == (400, 3, "E422")


def test_refusals_in_the_words_of_otlp(server: Server) -> None:
    status_pb2 = pytest.importorskip("google.rpc.status_pb2")
    reply = server.post(b"\x0a", "/v1/logs", content_type=_PROTOBUF, content_encoding="br")
    assert (reply.status, reply.headers["content-type"]) == (415, _PROTOBUF)
    assert "E410" in status_pb2.Status.FromString(reply.body).message
    reply = server.post(b"{}", "/v1/logs", content_type="text/plain")
    assert (reply.status, reply.code, reply.json["code"]) == (415, "E410", 3)


# -- who may send -------------------------------------------------------------------------------


def test_tokens(tmp_path: Path) -> None:
    with serving(tmp_path, token="abc") as server:
        reply = server.post(_EVENT, authorization="Bearer abcd")
        assert (reply.status, reply.code) == (401, "E411")
        assert reply.headers["www-authenticate"] == "Bearer"
        assert server.post(_EVENT, authorization="Bearer abc").json == _TAKEN
        assert server.post(b"", method="OPTIONS").status == 204
        twice = b"Authorization: Bearer abc\r\n" * 2
        head = b"POST /v1/events HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        assert server.say(head + twice + b"\r\n").startswith(b"HTTP/1.1 401 ")


def test_hosts(tmp_path: Path) -> None:
    """Names that are configured are answered; others are refused."""
    with serving(tmp_path, hosts=["localhost", "[::1]"]) as server:
        assert server.post(_EVENT, host="localhost:4318").status == 200
        reply = server.post(_EVENT, host="127.0.0.1")
        assert (reply.status, reply.code) == (421, "E412")


def test_pages(tmp_path: Path) -> None:
    """Browsers of configured origins are told what they need to know; others nothing."""
    meet = "https://meet.example"
    asks = {"method": "OPTIONS", "access_control_request_method": "POST"}
    with serving(tmp_path, origins=[meet + "/"]) as server:
        reply = server.post(b"", "/v1/logs", origin=meet, **asks)
        assert reply.status == 204
        assert reply.headers["access-control-allow-origin"] == meet
        assert reply.headers["access-control-allow-methods"] == "POST"
        assert "content-type" in reply.headers["access-control-allow-headers"]
        assert "content-encoding" in reply.headers["access-control-allow-headers"]
        reply = server.post(b"{}", "/v1/logs", origin=meet)
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, meet)
        assert reply.headers["vary"] == "origin"
        reply = server.post(b"{", origin=meet)
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (400, meet)
        for request in (asks, {}):
            reply = server.post(_EVENT, origin="https://evil.example", **request)
            assert (reply.status, reply.code) == (403, "E412")
            assert "access-control-allow-origin" not in reply.headers
        assert server.post(_EVENT).status == 200


def test_addresses_and_agents_go_to_the_filter(tmp_path: Path) -> None:
    """The peer, or the address that trusted proxies name; and the user agent."""
    with serving(tmp_path, mood="telling", hops=1) as server:
        server.post(_EVENT, x_forwarded_for="198.51.100.9, 203.0.113.7", user_agent="Some/1.0")
    assert 'sender ["203.0.113.7", "Some/1.0"]' in server.said()


def test_a_unix_socket(tmp_path: Path) -> None:
    """Has no addresses."""
    path = str(tmp_path / "socket")
    with serving(tmp_path, mood="telling", unix=path) as server:
        head = b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        length = b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(_EVENT)
        answer = server.say(head + length + _EVENT)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert "sender [null, null]" in server.said()


# -- what goes wrong behind it ------------------------------------------------------------------


def test_memory_for_bodies_is_one_for_all(tmp_path: Path) -> None:
    """When all together hold as much as they may, others are told to come again."""
    limits = {"memory": 1, "wire": 100_000, "body": 100_000}
    with serving(tmp_path, mood="held", limits=limits) as server:
        clients = [server.client() for _ in range(4)]
        body = _EVENT + b" " * 90_000
        for client in clients:
            client.request("POST", "/v1/events", body, {"content-type": "application/json"})
        wait_until(lambda: (server.held(), server.observed()) == (1, [503, 503, 503]))
        server.release()
        replies = [client.getresponse() for client in clients]
        statuses = sorted(reply.status for reply in replies)
        assert statuses == [200, 503, 503, 503]
        refused = next(reply for reply in replies if reply.status == 503)
        assert json.loads(refused.read())["error"]["code"] == "E425"
        for client in clients:
            client.close()
        assert server.post(body).status == 200


def test_small_bodies_find_room(tmp_path: Path) -> None:
    limits = {"memory": MIB, "wire": 300_000, "body": 300_000}
    head = b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    with serving(tmp_path, limits=limits) as server, ExitStack() as stack:
        for size in (200_000, 40_000, 5_000, 500, 50):
            for _ in range(12):
                stalled = stack.enter_context(server.connect())
                with suppress(OSError):  # it is refused before all is sent
                    stalled.sendall(head + b"Content-Length: 300000\r\n\r\n" + bytes(size))
            assert server.post(_EVENT).status == 200
        assert server.post(_EVENT + b" " * 60_000).status == 200
        assert server.post(_EVENT + b" " * 250_000).status == 503


def test_a_server_that_stops_answers_what_it_has(tmp_path: Path) -> None:
    """A whole request is answered, one that is still coming is refused, an idle connection ends."""
    with serving(tmp_path, mood="slow") as server:
        idle, whole, half = server.client(), server.client(), server.connect()
        exchange(idle, _EVENT)
        half.sendall(
            b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Content-Length: 99\r\n\r\n{"
        )
        whole.request("POST", "/v1/events", _EVENT, {"content-type": "application/json"})
        _until_read(server)
        server.process.terminate()
        assert whole.getresponse().status == 200
        answer = http.client.HTTPResponse(half)
        answer.begin()
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert json.loads(answer.read())["error"]["code"] == "E425"
        assert server.process.wait(WAIT_SECONDS) in (0, -15)
        for line in (idle, whole, half):
            line.close()


def test_a_server_that_stops_answers_those_who_have_just_connected(tmp_path: Path) -> None:
    """One request, after which it closes; it does not wait for those who send nothing."""
    with serving(tmp_path) as server:
        silent, late = server.connect(), server.client()
        late.connect()
        _until_read(server)
        server.process.terminate()
        wait_until(lambda: is_refused(server.port))
        late.request("POST", "/v1/events", _EVENT, {"content-type": "application/json"})
        response = late.getresponse()
        assert (response.status, response.headers["connection"]) == (200, "close")
        assert silent.recv(1) == b""
        assert server.process.wait(WAIT_SECONDS) in (0, -15)
        for line in (silent, late):
            line.close()


def _until_read(server: Server) -> None:
    """Another request is answered, so those before it have been read."""
    assert server.post(b"", method="GET").status == 405
