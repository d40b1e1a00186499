"""What a drain takes out of a stream, and what it tells the broker, against a server."""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from collector import load_schema
from collector.brokers.message import outgoing
from collector.brokers.source import Fetched
from collector.config.broker_settings import DrainSection
from collector.contracts import Batch, Layout, Subject, layout_of
from collector.errors import ConfigError, Unreachable
from collector.filter.redaction import minute_window
from collector.schema.kinds.base import utc_now
from collector.server import consumer
from collector.server.consumer import check_drain, source_of
from collector.subject.tombstones import Tombstones, remember
from collector.testing.sinks import batch_of, person
from tests.server.draining import (
    KEY,
    SCHEMA,
    Recorded,
    Running,
    drained,
    minute_text,
    numbered,
)
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.nats_server import NatsServer, require_nats, server
from tests.support.raising import raises


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server for the tests of this module."""
    require_nats()
    with server(tmp_path_factory.mktemp("nats")) as made:
        yield made


@dataclass
class Stream:
    """A stream of a server, for one test."""

    nats: NatsServer
    name: str = field(default_factory=lambda: f"s{secrets.token_hex(8)}")
    retention: str = "workqueue"

    def __post_init__(self) -> None:
        self.nats.stream(self.name, duplicate_window=1, retention=self.retention)

    def settings(self, **more: Any) -> DrainSection:
        """Return the settings of a drain."""
        return DrainSection(url=self.nats.url, stream=self.name, **more)

    def put(self, *data: bytes) -> None:
        """Publish any bytes as messages."""

        async def publish(stream: Any) -> None:
            for each in data:
                await stream.publish(f"{self.name}.records", each)

        self.nats.ask(publish)

    def send(self, *batches: Batch, key: bytes | None = KEY, most: int = 1 << 20) -> None:
        """Publish batches."""
        self.put(*(one.data for batch in batches for one in outgoing(batch, None, most, key)))

    def left(self) -> int:
        """Count the messages that nobody has settled yet."""
        return len(self.nats.messages(self.name))

    def drained(
        self, data: Path, sink: Recorded | None = None, *, stops: bool = True
    ) -> AbstractContextManager[Running]:
        """Run a drain in a directory; unless it ``stops`` it is cut off at the end."""
        return drained(source_of(self.settings()), data, sink, stops=stops)


@pytest.fixture
def stream(nats: NatsServer) -> Stream:
    """A stream."""
    return Stream(nats)


def test_what_is_sent_arrives(stream: Stream, tmp_path: Path) -> None:
    """Each record once, in parts too, under the batch's minute; then the stream is empty, and the
    ledger has a receipt of each message."""
    earlier = numbered(2, [3], minutes=200)
    stream.send(numbered(1, [1, 2]), earlier)
    stream.send(numbered(3, [4] * 1000), most=20_000)
    with stream.drained(tmp_path) as running:
        wait_until(lambda: stream.left() == 0)
        assert running.sink.people() == {person(1): 1, person(2): 1, person(3): 1, person(4): 1000}
        assert running.sink.batches[earlier.id].received == earlier.received
        number = running.spool.last
        assert running.consumer.counts()["taken"] == number > 3
        tallies = running.consumer.tallies()
        assert sum(tally.admitted for _, tally in tallies) == 1003
        assert running.consumer.tallies() == []
        wait_until(lambda: running.consumer.is_ready)


def test_a_message_stays_until_every_sink_has_it(stream: Stream, tmp_path: Path) -> None:
    sink = Recorded()
    sink.fails = True
    stream.send(numbered(1, [1]))
    with stream.drained(tmp_path, sink) as running:
        wait_until(lambda: running.spool.state().batches == 1)
        time.sleep(0.5)
        assert stream.left() == 1
        sink.fails = False
        wait_until(lambda: stream.left() == 0)
    assert sink.people() == {person(1): 1}


def test_a_message_that_comes_again_is_stored_once(stream: Stream, tmp_path: Path) -> None:
    sink = Recorded()
    for times in (1, 2):
        stream.send(numbered(1, [1]), numbered(1, [1]))
        with stream.drained(tmp_path, sink) as running:
            wait_until(lambda: stream.left() == 0)
            assert running.consumer.counts()["repeated"] == times
    assert sink.people() == {person(1): 1}
    assert running.spool.last >= 1


def test_what_is_none_of_ours_is_counted_and_never_kept(stream: Stream, tmp_path: Path) -> None:
    """Between honest messages; none blocks the stream, and nothing of it is on disk."""
    canary = b"canary-7f3a"
    (honest,) = outgoing(numbered(1, [1]), None, 1 << 20, KEY)
    (another,) = outgoing(numbered(2, [2]), None, 1 << 20, b"o" * 32)
    (plain,) = outgoing(numbered(3, [3]), None, 1 << 20, None)
    lines = numbered(4, [4]).payload.replace(b"linux", canary)
    schema = SCHEMA.layout
    invalid = Batch(b"5" * 16, numbered(5, [5]).received, layout=schema, payload=lines)
    (wrong,) = outgoing(invalid, None, 1 << 20, KEY)
    older = Batch(
        b"6" * 16,
        invalid.received,
        layout=type(schema)("conferencing/0.9.0", "0" * 64, schema.table, schema.columns),
        payload=lines,
    )
    (unknown,) = outgoing(older, None, 1 << 20, KEY)
    stream.put(canary, honest.data[:40], another.data, plain.data, wrong.data, unknown.data)
    stream.put(b"", b"CLTM\x09\x00" + canary, canary * 60_000, honest.data + b"x")
    stream.send(numbered(7, [7]))
    with stream.drained(tmp_path) as running:
        wait_until(lambda: stream.left() == 0)
        counts = {name: number for name, number in running.consumer.counts().items() if number}
        assert running.sink.people() == {person(7): 1}
        assert counts == {
            "taken": 1,
            "foreign": 2,
            "version": 1,
            "unauthenticated": 4,
            "too_large": 1,
            "schema": 1,
            "records": 1,
        }
        for path in tmp_path.rglob("*"):
            assert not path.is_file() or canary not in path.read_bytes()


def test_an_earlier_version_that_is_accepted(stream: Stream, tmp_path: Path) -> None:
    """Its records are checked under it, and keep its layout; those of others are refused as
    before."""
    text = (Path(__file__).parents[2] / "schemas" / "conferencing.yaml").read_text()
    versions = []
    for number in ("0.8.0", "0.9.0"):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text.replace(f"version: {SCHEMA.version}", f"version: {number}"))
        versions.append(load_schema(path))
    earlier, unknown = versions
    stream.send(batch_of(1, [1], earlier), numbered(2, [2]), batch_of(3, [3], unknown))
    source, schemas = source_of(stream.settings()), (SCHEMA, earlier)
    with drained(source, tmp_path / "data", schemas=schemas) as running:
        wait_until(lambda: stream.left() == 0)
        counts = {name: number for name, number in running.consumer.counts().items() if number}
        assert counts == {"taken": 2, "schema": 1}
    assert running.sink.people() == {person(1): 1, person(2): 1}
    layouts = [layout_of(each).schema for each in running.sink.batches.values()]
    assert sorted(layouts) == ["conferencing/0.8.0", SCHEMA.id]


def test_a_person_who_is_erased_does_not_come_back(stream: Stream, tmp_path: Path) -> None:
    Tombstones(tmp_path).close()
    start, end = minute_window("2020-01-01", minute_text(-10))
    subject = Subject("client.address", person(1), start, end)
    objector = Subject("client.address", person(2), start, end)
    stream.send(numbered(1, [1, 2, 3], 60), numbered(2, [1], 60), numbered(3, [1], 0))
    remember(tmp_path, [(subject, None), (objector, ["os.type"])])
    with stream.drained(tmp_path) as running:
        wait_until(lambda: stream.left() == 0)
        found = [record for each in running.sink.batches.values() for record in each.records]
        assert running.consumer.counts()["erased"] == 1
    assert Counter(record["client.address"] for record in found) == {
        person(1): 1,
        person(2): 1,
        person(3): 1,
    }
    (two,) = (record for record in found if record["client.address"] == person(2))
    assert "os.type" not in two
    assert person(1).encode() not in (tmp_path / "tombstones.db").read_bytes()


def test_what_is_older_than_its_retention_is_not_stored(stream: Stream, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "schemas" / "conferencing.yaml").read_text()
    versions = []
    for version, days in (("1.1.0", (1, 2)), ("1.0.0", (30, 90))):
        changed = text.replace("version: 1.0.0", f"version: {version}")
        for old, new in zip((30, 90), days, strict=True):
            changed = changed.replace(f"retention: {old}d", f"retention: {new}d")
        path = tmp_path / f"{version}.yaml"
        path.write_text(changed)
        versions.append(load_schema(path))
    in_force, earlier = versions
    start, end = minute_window("2020-01-01", minute_text(-10))
    data = tmp_path / "data"
    data.mkdir()
    Tombstones(data).close()
    remember(data, [(Subject("client.address", person(2), start, end), None)])
    hours = {1: 36, 2: 60, 3: 0}
    for number, age in hours.items():
        stream.send(batch_of(number, [1, 2], in_force, age=timedelta(hours=age)))
    stream.send(batch_of(4, [1, 2], earlier, age=timedelta(hours=36)))
    with drained(source_of(stream.settings()), data, schemas=versions) as running:
        wait_until(lambda: stream.left() == 0)
        counts = {name: number for name, number in running.consumer.counts().items() if number}
        assert counts == {"taken": 3, "expired": 1}
        found = {int.from_bytes(id_): each.records for id_, each in running.sink.batches.items()}
    short = {"os.type": "linux"}
    assert {number: [*records] for number, records in found.items()} == {
        1: [{"schema": in_force.id, **short}],
        3: [
            {"schema": in_force.id, "client.address": person(1), **short},
            {"schema": in_force.id, "client.address": person(2), **short},
        ],
        4: [{"schema": earlier.id, **short}],
    }


@pytest.mark.long
@pytest.mark.parametrize("restarts", [False, True])
def test_a_batch_that_is_damaged_comes_again(
    stream: Stream, tmp_path: Path, *, restarts: bool
) -> None:
    """The broker has it as long as sinks have not; it is not taken for one that was stored."""
    sink = Recorded()
    sink.fails = True
    number = 1 if restarts else 80
    for at in range(1, number + 1):
        stream.send(numbered(at, [at] * 1000))
    if restarts:
        with stream.drained(tmp_path, sink) as earlier:
            wait_until(lambda: earlier.spool.state().batches == number)
            earlier.consumer.stop(0)

    def damage_first() -> None:
        with closing(sqlite3.connect(tmp_path / "spool.db", timeout=WAIT_SECONDS)) as db:
            first = "sequence = (SELECT min(sequence) FROM batches)"
            changed = "CAST(replace(payload, 'linux', 'lunix') AS BLOB)"
            db.execute(f"UPDATE batches SET payload = {changed} WHERE {first}")
            db.commit()
        sink.fails = False

    with stream.drained(tmp_path, sink) as running:
        wait_until(lambda: running.spool.state().batches == number)
        running.between_deliveries(damage_first)
        if restarts:
            wait_until(lambda: running.spool.state().damaged > 0)
            stream.send(numbered(1, [1] * 1000))  # as a server does, after a minute
        wait_until(lambda: len(sink.batches) == number)
        assert running.spool.state().damaged
    assert sink.people() == {person(at): 1000 for at in range(1, number + 1)}


def test_a_clock_that_is_behind(
    stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is refused as of the future that is none by the broker's clock; what is one by both
    is refused."""
    behind, looked_at = timedelta(hours=1), list[float]()

    def by_this_machine() -> float:
        looked_at.append(time.time() - behind.total_seconds())
        return looked_at[-1]

    monkeypatch.setattr(consumer, "time", by_this_machine)
    monkeypatch.setattr("collector.filter.recheck.utc_now", lambda: utc_now() - behind)
    stream.send(numbered(1, [1]))
    with stream.drained(tmp_path) as running:
        wait_until(lambda: len(looked_at) > 1)  # it comes again
        wait_until(lambda: not running.consumer.is_ready)
        assert not any(running.consumer.counts().values())
        assert stream.left() == 1
    monkeypatch.undo()
    stream.send(numbered(2, [2], minutes=-60))
    with stream.drained(tmp_path) as running:
        wait_until(lambda: stream.left() == 0)
        counts = {name: number for name, number in running.consumer.counts().items() if number}
        assert counts == {"taken": 1, "records": 1}
    assert running.sink.people() == {person(1): 1}


def test_a_broker_that_goes_away(tmp_path: Path) -> None:
    """Its messages come when it is back."""
    require_nats()
    with server(tmp_path / "nats") as nats:
        stream = Stream(nats)
        with stream.drained(tmp_path / "data") as running:
            stream.send(numbered(1, [1]))
            wait_until(lambda: running.sink.people() == {person(1): 1})
            nats.kill()
            wait_until(lambda: not running.consumer.is_ready)
            nats.start()
            stream.send(numbered(2, [2]))
            wait_until(lambda: len(running.sink.people()) == 2)
            wait_until(lambda: running.consumer.is_ready)


@pytest.mark.parametrize(
    ("change", "is_refused"),
    [
        ({}, False),
        ({"ack_wait": 30.0}, False),
        ({"ack_policy": "all"}, True),
        ({"ack_policy": "none"}, True),
        ({"ack_wait": 5.0}, True),
        ({"max_deliver": 3}, True),
        ({"headers_only": True}, True),
        ({"deliver_policy": "new"}, True),
    ],
)
def test_a_consumer_that_loses_messages(
    nats: NatsServer, tmp_path: Path, change: dict[str, Any], is_refused: bool
) -> None:
    """Somebody else may have made it: nothing is taken by it, and the check says so."""
    stream = Stream(nats, retention="limits")
    section = stream.settings()

    async def make(context: Any) -> None:
        made = {"durable_name": section.consumer, "ack_policy": "explicit", "ack_wait": 60.0}
        await context.add_consumer(stream.name, **(made | change))

    nats.ask(make)
    stream.send(numbered(1, [1]))
    source = source_of(section)
    if is_refused:
        for call in (lambda: source.fetch(2, 1.0), lambda: check_drain(section)):
            with raises("E514", Unreachable) as caught:
                call()
            assert "loses messages" in caught.value.message
    else:
        check_drain(section)
        assert len(wait_until(lambda: source.fetch(2, 1.0))) == 1
    source.close()


def test_drains_with_dead_sinks_leave_messages_to_others(stream: Stream) -> None:
    """Each has as many at hand as it may."""
    stream.put(*(b"%d" % number for number in range(6 * 256)))
    sources = [source_of(stream.settings()) for _ in range(6)]
    for source in sources:
        taken = 0
        deadline = time.monotonic() + WAIT_SECONDS
        while taken < 255 and time.monotonic() < deadline:
            taken += len(source.fetch(min(32, 256 - taken), 2.0))
        assert taken >= 255
    for source in sources:
        source.close()


def test_an_error_that_no_one_expects(stream: Stream, tmp_path: Path) -> None:
    """The drain pauses and goes on; what it had taken comes again."""
    source, failed = source_of(stream.settings()), 0
    fetch = source.fetch

    def fetch_some(most: int, seconds: float) -> list[Fetched]:
        nonlocal failed
        if failed == 0:
            failed += 1
            raise RuntimeError
        return fetch(most, seconds)

    source.fetch = fetch_some  # type: ignore[method-assign]
    stream.send(numbered(1, [1]))
    with drained(source, tmp_path) as running:
        wait_until(lambda: stream.left() == 0)
        assert failed == 1
        wait_until(lambda: running.consumer.is_ready)
    assert running.sink.people() == {person(1): 1}


@pytest.mark.long
def test_ten_thousand_messages_of_others(stream: Stream, tmp_path: Path) -> None:
    """Poison, wrong MACs, foreign schemas and parts that are cut off, between honest ones: all are
    counted, in bounded memory, and nothing of them is on disk."""
    canary, random = b"canary-91c2", Random(1)
    schema = SCHEMA.layout
    strange = type(schema)("another/1.0.0", "1" * 64, "another", schema.columns)
    payload = numbered(1, [1]).payload.replace(b"linux", canary)
    received = numbered(1, [1]).received

    def made(layout: Layout, key: bytes, number: int) -> bytes:
        batch = Batch(number.to_bytes(16), received, layout=layout, payload=payload)
        (one,) = outgoing(batch, None, 1 << 20, key)
        return one.data

    kinds: list[tuple[str, Callable[[int], bytes]]] = [
        ("foreign", lambda number: canary * random.randint(1, 2000)),
        ("unauthenticated", lambda number: made(schema, b"o" * 32, number)),
        ("unauthenticated", lambda number: made(schema, KEY, number)[:-7]),
        ("schema", lambda number: made(strange, KEY, number)),
        ("records", lambda number: made(schema, KEY, number)),
    ]
    expected: Counter[str] = Counter()
    for at in range(100):
        messages = []
        for number in range(100):
            name, make = random.choice(kinds)
            expected[name] += 1
            messages.append(make(1_000_000 + 100 * at + number))
        stream.put(*messages)
        stream.send(numbered(at + 1, [1 + at % 200]))
    tracemalloc.start()
    try:
        with stream.drained(tmp_path) as running:
            wait_until(lambda: stream.left() == 0, seconds=300)
            counts = {name: number for name, number in running.consumer.counts().items() if number}
            assert counts == {"taken": 100, **expected}
            assert sum(running.sink.people().values()) == 100
            for path in tmp_path.rglob("*"):
                assert not path.is_file() or canary not in path.read_bytes()
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


class _Together(Recorded):
    """Takes its first batch while another sink takes one."""

    def __init__(self, both: threading.Barrier) -> None:
        super().__init__()
        self._both = both

    def deliver(self, *batches: Batch) -> None:
        if not self.batches:
            self._both.wait(WAIT_SECONDS)
        super().deliver(*batches)


def test_two_drains_deliver_at_once(stream: Stream, tmp_path: Path) -> None:
    """Each keeps its sink busy meanwhile, and together they take all."""
    both = threading.Barrier(2)
    for at in range(6):
        stream.send(*(numbered(100 * at + each, [1]) for each in range(1, 101)))
    with ExitStack() as stack:
        sinks = [_Together(both) for _ in range(2)]
        for at, sink in enumerate(sinks):
            stack.enter_context(stream.drained(tmp_path / str(at), sink))
        wait_until(lambda: _got(sinks) == 600)
    assert all(each.batches for each in sinks)


def _got(sinks: Sequence[Recorded]) -> int:
    return sum(len(each.batches) for each in sinks)


def test_how_long_the_broker_keeps_messages(nats: NatsServer) -> None:
    """No longer than a drain knows them again."""
    for name, max_age, is_faulty in (("short", 3600, False), ("long", 40 * 86400, True)):
        nats.stream(name, max_age=max_age)
        section = DrainSection(url=nats.url, stream=name)
        if is_faulty:
            with raises("E219", ConfigError):
                check_drain(section)
        else:
            check_drain(section)
    with raises("E514", Unreachable):
        check_drain(DrainSection(url=nats.url, stream="none"))
    with raises("E202", ConfigError):
        check_drain(DrainSection(url=nats.url, stream="short", mac="env:BROKER_NO_SUCH"))
