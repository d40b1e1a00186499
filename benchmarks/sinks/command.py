"""``python -m benchmarks sinks``: what delivery to each type of sinks takes, beside a bare writer.

The same records go through a sink, as batches that a spool would hand over, and through a program
of a few lines with the library that the sink uses, which has them as mappings already. They take
turns, round by round; what receives them is a process of its own. Rates are of the CPU time of the
process that writes, all its threads together: records per second that one core can write.
"""

from __future__ import annotations

import secrets
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Protocol

from benchmarks import conditions, gate, output
from benchmarks.data import SEED, lines
from benchmarks.gate import Verdict
from benchmarks.output import say
from benchmarks.report import Table
from benchmarks.results import Interval, RunFigures, interval, paired
from benchmarks.sinks import kafka, nats, otlp, parquet, postgres
from collector.contracts import Batch, Record
from collector.filter import Filter
from collector.filter.stored import Records, read
from collector.schema import Schema, load_schema

_SECTION = "sinks"
_ROUNDS, _QUICK_ROUNDS = 30, 6
_BATCHES, _RECORDS = 5, 2_000
"""Batches of a round, and records of a batch."""
_MINUTE = "2026-11-27T10:05:00Z"


class Contender(Protocol):
    """A sink and a bare writer, each with a location of its own."""

    def sink(self, batches: Sequence[Batch]) -> object:
        """Deliver batches."""

    def bare(self, records: Sequence[Record]) -> object:
        """Write the same records without Collector."""


CONTENDERS: Mapping[str, Callable[[Path, Schema], AbstractContextManager[Contender]]] = {
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


@dataclass(slots=True)
class Rates:
    """Records per second of CPU time, round by round, and of the wall for the sink."""

    sink: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> Interval:
        """The sink's rate over that of the bare writer, of the same round."""
        return paired(self.sink, self.bare)


@dataclass(slots=True)
class Figures(RunFigures):
    """What was measured."""

    rates: dict[str, Rates] = field(default_factory=dict)


def sinks(arguments: Sequence[str]) -> int:
    """Measure them; returns the exit code."""
    return output.run(
        arguments, _SECTION, "Measure sinks.", measure=_measure, table=_table, judge=_judge
    )


def _measure(options: Namespace) -> Figures:
    figures = Figures(conditions.environment(), quick=options.quick)
    schema = load_schema("conferencing")
    payloads = _payloads(schema)
    with conditions.steady() as pinned:
        for name, opened in CONTENDERS.items():
            say(f"sinks: {name}")
            if name in _SERVERS and (obstacle := _SERVERS[name].obstacle()):
                figures.skipped[name] = obstacle
                continue
            with TemporaryDirectory() as directory, opened(Path(directory), schema) as contender:
                rounds = _QUICK_ROUNDS if options.quick else _ROUNDS
                figures.rates[name] = _rates(contender, schema, payloads, rounds)
    figures.environment |= pinned
    return figures


def _payloads(schema: Schema) -> list[bytes]:
    """Filter events into the records of a round."""
    filter_, events = Filter(schema), lines("medium", _BATCHES * _RECORDS, SEED)
    starts = range(0, len(events), _RECORDS)
    return [filter_.admit_lines(b"\n".join(events[at : at + _RECORDS])).encode() for at in starts]


def _rates(contender: Contender, schema: Schema, payloads: Sequence[bytes], rounds: int) -> Rates:
    """Measure a contender, after a round to warm up."""
    rates = Rates()
    records = [record for payload in payloads for record in Records(payload)]
    for number in range(rounds + 1):
        batches = [_batch(schema, payload) for payload in payloads]
        began, cpu = perf_counter(), process_time()
        contender.sink(batches)
        wall, used = perf_counter() - began, process_time() - cpu
        cpu = process_time()
        contender.bare(records)
        bare = process_time() - cpu
        if number:
            rates.sink.append(len(records) / used)
            rates.bare.append(len(records) / bare)
            rates.wall.append(len(records) / wall)
    return rates


def _batch(schema: Schema, payload: bytes) -> Batch:
    """Return a batch that has not been decoded yet."""
    return read(Batch(secrets.token_bytes(16), _MINUTE, layout=schema.layout, payload=payload))


def _table(figures: Figures) -> Table:
    rows = tuple(
        (
            name,
            *(f"{interval(each).median:,.0f}" for each in (of.sink, of.bare, of.wall)),
            f"{of.ratio.median:.2f} ({of.ratio.low:.2f}–{of.ratio.high:.2f})",
        )
        for name, of in figures.rates.items()
    )
    title = (
        f"Records per second of CPU time, {_RECORDS:,} a batch and {_BATCHES} batches a delivery;"
        " medians (95 % bootstrap)"
    )
    return Table(title, ("sink", "sink", "bare writer", "sink, on the wall", "sink / bare"), rows)


def _judge(figures: Figures, limits: gate.Limits) -> Iterator[Verdict]:
    if limits.sinks is None:
        yield Verdict(None, "sinks: no limits")
        return
    tolerance = limits.quick.tolerance if figures.quick else 1
    least = limits.sinks.of_bare_at_least / tolerance
    for name, of in figures.rates.items():
        found = of.ratio
        text = f"sinks, {name}: {found.median:.2f} of a bare writer's rate, at least {least:.2f}"
        yield Verdict(found.high >= least, text)
        if name in limits.sinks.records_at_least:
            floor = limits.sinks.records_at_least[name] / tolerance
            rate = interval(of.sink)
            told = f"{rate.median:,.0f} records/s of CPU time, at least {floor:,.0f}"
            yield Verdict(rate.high >= floor, f"sinks, {name}: {told}")
