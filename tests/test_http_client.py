"""The response to a request, byte by byte, over real sockets."""

from __future__ import annotations

import socket
from pathlib import Path
from threading import Event
from time import monotonic

import pytest

from collector.http_client import FAILURES, HttpConnection, Response
from collector.sdk import Collector
from collector.sdk.target import Target
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.http_receivers import receiver
from tests.support.rows import for_each
from tests.support.tcp import Behaviour

_HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"
_COUNTS = b'{"received":1,"admitted":1,"rejected":{}}'
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(_COUNTS)
_SECONDS = 60.0


def _answers(*pieces: bytes) -> Behaviour:
    """Send one piece after each read."""

    def behave(end: socket.socket) -> None:
        for piece in pieces:
            if not end.recv(1 << 16):
                return
            end.sendall(piece)

    return behave


def _exchange(behave: Behaviour, body: bytes = b"{}") -> tuple[Response, bool]:
    end = monotonic() + _SECONDS
    with receiver(behave) as port:
        target = Target("http", host="127.0.0.1", port=port)
        connection = HttpConnection(target, None, lambda: end)
        try:
            return connection.exchange(_HEAD, body), connection.is_reusable
        finally:
            connection.close()


@for_each(
    ("answer", "body", "is_reusable"),
    [
        (_OK + b"\r\n" + _COUNTS, _COUNTS, True),
        (b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + _OK + b"\r\n" + _COUNTS, _COUNTS, True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + _OK + b"\r\n" + _COUNTS, _COUNTS, True),
        (_OK + b"Connection: Close\r\n\r\n" + _COUNTS, _COUNTS, False),
        (_OK + b"\r\n" + _COUNTS + b"HTTP/1.1 200 OK\r\n", _COUNTS, False),
        (_OK.replace(b"1.1", b"1.0") + b"\r\n" + _COUNTS, _COUNTS, False),
        (b"HTTP/1.1 200 OK\n\n" + _COUNTS, _COUNTS, False),
        (
            b"HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\nX: y\r\n\r\n",
            b"{}",
            True,
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    ],
)
def test_what_is_a_response(answer: bytes, body: bytes, is_reusable: bool) -> None:
    """Interim responses come before it; a byte after it makes the connection unusable."""
    response, again = _exchange(_answers(answer))
    assert (response.body, again) == (body, is_reusable)


@for_each(
    "answer",
    [
        b"",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno name\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n : a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}x\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n" + b"a" * (1 << 18),
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 101 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 17 + _OK + b"\r\n" + _COUNTS,
        _OK + b"\r\n" + _COUNTS[:-1],
    ],
)
def test_what_is_none(answer: bytes) -> None:
    """A malformed response is refused long before the deadline; no message quotes it."""
    began = monotonic()
    with pytest.raises(FAILURES) as caught:
        _exchange(_answers(answer))
    assert not isinstance(caught.value, TimeoutError)
    assert monotonic() - began < _SECONDS / 2


def test_a_refusal_before_the_body_is_read() -> None:
    """A receiver that answers and reads nothing more does not get the rest of the body."""
    answered = Event()

    def refuse(end: socket.socket) -> None:
        end.recv(100)
        end.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        answered.wait(WAIT_SECONDS)

    began = monotonic()
    response, is_reusable = _exchange(refuse, bytes(32 << 20))
    assert (response.status, is_reusable) == (413, False)
    assert monotonic() - began < _SECONDS / 2
    answered.set()


def test_what_comes_between_requests() -> None:
    """It is not read as the response to the next request."""
    deadline = monotonic() + _SECONDS
    # The request may come in two pieces; after that, the receiver waits for another one.
    with receiver(_answers(_OK + b"\r\n" + _COUNTS, b"", b"")) as port:
        target = Target("http", host="127.0.0.1", port=port)
        connection = HttpConnection(target, None, lambda: deadline)
        connection.exchange(_HEAD, b"{}")
        assert connection.is_reusable
        assert connection.is_quiet()
        connection.close()

    answered, noticed = Event(), Event()

    def talk(end: socket.socket) -> None:
        _answers(_OK + b"\r\n" + _COUNTS)(end)
        answered.wait(WAIT_SECONDS)
        end.sendall(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        noticed.wait(WAIT_SECONDS)

    with receiver(talk) as port:
        target = Target("http", host="127.0.0.1", port=port)
        connection = HttpConnection(target, None, lambda: deadline)
        connection.exchange(_HEAD, b"{}")
        answered.set()
        wait_until(lambda: not connection.is_quiet())
        noticed.set()
        connection.close()


def test_a_socket_file_that_is_none(tmp_path: Path) -> None:
    """The records stay queued."""
    telemetry = Collector(to=f"unix://{tmp_path}/nothing.sock", exit_timeout=0)
    assert telemetry.emit({"ip_address": "203.0.113.7"})
    assert not telemetry.close(0.1)
    assert telemetry.tally().lost == {"unsent": 1}
