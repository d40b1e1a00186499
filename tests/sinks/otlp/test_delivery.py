"""Delivery to a receiver of OTLP: what each answer leads to, and that nothing of it is repeated."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from collector.contracts import Batch
from collector.errors import ConfigError, DeliveryError, Unacceptable
from collector.schema import load_schema
from collector.sinks.otlp import OtlpSettings, OtlpSink
from collector.sinks.sink import Opening, check_sink, open_sink
from collector.testing.sinks import batch_of, person
from tests.support.deadline import WAIT_SECONDS
from tests.support.http_receivers import ENDLESS, check_endless
from tests.support.otlp_receivers import (
    ECHO,
    SECRET,
    Answer,
    answering,
    attributes,
    failure,
    http_receiver,
    partial,
    records,
    taken,
)
from tests.support.raising import raises
from tests.support.tcp import Behaviour, tcp_server

_SCHEMA = load_schema("conferencing")
_HEADERS = {"authorization": "env:OTLP_TEST_TOKEN"}
_NO_MESSAGE = {"Content-Type": "text/html"}


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTLP_TEST_TOKEN", f"Bearer {SECRET}")


def _batch(number: int, people: int = 1) -> Batch:
    return batch_of(number, [number] * people, _SCHEMA)


@contextmanager
def _sink(port: int, directory: Path, **settings: Any) -> Iterator[OtlpSink]:
    values = {"endpoint": f"http://127.0.0.1:{port}", "headers": _HEADERS, "timeout": "60s"}
    made = OtlpSettings(**{"type": "otlp", **values, **settings})
    sink = open_sink(made, Opening("backend", (_SCHEMA,), directory))
    assert isinstance(sink, OtlpSink)
    with sink:
        yield sink


def test_what_is_sent(tmp_path: Path) -> None:
    """Batches go to the path of logs, compressed or not, over one connection, and no header tells
    of this machine."""
    with http_receiver() as received:
        for compression in ("gzip", "none"):
            with _sink(received.port, tmp_path, compression=compression) as sink:
                sink.deliver(_batch(1), _batch(2))
                sink.deliver(_batch(3))
    assert received.paths == ["/v1/logs"] * 4
    assert received.people() == {person(each): 2 for each in (1, 2, 3)}
    headers = received.headers[0]
    assert headers.pop("content-length")
    assert headers == {
        "accept-encoding": "identity",
        "authorization": f"Bearer {SECRET}",
        "connection": "keep-alive",
        "content-encoding": "gzip",
        "content-type": "application/x-protobuf",
        "host": f"127.0.0.1:{received.port}",
        "user-agent": "data-minimisation-collector",
    }
    assert "content-encoding" not in received.headers[-1]


def test_many_batches_are_few_requests(tmp_path: Path) -> None:
    with http_receiver() as received, _sink(received.port, tmp_path) as sink:
        sink.deliver(*(batch_of(number, [number % 9 + 1] * 500, _SCHEMA) for number in range(8)))
    assert len(received.records) == 4000
    assert len(received.requests) < 4
    assert max(received.sizes) <= 1 << 20


@pytest.mark.parametrize(
    "status", [301, 307, 308, 401, 403, 404, 405, 408, 415, 429, 500, 502, 503]
)
def test_what_is_asked_again(tmp_path: Path, status: int) -> None:
    """A redirect is not followed; credentials may be corrected, and a receiver may come back."""
    headers = {"Location": "/elsewhere"}
    refusal = Answer(status, ECHO.encode(), headers)
    with http_receiver(answering(refusal, refusal)) as received:
        with _sink(received.port, tmp_path) as sink:
            for _ in range(2):
                error = failure(sink, _batch(1), _batch(2))
                assert isinstance(error, DeliveryError)
                assert error.code == "E514"
                assert f"HTTP {status}" in error.message
            sink.deliver(_batch(1), _batch(2))
        assert received.paths == ["/v1/logs"] * 3
        assert received.people() == {person(1): 1, person(2): 1}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"<html>log in</html>", {"Content-Type": "text/html"}),
        (b"{}", {"Content-Type": "application/json"}),
        (b"\x0a\xff", {"Content-Type": "application/x-protobuf"}),
        (b"\x1f\x8b", {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}),
    ],
)
def test_a_success_that_is_none(tmp_path: Path, body: bytes, headers: dict[str, str]) -> None:
    """A proxy's page has taken nothing, and nothing is decompressed."""
    with (
        http_receiver(lambda *_: Answer(200, body, headers)) as received,
        _sink(received.port, tmp_path) as sink,
    ):
        assert failure(sink, _batch(1)).code == "E514"


@pytest.mark.parametrize("status", [400, 422])
def test_what_is_refused_is_said_of_its_batch_alone(tmp_path: Path, status: int) -> None:
    """Others in the same request are delivered; a refused batch is not sent again."""

    def answer(request: Any, _headers: Mapping[str, str]) -> Answer:
        people = {attributes(each)["client.address"] for each in records(request)}
        return Answer(status, ECHO.encode()) if person(2) in people else taken()

    with http_receiver(answer) as received, _sink(received.port, tmp_path) as sink:
        batches = [_batch(1), _batch(2), _batch(3)]
        for _ in range(3):
            error = failure(sink, *batches)
            assert isinstance(error, Unacceptable)
            assert error.batch == batches[1].id
        sink.deliver(batches[0])
        sink.deliver(batches[2])
        assert received.people() == {person(1): 1, person(3): 1}
        assert len(received.requests) == 4


def test_a_partial_success_is_not_sent_again(tmp_path: Path) -> None:
    """The receiver does not say which records it rejected, so all batches of the request are set
    aside."""
    with http_receiver(answering(taken(), partial(1))) as received:
        with _sink(received.port, tmp_path) as sink:
            sink.deliver(_batch(1))
            for each in (2, 2, 3):
                error = failure(sink, _batch(each), *([_batch(3)] if each == 2 else []))
                assert isinstance(error, Unacceptable)
                assert error.batch == _batch(each).id
            sink.deliver(_batch(4))
            assert len(received.requests) == 3
            sink.deliver(_batch(3))  # an operator hands it over again
        assert len(received.requests) == 4


def test_a_warning_is_a_success(tmp_path: Path) -> None:
    with http_receiver(answering(partial(0))) as received, _sink(received.port, tmp_path) as sink:
        sink.deliver(_batch(1))
        assert len(received.requests) == 1


def test_retry_after(tmp_path: Path) -> None:
    """The sink pauses for five minutes at most, and only after statuses for which OTLP allows the
    header."""
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    for status, header, least in (
        (429, "200", 150.0),
        (503, later, 250.0),
        (502, "9" * 400, 250.0),
        (504, "200", 150.0),
        (500, "60", 0.0),
        (503, "-5", 0.0),
        (503, "Mon, 99 Foo 2026", 0.0),
        (503, "²", 0.0),
    ):
        refusal = Answer(status, b"", {"Retry-After": header})
        with http_receiver(answering(refusal)) as received, _sink(received.port, tmp_path) as sink:
            failure(sink, _batch(1))
            left = sink._not_before - monotonic()
            assert left <= 300
            if least:
                assert left > least
                assert "pause" in failure(sink, _batch(1)).message
            else:
                assert left <= 0
                sink.deliver(_batch(1))
            assert len(received.requests) == (1 if least else 2)


def test_a_smaller_limit_is_learned(tmp_path: Path) -> None:
    limit = 5000

    def answer(request: Any, _headers: Mapping[str, str]) -> Answer:
        return Answer(413, ECHO.encode()) if request.ByteSize() > limit else taken()

    with http_receiver(answer) as received, _sink(received.port, tmp_path) as sink:
        sink.deliver(_batch(1, 300), _batch(2, 300))
        assert received.people() == {person(1): 300, person(2): 300}
        refused = len(received.requests)
        sink.deliver(_batch(3, 300))
        assert received.people()[person(3)] == 300
        assert len(received.requests) - refused < 60


def test_a_record_that_is_too_large(tmp_path: Path) -> None:
    with http_receiver(lambda *_: Answer(413)) as received, _sink(received.port, tmp_path) as sink:
        error = failure(sink, _batch(1), _batch(2))
        assert isinstance(error, Unacceptable)
        assert error.batch == _batch(1).id
        assert len(received.requests) < 8


def test_credentials_are_read_anew(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("old\n")

    def answer(_request: object, headers: Mapping[str, str]) -> Answer:
        return taken() if headers["api-key"] == "new" else Answer(401, ECHO.encode())

    with http_receiver(answer) as received:
        endpoint = f"http://localhost:{received.port}/prefix/"
        settings = OtlpSettings(
            type="otlp", endpoint=endpoint, headers={"api-key": f"file:{secret}"}
        )
        with open_sink(settings, Opening("backend", (_SCHEMA,), tmp_path)) as sink:
            assert isinstance(sink, OtlpSink)
            failure(sink, _batch(1))
            secret.unlink()
            failure(sink, _batch(1))
            secret.write_text("new")
            failure(sink, _batch(1))
            sink.deliver(_batch(1))
    assert set(received.paths) == {"/prefix/v1/logs"}
    assert received.people() == {person(1): 1}


def test_a_receiver_that_never_ends(tmp_path: Path) -> None:
    def check(name: str, port: int) -> None:
        with _sink(port, tmp_path / name, timeout="500ms", compression="none") as sink:
            start = monotonic()
            assert failure(sink, _batch(1, 2000)).code == "E514"
            assert monotonic() - start < WAIT_SECONDS / 2

    check_endless(check, [name for name in ENDLESS if "handshake" not in name])


def _bomb(end: Any) -> None:
    _cut(end, b"Content-Type: application/x-protobuf\r\nContent-Length: 999999999\r\n\r\n")
    while True:
        end.sendall(b"\0" * (1 << 16))


def _half_close(end: Any) -> None:
    end.recv(1)
    end.shutdown(1)
    while end.recv(1 << 16):
        pass


def _cut(end: Any, headers: bytes = b"Content-Length: 100\r\n\r\n") -> None:
    end.recv(1 << 16)
    end.sendall(b"HTTP/1.1 200 OK\r\n" + headers + ECHO.encode())


@pytest.mark.parametrize("behave", [_bomb, _half_close, _cut, lambda end: end.close()])
def test_a_receiver_that_is_none(tmp_path: Path, behave: Behaviour) -> None:
    with tcp_server(behave) as port, _sink(port, tmp_path, timeout="20s") as sink:
        assert failure(sink, _batch(1, 2000)).code == "E514"


def test_nothing_is_logged_or_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    refusal = Answer(500, ECHO.encode(), {"X-Echo": ECHO})
    with http_receiver(lambda *_: refusal) as received, _sink(received.port, tmp_path) as sink:
        failure(sink, _batch(1))
        shown = repr(sink) + repr(sink._exporter) + repr(sink._settings) + str(sink._settings.peer)
        assert SECRET not in shown + caplog.text
        assert ECHO not in shown + caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"endpoint": "http://otel.example.org:4318"}, "use https"),
        ({"endpoint": "https://user:password@otel.example.org"}, "an address such as"),
        ({"endpoint": "https://otel.example.org?key=secret"}, "an address such as"),
        ({"endpoint": "https://otel.example.org:0"}, "an address such as"),
        ({"endpoint": "https://otel.example.org:99999"}, "an address such as"),
        ({"endpoint": "ftp://otel.example.org"}, "an address such as"),
        ({"endpoint": 4318}, "an address such as"),
        ({"headers": {"Authorization": "env:A"}}, "names of headers"),
        ({"headers": {"content-type": "env:A"}}, "set by the sink"),
        ({"headers": {"host": "env:A"}}, "set by the sink"),
        ({"headers": {"a\r\nb": "env:A"}}, "names of headers"),
        ({"headers": {"api-key": "a password"}}, "env:NAME"),
        ({"headers": {"api-key": None}}, "env:NAME"),
        ({"headers": "nothing"}, "names of headers"),
        ({"timeout": "2h"}, "less than or equal"),
    ],
)
def test_settings_that_are_faulty(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        OtlpSettings(**{"type": "otlp", "endpoint": "https://otel.example.org"} | settings)
    assert "key=secret" not in str(caught.value)
    assert "password" not in str(caught.value)


def test_settings_of_the_environment() -> None:
    """Headers are one text there; the place has no path, because a path may hold a secret."""
    settings = OtlpSettings(
        type="otlp",
        endpoint="https://[2001:db8::1]/tenant",
        headers="authorization=env:A, api-key=file:/run/key",
    )
    assert settings.headers == {"authorization": "env:A", "api-key": "file:/run/key"}
    assert settings.place(Path()) == "OTLP at [2001:db8::1]:443"
    assert not settings.is_local


@pytest.mark.parametrize(
    ("protocol", "endpoint", "settings", "code"),
    [
        ("http", "", {"headers": {"api-key": "env:NOT_SET_IN_TESTS"}}, "E202"),
        ("http", "", {"ca": "none.pem"}, "E212"),
        ("http", "", {"certificate": "none.pem"}, "E212"),
        ("grpc", "/tenant", {}, "E122"),
        ("grpc", "", {"ca": "none.pem"}, "E212"),
        ("grpc", "", {"certificate": "none.pem"}, "E212"),
        ("http", "", {}, None),
    ],
)
def test_what_a_check_finds(
    tmp_path: Path, protocol: str, endpoint: str, settings: dict[str, Any], code: str | None
) -> None:
    """A check does not ask the receiver. gRPC knows no path."""
    found = {
        name: each if name == "headers" else tmp_path / each for name, each in settings.items()
    }
    endpoint = f"https://otel.example.org{endpoint}"
    made = OtlpSettings(type="otlp", protocol=protocol, endpoint=endpoint, **found)
    with pytest.raises(ConfigError, match=code) if code else nullcontext():
        check_sink(made, Opening("backend", (_SCHEMA,), tmp_path))


@pytest.mark.parametrize("name", ["collector.count", "collector.counts"])
def test_a_field_with_a_name_of_the_sink_s_own(tmp_path: Path, name: str) -> None:
    text = (Path(__file__).parents[3] / "schemas" / "conferencing.yaml").read_text()
    path = tmp_path / "changed.yaml"
    path.write_text(text.replace(" os.version:", f" {name}:"))
    opening = Opening("backend", (load_schema(path),), tmp_path)
    settings = OtlpSettings(type="otlp", endpoint="https://otel.example.org")
    with nullcontext() if name == "collector.counts" else raises("E504", DeliveryError):
        check_sink(settings, opening)
