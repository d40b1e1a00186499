"""A front for a Kafka broker: it adds a certificate and a password, and relays everything else."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.support.kafka_server import KafkaServer, server
from tests.support.tcp import tcp_server

_HANDSHAKE, _AUTHENTICATE = 17, 36


@dataclass
class Front:
    """The front's address, and the logins of its clients."""

    kafka: KafkaServer
    port: int
    logins: list[bytes] = field(default_factory=list)


@contextmanager
def front(context: ssl.SSLContext, login: bytes | None = None) -> Iterator[Front]:
    """Run a broker behind a front with a certificate; PLAIN must send ``login``."""
    made: list[Front] = []

    def behave(raw: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(raw, server_side=True) as client:
            upstream = socket.create_connection(("127.0.0.1", made[0].kafka.port))
            with upstream:
                threading.Thread(target=_answers, args=(upstream, client), daemon=True).start()
                _requests(client, upstream, made[0].logins, login)

    with (
        tcp_server(behave) as port,
        server("--advertised-listener-url", f"tcp://localhost:{port}") as kafka,
    ):
        made.append(Front(kafka, port))
        yield made[0]


def _requests(
    client: ssl.SSLSocket, upstream: socket.socket, logins: list[bytes], login: bytes | None
) -> None:
    """Relay requests, and answer logins."""
    while True:
        frame = _exactly(client, struct.unpack(">i", _exactly(client, 4))[0])
        api, _, number, length = struct.unpack_from(">hhih", frame)
        body = frame[10 + max(0, length) :]
        if api == _HANDSHAKE:
            _send(client, struct.pack(">ihih5s", number, 0, 1, 5, b"PLAIN"))
        elif api == _AUTHENTICATE:
            logins.append(body[4:])
            refused = 0 if body[4:] == login else 58
            _send(client, struct.pack(">ihhiq", number, refused, -1, 0, 0))
        else:
            upstream.sendall(struct.pack(">i", len(frame)) + frame)


def _answers(upstream: socket.socket, client: ssl.SSLSocket) -> None:
    with suppress(OSError):
        while data := upstream.recv(1 << 16):
            client.sendall(data)


def _send(client: ssl.SSLSocket, frame: bytes) -> None:
    client.sendall(struct.pack(">i", len(frame)) + frame)


def _exactly(client: ssl.SSLSocket, number: int) -> bytes:
    found = b""
    while len(found) < number:
        piece = client.recv(number - len(found))
        if not piece:
            raise ConnectionResetError
        found += piece
    return found
