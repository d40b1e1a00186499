"""Channels of a record: what its sender says of it besides its values."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from math import inf, log2
from random import Random
from typing import Any

from benchmarks.leaks.channels.base import (
    EVENTS,
    NDJSON,
    SCHEMA,
    Channel,
    lines,
    numbered,
    send_records,
    stored,
)
from benchmarks.leaks.events import SHAPES
from benchmarks.leaks.sidecar import Sidecar
from benchmarks.leaks.values import values_of
from benchmarks.leaks.wire import export
from collector import load_schema
from collector.contracts import to_minute
from collector.filter.sdk_records import (
    AHEAD,
    COUNT_VALUES,
    EXACT,
    MAX_TIMES,
    OLDEST,
    RECEIVED_VALUES,
)

_MERGED = 4_095
_IN_A_BODY = 60
_OFF_GRID = 120
"""Numbers and times of records besides those that a stored record may have."""


def _presence(sidecar: Sidecar, _random: Random) -> tuple[float, float]:
    """Every set of fields, each with one value."""
    first = {name: each.nth(0) for name, each in values_of(load_schema(SCHEMA)).items()}
    sets = range(1, 1 << len(first))
    records = [
        {name: text for at, (name, text) in enumerate(first.items()) if chosen >> at & 1}
        for chosen in sets
    ]
    sidecar.post("/v1/events", NDJSON, lines([*records, {}]))
    told = stored(sidecar, ", ".join(f'"{name}"' for name in first))
    return log2(len(sets)), log2(len({tuple(value is not None for value in row) for row in told}))


def _count(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """Powers of two, which a record may have, and other numbers."""
    powers = {1 << at for at in range(COUNT_VALUES)}
    between = {random.randrange(1, MAX_TIMES + 1) for _ in range(_OFF_GRID)}
    others: list[Any] = [0, -1, 2.5, True, "3", None, MAX_TIMES + 1, 1 << 62, 1 << 70]
    common = {"schema": f"{SCHEMA}/1.0.0"}
    counts = [*sorted(powers | between), *others]
    send_records(
        sidecar, [common | numbered(at) | {"count": times} for at, times in enumerate(counts)]
    )
    told = {count for (count,) in stored(sidecar, "count")}
    return log2(COUNT_VALUES), _bits_of(told, powers)


def _received(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """The minutes that a record may have, and other times."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    minutes = [now + timedelta(minutes=at) for at in range(-(EXACT // timedelta(minutes=1)), 0)]
    minutes += [now + timedelta(minutes=at) for at in range(AHEAD // timedelta(minutes=1) + 1)]
    hour = (now - EXACT).replace(minute=0)
    minutes += [hour - timedelta(hours=at) for at in range(OLDEST // timedelta(hours=1))]
    wide = OLDEST // timedelta(seconds=1) + 3_600
    others = [now + timedelta(seconds=random.randint(-wide, 3_600)) for _ in range(_OFF_GRID)]
    others += [each.replace(second=0) for each in others]
    common = {"schema": f"{SCHEMA}/1.0.0", "os.type": "linux"}
    grid = [to_minute(minute) for minute in minutes]
    texts = [*grid, *(each.strftime("%Y-%m-%dT%H:%M:%SZ") for each in others)]
    for at in range(0, len(texts), _IN_A_BODY):
        sent = [common | {"received": text} for text in texts[at : at + _IN_A_BODY]]
        send_records(sidecar, sent)
    told = {received for (received,) in stored(sidecar, "received")}
    return log2(RECEIVED_VALUES), _bits_of(told, set(grid))


def _bits_of(told: AbstractSet[Any], counted: AbstractSet[Any]) -> float:
    """Return the bits of the values that were read: without a bound, if one was not counted."""
    return log2(max(1, len(told))) if told <= counted else inf


def _merged(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    times = random.randint(1, _MERGED)
    document = SHAPES["logs"].wrap([numbered(1)] * times)
    sidecar.post("/v1/logs", "application/x-protobuf", export(document))
    told = [count for (count,) in stored(sidecar, "count")]
    offered = log2(_MERGED)
    return offered, offered * (told == [times])


def _spelled_twice(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """One record in many spellings: the order of members, aliases, capitals and zeros of addresses,
    members besides. Nothing of that may be left."""
    texts = [
        '{"ip":"2001:db8::a","os":{"type":"iOS"}}',
        '{"os":{"type":"ios"},"client.address":"2001:DB8:0:0:0:0:0:A"}',
        '{"os.type":"iPadOS","ip_address":"2001:0db8::000A","zoom":1}',
        '{"os.type":"ios","client":{"address":"2001:db8::A"},"audio":0}',
    ]
    random.shuffle(texts)
    sidecar.post("/v1/events", NDJSON, "\n".join(texts).encode())
    told = set(stored(sidecar, "*"))
    return log2(len(texts)), log2(len(told))


CHANNELS: tuple[Channel, ...] = (
    Channel(
        "presence",
        "Which fields a record has.",
        "record",
        "the sets of fields, which are in the bits of the record",
        _presence,
    ),
    Channel(
        "count",
        "How many events a sent record stands for.",
        "stored record, sent over /v1/records",
        f"{COUNT_VALUES} values: `schema capacity`",
        _count,
    ),
    Channel(
        "received",
        "When a sent record was received, as its sender says.",
        "stored record, sent over /v1/records",
        f"{RECEIVED_VALUES} values: `schema capacity`",
        _received,
    ),
    Channel(
        "merge counts",
        "How many items of an OTLP request are alike.",
        "different record of a request",
        EVENTS,
        _merged,
    ),
    Channel(
        "spellings",
        "How values, names and members of a record are written.",
        "record",
        "none: there is one canonical form",
        _spelled_twice,
    ),
)
"""Those of records."""
