"""A consumer group of Apache Kafka: what a drain takes out of a topic.

A group commits one offset for each partition, although messages end in any order: it is that of the
first message which is not over yet. ``confluent_kafka`` is imported when a connection is made.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from collector.brokers.kafka import (
    CLOSE_SECONDS,
    TOGETHER_BYTES,
    KafkaClient,
    close_in_time,
    code_of,
    kafka_options,
)
from collector.brokers.source import Fetched, Outcome
from collector.config.broker_settings import KafkaAccess, Servers
from collector.errors import Unreachable

__all__ = ["KafkaGroup", "Offsets", "kafka_group"]

_MOST_AT_HAND = 1 << 13
_UNREADABLE = ("_BAD_COMPRESSION", "_BAD_MSG")
"""Errors of a message that stay as they are however often it is fetched."""
_BY_BROKER = 2
"""Where the time of a message is the broker's (``TIMESTAMP_LOG_APPEND_TIME`` of the library)."""
_SESSION_SECONDS = 10.0
"""After how long without a word of a drain the group gives its messages to another one."""


def kafka_group(access: KafkaAccess, servers: Servers, topic: str, group: str) -> KafkaGroup:
    """Return the source of a drain, not connected yet. Raises as ``kafka_topic``."""
    return KafkaGroup(kafka_options(access, servers), topic, servers, group)


class Offsets:
    """The offsets of the messages at hand, by partition; at most so many in all.

    >>> offsets = Offsets(10)
    >>> for each in (4, 5, 7): offsets.take(0, each)
    >>> offsets.finish(0, 5); offsets.positions()
    {}
    >>> offsets.finish(0, 4); offsets.positions()
    {0: 6}
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._number = 0
        self._taken: dict[int, OrderedDict[int, bool]] = {}
        self._positions: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Offsets, {self._number} at hand>"

    @property
    def room(self) -> int:
        """How many more may be taken. Messages that are over count while one before them is not."""
        return self._most - self._number

    def take(self, partition: int, offset: int) -> None:
        """Note a message, which lies behind those of its partition that were taken before."""
        taken = self._taken.setdefault(partition, OrderedDict())
        if offset not in taken:
            taken[offset] = False
            self._number += 1

    def finish(self, partition: int, offset: int) -> None:
        """Note that a message is over. One that is not at hand has no effect."""
        taken = self._taken.get(partition, OrderedDict())
        if offset not in taken:
            return
        taken[offset] = True
        while taken and taken[first := next(iter(taken))]:
            del taken[first]
            self._number -= 1
            self._positions[partition] = first + 1

    def rewind(self, partition: int, offset: int) -> bool:
        """Forget the messages of a partition from one on: they are taken once more. Return whether
        that one is at hand, without which this has no effect: it was forgotten before."""
        taken = self._taken.get(partition, OrderedDict())
        if offset not in taken:
            return False
        while taken and next(reversed(taken)) >= offset:
            taken.popitem()
            self._number -= 1
        return True

    def forget(self, partitions: Collection[int]) -> None:
        """Forget all of some partitions, which belong to another member of the group now."""
        for partition in partitions:
            self._number -= len(self._taken.pop(partition, ()))
            self._positions.pop(partition, None)

    def positions(self) -> Mapping[int, int]:
        """Return the offset at which reading would begin anew, for each partition that has one."""
        return dict(self._positions)


class KafkaGroup(KafkaClient):
    """A member of a consumer group, made when it is needed and again after a fatal error. For one
    thread at a time."""

    def __init__(
        self, options: Mapping[str, Any], topic: str, servers: Servers, group: str
    ) -> None:
        super().__init__(options, topic, servers)
        self._group = group
        self._client: Any = None
        self._offsets = Offsets(_MOST_AT_HAND)
        self._committed: dict[int, int] = {}
        self._following: dict[int, int] = {}
        self._joins = 0
        self._is_paused = self._is_fatal = False
        self._surplus: deque[Any] = deque()
        self._finish: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<KafkaGroup, {'joined' if self._client is not None else 'closed'}>"

    def before_handover(self, finish: Callable[[], None]) -> None:
        """Have ``finish`` called before messages at hand go to another member of the group."""
        self._finish = finish

    def fetch(self, most: int, seconds: float) -> list[Fetched]:
        """Take up to ``most`` messages; fewer where they are large. With 0 it only stays a member.
        Raises ``Unreachable``."""
        if self._is_fatal:
            self._leave()
        client = self._joined()
        self._require_answer(client)
        found: list[Fetched] = []
        try:
            self._commit(client)
            most = min(most, self._offsets.room)
            self._pause(client, is_paused=most < 1)
            size = 0
            while len(found) < most and size < TOGETHER_BYTES:
                message = self._next(client, seconds if not found else 0)
                if message is None:
                    break
                found.append(self._taken(message))
                size += len(found[-1].data)
            if most < 1 and (message := client.poll(0)) is not None:
                self._surplus.append(message)
        except Exception as error:  # noqa: BLE001 - the library's errors may quote servers
            failure = error if isinstance(error, Unreachable) else self._failure(code_of(error))
        else:
            return found
        # They are not handed out, so they are to come again.
        self.acknowledge([each.token for each in found], "again")
        raise Unreachable(failure.message, failure.cause)

    def acknowledge(self, tokens: Sequence[str], outcome: Outcome) -> None:
        """Note what became of messages. The group learns of those that are done with the next
        ``fetch``, of those that wait not at all. What belongs to an earlier membership has no
        effect."""
        places = [place for place in map(_place, tokens) if place[0] == self._joins]
        if outcome == "done":
            for _, partition, offset in places:
                self._offsets.finish(partition, offset)
        elif outcome == "again":
            first: dict[int, int] = {}
            for _, partition, offset in places:
                first[partition] = min(offset, first.get(partition, offset))
            for partition, offset in first.items():
                self._rewind(partition, offset)

    def close(self) -> None:
        """Tell the group what is done, and leave it."""
        client = self._client
        if client is not None:
            deadline = monotonic() + CLOSE_SECONDS
            with suppress(Exception):
                self._commit(client)
                self._pause(client, is_paused=True)
                while self._is_behind() and monotonic() < deadline:
                    client.poll(0.05)
        self._leave()

    # -- inside -----------------------------------------------------------------------------------

    def _joined(self) -> Any:
        if self._client is None:
            from confluent_kafka import Consumer  # noqa: PLC0415 - an extra

            self.look()
            self._joins += 1
            self._client = Consumer(
                {
                    **self._client_options(),
                    "group.id": self._group,
                    "allow.auto.create.topics": False,
                    "auto.offset.reset": "earliest",
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "isolation.level": "read_uncommitted",  # no transaction of others is waited for
                    "partition.assignment.strategy": "cooperative-sticky",
                    "session.timeout.ms": int(1000 * _SESSION_SECONDS),
                    "fetch.message.max.bytes": 1 << 20,
                    "fetch.max.bytes": TOGETHER_BYTES,
                    "queued.max.messages.kbytes": TOGETHER_BYTES >> 10,
                    "queued.min.messages": 64,
                    "fetch.error.backoff.ms": 100,
                    "on_commit": self._on_commit,
                }
            )
            self._client.subscribe(
                [self._topic],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
        return self._client

    def _leave(self) -> None:
        client, self._client = self._client, None
        self._offsets = Offsets(_MOST_AT_HAND)
        self._committed.clear()
        self._following.clear()
        self._surplus.clear()
        self._is_paused = self._is_fatal = False
        if client is not None:
            close_in_time(client)

    def _note(self, error: Any) -> None:
        super()._note(error)
        self._is_fatal = self._is_fatal or error.fatal()

    def _require_answer(self, client: Any) -> None:
        """After the library has reason something of connections, see whether a server answers."""
        if self._reason is None:
            return
        reason, is_there = self._reason, False
        with suppress(Exception):
            is_there = client.list_topics(self._topic, timeout=1.0) is not None
        if not is_there:
            raise Unreachable(reason.message, reason.cause)
        self._reason = None

    def _next(self, client: Any, seconds: float) -> Any:
        """Return the next message, or ``None`` if none comes in time."""
        message = self._surplus.popleft() if self._surplus else client.poll(seconds)
        error = None if message is None else message.error()
        if error is not None and error.name() not in _UNREADABLE:
            raise self._failure(error)
        return message

    def _taken(self, message: Any) -> Fetched:
        """Note a message. One that the library cannot read is without data, and is passed over:
        it tells the first offset of a batch, of which each message is one."""
        partition, offset = message.partition(), message.offset()
        is_readable = message.error() is None
        if not is_readable:
            offset = max(offset, self._following.get(partition, 0))
        self._following[partition] = offset + 1
        self._offsets.take(partition, offset)
        if not is_readable:
            self._seek(partition, offset + 1)
        data = (message.value() or b"") if is_readable else b""
        kind, milliseconds = message.timestamp()
        stored = milliseconds / 1000 if kind == _BY_BROKER else None
        return Fetched(data, f"{self._joins}:{partition}:{offset}", stored)

    def _pause(self, client: Any, *, is_paused: bool) -> None:
        if is_paused != self._is_paused:
            change = client.pause if is_paused else client.resume
            change(client.assignment())
            self._is_paused = is_paused

    def _rewind(self, partition: int, offset: int) -> None:
        if self._offsets.rewind(partition, offset):
            self._following[partition] = offset
            self._seek(partition, offset)

    def _seek(self, partition: int, offset: int) -> None:
        from confluent_kafka import TopicPartition  # noqa: PLC0415 - an extra

        self._surplus = deque(each for each in self._surplus if each.partition() != partition)
        try:
            self._client.seek(TopicPartition(self._topic, partition, offset))
        except Exception:  # noqa: BLE001 - whatever it is, what was forgotten must come again
            self._is_fatal = True  # the next `fetch` joins anew, and begins at what is committed

    def _is_behind(self) -> bool:
        return self._offsets.positions() != self._committed

    def _commit(self, client: Any) -> None:
        """Ask for what is done to be committed, without waiting for it."""
        from confluent_kafka import TopicPartition  # noqa: PLC0415 - an extra

        positions = self._offsets.positions()
        changed = [
            TopicPartition(self._topic, partition, position)
            for partition, position in positions.items()
            if self._committed.get(partition) != position
        ]
        if changed:
            client.commit(offsets=changed, asynchronous=True)
            self._committed.update({one.partition: one.offset for one in changed})

    # -- called by the library, within calls of this thread ---------------------------------------

    def _on_commit(self, error: Any, partitions: Sequence[Any]) -> None:
        for each in partitions:
            is_latest = self._committed.get(each.partition) == each.offset
            if is_latest and (error is not None or each.error is not None):
                del self._committed[each.partition]  # the next `fetch` asks once more

    def _on_assign(self, client: Any, partitions: Sequence[Any]) -> None:
        client.incremental_assign(partitions)
        if self._is_paused:
            client.pause(partitions)

    def _on_revoke(self, client: Any, partitions: Sequence[Any]) -> None:
        if self._finish is not None and self._client is not None:
            self._finish()
        with suppress(Exception):
            self._commit(client)
        self._on_lost(client, partitions)

    def _on_lost(self, client: Any, partitions: Sequence[Any]) -> None:
        gone = {each.partition for each in partitions}
        self._offsets.forget(gone)
        self._surplus = deque(each for each in self._surplus if each.partition() not in gone)
        for partition in gone:
            self._committed.pop(partition, None)
            self._following.pop(partition, None)


def _place(token: str) -> tuple[int, int, int]:
    join, partition, offset = map(int, token.split(":"))
    return join, partition, offset
