"""Clients of each receiver: they send one request after another until the sidecar is gone."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from contextlib import closing, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse
from random import Random
from threading import Thread
from time import monotonic, sleep
from uuid import UUID

import grpc  # type: ignore[import-untyped]

from tests.sidecar.account import Account, Parcel
from tests.sidecar.senders import METHODS
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.sidecar import Sidecar

_SECONDS = WAIT_SECONDS / 2


class Client(ABC, Thread):
    """``began`` is when the first byte of the unanswered request went out, ``whole`` when its last
    one did; 0 without such a request."""

    def __init__(self, sidecar: Sidecar, account: Account, random: Random) -> None:
        super().__init__(daemon=True)
        self.is_stopped = False
        self.began = self.whole = 0.0
        self._ports = sidecar.ports
        self._account = account
        self._random = random

    @abstractmethod
    def run(self) -> None:
        """Send until the sidecar is gone."""

    def stop(self) -> None:
        """End after the request in progress."""
        self.is_stopped = True

    def _parcel(self) -> Parcel:
        sleep(self._random.choice((0, 0, 0.001, 0.005)))
        return self._account.parcel(self._random.randint(1, 30), self._random.choice((0, 0, 1, 3)))


class LinesClient(Client):
    """NDJSON over HTTP; some requests are sent in two parts."""

    path, kind = "/v1/events", "application/x-ndjson"

    def run(self) -> None:
        address = ("127.0.0.1", self._ports["http"])
        with suppress(OSError, HTTPException), socket.create_connection(address, _SECONDS) as to:
            while not self.is_stopped:
                self._send_one(to, self._parcel())

    def _send_one(self, connection: socket.socket, parcel: Parcel) -> None:
        draw, body = self._random, self._body(parcel)
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {self.kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        request = head.encode() + body
        connection.sendall(request[:1])
        self.began = monotonic()
        if draw.random() < 0.1:
            cut = draw.randint(1, len(request) - 1)
            connection.sendall(request[1:cut])
            sleep(0.005)
            connection.sendall(request[cut:])
        else:
            connection.sendall(request[1:])
        self.whole = monotonic()
        answer = HTTPResponse(connection)
        answer.begin()
        self._answered(parcel, answer.status, answer.read())
        self.began = self.whole = 0.0

    def _body(self, parcel: Parcel) -> bytes:
        return parcel.body

    def _answered(self, parcel: Parcel, status: int, body: bytes) -> None:
        parcel.answered(status, body)


class ProtobufClient(LinesClient):
    """OTLP over HTTP."""

    path, kind = "/v1/logs", "application/x-protobuf"

    def _body(self, parcel: Parcel) -> bytes:
        return parcel.exported

    def _answered(self, parcel: Parcel, status: int, body: bytes) -> None:
        parcel.taken(status, body)


class GrpcClient(Client):
    """OTLP over gRPC. ``whole`` is when the library got the message."""

    def run(self) -> None:
        channel = grpc.insecure_channel(f"127.0.0.1:{self._ports['grpc']}")
        with closing(channel), suppress(grpc.RpcError):
            export = channel.unary_unary(METHODS["logs"])
            while not self.is_stopped:
                parcel = self._parcel()
                message = parcel.exported
                self.began = self.whole = monotonic()
                parcel.taken(200, export(message, timeout=_SECONDS))
                self.began = self.whole = 0.0


class KeyedClient(Client):
    """Records under idempotency keys. A request without an answer, and sometimes one with an
    answer, is sent again under the same key on another connection."""

    def run(self) -> None:
        while not self.is_stopped:
            parcel = self._account.parcel(self._random.randint(1, 30))
            key = UUID(int=self._random.getrandbits(128)).hex
            self._account.keyed.append((parcel, key))
            for _ in range(self._random.choice((1, 1, 1, 2))):
                while not self._is_answered(parcel, key):
                    if self.is_stopped:
                        return
                    sleep(0.01)

    def again(self) -> None:
        """Send unanswered requests until they have an answer: a worker that ends may take a
        connection along."""
        for parcel, key in list(self._account.keyed):
            wait_until(partial(self._is_answered, parcel, key))

    def _is_answered(self, parcel: Parcel, key: str) -> bool:
        head = {"Content-Type": "application/x-ndjson", "Idempotency-Key": key}
        connection = HTTPConnection("127.0.0.1", self._ports["http"], timeout=_SECONDS)
        with closing(connection), suppress(OSError, HTTPException):
            self.began = self.whole = monotonic()
            connection.request("POST", "/v1/records", parcel.recorded, head)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 503:
                parcel.answered(answer.status, body)
                self.began = self.whole = 0.0
                with suppress(ValueError):
                    self._account.keyed.remove((parcel, key))
                return True
        return False


def clients(sidecar: Sidecar, account: Account, random: Random) -> list[Client]:
    """Return some clients of each kind, not started yet."""
    kinds = (LinesClient, LinesClient, ProtobufClient, GrpcClient)
    return [kind(sidecar, account, Random(random.random())) for kind in kinds]
