"""A relay hands on what is asked and answered, and no more of an answer than a limit: whatever a
server sends, by however many connections. Endless answers cost a process hardly any memory."""

from __future__ import annotations

import gc
import socket
import ssl
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import sleep
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.sinks.relay import Relay, _connected, proxy
from tests.sdk.program import run_code
from tests.support.certificates import Authority
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.programs import script
from tests.support.s3 import Proxy
from tests.support.tcp import Behaviour, tcp_server

_IDLE = 1 << 16
_PIECE = 1 << 16
_SECONDS = 240


@contextmanager
def _relay(behave: Behaviour) -> Iterator[Relay]:
    with tcp_server(behave) as port:
        relay = Relay(lambda _: _connected("127.0.0.1", port))
        try:
            yield relay
        finally:
            relay.close()


def _client(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), WAIT_SECONDS)


def _read(client: socket.socket) -> bytes:
    """Read to the end, as which a broken connection counts."""
    found = bytearray()
    with suppress(ConnectionError):
        while piece := client.recv(_PIECE):
            found += piece
    return bytes(found)


def _sends(end: socket.socket, *pieces: int) -> None:
    for size in pieces:
        end.sendall(b"a" * size)


def _sends_without_end(end: socket.socket) -> None:
    while True:
        end.sendall(b"a" * _PIECE)


def _echoes(end: socket.socket) -> None:
    while piece := end.recv(_PIECE):
        end.sendall(piece)


# -- answers --------------------------------------------------------------------------------------


@given(
    pieces=st.lists(st.integers(0, 200_000), max_size=5),
    most=st.integers(0, 400_000),
    connections=st.integers(1, 3),
)
def test_an_answer_is_whole_or_cut(pieces: list[int], most: int, connections: int) -> None:
    """The limit counts what all connections got together."""
    got = list[bytes]()
    with _relay(lambda end: _sends(end, *pieces)) as relay, ExitStack() as stack:
        with relay.exchange(most) as exchange:
            clients = [stack.enter_context(_client(relay.port)) for _ in range(connections)]
            readers = [
                threading.Thread(target=lambda end=end: got.append(_read(end))) for end in clients
            ]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join(WAIT_SECONDS)
        total, expected = sum(map(len, got)), sum(pieces) * connections
        assert len(got) == connections
        assert total <= most
        assert exchange.is_cut == (expected > most)
        assert exchange.is_cut or total == expected


def test_questions_are_handed_on() -> None:
    question = bytes(range(256)) * 10_000
    with _relay(_echoes) as relay, _client(relay.port) as client:
        for _ in range(3):
            with relay.exchange(len(question)) as exchange:
                sender = threading.Thread(target=client.sendall, args=(question,))
                sender.start()
                found = bytearray()
                while len(found) < len(question):
                    found += client.recv(_PIECE)
                sender.join(WAIT_SECONDS)
            assert bytes(found) == question
            assert not exchange.is_cut


def test_what_was_cut_is_asked_again() -> None:
    """The next exchange has a limit of its own; the one at hand takes no other connection."""
    servers = iter([_sends_without_end, _echoes])

    def behave(end: socket.socket) -> None:
        next(servers)(end)

    with _relay(behave) as relay:
        with relay.exchange(1000) as exchange:
            with _client(relay.port) as client:
                assert len(_read(client)) <= 1000
            with _client(relay.port) as client:
                assert _read(client) == b""
        assert exchange.is_cut
        with relay.exchange(1000) as exchange, _client(relay.port) as client:
            client.sendall(b"again")
            assert client.recv(10) == b"again"
        assert not exchange.is_cut


def test_exchanges_side_by_side() -> None:
    """Each adds to what may be said."""
    with _relay(lambda end: _sends(end, 1500)) as relay:
        with relay.exchange(1000) as one, relay.exchange(1000) as other, _client(relay.port) as end:
            assert len(_read(end)) == 1500
        assert not one.is_cut
        assert not other.is_cut


def test_a_server_that_speaks_unasked() -> None:
    with (
        _relay(_sends_without_end) as relay,
        _client(relay.port) as client,
    ):
        assert len(_read(client)) <= _IDLE
    with _relay(lambda end: _sends(end, 10)) as relay, _client(relay.port) as client:
        assert _read(client) == b"a" * 10


# -- ends of connections --------------------------------------------------------------------------


def _threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if "(_" in each.name]


def _nothing_is_left(before: list[threading.Thread]) -> None:
    wait_until(lambda: not {*_threads()} - {*before})


def _reads_only(end: socket.socket) -> None:
    while end.recv(_PIECE):
        pass
    sleep(WAIT_SECONDS)  # it does not close


@pytest.mark.parametrize("end", ["client", "relay"])
def test_a_server_that_does_not_close(end: str) -> None:
    """No thread waits for it when a library or the relay has closed its connection."""
    ended = threading.Event()

    def behave(server: socket.socket) -> None:
        server.sendall(b"hello")
        ended.wait(WAIT_SECONDS)

    before = _threads()
    with _relay(behave) as relay:
        with _client(relay.port) as client:
            assert client.recv(10) == b"hello"
            if end == "relay":
                relay.close()
                assert _read(client) == b""
        relay.close()
        wait_until(lambda: not any("_serve" in each.name for each in {*_threads()} - {*before}))
        ended.set()
    _nothing_is_left(before)


def test_a_server_that_is_away() -> None:
    with socket.socket() as taken:  # and does not listen
        taken.bind(("127.0.0.1", 0))
        relay = Relay(lambda _: _connected("127.0.0.1", taken.getsockname()[1]))
        with _client(relay.port) as client:
            assert _read(client) == b""
        relay.close()


_FORKED = """
import os, socket
from collector.sinks.relay import Relay, _connected
from tests.support.tcp import tcp_server

def echoes(end):
    while piece := end.recv(1024):
        end.sendall(piece)

with tcp_server(echoes) as port:
    relay = Relay(lambda _: _connected("127.0.0.1", port))
    client = socket.create_connection(("127.0.0.1", relay.port))
    child = os.fork()
    if not child:
        relay.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for each in (client, socket.create_connection(("127.0.0.1", relay.port))):
        each.sendall(b"a")
        assert each.recv(1) == b"a"
    relay.close()
"""


def test_a_process_that_is_forked() -> None:
    """Closing the relay in a child leaves that of its parent."""
    done = run_code(_FORKED)
    assert done.returncode == 0, done.stderr


def test_it_outlives_connections_that_cannot_be_opened() -> None:
    """Too many files may be open for a while."""
    real = socket.create_server(("127.0.0.1", 0))
    listener, failures = mock.Mock(wraps=real), iter([OSError("too many open files")] * 2)

    def accept() -> tuple[socket.socket, object]:
        if (failure := next(failures, None)) is not None:
            raise failure
        return real.accept()

    listener.accept.side_effect = accept
    with tcp_server(_echoes) as port:
        with mock.patch("collector.sinks.relay.socket.create_server", return_value=listener):
            relay = Relay(lambda _: _connected("127.0.0.1", port))
        with _client(relay.port) as client:
            client.sendall(b"a")
            assert client.recv(1) == b"a"
        relay.close()
    assert next(failures, None) is None


# -- a proxy of this process ----------------------------------------------------------------------


@contextmanager
def _proxied() -> Iterator[tuple[Relay, bytes]]:
    """A proxy, and the header by which it knows this process."""
    relay, url = proxy()
    try:
        user, _, _ = url.removeprefix("http://").partition("@")
        encoded = b64encode(user.encode())
        yield relay, b"Proxy-Authorization: Basic " + encoded
    finally:
        relay.close()


def _asked(relay: Relay, *lines: bytes, body: bytes = b"") -> bytes:
    with relay.exchange(1 << 20), _client(relay.port) as client:
        client.sendall(b"\r\n".join([*lines, b"", body]))
        return _read(client)


def _answers(got: list[bytes]) -> Behaviour:
    def behave(end: socket.socket) -> None:
        got.append(end.recv(_PIECE))
        end.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    return behave


def test_a_request_in_plain() -> None:
    """It arrives as servers know it, without what is between the library and the proxy."""
    got = list[bytes]()
    with tcp_server(_answers(got)) as port, _proxied() as (relay, header):
        host = f"127.0.0.1:{port}".encode()
        answer = _asked(
            relay, b"PUT http://" + host + b"/a/b?c=http://d HTTP/1.1", b"Host: " + host, header,
            b"Proxy-Connection: keep-alive", b"connection: keep-alive", b"Content-Length: 3",
            body=b"abc",
        )  # fmt: skip
    assert answer == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert got == [
        b"PUT /a/b?c=http://d HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: 3\r\n"
        b"Connection: close\r\n\r\nabc"
    ]


@pytest.mark.parametrize(("given", "path"), [("", "/"), ("?a", "/?a"), ("/", "/")])
def test_paths(given: str, path: str) -> None:
    got = list[bytes]()
    with tcp_server(_answers(got)) as port, _proxied() as (relay, header):
        _asked(relay, f"GET http://127.0.0.1:{port}{given} HTTP/1.1".encode(), header)
    assert got[0].startswith(f"GET {path} HTTP/1.1\r\n".encode())


def test_a_tunnel() -> None:
    with (
        tcp_server(_echoes) as port,
        _proxied() as (relay, header),
        relay.exchange(1 << 20),
        _client(relay.port) as client,
    ):
        client.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n%b\r\n\r\n" % (port, header))
        head = b"HTTP/1.1 200 OK\r\n\r\n"
        assert client.recv(len(head)) == head
        client.sendall(b"\0\xff\r\n\r\n")
        assert client.recv(10) == b"\0\xff\r\n\r\n"


_TARGETS: list[Callable[[int], bytes]] = [
    lambda port: b"CONNECT 127.0.0.1:%d HTTP/1.1" % port,
    lambda port: b"GET http://127.0.0.1:%d/ HTTP/1.1" % port,
]


@pytest.mark.parametrize("target", _TARGETS)
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [b"Proxy-Authorization: Basic Y29sbGVjdG9yOmd1ZXNz"],
        [b"Proxy-Authorization:"],
        [b"Authorization: {0}"],
        [b"{0}", b"Proxy-Authorization: Basic Y29sbGVjdG9yOmd1ZXNz"],
    ],
)
def test_other_processes_are_refused(target: Callable[[int], bytes], headers: list[bytes]) -> None:
    """Nothing is connected for a request without the credentials of this process, or with more."""
    got = list[bytes]()
    with tcp_server(_answers(got)) as port, _proxied() as (relay, header):
        lines = [line.replace(b"{0}", header) for line in headers]
        assert _asked(relay, target(port), *lines) == b""
    assert got == []


@given(head=st.binary(max_size=300), is_known=st.booleans())
def test_any_bytes_to_a_proxy(head: bytes, is_known: bool) -> None:
    """The proxy goes on."""
    with _proxied() as (relay, header), relay.exchange(1000), _client(relay.port) as client:
        client.sendall(head + b"\r\n" + (header if is_known else b"") + b"\r\n\r\n")
        assert _read(client) == b""


def test_a_head_without_an_end() -> None:
    with _proxied() as (relay, _), _client(relay.port) as client, suppress(ConnectionError):
        for _ in range(1000):
            client.sendall(b"a" * _PIECE)
        pytest.fail("it reads on")


# -- libraries ------------------------------------------------------------------------------------


_OBJECT = """
import sys
from pathlib import Path
from collector.sinks.parquet.object_store import BucketObjects
secrets = {"access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1"}
bucket = BucketObjects("s3://lake/a", secrets | {"endpoint": sys.argv[1]}, Path("none"))
print(bucket.open("key")[0].seek(0, 2))
"""
_META = (
    b'HTTP/1.1 200 OK\r\nContent-Length: 4711\r\nETag: "1"\r\nConnection: close\r\n'
    b"Last-Modified: Fri, 27 Nov 2026 18:00:00 GMT\r\n\r\n"
)


def test_a_bucket_by_https(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair, heads = authority.issue("server"), list[bytes]()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)

    def behave(end: socket.socket) -> None:
        with context.wrap_socket(end, server_side=True) as secured:
            heads.append(secured.recv(_PIECE))
            secured.sendall(_META)

    trusted = {"SSL_CERT_FILE": str(authority.own.certificate)}
    with tcp_server(behave) as port:
        known = run_code(_OBJECT, f"https://localhost:{port}", environ=trusted)
        assert known.stdout == "4711\n"
        assert heads[0].startswith(b"HEAD /lake/a/key HTTP/1.1\r\n")
        assert b"proxy" not in heads[0].lower()
        heads.clear()
        unknown = run_code(_OBJECT, f"https://localhost:{port}")
    assert "Unreachable" in unknown.stderr
    assert heads == []


def test_a_bucket_takes_no_proxy_of_the_environment() -> None:
    others, got = list[bytes](), list[bytes]()

    def answer(end: socket.socket) -> None:
        got.append(end.recv(_PIECE))
        end.sendall(_META)

    with tcp_server(_answers(others)) as other, tcp_server(answer) as port:
        named = dict.fromkeys(("http_proxy", "ALL_PROXY"), f"http://127.0.0.1:{other}")
        assert run_code(_OBJECT, f"http://127.0.0.1:{port}", environ=named).stdout == "4711\n"
    assert got
    assert not others


def test_a_part_that_is_too_large(tmp_path: Path) -> None:
    """A bucket says the size of an object. It is not asked for more than the end."""
    from collector.errors import Unreachable  # noqa: PLC0415
    from collector.sinks.parquet.object_store import BucketObjects  # noqa: PLC0415 - heavy

    heads = list[bytes]()

    def behave(end: socket.socket) -> None:
        heads.append(end.recv(_PIECE))
        end.sendall(_META.replace(b"4711", b"4711000000"))

    secrets = {"access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1"}
    with tcp_server(behave) as port:
        options = secrets | {"endpoint": f"http://127.0.0.1:{port}"}
        file = BucketObjects("s3://lake/a", options, tmp_path).open("key")[0]
        with pytest.raises(Unreachable):
            file.read()
    assert len(heads) == 1


def test_a_bucket_that_is_given_up_closes_its_relay(tmp_path: Path) -> None:
    from collector.sinks.parquet.object_store import BucketObjects  # noqa: PLC0415 - heavy

    before = _threads()
    bucket = BucketObjects("s3://lake/a", {"region": "us-east-1"}, tmp_path)
    port = bucket._relay.port
    _client(port).close()
    del bucket
    gc.collect()
    with pytest.raises(ConnectionRefusedError):
        _client(port)
    _nothing_is_left(before)


# -- memory ---------------------------------------------------------------------------------------

_MOST_MB = 24
"""What five endless answers may add to a process; each is of 64 MB or more."""
_BUCKET = """
import sys
from pathlib import Path
from collector.errors import Unreachable
from collector.sinks.parquet.object_store import BucketObjects
secrets = {"access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1"}
endpoint = {"endpoint": f"http://127.0.0.1:{sys.argv[1]}"}
file = Path(sys.argv[2])
file.write_bytes(b"x")
bucket = BucketObjects("s3://lake/a", secrets | endpoint, file)
asks = [
    lambda: bucket.create("key", file),
    lambda: bucket.open("key"),
    lambda: bucket.open("key")[0].read(),
    lambda: bucket.remove("key"),
    lambda: list(bucket.all_keys()),
]
"""
_PEAK = """
def most():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) >> 10
before = most()
for ask in asks:
    try:
        ask()
    except Unreachable:
        print("refused")
print(most() - before)
"""


def _growth(code: str, *arguments: object) -> tuple[int, int]:
    """Return how often a server was given up, and the memory that it took, in MB."""
    *refused, growth = script(code + _PEAK, *arguments, timeout=_SECONDS).stdout.split()
    return len(refused), int(growth)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
@pytest.mark.timeout(300)
def test_refusals_of_a_bucket_without_an_end(tmp_path: Path) -> None:
    before = Proxy(0)
    before.mode = "bomb"
    with tcp_server(before.handle) as port:
        refused, growth = _growth(_BUCKET, port, tmp_path / "file")
    assert refused == 5
    assert growth < _MOST_MB
