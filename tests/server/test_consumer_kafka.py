"""What a drain takes out of a topic of Kafka, and what its group has read, against a broker."""

from __future__ import annotations

import secrets
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from collector.brokers.kafka_group import KafkaGroup
from collector.brokers.message import outgoing
from collector.brokers.source import Fetched
from collector.config.broker_settings import DrainSection
from collector.contracts import Batch, Subject
from collector.errors import ConfigError, DeliveryError, Unreachable
from collector.filter.redaction import minute_window
from collector.server.consumer import check_drain, source_of
from collector.subject.tombstones import Tombstones, remember
from collector.testing.sinks import person
from tests.brokers.kafka_server import (
    KafkaServer,
    make_topic,
    mock_cluster,
    put,
    require_kafka,
    server,
)
from tests.deadline import wait_until
from tests.raising import raises
from tests.server.draining import KEY, Recorded, Running, Slow, drained, minute_text, numbered

_SECONDS = 90.0


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaServer]:
    """A broker for the tests of this module."""
    require_kafka()
    with server() as made:
        yield made


@dataclass
class Topic:
    """A topic of a broker, for one test."""

    kafka: KafkaServer
    partitions: int = 1
    name: str = field(default_factory=lambda: f"t{secrets.token_hex(8)}")
    sent: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kafka.topic(self.name, self.partitions, retention_ms=86_400_000)
        self.sent = [0] * self.partitions

    def put(self, *data: bytes | None, partition: int = 0) -> None:
        """Publish any bytes as messages."""
        self.kafka.put(self.name, *data, partition=partition)
        self.sent[partition] += len(data)

    def send(self, *batches: Batch, key: bytes | None = KEY, partition: int = 0) -> None:
        """Publish batches."""
        made = (one.data for batch in batches for one in outgoing(batch, None, 1 << 20, key))
        self.put(*made, partition=partition)

    def is_read(self) -> bool:
        """Tell whether the group has committed all that was sent."""
        found = self.kafka.committed(self.name, "collector", self.partitions)
        return all(max(0, one) == sent for one, sent in zip(found, self.sent, strict=True))

    def drained(
        self, data: Path, sink: Recorded | None = None, *, stops: bool = True
    ) -> AbstractContextManager[Running]:
        """Run a drain in a directory; unless it ``stops`` it is cut off at the end."""
        section = DrainSection(url=self.kafka.url, topic=self.name)
        return drained(source_of(section), data, sink, stops=stops)


@dataclass
class _Without:
    """A client of the library that cannot go back."""

    client: Any
    seek: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


@pytest.fixture
def topic(kafka: KafkaServer) -> Topic:
    """A topic of one partition."""
    return Topic(kafka)


def _until_read(topic: Topic) -> None:
    wait_until(topic.is_read, seconds=_SECONDS)


@pytest.mark.servers
def test_what_is_sent_arrives(kafka: KafkaServer, tmp_path: Path) -> None:
    """Each record once, out of all partitions; then the group has read them all."""
    topic = Topic(kafka, 3)
    for number in range(1, 31):
        topic.send(numbered(number, [number]), partition=number % 3)
    with topic.drained(tmp_path) as running:
        _until_read(topic)
        assert running.sink.people() == {person(number): 1 for number in range(1, 31)}
        assert running.consumer.counts()["taken"] == running.spool.last == 30
        wait_until(lambda: running.consumer.is_ready)


@pytest.mark.servers
def test_a_message_is_not_committed_until_every_sink_has_it(topic: Topic, tmp_path: Path) -> None:
    """Nor what lies behind it, though that is over. What a drain did not commit comes again, and
    is known by its id."""
    sink = Recorded()
    sink.fails = True
    topic.send(numbered(1, [1]))
    topic.put(b"foreign", None)
    with topic.drained(tmp_path, sink, stops=False) as running:
        wait_until(lambda: running.consumer.counts()["foreign"] == 2, seconds=_SECONDS)
        wait_until(lambda: running.spool.state().batches == 1, seconds=_SECONDS)
        time.sleep(0.5)
        assert topic.kafka.committed(topic.name, "collector") == [-1001]
    sink.fails = False
    with topic.drained(tmp_path, sink) as running:
        _until_read(topic)
        assert running.consumer.counts()["repeated"] == 1
    assert sink.people() == {person(1): 1}


@pytest.mark.servers
def test_what_the_spool_does_not_take_comes_again(
    topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same membership; what came with it is known by its id."""
    with topic.drained(tmp_path) as running:
        taken, refused = running.spool.put, 0

        def put_some(batch: Any, **more: Any) -> Any:
            nonlocal refused
            if b"203.0.113.7" in batch.payload and refused < 2:
                refused += 1
                raise DeliveryError("E508", "not now")
            return taken(batch, **more)

        monkeypatch.setattr(running.spool, "put", put_some)  # before there is anything to take
        topic.send(*(numbered(number, [number]) for number in range(1, 41)))
        _until_read(topic)
        assert refused == 2
        assert running.consumer.counts()["taken"] == 40
    assert running.sink.people() == {person(number): 1 for number in range(1, 41)}


@pytest.mark.servers
def test_what_is_to_come_again_comes_in_its_order(topic: Topic) -> None:
    """From the first such message on, whatever is said of those behind it; also where the library
    cannot go back, by joining anew. What is committed never passes one that is not over."""
    topic.put(*(b"%d" % number for number in range(10)))
    source = source_of(DrainSection(url=topic.kafka.url, topic=topic.name))
    assert isinstance(source, KafkaGroup)

    def fetched(number: int) -> list[Fetched]:
        found: list[Fetched] = []
        deadline = time.monotonic() + _SECONDS
        while len(found) < number and time.monotonic() < deadline:
            found += source.fetch(number - len(found), 0.5)
        return found

    first = fetched(6)
    source.acknowledge([first[0].token, first[5].token], "done")
    source.acknowledge([first[2].token, first[3].token], "again")
    source.acknowledge([first[4].token], "again")
    again = fetched(8)
    assert [one.data for one in again] == [b"%d" % number for number in range(2, 10)]
    source.acknowledge([one.token for one in again], "done")
    source.fetch(0, 0)
    wait_until(lambda: topic.kafka.committed(topic.name, "collector") == [1], seconds=_SECONDS)

    def fail(*_: object) -> None:
        raise RuntimeError

    source._client = _Without(source._client, fail)
    source.acknowledge([first[1].token], "again")
    anew = fetched(9)
    assert [one.data for one in anew] == [b"%d" % number for number in range(1, 10)]
    source.acknowledge([first[1].token], "done")  # of an earlier membership
    source.acknowledge([one.token for one in anew], "done")
    source.close()
    assert topic.kafka.committed(topic.name, "collector") == [10]


@pytest.mark.servers
def test_what_is_none_of_ours_is_counted_and_never_kept(topic: Topic, tmp_path: Path) -> None:
    """Between honest messages; none blocks its partition, and nothing of it is on disk."""
    canary = b"canary-7f3a"
    (honest,) = outgoing(numbered(1, [1]), None, 1 << 20, KEY)
    (another,) = outgoing(numbered(2, [2]), None, 1 << 20, b"o" * 32)
    (plain,) = outgoing(numbered(3, [3]), None, 1 << 20, None)
    topic.send(numbered(10, [10]))
    topic.put(canary, None, b"", honest.data[:40], another.data, plain.data, honest.data + b"x")
    topic.send(numbered(11, [11]))
    topic.put(b"CLTM\x09\x00" + canary, canary * 60_000)
    topic.send(numbered(12, [12]))
    with topic.drained(tmp_path) as running:
        _until_read(topic)
        counts = {name: number for name, number in running.consumer.counts().items() if number}
        assert running.sink.people() == {person(number): 1 for number in (10, 11, 12)}
        assert counts == {
            "taken": 3,
            "foreign": 3,
            "version": 1,
            "unauthenticated": 4,
            "too_large": 1,
        }
        for path in tmp_path.rglob("*"):
            assert not path.is_file() or canary not in path.read_bytes()


@pytest.mark.servers
def test_large_messages_of_others(topic: Topic, tmp_path: Path) -> None:
    """They are counted, in bounded memory."""
    topic.send(numbered(1, [1]))
    for _ in range(8):
        topic.put(b"x" * (8 << 20))
    topic.send(numbered(2, [2]))
    tracemalloc.start()
    try:
        with topic.drained(tmp_path) as running:
            _until_read(topic)
            assert running.consumer.counts()["too_large"] == 8
        assert running.sink.people() == {person(1): 1, person(2): 1}
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.servers
def test_what_the_library_cannot_unpack(tmp_path: Path) -> None:
    """Compressed batches that become too large are passed over, message by message, and counted;
    honest ones behind them come. Of a cluster that keeps them as they were sent."""
    with mock_cluster() as addresses:
        make_topic(addresses, "t")
        first, second, third = (
            one.data
            for number in (1, 2, 3)
            for one in outgoing(numbered(number, [number]), None, 1 << 20, KEY)
        )
        put(addresses, "t", first, partition=0)
        put(addresses, "t", bytes(120_000_000), partition=0, compression="zstd")
        put(addresses, "t", second, partition=0)
        put(addresses, "t", *[bytes(40_000_000)] * 3, partition=0, compression="zstd")
        put(addresses, "t", third, partition=0)
        source = source_of(DrainSection(url=f"kafka://{addresses}", topic="t"))
        with drained(source, tmp_path) as running:
            wait_until(lambda: len(running.sink.batches) == 3, seconds=_SECONDS)
            counts = running.consumer.counts()
    assert (counts["foreign"], counts["too_large"]) == (4, 0)
    assert running.sink.people() == {person(number): 1 for number in (1, 2, 3)}


@pytest.mark.servers
def test_a_transaction_that_another_sender_does_not_end(topic: Topic, tmp_path: Path) -> None:
    """What lies behind its messages is taken all the same."""
    quiet: dict[str, Any] = {"log_level": 0, "error_cb": lambda _: None}
    names = {"bootstrap.servers": topic.kafka.address, "transactional.id": topic.name}
    other = Producer({**names, **quiet})
    other.init_transactions(_SECONDS)
    other.begin_transaction()
    other.produce(topic.name, b"foreign", partition=0)
    assert other.flush(_SECONDS) == 0
    topic.send(numbered(1, [1]))
    with topic.drained(tmp_path) as running:
        wait_until(lambda: running.sink.people() == {person(1): 1}, seconds=_SECONDS)
        assert running.consumer.counts()["foreign"] == 1
    other.purge()


@pytest.mark.servers
def test_a_person_who_is_erased_does_not_come_back(topic: Topic, tmp_path: Path) -> None:
    """Though their batch still waited in the topic; what is received later is kept."""
    Tombstones(tmp_path).close()
    start, end = minute_window("2020-01-01", minute_text(-10))
    subject = Subject("client.address", person(1), start, end)
    topic.send(numbered(1, [1, 2, 3], 60), numbered(2, [1], 60), numbered(3, [1], 0))
    remember(tmp_path, [(subject, None)])
    with topic.drained(tmp_path) as running:
        _until_read(topic)
        assert running.consumer.counts()["erased"] == 1
    assert running.sink.people() == {person(1): 1, person(2): 1, person(3): 1}


@pytest.mark.long
def test_a_broker_that_does_not_answer(tmp_path: Path) -> None:
    """It is told, and messages come when it answers again."""
    require_kafka()
    with server() as kafka:
        topic = Topic(kafka)
        with topic.drained(tmp_path) as running:
            topic.send(numbered(1, [1]))
            wait_until(lambda: running.sink.people() == {person(1): 1}, seconds=_SECONDS)
            with kafka.stopped():
                wait_until(lambda: not running.consumer.is_ready, seconds=_SECONDS)
            topic.send(numbered(2, [2]))
            wait_until(lambda: len(running.sink.people()) == 2, seconds=_SECONDS)
            wait_until(lambda: running.consumer.is_ready, seconds=_SECONDS)
            _until_read(topic)


@pytest.mark.long
def test_drains_share_a_topic(kafka: KafkaServer, tmp_path: Path) -> None:
    """A second one joins while the first works, and takes over from it when that stops: nothing is
    lost, and nothing comes twice."""
    topic, number = Topic(kafka, 4), 0

    def send(batches: int) -> None:
        nonlocal number
        for _ in range(batches):
            number += 1
            topic.send(numbered(number, [1 + number % 250]), partition=number % 4)

    first, second = Slow(), Slow()
    with ExitStack() as stack:
        send(40)
        inner = stack.enter_context(ExitStack())
        inner.enter_context(topic.drained(tmp_path / "first", first))
        wait_until(lambda: len(first.batches) > 5, seconds=_SECONDS)
        stack.enter_context(topic.drained(tmp_path / "second", second))
        while not second.batches:
            send(4)
            time.sleep(0.1)
        send(40)
        inner.close()
        send(40)
        _until_read(topic)
    assert not first.batches.keys() & second.batches.keys()
    assert len(first.batches) + len(second.batches) == number
    assert second.batches


@pytest.mark.servers
def test_a_drain_that_is_cut_off_leaves_its_messages_to_another(
    kafka: KafkaServer, tmp_path: Path
) -> None:
    """Those that its sinks did not have, with its disk gone."""
    topic, lost, second = Topic(kafka, 2), Recorded(), Recorded()
    lost.fails = True
    topic.send(*(numbered(number, [number]) for number in range(1, 20)))
    with topic.drained(tmp_path / "first", lost, stops=False) as running:
        wait_until(lambda: running.spool.state().batches == 19, seconds=_SECONDS)
    with topic.drained(tmp_path / "second", second):
        _until_read(topic)
    assert second.people() == {person(number): 1 for number in range(1, 20)}


_SLOW = 0.02
"""Seconds for a batch: far more than a busy machine takes for all else."""


@pytest.mark.long
@pytest.mark.alone
def test_two_drains_take_twice_as_much(kafka: KafkaServer, tmp_path: Path) -> None:
    """Where the sink is what takes time, once the partitions are shared out. It is compared by how
    long the sinks took, which a busy machine lengthens as it does all else."""
    shares = []
    for number in (1, 2):
        topic = Topic(kafka, 4)
        with ExitStack() as stack:
            sinks = [Slow(_SLOW) for _ in range(number)]
            for at, sink in enumerate(sinks):
                stack.enter_context(topic.drained(tmp_path / f"{number}-{at}", sink))
            at = 0
            while not all(sink.batches for sink in sinks):
                at += 1
                topic.send(numbered(at, [1]), partition=at % 4)
                time.sleep(0.1)
            wait_until(lambda sinks=sinks, at=at: _got(sinks) == at, seconds=_SECONDS)  # type: ignore[misc]
            for partition in range(4):
                first = 10_000 + 1_000 * partition
                topic.send(*(numbered(first + n, [1]) for n in range(375)), partition=partition)
            moments = [_moment(sinks, at + more) for more in (150, 1000)]
        taken, elapsed = (after - before for before, after in zip(*moments, strict=True))
        shares.append(taken / elapsed)
        print(f"{number}: {shares[-1]:.2f} sinks at once")
    assert shares[1] / shares[0] >= 1.9


def _moment(sinks: Sequence[Slow], at_least: int) -> tuple[float, float]:
    """Return how long the sinks took, and when: between two such moments all drains deliver."""
    wait_until(lambda: _got(sinks) >= at_least, seconds=150)
    return sum(each.taken for each in sinks), time.monotonic()


def _got(sinks: Sequence[Slow]) -> int:
    return sum(len(each.batches) for each in sinks)


@pytest.mark.servers
def test_a_cluster_of_three(tmp_path: Path) -> None:
    """Partitions lie at several servers."""
    with mock_cluster() as addresses:
        make_topic(addresses, "t")
        data = [
            one.data
            for number in range(1, 100)
            for one in outgoing(numbered(number, [number]), None, 1 << 20, KEY)
        ]
        put(addresses, "t", *data)
        source = source_of(DrainSection(url=f"kafka://{addresses}", topic="t"))
        with drained(source, tmp_path) as running:
            wait_until(lambda: len(running.sink.batches) == 99, seconds=_SECONDS)
    assert running.sink.people() == {person(number): 1 for number in range(1, 100)}


@pytest.mark.servers
def test_how_long_the_broker_keeps_messages(kafka: KafkaServer) -> None:
    """No longer than a drain knows them again."""
    day = 86_400_000
    for name, days, is_faulty in (("short", 20, False), ("long", 29, True)):
        kafka.topic(name, retention_ms=days * day, segment_ms=5 * day)
        section = DrainSection(url=kafka.url, topic=name)
        if is_faulty:
            with raises("E220", ConfigError):
                check_drain(section)
        else:
            check_drain(section)
    with raises("E514", Unreachable, "no such topic"):
        check_drain(DrainSection(url=kafka.url, topic="none"))


@pytest.mark.long
def test_ten_thousand_messages_of_others(kafka: KafkaServer, tmp_path: Path) -> None:
    """Between honest ones in all partitions: all are counted, in bounded memory."""
    topic, canary = Topic(kafka, 3), b"canary-91c2"
    expected: Counter[str] = Counter()
    for at in range(100):
        (one,) = outgoing(numbered(1_000 + at, [1]), None, 1 << 20, b"o" * 32)
        (cut,) = outgoing(numbered(2_000 + at, [1]), None, 1 << 20, KEY)
        topic.put(*[canary * (1 + at)] * 40, partition=at % 3)
        topic.send(numbered(at + 1, [1 + at]), partition=at % 3)
        topic.put(*[one.data] * 30, *[cut.data[:-5]] * 30, partition=at % 3)
        expected.update({"foreign": 40, "unauthenticated": 60, "taken": 1})
    tracemalloc.start()
    try:
        with topic.drained(tmp_path) as running:
            _until_read(topic)
            counts = {name: number for name, number in running.consumer.counts().items() if number}
            assert counts == expected
            assert sum(running.sink.people().values()) == 100
            for path in tmp_path.rglob("*"):
                assert not path.is_file() or canary not in path.read_bytes()
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
