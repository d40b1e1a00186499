"""``POST /v1/records`` of a real sidecar: each body is there once, whatever happens to its answers.

``COLLECTOR_KILLS`` says how many lives end by ``kill -9`` (an eighth of it, 1 by default).
"""

from __future__ import annotations

import gzip
import json
import os
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from http.client import HTTPException
from itertools import count
from pathlib import Path
from secrets import token_hex
from time import sleep

import pytest

from tests.sidecar.account import kept
from tests.support.database import query
from tests.support.deadline import WAIT_SECONDS, stays, wait_until
from tests.support.failing_disk import metric
from tests.support.programs import threads
from tests.support.rows import for_each
from tests.support.sidecar import Answer, Sidecar, UnixConnection, started

pytestmark = pytest.mark.long

_LIVES = max(1, int(os.environ.get("COLLECTOR_KILLS", "8")) // 8)
_NDJSON = "application/x-ndjson"
_numbers = count(1)


def _minute(ago: int = 0) -> str:
    return (datetime.now(UTC) - timedelta(minutes=ago)).strftime("%Y-%m-%dT%H:%M:00Z")


@dataclass
class Sent:
    """A body: records with an address each of its own, that stand for three events each."""

    size: int = 3
    key: str = field(default_factory=lambda: token_hex(16))
    received: str = field(default_factory=lambda: _minute(7))
    answer: int = 0

    def __post_init__(self) -> None:
        numbers = (next(_numbers) for _ in range(self.size))
        self.addresses = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in numbers]

    @property
    def body(self) -> bytes:
        """NDJSON."""
        end = {"count": 3, "received": self.received}
        records = [
            {"schema": "conferencing/1.0.0", "client.address": a} | end for a in self.addresses
        ]
        return b"".join(json.dumps(record).encode() + b"\n" for record in records)

    @property
    def headers(self) -> dict[str, str]:
        """What goes with it."""
        return {"Content-Type": _NDJSON, "Idempotency-Key": self.key}

    @property
    def head(self) -> bytes:
        """The same, and what comes before, on a bare connection."""
        lines = [f"{name}: {value}\r\n" for name, value in self.headers.items()]
        lines.append(f"Host: localhost\r\nContent-Length: {len(self.body)}\r\n\r\n")
        return f"POST /v1/records HTTP/1.1\r\n{''.join(lines)}".encode()

    def to(self, sidecar: Sidecar) -> Answer:
        """Send it."""
        answer = sidecar.request("POST", "/v1/records", self.body, self.headers)
        self.answer = answer.status
        if answer.status == 200:
            number, found = 3 * self.size, answer.json
            found.pop("repeated", None)
            assert found == {"received": number, "admitted": number, "rejected": {}}
        return answer


def _stored(directory: Path) -> dict[str, tuple[int, str]]:
    """How often each address is in the store, and in which minute."""
    text = 'SELECT "client.address", sum(count), max(received) FROM conferencing GROUP BY 1'
    return {
        row[0]: (row[1], row[2]) for row in query(directory / "collector-data" / "store.db", text)
    }


def _admitted(sidecar: Sidecar) -> float:
    return metric(sidecar, 'collector_events_total{outcome="admitted"')


def _are_there_once(sidecar: Sidecar, *bodies: Sent) -> None:
    """Each record comes to be in the store, once, with its count and its minute."""
    expected = {address: (3, sent.received) for sent in bodies for address in sent.addresses}
    wait_until(lambda: expected.keys() <= _stored(sidecar.directory).keys())
    there = _stored(sidecar.directory)
    assert {address: there[address] for address in expected} == expected


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    folder = tmp_path_factory.mktemp("records")
    with started(folder, environ={"COLLECTOR__HTTP__UNIX": str(folder / "socket")}) as running:
        yield running
        assert running.stop()[0] == 0
    found = kept(folder / "collector-data")
    assert not found.ledger.flaws
    assert found.ledger.admitted == found.stored.total()
    assert set(found.stored.values()) == {3}


def test_a_body_that_comes_again(sidecar: Sidecar) -> None:
    """Counts as the first time, and adds nothing: no row, no receipt, no metric."""
    sent = Sent()
    sent.to(sidecar)
    _are_there_once(sidecar, sent)
    before, ledger = _admitted(sidecar), kept(sidecar.directory / "collector-data").ledger
    for _ in range(3):
        sent.to(sidecar)
    _are_there_once(sidecar, sent)
    assert _admitted(sidecar) == before
    assert kept(sidecar.directory / "collector-data").ledger.tips == ledger.tips


def test_copies_at_the_same_time(sidecar: Sidecar) -> None:
    """Of twelve, over several connections, one is kept; beside them others are, too."""
    before = _admitted(sidecar)
    copied, others = Sent(20), [Sent(1) for _ in range(12)]
    mixed = [each for pair in zip([copied] * 12, others, strict=True) for each in pair]
    with ThreadPoolExecutor(12) as pool:
        assert {answer.status for answer in pool.map(lambda sent: sent.to(sidecar), mixed)} == {200}
    _are_there_once(sidecar, copied, *others)
    assert _admitted(sidecar) - before == 3 * (20 + 12)


def test_an_answer_that_is_lost(sidecar: Sidecar) -> None:
    """Whoever hangs up before the answer sends again, and is answered then."""
    bodies = [Sent() for _ in range(8)]
    for sent in bodies:
        with socket.create_connection(("127.0.0.1", sidecar.ports["http"]), WAIT_SECONDS) as line:
            line.sendall(sent.head + sent.body)
    for sent in bodies:
        sent.to(sidecar)
    _are_there_once(sidecar, *bodies)


@for_each("share", [0.0, 0.5, 0.99])
def test_a_body_that_breaks_off(sidecar: Sidecar, share: float) -> None:
    """Nothing of it is kept, and its key neither: it is new when all of it comes."""
    sent, before = Sent(40), _admitted(sidecar)
    with socket.create_connection(("127.0.0.1", sidecar.ports["http"]), WAIT_SECONDS) as line:
        line.sendall(sent.head + sent.body[: int(len(sent.body) * share)])
    stays(lambda: _admitted(sidecar) == before, 0.05)
    sent.to(sidecar)
    _are_there_once(sidecar, sent)
    assert _admitted(sidecar) == before + 120


def test_packed_and_over_the_socket_file(sidecar: Sidecar) -> None:
    """A key is of the body, however it comes."""
    sent = Sent(100)
    packed = gzip.compress(sent.body)
    headers = sent.headers | {"Content-Encoding": "gzip"}
    for _ in range(2):
        with closing(UnixConnection(sidecar.directory / "socket")) as connection:
            connection.request("POST", "/v1/records", packed, headers)
            assert json.loads(connection.getresponse().read())["admitted"] == 300
    sent.to(sidecar)
    _are_there_once(sidecar, sent)


def test_another_version_is_stored_as_this_one(sidecar: Sidecar) -> None:
    """What an SDK of another version has sent is there once, as of the sidecar's version. Written
    by the newer version it is another body."""
    sent = Sent()
    other = sent.body.replace(b"1.0.0", b"0.9.0")
    answer = sidecar.request("POST", "/v1/records", other, sent.headers)
    assert (answer.status, answer.json["rejected"]) == (200, {})
    assert sent.to(sidecar).status == 409
    _are_there_once(sidecar, sent)


def test_another_schema_leaves_nothing(sidecar: Sidecar) -> None:
    """409 with E429 for all of it, and the key is as good as new."""
    sent, before = Sent(), _admitted(sidecar)
    other = sent.body + sent.body.replace(b"conferencing", b"web", 1)
    answer = sidecar.request("POST", "/v1/records", other, sent.headers)
    assert (answer.status, answer.json["error"]["code"]) == (409, "E429")
    assert _admitted(sidecar) == before
    sent.to(sidecar)
    _are_there_once(sidecar, sent)


def _until_nobody_is_there(sidecar: Sidecar, sent: list[Sent]) -> None:
    with suppress(OSError, HTTPException):
        while True:
            sent.append(Sent())
            sent[-1].to(sidecar)


@pytest.mark.parametrize("life", range(_LIVES))
def test_nothing_is_doubled_by_a_kill(life: int, tmp_path: Path) -> None:
    """Bodies are under way when it is killed. All of them are sent again, those that were answered
    too, and then each is there once, in the store and in the ledger."""
    lanes: list[list[Sent]] = [[] for _ in range(6)]
    with (
        started(tmp_path) as sidecar,
        threads(*(partial(_until_nobody_is_there, sidecar, lane) for lane in lanes)),
    ):
        wait_until(lambda: sum(map(len, lanes)) >= 5 * len(lanes))
        sleep(0.01 * (life % 10))
        sidecar.process.kill()
    bodies = [sent for lane in lanes for sent in lane]
    answered = Counter(sent.answer for sent in bodies)
    assert answered.keys() <= {0, 200}
    assert answered[200] > 0
    with started(tmp_path) as sidecar:
        with ThreadPoolExecutor(4) as pool:
            assert {
                answer.status for answer in pool.map(lambda sent: sent.to(sidecar), bodies)
            } == {200}
        _are_there_once(sidecar, *bodies)
        assert sidecar.stop()[0] == 0
    found = kept(tmp_path / "collector-data")
    assert not found.ledger.flaws
    assert set(found.stored.values()) == {3}
    assert found.ledger.received == 9 * len(bodies) == found.stored.total()
    print(f"{answered[200]} answered, {answered[0]} under way")
