"""Randomly mutated requests to every endpoint, with kills in between.

``COLLECTOR_MUTATIONS`` is the number of requests (1,000; ``make nightly`` sends a million).
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from random import Random
from threading import Event, Lock, Thread
from time import sleep

import grpc  # type: ignore[import-untyped]
import orjson
import pytest

from collector.ledger import opened
from tests.sidecar.marks import Marks
from tests.sidecar.senders import METHODS, Body
from tests.sidecar.swept import (
    TIGHT,
    events,
    exports,
    kept_records,
    prepared,
    records,
    running,
)
from tests.support.command import run
from tests.support.deadline import WAIT_SECONDS
from tests.support.delivery import delivered
from tests.support.processes import peak
from tests.support.sidecar import Sidecar

pytestmark = pytest.mark.nightly

_MUTATIONS = int(os.environ.get("COLLECTOR_MUTATIONS", "1000"))
_LIVES = 4
_SENDERS = 4
_MOST_MB = 256
_FOR_EVER = {**TIGHT, "retention: 1d": "retention: 99y"}
"""Otherwise a record with a mutated minute would expire on arrival."""
_PATHS = ("/v1/events", "/v1/records", "/v1/logs", "/v1/traces", "/v1/metrics", "/v1/eventz", "/")
_KINDS = ("application/json", "application/x-ndjson", "application/x-protobuf", "text/plain", "")
_PIECES = (
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"\n",
    b"\\",
    b"\0",
    b"\xff",
    b"1e999",
    b"null",
)
_ANSWERS = {200, 400, 404, 405, 408, 409, 411, 413, 415, 422, 429, 431, 503}


@dataclass
class Sent:
    """What was sent, and the answers; ``received`` counts the events in answers."""

    statuses: Counter[int] = field(default_factory=Counter)
    received: int = 0
    lock: Lock = field(default_factory=Lock)
    is_killed: Event = field(default_factory=Event)

    def add(self, path: str, status: int, answer: bytes) -> None:
        with self.lock:
            self.statuses[status] += 1
            if status == 200 and path in ("/v1/events", "/v1/records"):
                told = orjson.loads(answer)
                assert told["received"] == told["admitted"] + sum(told["rejected"].values())
                self.received += told["received"]


def _mutated(content: bytes, other: bytes, random: Random) -> bytes:
    """Return the content with a few pieces flipped, removed, doubled, moved, or taken from another
    content."""
    made = bytearray(content)
    for _ in range(random.choice((0, 0, 1, 1, 2, 4))):
        start = random.randrange(len(made) + 1)
        end = min(len(made), start + random.choice((1, 1, 4, 30)))
        piece = bytes(made[start:end])
        match random.randrange(6):
            case 0:
                made[start:end] = random.randbytes(end - start)
            case 1:
                del made[start:end]
            case 2:
                made[start:start] = piece * random.choice((1, 2, 50))
            case 3:
                made[start:start] = random.choice(_PIECES)
            case 4:
                at = random.randrange(len(other) + 1)
                made[start:end] = other[at : at + random.choice((1, 8, 60))]
            case _:
                del made[start:end]
                at = random.randrange(len(made) + 1)
                made[at:at] = piece
    return bytes(made)


def _request(bodies: Sequence[Body], random: Random) -> Body:
    """Return one of the bodies, mutated, and sometimes for another path, or compressed."""
    body, other = random.choice(bodies), random.choice(bodies)
    content = _mutated(body.content, other.content, random)
    body = body._replace(content=content)
    if random.random() < 0.05:
        body = body._replace(path=random.choice(_PATHS))
    if random.random() < 0.05:
        body = body._replace(kind=random.choice(_KINDS))
    if random.random() < 0.1:
        packed, encoding = random.choice(
            ((gzip.compress, "gzip"), (zlib.compress, "deflate"), (bytes, "gzip"), (bytes, "zstd"))
        )
        content = packed(content)
        if random.random() < 0.2:
            content = _mutated(content, b"", random)
        body = body._replace(content=content, encoding=encoding)
    return body


def _post(sidecar: Sidecar, bodies: Sequence[Body], number: int, seed: str, sent: Sent) -> None:
    """Send this many requests, or until the sidecar is killed."""
    random = Random(seed)
    connection = HTTPConnection("127.0.0.1", sidecar.ports["http"], timeout=WAIT_SECONDS)
    for _ in range(number):
        body = _request(bodies, random)
        try:
            connection.request("POST", body.path, body.content, body.headers())
            answer = connection.getresponse()
            sent.add(body.path, answer.status, answer.read())
        except (OSError, HTTPException):
            connection.close()
            if sent.is_killed.is_set():
                break
    connection.close()


def _call(sidecar: Sidecar, bodies: Sequence[Body], number: int, seed: str, sent: Sent) -> None:
    """Make this many calls over gRPC, or until the sidecar is killed."""
    random, place = Random(seed), f"127.0.0.1:{sidecar.ports['grpc']}"
    with grpc.insecure_channel(place, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        for _ in range(number):
            body = random.choice(bodies)
            content = _mutated(body.content, random.choice(bodies).content, random)
            with suppress(grpc.RpcError):
                channel.unary_unary(random.choice(list(METHODS.values())))(
                    content, timeout=WAIT_SECONDS
                )
            if sent.is_killed.is_set():
                break


def _peak(sidecar: Sidecar) -> float:
    """The highest peak memory of its processes, in MB."""
    return peak(sidecar.process.pid)


def _attack(sidecar: Sidecar, marks: Marks, number: int, seed: str, sent: Sent) -> list[Thread]:
    otlp = exports(marks)
    single = [body for body in (*events(marks), *records(marks)) if len(body.content) < 3000]
    bodies = [*single, *otlp.bodies(), *otlp.json, *otlp.odd]
    share = number // (_SENDERS + 1)
    senders = [
        Thread(target=_post, args=(sidecar, bodies, share, f"{seed} {each}", sent), daemon=True)
        for each in range(_SENDERS)
    ]
    calls = [body for body in bodies if body.kind == "application/x-protobuf"]
    senders.append(
        Thread(target=_call, args=(sidecar, calls, share, f"{seed} calls", sent), daemon=True)
    )
    for sender in senders:
        sender.start()
    return senders


def test_whatever_is_sent_is_counted_once_and_bounded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random, marks, sent, peak = Random(), Marks(), Sent(), 0.0
    environ = prepared(tmp_path, schema=_FOR_EVER)
    for life in range(_LIVES):
        sent.is_killed.clear()
        with running(tmp_path, environ) as sidecar:
            senders = _attack(sidecar, marks, _MUTATIONS // _LIVES, f"{random.random()}", sent)
            if life < _LIVES - 1:
                enough = sent.statuses.total() + _MUTATIONS / _LIVES * random.uniform(0.4, 0.8)
                while sent.statuses.total() < enough and any(map(Thread.is_alive, senders)):
                    sleep(0.01)
                peak = max(peak, _peak(sidecar))
                sent.is_killed.set()
                sidecar.process.kill()
            for sender in senders:
                sender.join(WAIT_SECONDS * _MUTATIONS)
            if life == _LIVES - 1:
                delivered(sidecar)
                peak = max(peak, _peak(sidecar))
                assert sidecar.stop()[0] == 0
            (tmp_path / "seen" / f"log{life}").write_text("\n".join(sidecar.log))
    with opened(tmp_path / "data" / "spool.db") as ledger:
        tally = ledger.tally()
    assert tally.received == tally.admitted + tally.rejected.total()
    assert sent.received <= tally.received
    assert kept_records(tmp_path) == {"store": tally.admitted, "file": tally.admitted}
    assert run("ledger", "verify", "--data", tmp_path / "data").code == 0
    with capsys.disabled():
        print(
            f"\n{sent.statuses.total():,} answers {dict(sent.statuses)}, {tally.received:,} events,"
            f" {tally.admitted:,} admitted, {peak:.0f} MB at most"
        )
    assert set(sent.statuses) <= _ANSWERS
    assert sent.statuses[200] > sent.statuses.total() / 10
    assert peak < _MOST_MB
    assert marks.found(tmp_path) == []
