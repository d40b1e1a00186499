"""Channels of an order: in which records lie or are sent, from the spool to each type of sinks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import lgamma, log
from random import Random

from benchmarks.leaks.channels.base import NDJSON, SCHEMA, Channel, lines, numbered, stored
from benchmarks.leaks.locations import BACKEND, LAKE, WAREHOUSE
from benchmarks.leaks.sidecar import Sidecar

_ADDRESS = "client.address"
_ORDERED = 64
"""Records of a request whose order spells."""


def _factorial_bits(number: int) -> float:
    return lgamma(number + 1) / log(2)


def _in_order(sent: Sequence[str], told: Sequence[str]) -> float:
    """Return the bits of an order that were read: those of a whole order, times how much more pairs
    are in order than by chance (Kendall's tau), where that is no accident."""
    at = {text: number for number, text in enumerate(told)}
    known = [at[text] for text in sent if text in at]
    pairs = [(a < b) for i, a in enumerate(known) for b in known[i + 1 :]]
    tau = 2 * sum(pairs) / max(1, len(pairs)) - 1
    number = len(sent)
    chance = 5 * (2 * (2 * number + 5) / (9 * number * (number - 1))) ** 0.5  # deviations
    return _factorial_bits(len(sent)) * tau if tau > chance else 0.0


def _permuted(sidecar: Sidecar, random: Random) -> list[str]:
    records = [numbered(at) for at in range(_ORDERED)]
    random.shuffle(records)
    sidecar.post("/v1/events", NDJSON, lines(records))
    return [record[_ADDRESS] for record in records]


def _order_in_spool(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    with sidecar.held():
        sent = _permuted(sidecar, random)
        lines = [line for payload in sidecar.waiting() for line in payload.splitlines()]
    told = [json.loads(line)[_ADDRESS] for line in lines]
    return _factorial_bits(_ORDERED), _in_order(sent, told)


def _order_in_store(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    sent = _permuted(sidecar, random)
    told = [address for (address,) in stored(sidecar, '"client.address"')]
    return _factorial_bits(_ORDERED), _in_order(sent, told)


def _order_in_file(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    sent = _permuted(sidecar, random)
    sidecar.delivered()
    told = [json.loads(line)[_ADDRESS] for line in sidecar.lines()]
    return _factorial_bits(_ORDERED), _in_order(sent, told)


def _order_in_lake(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    sent = _permuted(sidecar, random)
    sidecar.delivered()
    told: list[str] = []
    for path in sidecar.locations.files():
        told += map(str, parquet.read_table(path, columns=[_ADDRESS])[_ADDRESS].to_pylist())
    return _factorial_bits(_ORDERED), _in_order(sent, told)


def _order_over_otlp(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """The order of log records, and that of their names."""
    sent = _permuted(sidecar, random)
    sidecar.delivered()
    told: list[tuple[str, str]] = []
    for request in sidecar.locations.exported():
        for record in request.resource_logs[0].scope_logs[0].log_records:
            found = {each.key: each.value.string_value for each in record.attributes}
            told.append((found["log.record.uid"], found[_ADDRESS]))
    orders = [address for _, address in told], [address for _, address in sorted(told)]
    return _factorial_bits(_ORDERED), max(_in_order(sent, each) for each in orders)


def _order_in_tables(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    sent = _permuted(sidecar, random)
    sidecar.delivered()
    query = f'SELECT host("{_ADDRESS}") FROM collector.{SCHEMA} ORDER BY ctid'
    told = [address for (address,) in sidecar.locations.ask(query)]
    return _factorial_bits(_ORDERED), _in_order(sent, told)


CHANNELS: tuple[Channel, ...] = (
    Channel(
        "order in the spool",
        "The order of records.",
        f"request of {_ORDERED} records, until it is delivered",
        "log2 of n! for n records",
        _order_in_spool,
    ),
    Channel(
        "order in the store",
        "The order of rows.",
        f"request of {_ORDERED} records",
        "none: rows lie in random order",
        _order_in_store,
    ),
    Channel(
        "order in files",
        "The order of lines.",
        f"request of {_ORDERED} records",
        "none: lines that arrive together are shuffled",
        _order_in_file,
    ),
    Channel(
        "order in Parquet files",
        "The order of rows.",
        f"request of {_ORDERED} records",
        "none: rows are shuffled",
        _order_in_lake,
        needs=LAKE,
    ),
    Channel(
        "order over OTLP",
        "The order of log records, and of their names.",
        f"request of {_ORDERED} records",
        "none: records of a batch are shuffled; a name is a hash under a key that is not sent",
        _order_over_otlp,
        needs=BACKEND,
    ),
    Channel(
        "order in PostgreSQL",
        "The order of rows.",
        f"request of {_ORDERED} records",
        "none: rows are shuffled",
        _order_in_tables,
        needs=WAREHOUSE,
    ),
)
"""Those of orders."""
