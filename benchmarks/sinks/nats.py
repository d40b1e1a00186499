"""The sink of NATS JetStream, beside `nats-py` with the same records as NDJSON."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from benchmarks.sinks import MESSAGE, Writers, served
from collector.contracts import Record
from collector.schema import Schema

_STREAM, _SUBJECT = "measured", "collector.records"


def obstacle() -> str | None:
    """Return why there can be no server here."""
    return None if _program() else "nats-server is not installed"


def _program() -> str | None:
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else shutil.which("nats-server")


@contextmanager
def to_stream(directory: Path, schema: Schema) -> Iterator[Writers]:
    """Run a server, and open the sink and a connection."""
    import nats  # noqa: PLC0415 - an extra

    from collector.sinks.nats import NatsSettings, NatsSink  # noqa: PLC0415 - an extra
    from collector.sinks.sink import Opening  # noqa: PLC0415

    port = 20_000 + secrets.randbelow(12_000)
    url = f"nats://127.0.0.1:{port}"
    command = [_program() or "nats-server", "-a", "127.0.0.1", "-p", str(port)]
    with served([*command, "-js", "-sd", str(directory)], port, b"INFO"), asyncio.Runner() as loop:
        client = loop.run(nats.connect(url))
        stream = client.jetstream()
        bounds: dict[str, Any] = {"max_age": 3600, "max_bytes": 64 << 20, "storage": "memory"}
        loop.run(stream.add_stream(name=_STREAM, subjects=["collector.>"], **bounds))

        async def publish(records: Sequence[Record]) -> None:
            starts = range(0, len(records), MESSAGE)
            texts = [b"\n".join(map(orjson.dumps, records[at : at + MESSAGE])) for at in starts]
            ids = ({"Nats-Msg-Id": secrets.token_hex(16)} for _ in texts)
            sent = [
                stream.publish(_SUBJECT, text, headers=each)
                for text, each in zip(texts, ids, strict=True)
            ]
            await asyncio.gather(*sent)

        settings = NatsSettings(type="nats", url=url, stream=_STREAM)
        with NatsSink(settings, Opening("stream", (schema,), directory)) as sink:
            yield Writers(
                lambda batches: sink.deliver(*batches), lambda each: loop.run(publish(each))
            )
        loop.run(client.close())
