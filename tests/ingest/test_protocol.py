"""Connections: requests that can be read in two ways, that never end, that are too many."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import http.client
import re
import signal
import socket
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from collector.ingest.limits import ConnectionLimiter, IngestLimits
from collector.ingest.protocol import HardenedProtocol
from collector.ingest.request import HttpRequest, Respond
from collector.ingest.responses import HttpResponse
from tests.ingest.serving import Server, exchange, heard, serving
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.latency import at_most
from tests.support.rows import for_each

_EVENT = b'{"client":{"address":"203.0.113.7"},"os":{"type":"windows"}}'
_TAKEN = {"received": 1, "admitted": 1, "rejected": {}}
_START = b"POST /v1/events HTTP/1.1\r\nHost: a\r\n"
_HEAD = _START + b"Content-Type: application/json\r\n"
_WHOLE = _HEAD + b"Content-Length: %d\r\n\r\n" % len(_EVENT) + _EVENT
_LAST = _HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(_EVENT) + _EVENT
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n"
_QUICK = {"header_seconds": 0.6, "body_seconds": 0.6, "idle_seconds": 0.6}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A receiver with its limits as they are."""
    with serving(tmp_path_factory.mktemp("protocol")) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A receiver without much patience."""
    with serving(tmp_path_factory.mktemp("hasty"), limits=_QUICK) as running:
        yield running


def _statuses(answers: bytes) -> list[int]:
    """The statuses of the answers that came one after the other."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


def _codes(answers: bytes) -> list[str]:
    return re.findall(r'"code":"(E\d{3})"', answers.decode())


# -- what can be read in two ways ---------------------------------------------------------------


@for_each(
    "request_",
    [
        _HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        _CHUNKED + b"Content-Length: 2\r\n\r\n0\r\n\r\n",
        _HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        _HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        _HEAD + b"Content-Length: 2, 2\r\n\r\n{}",
        _HEAD + b"Content-Length: +2\r\n\r\n{}",
        _HEAD + b"Content-Length: -2\r\n\r\n{}",
        _HEAD + b"Content-Length: 0x2\r\n\r\n{}",
        _HEAD + b"Content-Length: two\r\n\r\n{}",
        _HEAD + b"Content-Length:\r\n\r\n{}",
        _HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
        _HEAD + b"Content-Length : 2\r\n\r\n{}",
        _HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        _HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        _CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        _HEAD + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        _HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        _HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        _HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        _HEAD + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
        _HEAD + b"X: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
        _HEAD + b": a\r\nContent-Length: 2\r\n\r\n{}",
        _HEAD + b"Host: b\r\nContent-Length: 2\r\n\r\n{}",
        _HEAD.replace(b"Host: a\r\n", b"") + b"Content-Length: 2\r\n\r\n{}",
        _WHOLE.replace(b"\r\n", b"\n"),
        _WHOLE.replace(b"HTTP/1.1", b"HTTP/2.0"),
        _WHOLE.replace(b"HTTP/1.1", b"HTTP/0.9"),
        _WHOLE.replace(b"POST", b"BREW"),
        _WHOLE.replace(b"/v1", b"/ v1"),
        _WHOLE.replace(b"/v1", b"/\xff"),
        _WHOLE.replace(b"/v1/events", b"http://a"),
        _HEAD + b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\n{}",
        b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 100,
    ],
)
def test_ambiguous_requests(server: Server, request_: bytes) -> None:
    """400, and nothing more is read: no request behind it can be smuggled in."""
    answer = server.say(request_ + _WHOLE)
    assert _statuses(answer) == [400]
    assert _codes(answer) == ["E410"]
    assert b"connection: close" in answer


@for_each(
    "body",
    [
        b"zz\r\n{}\r\n0\r\n\r\n",
        b"-1\r\n{}\r\n0\r\n\r\n",
        b"1\r\n{}\r\n0\r\n\r\n",
        b"3\r\n{}\r\n0\r\n\r\n",
        b"2\n{}\n0\n\n",
        b"2 \r\n{}\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        b"\r\n",
        b"2;" + b"x" * 200_000 + b"\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"1\r\n{\r\n" * 60_000 + b"0\r\n\r\n",
    ],
)
def test_faulty_chunks(server: Server, body: bytes) -> None:
    """400 as well; also where framing costs more than it carries."""
    answer = server.say(_CHUNKED + b"\r\n" + body + _WHOLE)
    assert _statuses(answer) == [400]
    assert _codes(answer) == ["E410"]


def test_good_chunks(server: Server) -> None:
    end = b"\r\nConnection: close\r\n\r\n"
    head = _CHUNKED.removesuffix(b"\r\n") + end
    body = b"".join(b"1;ext=x\r\n%c\r\n" % byte for byte in _EVENT)
    trailers = b"0\r\nContent-Encoding: gzip\r\nAuthorization: Bearer x\r\nHost: b\r\n\r\n"
    assert _statuses(server.say(head + body + trailers)) == [200]
    assert _statuses(server.say(head.replace(b"chunked", b"CHUNKED") + body + trailers)) == [200]


def test_absolute_urls_and_http_1_0(server: Server) -> None:
    """Forms that proxies and old clients send."""
    answer = server.say(_LAST.replace(b"/v1/events", b"http://a:1/v1/events?x"))
    assert _statuses(answer) == [200]
    answer = server.say(_WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host: a\r\n", b""))
    assert _statuses(answer) == [200]


# -- lengths ------------------------------------------------------------------------------------


def test_a_body_that_ends_too_early(server: Server) -> None:
    """The sender hears that it was not whole, if it is still listening."""
    with server.connect() as line:
        line.sendall(_WHOLE[:-5])
        line.shutdown(socket.SHUT_WR)
        answer = heard(line)
    assert (_statuses(answer), _codes(answer)) == ([400], ["E410"])
    with server.connect() as line:
        line.sendall(_WHOLE[:40])
        line.shutdown(socket.SHUT_WR)
        assert _statuses(heard(line)) == [400]


def test_a_whole_request_and_no_more(server: Server) -> None:
    """A sender that closes its own direction still gets its response."""
    for request in (_WHOLE, _LAST):
        with server.connect() as line:
            line.sendall(request)
            line.shutdown(socket.SHUT_WR)
            assert _statuses(heard(line)) == [200]


def test_a_body_that_is_too_long(server: Server) -> None:
    """Bytes after the body are another request, and these are not one."""
    assert _statuses(server.say(_WHOLE + b"more")) in ([200], [200, 400])


def test_senders_that_go_away(server: Server) -> None:
    """In the middle of a request: nothing is logged."""
    for request in (b"", b"POST", _WHOLE[:40], _WHOLE[:-5], _WHOLE):
        with server.connect() as line:
            line.sendall(request)
        with server.connect() as line:
            line.sendall(request)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert server.post(_EVENT).json == _TAKEN
    assert "Traceback" not in server.said()


# -- one after the other ------------------------------------------------------------------------


def test_pipelining(server: Server) -> None:
    """Requests that do not wait for answers are answered in order."""
    bad = _WHOLE.replace(b"{", b"[", 1)
    answers = server.say(_WHOLE + bad + _WHOLE + _LAST)
    assert _statuses(answers) == [200, 400, 200, 200]
    assert _statuses(server.say(*[bytes([byte]) for byte in _WHOLE + _LAST])) == [200, 200]


def test_pipelining_ends_with_the_first_fault(server: Server) -> None:
    """Complete requests are answered once, and then the connection ends."""
    answers = server.say(_WHOLE + _CHUNKED + b"\r\nzz\r\n" + _WHOLE)
    assert _statuses(answers) == [200, 400]
    answers = server.say(_WHOLE + b"\0\0\0" + _WHOLE)
    assert _statuses(answers) in ([200], [200, 400])
    answers = server.say(_WHOLE, b"\0\0\0" + _WHOLE, in_turn=True)
    assert _statuses(answers) == [200, 400]
    assert _statuses(server.say(_LAST + _WHOLE)) == [200]


def test_pipelining_has_an_end(tmp_path: Path) -> None:
    """A sender that does not wait for a slow server is not read any further."""
    with serving(tmp_path, mood="slow") as server:
        answers = _statuses(server.say(_WHOLE * 1000))
        assert 0 < len(answers) < 20
        assert set(answers) == {200}


_QUEUED = _HEAD + b"Content-Length: 10000\r\n\r\n" + b" " * 10_000
_LONG_HEAD = _LAST.replace(b"Host: a", b"Host: a\r\nX-Forwarded-For: " + b"a" * 20_000)


@for_each("behind", [_QUEUED * 20, _QUEUED + _LONG_HEAD])
def test_little_waits_behind_a_request(tmp_path: Path, behind: bytes) -> None:
    """Heads and bodies of pipelined requests are kept up to 16 KiB, and the next is not served."""
    with serving(tmp_path, mood="held") as server, server.connect() as line:
        line.sendall(_WHOLE + behind)
        wait_until(lambda: server.held() == 1)
        server.release()
        answers = heard(line)
    statuses = _statuses(answers)
    assert statuses[:2] == [200, 400]  # blanks are no event
    assert statuses[2:] in ([], [503])


def test_large_bodies_wait_for_their_turn(tmp_path: Path) -> None:
    """Nothing large is kept for later: a sender that does not wait is told to come again."""
    large = _HEAD + b"Content-Length: 400000\r\n\r\n" + bytes(400_000)
    with serving(tmp_path, mood="slow") as server:
        answer = server.say(_WHOLE + large)
        assert (_statuses(answer), _codes(answer)) == ([200, 503], ["E425"])


def test_a_skipped_body_is_followed_by_the_next_request(server: Server) -> None:
    """An early refusal leaves the connection usable, once the body is through."""
    first = _WHOLE.replace(b"/v1/events", b"/v1/nothin")
    assert _statuses(server.say(first[:-5], first[-5:] + _LAST, in_turn=True)) == [404, 200]
    assert _statuses(server.say(first + first + _LAST)) == [404, 404, 200]
    large = b"Content-Length: 3000000\r\n\r\n"
    head = _HEAD.replace(b"/v1/events", b"/v1/nothin")
    assert _statuses(server.say(head + large, bytes(3_000_000), _LAST)) == [404, 200]


@pytest.mark.timed
def test_a_skipped_body_has_its_limits_too(hasty: Server) -> None:
    head = _CHUNKED.replace(b"/v1/events", b"/v1/nothin") + b"\r\n"
    with hasty.connect() as line:
        line.sendall(head)
        with contextlib.suppress(OSError):
            for _ in range(1000):
                line.sendall(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
            pytest.fail("64 MiB were read")
    began = time.monotonic()
    with hasty.connect() as line:
        line.sendall(head)
        assert _statuses(heard(line)) == [404]
        assert 0.4 < time.monotonic() - began < at_most(4)


# -- large heads --------------------------------------------------------------------------------


@for_each(
    "large",
    [
        b"X: " + b"x" * 1_000_000 + b"\r\n",
        b"x" * 1_000_000 + b": x\r\n",
        b"X: y\r\n" * 200_000,
        b"".join(b"X-%d: y\r\n" % number for number in range(100_000)),
    ],
)
def test_1_mb_of_headers(server: Server, large: bytes) -> None:
    """431, whatever they are made of."""
    answer = server.say(_HEAD + large + b"\r\n")
    assert (_statuses(answer), _codes(answer)) == ([431], ["E416"])


def test_a_long_url(server: Server) -> None:
    answer = server.say(b"POST /v1/events?" + b"x" * 1_000_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert _statuses(answer) == [431]


def test_heads_up_to_the_limit(server: Server) -> None:
    """30,000 bytes are fine, also for the second request of a connection; 40,000 are not."""
    fine = b"X: " + b"x" * 30_000 + b"\r\n"
    request = _WHOLE.replace(b"Host: a\r\n", b"Host: a\r\n" + fine)
    last = _LAST.replace(b"Host: a\r\n", b"Host: a\r\n" + fine)
    assert _statuses(server.say(request, last, in_turn=True)) == [200, 200]
    large = b"X: " + b"x" * 40_000 + b"\r\n"
    request = _LAST.replace(b"Host: a\r\n", b"Host: a\r\n" + large)
    assert _statuses(server.say(request)) == [431]
    assert _statuses(server.say(_WHOLE, request, in_turn=True)) == [200, 431]


# -- slow senders -------------------------------------------------------------------------------


def _until_closed(line: socket.socket, drip: bytes, began: float) -> tuple[bytes, float]:
    """Send a byte now and then until the server closes; its response, and the seconds since it
    began."""
    said = b""
    line.settimeout(0.1)
    while time.monotonic() - began < at_most(8):
        with contextlib.suppress(OSError):
            line.sendall(drip)
        try:
            part = line.recv(4096)
        except TimeoutError:
            continue
        except OSError:
            break
        if not part:
            break
        said += part
    return said, time.monotonic() - began


_SLOW_SENDERS = [
    (b"", b"", []),
    (b"POST /v1/events HTTP/1.1\r\n", b"X", [408]),
    (_HEAD + b"X: ", b"x", [408]),
    (_HEAD + b"Content-Length: 1000\r\n\r\n", b" ", [408]),
    (_CHUNKED + b"\r\n", b"1\r\n \r\n", [408]),
    (_WHOLE, b"", [200]),
    (_WHOLE + b"POST /v1/events HTTP/1.1\r\n", b"X", [200, 408]),
    (_WHOLE + _HEAD + b"Content-Length: 1000\r\n\r\n", b" ", [200, 408]),
]
"""What each sends, what it goes on with, and the statuses that it gets."""


@pytest.mark.timed
def test_slow_senders(hasty: Server) -> None:
    """Have their time for a head, for a body, and between requests, and then no more of it."""

    def sent(row: tuple[bytes, bytes, list[int]]) -> tuple[list[int], bool]:
        began = time.monotonic()
        with hasty.connect() as line:
            line.sendall(row[0])
            said, seconds = _until_closed(line, row[1], began)
        return _statuses(said), 0.4 < seconds < at_most(4)

    with ThreadPoolExecutor(len(_SLOW_SENDERS)) as pool:
        found = [*pool.map(sent, _SLOW_SENDERS)]
    assert found == [(statuses, True) for *_, statuses in _SLOW_SENDERS]


def test_slow_readers(tmp_path: Path) -> None:
    """A sender that never reads fills its own buffers, and is then disconnected."""
    with serving(tmp_path, limits=_QUICK) as server:
        with server.connect() as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.settimeout(0.2)
            sent, began = 0, time.monotonic()
            while time.monotonic() - began < WAIT_SECONDS:
                try:
                    line.sendall(_WHOLE)
                    sent += 1
                except TimeoutError:
                    continue
                except OSError:
                    break
            else:
                pytest.fail("it was never sent away")
        assert server.post(_EVENT).json == _TAKEN


def test_a_slow_server_does_not_blame_its_senders(tmp_path: Path) -> None:
    """Deadlines are for what we wait for, not for what waits for us."""
    with serving(tmp_path, mood="slow", limits={"body_seconds": 0.3, "idle_seconds": 2}) as server:
        assert _statuses(server.say(_WHOLE + _WHOLE + _LAST)) == [200, 200, 200]


# -- many ---------------------------------------------------------------------------------------


def test_more_connections_than_there_may_be(tmp_path: Path) -> None:
    """One that has kept us waiting makes way; where all are at work, 503."""
    limits = {"connections": 4}
    with serving(tmp_path, limits=limits, mood="held") as server, ExitStack() as stack:
        lines = [stack.enter_context(server.connect()) for _ in range(4)]
        for line in lines:
            line.sendall(_LAST)
        wait_until(lambda: server.held() == 4)
        assert _statuses(server.say(_LAST)) == [503]
        server.release()
        assert [_statuses(heard(line)) for line in lines] == [[200]] * 4
        while not (idle := _idle(server, 4)):
            time.sleep(1)
        for line in idle:
            stack.enter_context(line)
        wait_until(lambda: _statuses(server.say(_LAST)) == [200])
        assert [_gone(line) for line in idle] == [True, False, False, False]


def _idle(server: Server, number: int) -> list[socket.socket]:
    """So many new connections, beside which there is no place; none where it took so long to make
    them that the first has to make way."""
    began = time.monotonic()
    made = [server.connect() for _ in range(number)]
    if _statuses(server.say(_LAST)) == [503]:
        return made
    assert time.monotonic() - began >= 0.5
    for line in made:
        line.close()
    return []


def _gone(line: socket.socket) -> bool:
    """Whether the other side has closed it."""
    line.settimeout(0.1)
    try:
        return line.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_connections_are_counted_down(tmp_path: Path) -> None:
    with serving(tmp_path, limits={**_QUICK, "connections": 3}) as server:
        for request in (b"", b"\0", _WHOLE[:30], _HEAD + b"X: " + b"x" * 90_000, _LAST) * 4:
            with server.connect() as line:
                line.sendall(request)
                if request:
                    with contextlib.suppress(OSError):
                        line.shutdown(socket.SHUT_WR)
                        heard(line)
        wait_until(lambda: _at_once(server, 3) == [200] * 3)


def _at_once(server: Server, number: int) -> list[int]:
    """The statuses that so many connections get while all of them are open."""
    clients = [server.client() for _ in range(number)]
    try:
        return [exchange(client, _EVENT).status for client in clients]
    except (OSError, http.client.HTTPException):  # it was late, for which it has little time here
        return []
    finally:
        for client in clients:
            client.close()


def test_observed(tmp_path: Path) -> None:
    """Every answer is, also those that were given before there was a request."""
    with serving(tmp_path) as server:
        server.say(b"\0")
        server.say(_HEAD + b"X: " + b"x" * 90_000)
        server.say(_LAST)
        with server.connect() as line:
            line.sendall(_CHUNKED + b"\r\nzz\r\n")
            http.client.HTTPResponse(line).begin()
        wait_until(lambda: server.observed() == [400, 431, 200, 400])


def test_a_stop_answers_what_is_there(tmp_path: Path) -> None:
    """A request that is being answered, and one that comes on a connection that is open by then."""
    with (
        serving(tmp_path, mood="held") as running,
        running.connect() as late,
        running.connect() as asked,
    ):
        asked.sendall(_LAST)
        wait_until(lambda: "held" in running.stdout.read_text())
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not _can_connect(running))
        late.sendall(_LAST)
        running.process.send_signal(signal.SIGUSR1)
        assert [_statuses(heard(each)) for each in (asked, late)] == [[200], [200]]


def _can_connect(running: Server) -> bool:
    try:
        running.connect().close()
    except ConnectionRefusedError:
        return False
    return True


def test_an_answer_comes_in_one_piece(server: Server) -> None:
    """Its head and its body are sent together."""
    with server.connect() as line:
        for _ in range(3):
            line.sendall(_WHOLE)
            assert line.recv(4096).endswith(b"}")


@for_each(("number", "status"), [(150, 200), (201, 431)])
def test_many_headers(server: Server, number: int, status: int) -> None:
    """Short ones are refused by their number: as objects they take many times their bytes."""
    more = b"".join(b"X%d: y\r\n" % at for at in range(number))
    head, _, rest = _LAST.partition(b"\r\n")
    assert _statuses(server.say(head + b"\r\n" + more + rest)) == [status]


# -- memory ---------------------------------------------------------------------------------------


@for_each(
    "sent",
    [_WHOLE, _START + b"\r\n", _WHOLE[:-1], _WHOLE.replace(b"events", b"held"), b"", b"\0"],
)
def test_a_connection_that_is_closed_leaves_no_cycle(sent: bytes) -> None:
    """Its memory is free at once, with the buffers of TLS, not when garbage is collected."""
    held: list[HttpRequest] = []

    def handler(request: HttpRequest, respond: Respond) -> None:
        if request.path == "/v1/held":
            held.append(request)
        else:
            request.read(100, bool, lambda body: respond(HttpResponse(204) if body else None))

    async def served() -> weakref.ref[HardenedProtocol]:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        protocol = HardenedProtocol(handler, ConnectionLimiter(IngestLimits()), set())
        await loop.connect_accepted_socket(lambda: protocol, theirs)
        found = weakref.ref(protocol)
        with ours:
            ours.sendall(sent)
            await asyncio.sleep(0.02)
            protocol.abort()
        await asyncio.sleep(0.02)
        held.clear()
        return found

    gc.disable()
    try:
        assert asyncio.run(served())() is None
    finally:
        gc.enable()
