"""A consumer of a broker with a spool and a sink behind it, for tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

from collector import load_schema
from collector.brokers.source import MessageSource
from collector.contracts import Batch
from collector.errors import DeliveryError
from collector.pipeline import Delivery
from collector.schema import Schema
from collector.server.consumer import Consumer
from collector.sinks.sink import Sink
from collector.spool import FILE_NAME, Spool
from collector.subject.tombstones import Tombstones
from collector.testing.sinks import batch_of
from tests.support.deadline import WAIT_SECONDS

SCHEMA = load_schema("conferencing")
KEY = b"k" * 32


class Recorded(Sink):
    """Keeps what it gets in memory, once by the batch's id; fails while it is told to."""

    guarantee = "once"

    def __init__(self) -> None:
        self.batches: dict[bytes, Batch] = {}
        self.fails = False

    def deliver(self, *batches: Batch) -> None:
        """Keep batches."""
        if self.fails:
            raise DeliveryError("E503", "not now")
        self.batches |= {batch.id: batch for batch in batches}

    def people(self) -> Counter[object]:
        """Count the records of each person."""
        return Counter(
            record["client.address"] for batch in self.batches.values() for record in batch.records
        )


@dataclass
class Running:
    """A consumer with its spool, and the sink behind it."""

    consumer: Consumer
    spool: Spool
    sink: Recorded
    delivery: Delivery

    def between_deliveries(self, change: Callable[[], None]) -> None:
        """Change something while the sink's thread has no batch in hand: the next one is read
        after that."""
        self.delivery.submit("sink", change).result(WAIT_SECONDS)


@contextmanager
def drained(
    source: MessageSource,
    data: Path,
    sink: Recorded | None = None,
    *,
    stops: bool = True,
    schemas: Sequence[Schema] = (SCHEMA,),
) -> Iterator[Running]:
    """Run a drain in a directory; unless it ``stops`` it is cut off at the end."""
    sink = Recorded() if sink is None else sink
    with Spool(data / FILE_NAME, sinks=["sink"]) as spool:
        consumer = Consumer(source, spool, schemas, [KEY], Tombstones(data))
        delivery = Delivery(spool, {"sink": sink})
        with patch.multiple(
            "collector.drain",
            _GATHER_SECONDS=0.0,
            _POLL_SECONDS=0.02,
            _FIRST_PAUSE=0.02,
            _LONGEST_PAUSE=0.1,
        ):
            delivery.start()
            consumer.start()
            try:
                yield Running(consumer, spool, sink, delivery)
            finally:
                consumer.stop(60 if stops else 0)
                delivery.close(5)


def numbered(number: int, people: Collection[int], minutes: int = 0) -> Batch:
    """Return a batch with a record of each person, received so many minutes ago."""
    return batch_of(number, people, SCHEMA, age=timedelta(minutes=minutes))


def minute_text(minutes: int) -> str:
    """Return the minute that is so many minutes from now."""
    return batch_of(1, [1], SCHEMA, age=timedelta(minutes=-minutes)).received
