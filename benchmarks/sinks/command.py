"""``python -m benchmarks sinks``: what delivery to each type of sinks takes, beside a bare writer.

The same records go through a sink, as batches that a spool would hand over, and through a program
of a few lines with the library that the sink uses, which has them as mappings already. They take
turns, round by round; what receives them is a process of its own. Rates are of the CPU time of the
process that writes, all its threads together: records per second that one core can write.
"""

from __future__ import annotations

import secrets
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from benchmarks import conditions
from benchmarks.data import SEED, lines
from benchmarks.figures import Figures, interval, paired, say
from benchmarks.sinks import Writers, kafka, nats, otlp, parquet, postgres
from collector.contracts import Batch
from collector.filter import Filter
from collector.filter.stored import Records, read
from collector.schema import Schema, load_schema

_ROUNDS, _QUICK_ROUNDS = 12, 6
_BATCHES, _RECORDS = 5, 2_000
"""Batches of a round, and records of a batch."""
_MINUTE = "2026-11-27T10:05:00Z"


CONTENDERS: Mapping[str, Callable[[Path, Schema], AbstractContextManager[Writers]]] = {
    "otlp over HTTP": otlp.over_http,
    "otlp over gRPC": otlp.over_grpc,
    "parquet": parquet.on_disk,
    "postgres": postgres.by_copy,
    "nats": nats.to_stream,
    "kafka": kafka.to_topic,
}
"""What is measured, by name; each is given a directory and the schema of the records."""
_SERVERS = {"postgres": postgres, "nats": nats, "kafka": kafka}
"""Those that need a server of another program, which may not be installed."""


def sinks(options: Namespace, figures: Figures) -> None:
    """Measure each, and judge it."""
    schema, rounds = load_schema("conferencing"), _QUICK_ROUNDS if options.quick else _ROUNDS
    payloads, rows = _payloads(schema), []
    limits = figures.limits.get("sinks", {})
    with conditions.steady() as pinned:
        for name, opened in CONTENDERS.items():
            say(f"sinks: {name}")
            if name in _SERVERS and (obstacle := _SERVERS[name].obstacle()):
                figures.skipped[name] = obstacle
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
    """Return records per second of CPU time, round by round after one to warm up, and of the wall
    for the sink."""
    rates: dict[str, list[float]] = {"sink": [], "bare": [], "wall": []}
    records = [record for payload in payloads for record in Records(payload)]
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
