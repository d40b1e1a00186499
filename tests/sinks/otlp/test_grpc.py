"""Delivery over gRPC: what each status leads to, by the rules of OTLP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage  # type: ignore[import-untyped]
from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from collector.contracts import Batch
from collector.errors import DeliveryError, Unacceptable
from collector.schema import load_schema
from collector.sinks.otlp import OtlpSettings, OtlpSink
from collector.sinks.otlp.logs import of_code
from collector.sinks.sink import Opening, open_sink
from collector.testing.sinks import batch_of, person
from tests.support.otlp_receivers import (
    ECHO,
    SECRET,
    Answer,
    answering,
    attributes,
    failure,
    grpc_receiver,
    partial,
    records,
    taken,
)
from tests.support.tcp import tcp_server

_SCHEMA = load_schema("conferencing")
_RETRIED = [1, 4, 10, 11, 14, 15]
_OTHERS = [2, 5, 6, 7, 9, 12, 13, 16]


def _batch(number: int, people: int = 1) -> Batch:
    return batch_of(number, [number] * people, _SCHEMA)


@contextmanager
def _sink(port: int, directory: Path, **settings: Any) -> Iterator[OtlpSink]:
    secret = directory / "secret"
    secret.write_text(SECRET)
    made = OtlpSettings(
        type="otlp",
        protocol="grpc",
        endpoint=f"http://127.0.0.1:{port}",
        headers={"api-key": f"file:{secret}"},
        **{"timeout": "60s", **settings},
    )
    sink = open_sink(made, Opening("backend", (_SCHEMA,), directory))
    assert isinstance(sink, OtlpSink)
    with sink:
        yield sink


def _details(seconds: int, nanos: int = 0) -> bytes:
    """A status with a RetryInfo, as grpc-status-details-bin has it."""
    info = AnyMessage()
    info.Pack(RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos)))
    other = AnyMessage(type_url="type.googleapis.com/other", value=ECHO.encode())
    return bytes(Status(code=14, message=ECHO, details=[other, info]).SerializeToString())


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_what_is_sent(tmp_path: Path, compression: str) -> None:
    """Headers become metadata, and nothing tells of this machine."""
    with (
        grpc_receiver() as received,
        _sink(received.port, tmp_path, compression=compression) as sink,
    ):
        sink.deliver(_batch(1, 100), _batch(2))
        sink.deliver(_batch(3))
    assert received.people() == {person(1): 100, person(2): 1, person(3): 1}
    (metadata,) = {frozenset(each.items()) for each in received.headers}
    headers = dict(metadata)
    assert headers.pop("user-agent").startswith("data-minimisation-collector ")
    assert headers == {"api-key": SECRET}


@pytest.mark.parametrize("code", _RETRIED + _OTHERS)
def test_what_is_asked_again(tmp_path: Path, code: int) -> None:
    """These are the statuses that OTLP has clients retry, and those that an operator can set
    right."""
    with (
        grpc_receiver(answering(Answer(code))) as received,
        _sink(received.port, tmp_path) as sink,
    ):
        error = failure(sink, _batch(1), _batch(2))
        assert isinstance(error, DeliveryError)
        assert (error.code, f"gRPC {code}" in error.message) == ("E514", True)
        sink.deliver(_batch(1), _batch(2))
        assert received.people() == {person(1): 1, person(2): 1}


def test_what_is_refused_is_said_of_its_batch_alone(tmp_path: Path) -> None:
    def answer(request: Any, _headers: Mapping[str, str]) -> Answer:
        people = {attributes(each)["client.address"] for each in records(request)}
        return Answer(3) if person(2) in people else taken()

    with grpc_receiver(answer) as received, _sink(received.port, tmp_path) as sink:
        batches = [_batch(1), _batch(2), _batch(3)]
        for _ in range(2):
            error = failure(sink, *batches)
            assert isinstance(error, Unacceptable)
            assert error.batch == batches[1].id
        sink.deliver(batches[0], batches[2])
        assert received.people() == {person(1): 1, person(3): 1}


def test_a_partial_success_is_not_sent_again(tmp_path: Path) -> None:
    """An operator may hand the batch over again. The answer is compressed."""
    with (
        grpc_receiver(answering(partial(1), partial(0))) as received,
        _sink(received.port, tmp_path) as sink,
    ):
        for each in ([1, 2], [1], [2]):
            error = failure(sink, *map(_batch, each))
            assert isinstance(error, Unacceptable)
            assert error.batch == _batch(each[0]).id
        assert len(received.requests) == 1
        sink.deliver(_batch(1))
        assert len(received.requests) == 2


@pytest.mark.parametrize(
    ("code", "details", "least", "most"),
    [
        (14, _details(200, 500_000_000), 150, 201),
        (8, _details(200), 150, 201),
        (14, _details(1 << 60), 250, 300),
        (14, _details(-5), -1, 0),
        (14, b"\xff" * 50, -1, 0),
        (14, b"", -1, 0),
    ],
)
def test_retry_info(tmp_path: Path, code: int, details: bytes, least: float, most: float) -> None:
    with (
        grpc_receiver(answering(Answer(code, details=details))) as received,
        _sink(received.port, tmp_path) as sink,
    ):
        failure(sink, _batch(1))
        assert least < sink._not_before - monotonic() <= most
        if least > 0:
            assert "pause" in failure(sink, _batch(1)).message
            assert len(received.requests) == 1


def test_a_smaller_limit_is_learned(tmp_path: Path) -> None:
    """RESOURCE_EXHAUSTED without RetryInfo may mean the size; one record alone waits then."""

    def answer(request: Any, _headers: Mapping[str, str]) -> Answer:
        return Answer(8) if request.ByteSize() > 5000 else taken()

    with grpc_receiver(answer) as received, _sink(received.port, tmp_path) as sink:
        sink.deliver(_batch(1, 300))
        assert received.people() == {person(1): 300}
    with grpc_receiver(lambda *_: Answer(8)) as received, _sink(received.port, tmp_path) as sink:
        assert failure(sink, _batch(1)).code == "E514"


def test_a_bomb_as_an_answer(tmp_path: Path) -> None:
    """A large answer is refused unread; a compressed one is read within the limit."""
    large, zeros = Answer(body=ECHO.encode() * 100_000), Answer(body=b"\0" * (8 << 20))
    with (
        grpc_receiver(answering(large, zeros)) as received,
        _sink(received.port, tmp_path) as sink,
    ):
        for _ in range(2):
            assert failure(sink, _batch(1)).code == "E514"
        sink.deliver(_batch(1))


def _never_answer(end: Any) -> None:
    while end.recv(1 << 16):
        pass


def _speak_http(end: Any) -> None:
    end.recv(1 << 16)
    end.sendall(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\n\r\n")


@pytest.mark.parametrize("behave", [_never_answer, _speak_http])
def test_a_receiver_that_is_none(tmp_path: Path, behave: Any) -> None:
    with tcp_server(behave) as port, _sink(port, tmp_path, timeout="500ms") as sink:
        start = monotonic()
        assert failure(sink, _batch(1)).code == "E514"
        assert monotonic() - start < 30


def test_every_code_has_a_verdict() -> None:
    for code in range(1, 17):
        assert of_code(code, None).outcome != "taken"
    assert {of_code(code, None).outcome for code in _RETRIED} == {"later"}
