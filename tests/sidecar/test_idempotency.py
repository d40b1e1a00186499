"""``Idempotency-Key`` at a real sidecar: a key stands for one body, whatever happens in between.

A small model defines the behaviour. A key names the first body that was sent under it, and its
answer. A later request gets that answer, with 409 for other records and 200 otherwise; nothing of
it is stored or counted.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import signal
import socket
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from http.client import HTTPException
from itertools import count
from pathlib import Path
from secrets import token_bytes, token_hex
from threading import Thread
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from collector.ingest.decompression import zstd_library
from collector.spool.idempotency import DAYS
from tests.sidecar.account import kept
from tests.sidecar.senders import METHODS, called
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.failing_disk import metric
from tests.support.rows import for_each
from tests.support.sidecar import Answer, Sidecar, started

_LINES = "application/x-ndjson"
_MINUTE = (datetime.now(UTC) - timedelta(minutes=3)).strftime("%Y-%m-%dT%H:%M:00Z")
_SETTINGS = {"COLLECTOR__WORKERS": "2", "COLLECTOR__LIMITS__RATIO": "1000"}
_numbers = count(1)
_PACKED = {
    "": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd_library().compress,
}


def _body(records: int, faulty: int = 0) -> bytes:
    """Records, each with its own address, and bad lines."""
    made = []
    for number in (next(_numbers) for _ in range(records)):
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        record = {"schema": "conferencing/1.0.0", "client.address": address, "received": _MINUTE}
        made.append(json.dumps(record).encode() + b"\n")
    return b"".join([*made, *[b"{\n"] * faulty])


def _counts(records: int, faulty: int = 0) -> dict[str, Any]:
    rejected = {"malformed": faulty} if faulty else {}
    return {"received": records + faulty, "admitted": records, "rejected": rejected}


def _send(
    sidecar: Sidecar, key: str, body: bytes, encoding: str = "", path: str = "/v1/records"
) -> Answer:
    packed = _PACKED[encoding](body)
    headers = {"Content-Type": _LINES, "Idempotency-Key": key}
    headers |= {"Content-Encoding": encoding} if encoding else {}
    return sidecar.request("POST", path, packed, headers)


def _is_new(answer: Answer, counts: dict[str, Any]) -> None:
    assert (answer.status, answer.json) == (200, counts)


def _is_repeated(answer: Answer, counts: dict[str, Any]) -> None:
    assert (answer.status, answer.json) == (200, {**counts, "repeated": True})


def _is_another(answer: Answer, counts: dict[str, Any]) -> None:
    """409 with the counts of what was stored."""
    found = answer.json
    error = found.pop("error")
    assert (answer.status, error["code"]) == (409, "E435")
    assert found == {**counts, "repeated": True}


_COUNTED = (
    "collector_events_total",
    "collector_fields_dropped_total",
    "collector_content",
    "collector_received_bytes",
    "collector_admitted_bytes",
)


def _counted(sidecar: Sidecar) -> list[object]:
    """All counts of events, and the ledger's last receipt."""
    ledger = kept(sidecar.directory / "collector-data").ledger
    assert not ledger.flaws
    return [*(metric(sidecar, name) for name in _COUNTED), ledger.tips, ledger.received]


def _stored(sidecar: Sidecar) -> Counter[str]:
    """Wait until no batch is waiting. Return how often the store has the records of each
    address."""
    wait_until(lambda: metric(sidecar, "collector_spool_batches") == 0)
    found = kept(sidecar.directory / "collector-data")
    assert not found.ledger.flaws
    assert found.ledger.admitted == found.stored.total()
    return found.stored


def _days_pass(directory: Path, number: int) -> None:
    """Make the keys of a stopped sidecar this many days older."""
    spool = directory / "collector-data" / "spool.db"
    for table in ("key_days", "request_keys"):
        ((first, last),) = query(spool, f"SELECT min(day), max(day) FROM {table}")
        if first is None:
            continue
        day = date.fromisoformat(first)
        while day <= date.fromisoformat(last):  # the oldest first, so that no two days coincide
            earlier = day - timedelta(days=number)
            query(spool, f"UPDATE {table} SET day = '{earlier}' WHERE day = '{day}'")
            day += timedelta(days=1)


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar with two workers."""
    folder = tmp_path_factory.mktemp("keys")
    with started(folder, environ=_SETTINGS) as running:
        yield running
        assert running.stop()[0] == 0


def test_the_same_body_again(sidecar: Sidecar) -> None:
    """The answer is what was stored, whatever the compression, and nothing is counted."""
    key, body, counts = token_hex(16), _body(3, faulty=2), _counts(3, 2)
    _is_new(_send(sidecar, key, body), counts)
    stored = _stored(sidecar)
    before, log = _counted(sidecar), len(sidecar.log)
    for encoding in _PACKED:
        _is_repeated(_send(sidecar, key, body, encoding), counts)
    _is_repeated(_send(sidecar, f'"{key.upper()}"', body), counts)
    assert _counted(sidecar) == before
    assert _stored(sidecar) == stored
    assert len(sidecar.log) == log


def test_another_body_under_the_key(sidecar: Sidecar) -> None:
    """409 with the counts of the first body: nothing is stored, and only a refusal is counted."""
    key, first, counts = token_hex(16), _body(3, faulty=1), _counts(3, 1)
    _is_new(_send(sidecar, key, first, "gzip"), counts)
    stored = _stored(sidecar)
    refused = 'collector_requests_refused_total{code="E435",receiver="http"}'
    before, refusals = _counted(sidecar), metric(sidecar, refused)
    others = [_body(5), first + b"\n", first[:-2], first.replace(b"\n", b"\r\n"), b"", b"\n", b"{"]
    for other in others:
        for encoding in _PACKED:
            _is_another(_send(sidecar, key, other, encoding), counts)
    assert _counted(sidecar) == before
    assert metric(sidecar, refused) - refusals == len(others) * len(_PACKED)
    _is_repeated(_send(sidecar, key, first), counts)
    assert _stored(sidecar) == stored


def test_an_empty_body(sidecar: Sidecar) -> None:
    """It keeps its key like any other body, though it stores nothing."""
    key, before = token_hex(16), _counted(sidecar)
    _is_new(_send(sidecar, key, b""), _counts(0))
    _is_repeated(_send(sidecar, key, b"", "gzip"), _counts(0))
    _is_another(_send(sidecar, key, b"\n"), _counts(0))
    _is_another(_send(sidecar, key, _body(2)), _counts(0))
    assert _counted(sidecar) == before


def test_a_body_of_lines_that_are_all_refused(sidecar: Sidecar) -> None:
    """The answer repeats its counts too."""
    key = token_hex(16)
    _is_new(_send(sidecar, key, _body(0, faulty=4)), _counts(0, 4))
    _is_repeated(_send(sidecar, key, _body(0, faulty=4)), _counts(0, 4))
    _is_another(_send(sidecar, key, _body(1)), _counts(0, 4))


def test_what_is_refused_for_itself_leaves_the_key(sidecar: Sidecar) -> None:
    """A body of another schema, type or form has its own refusal, and leaves the key unused."""
    key, body = token_hex(16), _body(2)
    other = body + body.replace(b"conferencing", b"web", 1)
    for _ in range(2):
        answer = _send(sidecar, key, other)
        assert (answer.status, answer.json["error"]["code"]) == (409, "E429")
        assert "repeated" not in answer.json
        for kind, listed in (("application/json", b"[%s]" % body.replace(b"\n", b",")), ("", body)):
            headers = {"Content-Type": kind, "Idempotency-Key": key}
            assert sidecar.request("POST", "/v1/records", listed, headers).status == 415
    _is_new(_send(sidecar, key, body), _counts(2))
    assert _send(sidecar, key, other).json["error"]["code"] == "E429"
    _is_repeated(_send(sidecar, key, body), _counts(2))


def test_senders_that_hang_up(sidecar: Sidecar) -> None:
    """They hang up before the answer or within the body. A resent body is there once. It is new
    unless all of it had arrived."""
    for share in (0.0, 0.5, 0.99, 1.0):
        key, body = token_hex(16), _body(40)
        head = (
            f"POST /v1/records HTTP/1.1\r\nHost: localhost\r\nContent-Type: {_LINES}\r\n"
            f"Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        place = "127.0.0.1", sidecar.ports["http"]
        with socket.create_connection(place, WAIT_SECONDS) as connection:
            connection.sendall(head.encode() + body[: int(len(body) * share)])
        answer = _send(sidecar, key, body)
        found = answer.json
        assert not found.pop("repeated", False) or share == 1.0
        assert (answer.status, found) == (200, _counts(40))
    assert set(_stored(sidecar).values()) == {1}


def test_a_body_that_becomes_parts(sidecar: Sidecar) -> None:
    """Its counts cover all parts."""
    key, body = token_hex(16), _body(15_000, faulty=3)
    _is_new(_send(sidecar, key, body), _counts(15_000, 3))
    stored = _stored(sidecar)
    before = _counted(sidecar)
    _is_repeated(_send(sidecar, key, body, "zstd"), _counts(15_000, 3))
    _is_another(_send(sidecar, key, body + b"{\n"), _counts(15_000, 3))
    _is_another(_send(sidecar, key, _body(1)), _counts(15_000, 3))
    assert _counted(sidecar) == before
    assert _stored(sidecar) == stored


@for_each("records", [2, 3_000])
def test_bodies_at_the_same_time(sidecar: Sidecar, records: int) -> None:
    """Copies of two bodies are sent at once under one key through two workers. One is stored; it
    determines the other answers."""
    key, bodies = token_hex(16), {1: _body(records), 2: _body(records + 1, faulty=1)}
    counts = {1: _counts(records), 2: _counts(records + 1, 1)}
    with ThreadPoolExecutor(12) as pool:
        sent = [(number, encoding) for encoding in _PACKED for number in (1, 2)] * 2
        answers = [pool.submit(_send, sidecar, key, bodies[n], e) for n, e in sent]
        pairs = [(n, each.result()) for (n, _), each in zip(sent, answers, strict=True)]
    (first,) = (n for n, each in pairs if each.status == 200 and "repeated" not in each.json)
    for number, answer in pairs:
        if "repeated" in answer.json:
            (_is_repeated if number == first else _is_another)(answer, counts[first])
    assert set(_stored(sidecar).values()) == {1}


_POINT = {"attributes": [{"key": "client.address", "value": {"stringValue": "203.0.113.7"}}]}
_NONE: dict[str, Any] = {"attributes": []}
_UNMINIMISED: dict[str, Callable[..., Any]] = {
    "/v1/events": lambda *items: [*map(_flat, items)],
    "/v1/logs": lambda *items: {"resourceLogs": [{"scopeLogs": [{"logRecords": items}]}]},
    "/v1/traces": lambda *items: {"resourceSpans": [{"scopeSpans": [{"spans": items}]}]},
    "/v1/metrics": lambda *items: {
        "resourceMetrics": [{"scopeMetrics": [{"metrics": [{"sum": {"dataPoints": items}}]}]}]
    },
}
"""Bodies that are not minimised, with admitted points or others, by path."""


def _flat(point: dict[str, Any]) -> dict[str, str]:
    return {each["key"]: each["value"]["stringValue"] for each in point["attributes"]}


def _post(sidecar: Sidecar, path: str, body: bytes, key: str) -> Answer:
    head = {"Content-Type": "application/json", "Idempotency-Key": key}
    return sidecar.request("POST", path, body, head)


def _points(path: str, *points: dict[str, Any]) -> bytes:
    return json.dumps(_UNMINIMISED[path](*points)).encode()


@for_each("path", _UNMINIMISED)
def test_a_key_of_a_body_that_is_not_minimised(sidecar: Sidecar, path: str) -> None:
    """A request under a used key gets the answer with what was stored, whatever its body is:
    nothing is derived from bodies. The same key on another path is another key."""
    key = token_hex(16)
    first = _post(sidecar, path, _points(path, _POINT, _NONE), key)
    assert first.status == 200
    counted = _counted(sidecar)
    for body in (_points(path, _POINT, _NONE), _points(path, _POINT), _points(path, *[_NONE] * 3)):
        again = _post(sidecar, path, body, key)
        assert again.status == 200
        repeated = {"repeated": True} if path == "/v1/events" else {}
        assert again.json == {**first.json, **repeated}
    assert _counted(sidecar) == counted
    other = next(each for each in _UNMINIMISED if each != path)
    assert _post(sidecar, other, _points(other, _POINT), key).status == 200
    assert _counted(sidecar) != counted
    spool = sidecar.directory / "collector-data" / "spool.db"
    assert query(spool, "SELECT body FROM request_keys ORDER BY number DESC LIMIT 2") == [
        (None,),
        (None,),
    ]


@for_each("path", _UNMINIMISED)
def test_a_body_that_is_refused_leaves_its_key(sidecar: Sidecar, path: str) -> None:
    """The next body under the key is stored. A malformed key is refused."""
    key, body = token_hex(16), _points(path, _POINT)
    assert _post(sidecar, path, b"{", key).status == 400
    assert _post(sidecar, path, body, key).json.get("repeated") is None
    counted = _counted(sidecar)
    assert _post(sidecar, path, body, key).status == 200
    assert _counted(sidecar) == counted
    assert _post(sidecar, path, body, "key").json["error"]["code"] == "E410"


@for_each("path", _UNMINIMISED)
def test_bodies_that_are_not_minimised_at_the_same_time(sidecar: Sidecar, path: str) -> None:
    """One of them is stored, and all are answered."""
    before = metric(sidecar, 'collector_events_total{outcome="admitted"')
    key, body = token_hex(16), _points(path, _POINT)
    with ThreadPoolExecutor(12) as pool:
        answers = [*pool.map(lambda _: _post(sidecar, path, body, key), range(24))]
    assert {answer.status for answer in answers} == {200}
    assert metric(sidecar, 'collector_events_total{outcome="admitted"') == before + 1


def test_a_key_of_a_call(sidecar: Sidecar) -> None:
    """Over gRPC it is in the metadata, under the same name as in HTTP."""
    call, method, key = ExportLogsServiceRequest(), METHODS["logs"], token_hex(16)
    records = call.resource_logs.add().scope_logs.add().log_records
    records.add().attributes.add(key="client.address").value.string_value = "203.0.113.7"
    records.add()
    first = called(sidecar, [(method, call.SerializeToString())], [("idempotency-key", key)])
    counted = _counted(sidecar)
    again = called(sidecar, [(method, b"")], [("idempotency-key", key)])
    assert (again, _counted(sidecar)) == (first, counted)
    over_http = {"Content-Type": "application/x-protobuf", "Idempotency-Key": key}
    assert sidecar.request("POST", "/v1/logs", b"", over_http).status == 200
    assert _counted(sidecar) == counted
    refused = called(sidecar, [(method, b"")], [("idempotency-key", "key")])
    assert b"E410" in refused


@dataclass
class _Model:
    """What each key stands for: the number of a body, and how many days ago it was stored."""

    keys: dict[int, tuple[int, int]] = field(default_factory=dict)

    def days_pass(self, number: int) -> None:
        """Forget keys that have expired."""
        aged = {key: (body, ago + number) for key, (body, ago) in self.keys.items()}
        self.keys = {key: each for key, each in aged.items() if each[1] <= DAYS}


_SEND = st.tuples(
    st.just("send"), st.integers(0, 2), st.integers(0, 3), st.sampled_from(sorted(_PACKED))
)
_STEPS = st.lists(
    st.one_of(
        *[_SEND] * 4,
        st.tuples(st.sampled_from(["stop", "kill"]), st.sampled_from([0, 0, 1, DAYS, DAYS + 1])),
        st.tuples(st.just("killed while"), st.integers(0, 2), st.integers(0, 3)),
    ),
    min_size=4,
    max_size=14,
)


class _Run:
    """A sidecar that is restarted, and the model of its answers."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory, self._stack, self._model = directory, stack, _Model()
        self._keys = [token_hex(16) for _ in range(3)]
        shapes = [(1, 0), (3, 2), (0, 1), (11_000, 0)]
        self._bodies = [_body(*shape) for shape in shapes]
        self._counts = [_counts(*shape) for shape in shapes]
        self.expected = [0, 0]
        self.sidecar = self._start()

    def _start(self) -> Sidecar:
        running = started(self._directory, environ=_SETTINGS)
        self.sidecar = self._stack.enter_context(running)
        return self.sidecar

    def send(self, key: int, body: int, encoding: str = "") -> None:
        """Send a body, and compare the answer with the model's."""
        answer = _send(self.sidecar, self._keys[key], self._bodies[body], encoding)
        known = self._model.keys.get(key)
        if known is None:
            _is_new(answer, self._counts[body])
            self._store(key, body)
        elif known[0] == body:
            _is_repeated(answer, self._counts[body])
        else:
            _is_another(answer, self._counts[known[0]])

    def _store(self, key: int, body: int) -> None:
        self._model.keys[key] = body, 0
        self.expected[0] += self._counts[body]["received"]
        self.expected[1] += self._counts[body]["admitted"]

    def restart(self, number: int, days: int) -> None:
        """Stop or kill it, and start it some days later."""
        self.sidecar.stop(number)
        if days:
            _days_pass(self._directory, days)
            self._model.days_pass(days)
        self._start()

    def killed_while(self, key: int, body: int) -> None:
        """Kill it while a body is under way. The answer to the next copy says whether the body was
        stored before, or the key was new."""
        was_known = key in self._model.keys

        def send() -> None:
            with suppress(OSError, HTTPException):
                _send(self.sidecar, self._keys[key], self._bodies[body])

        sending = Thread(target=send)
        sending.start()
        self.sidecar.stop(signal.SIGKILL)
        sending.join(WAIT_SECONDS)
        self._start()
        if was_known:
            self.send(key, body)
            return
        answer = _send(self.sidecar, self._keys[key], self._bodies[body])
        found = answer.json
        found.pop("repeated", None)
        assert (answer.status, found) == (200, self._counts[body])
        self._store(key, body)


@pytest.mark.long
@settings(
    max_examples=max(2, settings().max_examples // 5),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=_STEPS)
def test_histories(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]) -> None:
    with ExitStack() as stack:
        run = _Run(tmp_path_factory.mktemp("history"), stack)
        for step in steps:
            match step:
                case ("send", key, body, encoding):
                    run.send(key, body, encoding)
                case ("stop", days):
                    run.restart(signal.SIGTERM, days)
                case ("kill", days):
                    run.restart(signal.SIGKILL, days)
                case ("killed while", key, body):
                    run.killed_while(key, body)
        stored = _stored(run.sidecar)
        assert run.sidecar.stop()[0] == 0
        found = kept(run.sidecar.directory / "collector-data")
        assert not found.ledger.flaws
        assert [found.ledger.received, found.ledger.admitted] == run.expected
        assert stored.total() == run.expected[1]


def _bytes(directory: Path) -> Iterator[tuple[Path, bytes]]:
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file():
                yield path, path.read_bytes()


def _unkeyed(data: bytes) -> Iterator[bytes]:
    """The beginnings of all unkeyed hashes of some bytes, also as text."""
    for name in sorted(hashlib.algorithms_guaranteed - {"shake_128", "shake_256"}):
        yield hashlib.new(name, data, usedforsecurity=False).digest()[:8]
    for name in ("shake_128", "shake_256"):
        yield hashlib.new(name, data).digest(8)  # type: ignore[call-arg]
    yield zlib.crc32(data).to_bytes(4) * 2


def test_neither_key_nor_body_leaves_anything_that_can_be_tried(tmp_path: Path) -> None:
    """No file and no line of the log has the key, what the body has besides its records, or a hash
    of either without the day's secret: while it runs, after a kill, and after a stop."""
    key, phone = token_bytes(16), b"+62 812 5550 123"
    canary = b"canary-" + token_hex(4).encode()
    first = _body(2).replace(b"}", b', "note": "%s"}' % canary) + b"{%s\n" % canary
    other = first.replace(b"canary-", b"canary+")
    sent = [(key.hex(), first), (key.hex(), other), (phone.hex(), first), (token_hex(16), b"")]
    hidden = [key, phone, b"canary", key.hex().encode(), phone.hex().encode()]
    for name, body in sent[:3]:
        raw = bytes.fromhex(name)
        hidden += [*_unkeyed(raw), *_unkeyed(body), *_unkeyed(raw + body)]
        hidden += [*_unkeyed(_PACKED["gzip"](body)), hmac.digest(raw, body, "sha256")[:8]]
    hidden += [text.hex().encode() for text in hidden]

    def look(sidecar: Sidecar) -> None:
        for path, data in _bytes(tmp_path):
            assert [text for text in hidden if text in data] == [], path.name
        log = "\n".join(sidecar.log).encode().lower()
        assert [text for text in hidden if text in log] == []

    with started(tmp_path) as sidecar:
        for _ in range(2):
            for name, body in sent:
                assert _send(sidecar, name, body, "gzip").status in (200, 409)
            look(sidecar)
        sidecar.process.kill()
        sidecar.process.wait(WAIT_SECONDS)
        look(sidecar)
    with started(tmp_path) as sidecar:
        _is_repeated(_send(sidecar, phone.hex(), first), _counts(2, 1))
        look(sidecar)
        assert sidecar.stop()[0] == 0
        look(sidecar)


def _key_rows(directory: Path) -> list[bytes]:
    """Secrets, and all that is stored of keys."""
    spool = directory / "collector-data" / "spool.db"
    rows = query(
        spool,
        "SELECT secret, NULL, NULL FROM key_days UNION ALL "
        "SELECT hash, body, counts FROM request_keys",
    )
    return [each for row in rows for each in row if each is not None]


def test_days_are_destroyed_to_the_last_byte(tmp_path: Path) -> None:
    keys, body = [token_hex(16) for _ in range(50)], _body(1)
    with started(tmp_path) as sidecar:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(partial(_send, sidecar, body=body), keys))
        sidecar.stop()
    old = _key_rows(tmp_path)
    assert len(old) == 1 + 3 * len(keys)
    _days_pass(tmp_path, DAYS)
    with started(tmp_path) as sidecar:
        _is_repeated(_send(sidecar, keys[0], body), _counts(1))
        _is_new(_send(sidecar, newer := token_hex(16), body), _counts(1))
        whole = b"".join(data for _, data in _bytes(tmp_path))
        assert all(each in whole for each in old)
        sidecar.stop()
    _days_pass(tmp_path, 1)

    def left() -> list[Path]:
        return [path for path, data in _bytes(tmp_path) if any(each in data for each in old)]

    with started(tmp_path) as sidecar:
        wait_until(lambda: not left())
        _is_repeated(_send(sidecar, newer, body), _counts(1))
        _is_another(_send(sidecar, newer, b""), _counts(1))
        _is_new(_send(sidecar, keys[0], body), _counts(1))
        _is_repeated(_send(sidecar, keys[0], body), _counts(1))
        sidecar.stop()
    assert left() == []
