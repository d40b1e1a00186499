"""OTLP/gRPC from real clients to a real receiver with a real filter behind it."""

from __future__ import annotations

import gzip
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from collector.contracts import Request, Tally
from collector.errors import ConfigError, DeliveryError
from collector.filter import Filter
from collector.ingest.auth import Tokens, new_token
from collector.ingest.grpc import METHODS, RECEIVER, Receiver
from collector.ingest.limits import Limits
from collector.ingest.tls import Certificates
from collector.schema import load_schema
from tests.ingest import http2
from tests.ingest.certificates import Authority

LOGS, TRACES, METRICS = METHODS
_TOKEN, _HASH = new_token()
_RESOURCE = Resource({"os.type": "linux", "os.version": "22.04", "secret": "canary"})


class Kept:
    """Filters what comes, as the pipeline does, and remembers it; ``during`` is run before."""

    def __init__(self) -> None:
        self.filter = Filter(load_schema("conferencing"))
        self.requests: list[Request] = []
        self.records: list[Any] = []
        self.tally = Tally()
        self.observed: list[tuple[str, int, float]] = []
        self.during: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Tally:
        self.during()
        with self._lock:
            assert request.form in ("logs", "traces", "metrics")
            admission = self.filter.admit_otlp(
                request.form,
                request.body,
                protobuf=request.protobuf,
                peer=request.peer,
                user_agent=request.user_agent,
            )
            self.requests.append(request)
            self.records += admission.records
            self.tally += admission.tally
        return admission.tally

    def observe(self, receiver: str, status: int, seconds: float) -> None:
        """What a receiver tells of itself."""
        self.observed.append((receiver, status, seconds))


@pytest.fixture
def kept() -> Kept:
    """What was received."""
    return Kept()


@pytest.fixture
def listen(kept: Kept) -> Iterator[Callable[..., int]]:
    """Starts a receiver, and returns its port; all are stopped in the end."""
    running: list[Receiver] = []

    def start(**options: Any) -> int:
        usual: dict[str, Any] = {"address": "127.0.0.1:0", "observe": kept.observe}
        receiver = Receiver(kept, **usual | options)
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
        return channel.unary_unary(method)(body, timeout=20, **options), grpc.StatusCode.OK, ""
    except grpc.RpcError as error:
        return b"", error.code(), error.details()


def _logs(number: int = 1, **attributes: str) -> bytes:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for _ in range(number):
        record = scope.log_records.add()
        for name, value in (attributes or {"os.type": "linux"}).items():
            record.attributes.add(key=name.replace("_", ".")).value.string_value = value
    return bytes(request.SerializeToString())


# -- the OpenTelemetry SDK -----------------------------------------------------------------------


def _send_all(port: int, **options: Any) -> None:
    """A log line, a span and a metric, each by its own exporter."""
    usual: dict[str, Any] = {"endpoint": f"http://127.0.0.1:{port}", "insecure": True}
    options = usual | options
    logs = LoggerProvider(resource=_RESOURCE)
    logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(**options)))
    logs.get_logger("test").emit(LogRecord(body="canary", attributes={"device.type": "phone"}))
    traces = TracerProvider(resource=_RESOURCE, shutdown_on_exit=False)
    traces.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(**options)))
    traces.get_tracer("test").start_span("canary", attributes={"device.type": "laptop"}).end()
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(**options), 1e9)
    metrics = MeterProvider([reader], resource=_RESOURCE, shutdown_on_exit=False)
    metrics.get_meter("test").create_counter("canary").add(1, {"device.type": "browser"})
    for provider in (logs, traces, metrics):
        provider.shutdown()


@pytest.mark.parametrize("compression", list(grpc.Compression))
def test_the_sdk(listen: Callable[..., int], kept: Kept, compression: grpc.Compression) -> None:
    """Logs, traces and metrics of the Python SDK, plain, as gzip and as deflate."""
    _send_all(listen(), compression=compression)
    assert Counter(request.form for request in kept.requests) == {
        "logs": 1,
        "traces": 1,
        "metrics": 1,
    }
    assert [record["device.type"] for record in kept.records] == ["phone", "laptop", "browser"]
    assert all(record["os.version"] == "22.04" for record in kept.records)
    assert "canary" not in str(kept.records)
    assert kept.tally.received == kept.tally.admitted == 3
    assert all(request.protobuf and request.peer == "127.0.0.1" for request in kept.requests)
    assert all("OTel" in (request.user_agent or "") for request in kept.requests)
    assert [(receiver, status) for receiver, status, _ in kept.observed] == [(RECEIVER, 200)] * 3


def test_the_sdk_with_a_token_over_mutual_tls(
    listen: Callable[..., int], kept: Kept, tmp_path: Path
) -> None:
    """What an operator sets up who lets others in."""
    authority = Authority(tmp_path)
    server, client = authority.issue("server"), authority.issue("client")
    certificates = Certificates(server.certificate, server.key, authority.own.certificate)
    port = listen(certificates=certificates, tokens=Tokens([_HASH]))
    credentials = grpc.ssl_channel_credentials(
        authority.own.certificate.read_bytes(),
        client.key.read_bytes(),
        client.certificate.read_bytes(),
    )
    _send_all(
        port,
        endpoint=f"https://127.0.0.1:{port}",
        insecure=False,
        credentials=credentials,
        headers=(("authorization", f"Bearer {_TOKEN}"),),
    )
    assert kept.tally.admitted == 3


# -- answers -------------------------------------------------------------------------------------


def test_an_empty_request_succeeds(listen: Callable[..., int], kept: Kept) -> None:
    """Nothing was received, and that is full success, of which nothing is said."""
    port = listen()
    for method in METHODS:
        assert _call(port, b"", method) == (b"", grpc.StatusCode.OK, "")
    assert kept.tally == Tally()


def test_full_and_partial_success(listen: Callable[..., int]) -> None:
    """``partial_success`` is unset unless items were rejected; it counts them."""
    port = listen()
    assert _call(port, _logs(3))[0] == b""
    partial = _call(port, _logs(2) + _logs(5, nothing="canary"))
    response = ExportLogsServiceResponse.FromString(partial[0])
    assert response.partial_success.rejected_log_records == 5
    assert response.partial_success.error_message == "rejected: nothing_admitted 5"


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05abc", b"not protobuf", b"\x0a" * 100_000])
def test_what_cannot_be_decoded(listen: Callable[..., int], kept: Kept, body: bytes) -> None:
    """INVALID_ARGUMENT with constant details; counted as one."""
    said = "the body cannot be decoded as what its content type says [E422]"
    port = listen()
    for number, method in enumerate(METHODS, start=1):
        assert _call(port, body, method) == (b"", grpc.StatusCode.INVALID_ARGUMENT, said)
        assert kept.tally.received == kept.tally.rejected["malformed"] == number
    assert [status for _, status, _ in kept.observed] == [400] * 3


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_damaged_compression(listen: Callable[..., int], encoding: bytes) -> None:
    """Cut short, with rubbish behind it, more than one member: all refused in our words."""
    packed = gzip.compress(_logs())
    port = listen()
    for body in (packed[:-9], packed + b"x", packed * 2, b"\x1f\x8b", b"\x78\x9cx"):
        sent = (http2.HELLO, http2.call(LOGS.encode(), {b"grpc-encoding": encoding}))
        answer = http2.exchange(port, [*sent, http2.message(body, flag=1)])
        assert b"grpc-status\x013" in answer
        assert b"damaged, cut short, or more than one member" in answer


def test_delivery_failed(listen: Callable[..., int], kept: Kept) -> None:
    """UNAVAILABLE, which clients try again, in five seconds as ``RetryInfo`` says."""

    def full() -> None:
        raise DeliveryError("E505", "canary")

    kept.during = full
    place = f"127.0.0.1:{listen()}"
    with grpc.insecure_channel(place) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(LOGS)(_logs(), timeout=20)
    said = "the events could not be kept, none of them was: try again later [E426]"
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == said
    trailing = dict(caught.value.trailing_metadata())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    again = error_details_pb2.RetryInfo()
    assert (status.code, status.message) == (14, said)
    assert status.details[0].Unpack(again)
    assert again.retry_delay.seconds == 5


def test_a_failure_of_ours(
    listen: Callable[..., int],
    kept: Kept,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """INTERNAL without a word of the exception, neither to the sender nor to any log."""
    caplog.set_level(logging.DEBUG)

    def fail() -> None:
        raise ValueError("canary")

    kept.during = fail
    said = "the collector failed on this request; nothing of it is shown [E428]"
    assert _call(listen(), _logs()) == (b"", grpc.StatusCode.INTERNAL, said)
    assert "canary" not in "".join([*capfd.readouterr(), caplog.text])
    assert caplog.records == []


def test_unknown_methods(listen: Callable[..., int], kept: Kept) -> None:
    """UNIMPLEMENTED, whatever they are called."""
    port = listen()
    unimplemented = (b"", grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
    for method in ("/canary/Export", LOGS + "x", LOGS.lower(), "/grpc.health.v1.Health/Watch"):
        assert _call(port, b"", method) == unimplemented
    assert kept.observed == []


def test_health(listen: Callable[..., int]) -> None:
    """The standard check says SERVING, also to who has no token."""
    port = listen(tokens=Tokens([_HASH]))
    assert _call(port, b"", "/grpc.health.v1.Health/Check")[0] == b"\x08\x01"


# -- who may send --------------------------------------------------------------------------------

_REFUSED = "authentication is missing or not accepted: send a valid bearer token [E411]"


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "Bearer canary"),),
        (("authorization", f"Basic {_TOKEN}"),),
        (("authorization", f"Bearer {_TOKEN}"), ("authorization", "Bearer canary")),
        (("x-authorization", f"Bearer {_TOKEN}"),),
        (("authorization-bin", f"Bearer {_TOKEN}".encode()),),
    ],
)
def test_without_a_token(
    listen: Callable[..., int], kept: Kept, metadata: tuple[tuple[str, str | bytes], ...]
) -> None:
    """Absent, wrong, twice, elsewhere: UNAUTHENTICATED, and the message is not even read."""
    port = listen(tokens=Tokens([_HASH]))
    for body in (b"", _logs(), bytes(3 << 20), bytes(5 << 20)):
        refused = (b"", grpc.StatusCode.UNAUTHENTICATED, _REFUSED)
        assert _call(port, body, metadata=metadata) == refused
    assert kept.requests == []
    assert {status for _, status, _ in kept.observed} == {401}


def test_with_a_token(listen: Callable[..., int], kept: Kept) -> None:
    """The scheme in any case."""
    port = listen(tokens=Tokens([_HASH]))
    for scheme in ("Bearer", "bearer"):
        metadata = (("authorization", f"{scheme} {_TOKEN}"),)
        assert _call(port, _logs(), metadata=metadata)[1] is grpc.StatusCode.OK
    assert kept.tally.admitted == 2


def test_tls_needs_what_it_should(listen: Callable[..., int], kept: Kept, tmp_path: Path) -> None:
    """Plain text does not get through, nor strangers, nor (with an authority) the nameless."""
    authority = Authority(tmp_path)
    pair, client = authority.issue("server"), authority.issue("client")
    foreign = Authority(tmp_path, "foreign").issue("stranger")
    ca = authority.own.certificate
    single = listen(certificates=Certificates(pair.certificate, pair.key))
    mutual = listen(certificates=Certificates(pair.certificate, pair.key, ca))
    nameless = grpc.ssl_channel_credentials(ca.read_bytes())
    named, stranger = (
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
        (mutual, stranger, grpc.StatusCode.UNAVAILABLE),
    ):
        with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
            assert _called(channel, _logs())[1] is code
    assert _call(single, _logs())[1] is grpc.StatusCode.UNAVAILABLE
    assert kept.tally.admitted == 2


def test_addresses_of_senders(listen: Callable[..., int], kept: Kept) -> None:
    """The peer's, or what the outermost of so many trusted proxies saw."""
    forwarded = (("x-forwarded-for", "198.51.100.7, 192.0.2.1, 10.0.0.1"),)
    for hops in range(5):
        _call(listen(hops=hops), _logs(), metadata=forwarded)
    peers = [request.peer for request in kept.requests]
    assert peers == ["127.0.0.1", "10.0.0.1", "192.0.2.1", "198.51.100.7", None]


# -- limits --------------------------------------------------------------------------------------


def test_messages_that_are_too_large(listen: Callable[..., int], kept: Kept) -> None:
    """RESOURCE_EXHAUSTED on the wire, after decompression, and for too many items at once."""
    port = listen(limits=Limits(wire=2 << 20, body=3 << 20))
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
    assert kept.tally.admitted == 0
    almost = item * ((2 << 20) // len(item) - 1)
    assert _call(port, almost)[1] is grpc.StatusCode.OK
    repetitive = item * ((1 << 20) // len(item))
    assert _call(port, repetitive, compression=grpc.Compression.Gzip)[1] is grpc.StatusCode.OK


def test_too_much_metadata(listen: Callable[..., int], kept: Kept) -> None:
    """A megabyte of it is refused in our words, which hold none of it."""
    port = listen()
    for size in (1000, 10_000):
        metadata = tuple((f"canary-{at}", "canary" * (size // 6)) for at in range(100))
        said = "the headers are too large [E423]"
        refused = (b"", grpc.StatusCode.RESOURCE_EXHAUSTED, said)
        assert _call(port, _logs(), metadata=metadata) == refused
    assert kept.requests == []
    metadata = tuple((f"name-{at}", "x" * 1000) for at in range(50))
    assert _call(port, _logs(), metadata=metadata)[1] is grpc.StatusCode.OK


def test_a_hundred_calls_at_once(listen: Callable[..., int], kept: Kept) -> None:
    """More than there are threads, and than a connection may have: each is answered, and is kept
    once. Those that come before the sender knows how many it may have, or that are slow while
    others wait, are told to come again, by codes after which OTLP has senders do so."""
    port, again = listen(), (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)

    def send(number: int) -> grpc.StatusCode:
        while (code := _call(port, _logs(number))[1]) in again:
            time.sleep(0.01)
        return code

    with ThreadPoolExecutor(100) as pool:
        assert set(pool.map(send, range(1, 101))) == {grpc.StatusCode.OK}
    assert kept.tally.admitted == sum(range(1, 101))
    assert len(kept.observed) == 100


def test_silent_sockets_are_closed(listen: Callable[..., int]) -> None:
    """Nothing, half a greeting, or a greeting without a reply: closed at the header's deadline."""
    port = listen(limits=Limits(header_seconds=0.5, idle_seconds=1))
    for greeting in (b"", http2.PREFACE[:9], http2.PREFACE, http2.HELLO):
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.settimeout(20)
            connection.sendall(greeting)
            try:
                while connection.recv(1 << 16):
                    pass
            except ConnectionError:
                pass
        assert 0.3 < time.monotonic() - began < 10


def test_slow_messages_are_cancelled(listen: Callable[..., int], kept: Kept) -> None:
    """Who does not send the rest of a message in time is told to go; half of it is not kept."""
    port = listen(limits=Limits(body_seconds=0.5))
    half = http2.frame(http2.DATA, 0, 1, b"\0\0\0\x10\0" + _logs())
    began = time.monotonic()
    answer = http2.exchange(port, [http2.HELLO, http2.call(LOGS.encode()), half], 5)
    assert b"grpc-status\x011" in answer or http2.frame(3, 0, 1, b"\0\0\0\x08") in answer
    assert 0.4 < time.monotonic() - began < 6
    assert kept.requests == []


@pytest.mark.alone
def test_slow_senders_do_not_hold_up_others(listen: Callable[..., int], kept: Kept) -> None:
    """1,000 calls that never send their message; meanwhile others are answered, 99 of 100 within a
    tenth of a second once the crowd has been shown out."""
    port = listen()
    with ExitStack() as crowd:
        for _ in range(20):
            connection = crowd.enter_context(socket.create_connection(("127.0.0.1", port)))
            calls = [http2.call(LOGS.encode(), stream=2 * at + 1) for at in range(50)]
            acknowledged = http2.frame(http2.SETTINGS, http2.ACK, 0)
            connection.sendall(http2.HELLO + acknowledged + b"".join(calls))
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            times = []
            for _ in range(101):
                began = time.monotonic()
                assert _called(channel, _logs())[1] is grpc.StatusCode.OK
                times.append(time.monotonic() - began)
    assert times[0] < 5
    assert sorted(times[1:])[98] < 0.1
    assert kept.tally.admitted == 101


# -- starting and stopping -----------------------------------------------------------------------


def test_a_taken_port(listen: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    """E207 with the reason; the library has no say in it."""
    port = listen()
    with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}: another process .*\[E207\]$"):
        listen(address=f"127.0.0.1:{port}")
    assert capfd.readouterr() == ("", "")


def test_calls_under_way_are_answered(listen: Callable[..., int], kept: Kept) -> None:
    """A stop waits for them, and takes no more."""
    begun, release = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        release.wait(10)

    kept.during = slow
    receiver = Receiver(kept, address="127.0.0.1:0")
    port = receiver.start()
    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(_call, port, _logs())
        assert begun.wait(10)
        stopped = pool.submit(receiver.stop, 10)
        time.sleep(0.2)
        assert _call(port, _logs())[1] is grpc.StatusCode.UNAVAILABLE
        release.set()
        assert answer.result()[1] is grpc.StatusCode.OK
        stopped.result()
    assert kept.tally.admitted == 1


def test_a_stop_does_not_wait_for_ever(kept: Kept) -> None:
    """What lasts longer than the grace is cancelled; stopping twice, or what never started, is
    fine."""
    release = threading.Event()

    def slow() -> None:
        release.wait(10)

    kept.during = slow
    receiver = Receiver(kept, address="127.0.0.1:0")
    receiver.stop(1)
    port = receiver.start()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(_call, port, _logs())
        time.sleep(0.3)
        began = time.monotonic()
        receiver.stop(0.3)
        assert time.monotonic() - began < 2
        release.set()
        assert answer.result()[1] in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
    receiver.stop(1)


def test_nothing_is_shown(kept: Kept) -> None:
    """``repr`` holds neither address nor settings."""
    assert repr(Receiver(kept, tokens=Tokens([_HASH]))) == "<Receiver of OTLP/gRPC>"
