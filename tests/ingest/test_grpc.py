"""OTLP/gRPC from real clients to a real receiver with a real filter behind it."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

from collector.contracts import Request, Tally
from collector.errors import ConfigError
from collector.filter import Filter
from collector.ingest.auth import Tokens, new_token
from collector.ingest.grpc import METHODS, GrpcServer
from collector.ingest.limits import MIB, IngestLimits
from collector.ingest.memory import MemoryBudget
from collector.ingest.refusals import HEADERS_TOO_LARGE, TOO_MANY_EVENTS
from collector.ingest.tls import Certificates
from collector.intake import Acceptor
from collector.ledger import opened
from collector.schema import load_schema
from collector.spool import Spool
from tests.support import http2
from tests.support.certificates import Authority
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.latency import assert_served, at_most
from tests.support.rows import for_each

LOGS = next(iter(METHODS))
Listen = Callable[..., int]
_TOKEN, _HASH = new_token()


class Accepting:
    """Filters what comes, as the pipeline does, and counts it; ``during`` is run before."""

    def __init__(self) -> None:
        self.filter = Filter(load_schema("conferencing"))
        self.requests: list[Request] = []
        self.tally = Tally()
        self.observed: list[tuple[int, str | None]] = []
        self.during: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Tally:
        self.during()
        with self._lock:
            assert request.form in ("logs", "traces", "metrics")
            admission = self.filter.admit_otlp(
                request.form, request.body, protobuf=request.protobuf
            )
            self.requests.append(request)
            self.tally += admission.tally
        return admission.tally

    def observe(self, status: int, seconds: float, code: str | None) -> None:
        """Record a response."""
        self.observed.append((status, code))


@pytest.fixture
def accepting() -> Accepting:
    """An empty record of requests."""
    return Accepting()


def _here() -> dict[str, Any]:
    """Any free port of this machine, and the usual limits."""
    return {"address": "127.0.0.1:0", "budget": MemoryBudget(IngestLimits())}


@pytest.fixture
def listen(accepting: Accepting) -> Iterator[Listen]:
    """Starts a receiver, and returns its port; all are stopped in the end."""
    running: list[GrpcServer] = []

    def start(**options: Any) -> int:
        usual = _here() | {"observe": accepting.observe}
        receiver = GrpcServer(accepting, **usual | options)
        running.append(receiver)
        return receiver.start()

    yield start
    for receiver in running:
        receiver.stop(2)


def _call(
    port: int, body: bytes, method: str = LOGS, **options: Any
) -> tuple[bytes, grpc.StatusCode, str]:
    """The answer, the status and its details."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return _called(channel, body, method, **options)


def _called(
    channel: grpc.Channel, body: bytes, method: str = LOGS, **options: Any
) -> tuple[bytes, grpc.StatusCode, str]:
    try:
        answer = channel.unary_unary(method)(body, timeout=WAIT_SECONDS, **options)
    except grpc.RpcError as error:
        return b"", error.code(), error.details()
    return answer, grpc.StatusCode.OK, ""


def _logs(number: int = 1, **attributes: str) -> bytes:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for _ in range(number):
        record = scope.log_records.add()
        for name, value in (attributes or {"os.type": "linux"}).items():
            record.attributes.add(key=name.replace("_", ".")).value.string_value = value
    return bytes(request.SerializeToString())


# -- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_damaged_compression(listen: Listen, encoding: bytes) -> None:
    """Cut short, with rubbish behind it, more than one member: all refused in our words."""
    packed = gzip.compress(_logs())
    port = listen()
    for body in (packed[:-9], packed + b"x", packed * 2, b"\x1f\x8b", b"\x78\x9cx"):
        sent = (http2.HELLO, http2.call(LOGS.encode(), {b"grpc-encoding": encoding}))
        answer = http2.exchange(port, [*sent, http2.message(body, flag=1)])
        assert b"grpc-status\x013" in answer
        assert b"damaged, cut short, more than one member or frame" in answer


def test_unknown_methods(listen: Listen, accepting: Accepting) -> None:
    """UNIMPLEMENTED, whatever they are called."""
    port = listen()
    unimplemented = (b"", grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
    for method in ("/canary/Export", LOGS + "x", LOGS.lower(), "/grpc.health.v1.Health/Watch"):
        assert _call(port, b"", method) == unimplemented
    assert accepting.observed == [(404, "E413")] * 4


def test_health(listen: Listen) -> None:
    """The standard check says SERVING, also to who has no token."""
    port = listen(tokens=Tokens([_HASH]))
    assert _call(port, b"", "/grpc.health.v1.Health/Check")[0] == b"\x08\x01"


# -- who may send --------------------------------------------------------------------------------

_REFUSED = "authentication is missing or not accepted: send a valid bearer token [E411]"


@pytest.mark.parametrize(
    "metadata",
    [
        (("authorization", f"Bearer {_TOKEN}"), ("authorization", "Bearer canary")),
        (("authorization-bin", f"Bearer {_TOKEN}".encode()),),
    ],
)
def test_without_a_token(
    listen: Listen, accepting: Accepting, metadata: tuple[tuple[str, str | bytes], ...]
) -> None:
    """Twice, or as binary metadata: UNAUTHENTICATED, and the message is not even read."""
    port = listen(tokens=Tokens([_HASH]))
    for body in (b"", _logs(), bytes(3 << 20), bytes(9 << 20)):
        refused = (b"", grpc.StatusCode.UNAUTHENTICATED, _REFUSED)
        assert _call(port, body, metadata=metadata) == refused
    assert accepting.requests == []
    assert set(accepting.observed) == {(401, "E411")}


def test_tls_needs_what_it_should(listen: Listen, accepting: Accepting, tmp_path: Path) -> None:
    """Plain text does not get through, nor strangers, nor (with an authority) the nameless."""
    authority = Authority(tmp_path)
    pair, client = authority.issue("server"), authority.issue("client")
    foreign = Authority(tmp_path, "foreign").issue("unknown")
    ca = authority.own.certificate
    single = listen(certificates=Certificates(pair.certificate, pair.key))
    mutual = listen(certificates=Certificates(pair.certificate, pair.key, ca))
    nameless = grpc.ssl_channel_credentials(ca.read_bytes())
    named, unknown = (
        grpc.ssl_channel_credentials(
            ca.read_bytes(), each.key.read_bytes(), each.certificate.read_bytes()
        )
        for each in (client, foreign)
    )
    for port, credentials, code in (
        (single, nameless, grpc.StatusCode.OK),
        (single, grpc.ssl_channel_credentials(), grpc.StatusCode.UNAVAILABLE),
        (mutual, named, grpc.StatusCode.OK),
        (mutual, nameless, grpc.StatusCode.UNAVAILABLE),
        (mutual, unknown, grpc.StatusCode.UNAVAILABLE),
    ):
        with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
            assert _called(channel, _logs())[1] is code
    assert _call(single, _logs())[1] is grpc.StatusCode.UNAVAILABLE
    assert accepting.tally.admitted == 2


# -- limits --------------------------------------------------------------------------------------


def test_messages_that_are_too_large(listen: Listen, accepting: Accepting) -> None:
    """RESOURCE_EXHAUSTED on the wire, after decompression, and for too many items at once."""
    port = listen(budget=MemoryBudget(IngestLimits(wire=2 << 20, body=3 << 20)))
    item = _logs(1, os_type="linux", filler="x" * 200)
    for body, packed in (
        (item * ((2 << 20) // len(item) + 1), False),
        (item * ((3 << 20) // len(item) + 1), True),
        (b"\0" * (2 << 20), True),
        (_logs(1, os_type="linux") + b"\x0a\x04\x12\x02\x12\x00" * 60_000, False),
    ):
        compression = grpc.Compression.Gzip if packed else None
        code = _call(port, body, compression=compression)[1]
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert accepting.tally.admitted == 0
    almost = item * ((2 << 20) // len(item) - 1)
    assert _call(port, almost)[1] is grpc.StatusCode.OK
    repetitive = item * ((1 << 20) // len(item))
    assert _call(port, repetitive, compression=grpc.Compression.Gzip)[1] is grpc.StatusCode.OK


def _spans(number: int) -> bytes:
    request = ExportTraceServiceRequest()
    for _ in range(number):  # each in a list of its own
        span = request.resource_spans.add().scope_spans.add().spans.add()
        span.attributes.add(key="os.type").value.string_value = "linux"
    return bytes(request.SerializeToString())


def _points(number: int) -> bytes:
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    for _ in range(number):
        point = metrics.add().gauge.data_points.add()
        point.attributes.add(key="os.type").value.string_value = "linux"
    return bytes(request.SerializeToString())


@for_each("compression", [None, grpc.Compression.Gzip])
@for_each(("signal", "make"), [*enumerate((_logs, _spans, _points))])
def test_too_many_events(
    tmp_path: Path,
    signal: int,
    make: Callable[[int], bytes],
    compression: grpc.Compression | None,
) -> None:
    """RESOURCE_EXHAUSTED, without an invitation to send the same again. Nothing of it is kept or
    counted, and what comes before and after is."""
    method, most = [*METHODS][signal], 50
    refused = (b"", grpc.StatusCode.RESOURCE_EXHAUSTED, f"{TOO_MANY_EVENTS.message} [E416]")
    with Spool(tmp_path / "spool.db", sinks=["store"]) as spool:
        chosen = Filter(load_schema("conferencing"))
        acceptor = Acceptor([chosen], spool, most_events=most)
        receiver = GrpcServer(acceptor.accept_now, **_here())
        port = receiver.start()
        try:
            for number in (most, most + 1, 40 * most, most):
                answer = _call(port, make(number), method, compression=compression)
                assert answer == refused if number > most else answer[1] is grpc.StatusCode.OK
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                with pytest.raises(grpc.RpcError) as caught:
                    channel.unary_unary(method)(make(most + 1), timeout=WAIT_SECONDS)
                assert "grpc-status-details-bin" not in dict(caught.value.trailing_metadata())
        finally:
            receiver.stop(2)
            acceptor.close()
    with opened(tmp_path / "spool.db") as ledger:
        tally = ledger.tally()
    assert (tally.received, tally.admitted) == (2 * most, 2 * most)


def test_too_much_metadata(listen: Listen, accepting: Accepting) -> None:
    """A megabyte of it is refused in our words, which hold none of it."""
    port = listen()
    for size in (1000, 10_000):
        metadata = tuple((f"canary-{at}", "canary" * (size // 6)) for at in range(100))
        said = f"{HEADERS_TOO_LARGE.message} [E416]"
        refused = (b"", grpc.StatusCode.RESOURCE_EXHAUSTED, said)
        assert _call(port, _logs(), metadata=metadata) == refused
    assert accepting.requests == []
    metadata = tuple((f"name-{at}", "x" * 1000) for at in range(25))
    assert _call(port, _logs(), metadata=metadata)[1] is grpc.StatusCode.OK


def test_a_hundred_calls_at_once(listen: Listen, accepting: Accepting) -> None:
    port, again = listen(), (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)

    def send(number: int) -> grpc.StatusCode | None:
        def call() -> grpc.StatusCode | None:
            return None if (code := _call(port, _logs(number))[1]) in again else code

        return wait_until(call)

    with ThreadPoolExecutor(100) as pool:
        assert set(pool.map(send, range(1, 101))) == {grpc.StatusCode.OK}
    assert accepting.tally.admitted == sum(range(1, 101))
    assert accepting.observed.count((200, None)) == 100
    assert set(accepting.observed) <= {(200, None), (408, "E416"), (503, "E425")}


@pytest.mark.timed
def test_silent_sockets_are_closed(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing, half a greeting, or a greeting without a reply: closed at the header's deadline."""
    monkeypatch.setattr("collector.ingest.grpc.IDLE_SECONDS", 1.0)
    port = listen(budget=MemoryBudget(IngestLimits(header_seconds=0.5)))
    for greeting in (b"", http2.PREFACE[:9], http2.PREFACE, http2.HELLO):
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as connection:
            connection.sendall(greeting)
            try:
                while connection.recv(1 << 16):
                    pass
            except ConnectionError:
                pass
        assert 0.3 < time.monotonic() - began < at_most(10)


@pytest.mark.timed
def test_slow_messages_are_cancelled(listen: Listen, accepting: Accepting) -> None:
    """A call whose message is late is cancelled; half a message is not stored."""
    port = listen(budget=MemoryBudget(IngestLimits(body_seconds=0.5)))
    half = http2.frame(http2.DATA, 0, 1, b"\0\0\0\x10\0" + _logs())
    began = time.monotonic()
    answer = http2.exchange(port, [http2.HELLO, http2.call(LOGS.encode()), half], at_most(5))
    assert b"grpc-status\x011" in answer or http2.frame(3, 0, 1, b"\0\0\0\x08") in answer
    assert 0.4 < time.monotonic() - began < at_most(6)
    wait_until(lambda: accepting.observed)  # by a thread that the call has left
    assert accepting.requests == []
    assert accepting.observed == [(408, "E416")]


@pytest.mark.timed
def test_slow_senders_do_not_hold_up_others(listen: Listen, accepting: Accepting) -> None:
    """1,000 calls that never send their message; meanwhile others are answered, 99 of 100 about as
    soon as without them, once the first has made them leave."""
    port = listen()

    def timed(channel: grpc.Channel) -> float:
        began = time.monotonic()
        assert _called(channel, _logs())[1] is grpc.StatusCode.OK
        return time.monotonic() - began

    with ExitStack() as connections:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            quiet = [timed(channel) for _ in range(101)]
        for _ in range(20):
            connection = connections.enter_context(
                socket.create_connection(("127.0.0.1", port), WAIT_SECONDS)
            )
            calls = [http2.call(LOGS.encode(), stream=2 * at + 1) for at in range(50)]
            acknowledged = http2.frame(http2.SETTINGS, http2.ACK, 0)
            connection.sendall(http2.HELLO + acknowledged + b"".join(calls))
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            times = [timed(channel) for _ in range(101)]
    assert times[0] < at_most(5)
    assert_served(quiet[1:], times[1:])
    assert accepting.tally.admitted == 202


# -- starting and stopping -----------------------------------------------------------------------


def test_a_taken_port(listen: Listen) -> None:
    """E207 if another program has it for itself."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            ConfigError, match=rf"cannot listen on {address}; is it taken"
        ) as caught:
            listen(address=address)
    assert caught.value.code == "E207"


def test_calls_under_way_are_answered(listen: Listen, accepting: Accepting) -> None:
    """A stop waits for them, and takes no more."""
    begun, release = threading.Event(), threading.Event()

    def slow() -> None:
        if not begun.is_set():
            begun.set()
            release.wait(WAIT_SECONDS)

    accepting.during = slow
    receiver = GrpcServer(accepting, **_here())
    port = receiver.start()
    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(_call, port, _logs())
        assert begun.wait(WAIT_SECONDS)
        stopped = pool.submit(receiver.stop, WAIT_SECONDS)
        before: list[object] = []  # calls that came before the stop
        while (code := _call(port, _logs())[1]) is not grpc.StatusCode.UNAVAILABLE:
            before.append(code)
        release.set()
        assert answer.result(WAIT_SECONDS)[1] is grpc.StatusCode.OK
        stopped.result(WAIT_SECONDS)
    assert accepting.tally.admitted == 1 + before.count(grpc.StatusCode.OK)


def test_large_messages_leave_threads_to_small_ones(listen: Listen, accepting: Accepting) -> None:
    held, release, number = list[int](), threading.Event(), 7

    def hold() -> None:
        held.append(1)
        release.wait(WAIT_SECONDS)

    accepting.during = hold
    port, large = listen(), _logs(os_type="x" * (MIB + 1))
    with ThreadPoolExecutor(number) as pool:
        answers = [pool.submit(_call, port, large) for _ in range(number)]
        try:
            wait_until(lambda: len(held) + len(accepting.observed) >= number)
            assert 2 <= len(held) < number
            accepting.during = lambda: None
            assert _call(port, _logs())[1] is grpc.StatusCode.OK
        finally:
            release.set()
        codes = [answer.result(WAIT_SECONDS)[1] for answer in answers]
    assert codes.count(grpc.StatusCode.OK) == len(held)
    assert codes.count(grpc.StatusCode.UNAVAILABLE) == number - len(held)


@pytest.mark.timed
def test_a_stop_does_not_wait_for_ever(accepting: Accepting) -> None:
    """Calls longer than the grace are cancelled; stopping twice, or before the start, is
    fine."""
    begun, release = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        release.wait(WAIT_SECONDS)

    accepting.during = slow
    receiver = GrpcServer(accepting, **_here())
    receiver.stop(1)
    port = receiver.start()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(_call, port, _logs())
        assert begun.wait(WAIT_SECONDS)
        began = time.monotonic()
        receiver.stop(0.3)
        assert time.monotonic() - began < at_most(2)
        release.set()
        assert answer.result(WAIT_SECONDS)[1] in (
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.UNAVAILABLE,
        )
    receiver.stop(1)
