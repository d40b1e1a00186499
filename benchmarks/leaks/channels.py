"""What a sender can spell beside the fields of a record, measured on a running sidecar.

Each channel has a sentence, the bits that its alphabet in this measurement has, and those that a
reader decoded. ``places`` has where each is read, and finds a place that no channel names.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf, lgamma, log, log2
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import sleep, time
from typing import Any

from benchmarks.leaks.events import SHAPES
from benchmarks.leaks.places import faults, observed
from benchmarks.leaks.sidecar import Sidecar, rows, running
from benchmarks.leaks.spelling import Record, Speller, event
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
from collector.ops.requests import REFUSAL_STATUSES
from collector.schema.policy import CONTENT

__all__ = ["CHANNELS", "Channel", "Measured", "measure", "unnamed"]

_SCHEMA = "conferencing"
_ORDERED = 64
"""Records of a request whose order spells."""
_MOST = 255
"""The greatest count of a request that spells with counts."""
_MERGED = 4_095
_SUMMED = 31
_IN_A_BODY = 60
_OFF_GRID = 120
"""Numbers and times of records besides those that a stored record may have."""
_SLOW_SECONDS = 1.0
_MOMENTS, _MOMENT_SECONDS = 4, 2
_NDJSON, _JSON = "application/x-ndjson", "application/json"


@dataclass(frozen=True, slots=True)
class Measured:
    """One channel: ``offered`` bits were sent at a time, ``delivered`` of them were read. ``per``
    is what it is counted by, ``ceiling`` what bounds it."""

    name: str
    sentence: str
    per: str
    ceiling: str
    offered: float
    delivered: float | None


@dataclass(frozen=True, slots=True)
class Channel:
    """A way to say something beside the fields; ``measure`` returns bits offered and delivered."""

    name: str
    sentence: str
    per: str
    ceiling: str
    measure: Callable[[Sidecar, Random], tuple[float, float]]


def _numbered(number: int) -> Record:
    return {"client.address": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"}


def _lines(records: Sequence[Any]) -> bytes:
    return "\n".join(map(json.dumps, records)).encode()


def _send_records(sidecar: Sidecar, records: Sequence[Any]) -> None:
    sidecar.post("/v1/records", _NDJSON, _lines(records))


def _stored(sidecar: Sidecar, columns: str) -> list[tuple[Any, ...]]:
    sidecar.delivered()
    return rows(sidecar.store, f"SELECT {columns} FROM {_SCHEMA} ORDER BY _rowid_")


def _presence(sidecar: Sidecar, _random: Random) -> tuple[float, float]:
    """Every set of fields, each with one value."""
    first = {name: each.nth(0) for name, each in values_of(load_schema(_SCHEMA)).items()}
    sets = range(1, 1 << len(first))
    records = [
        {name: text for at, (name, text) in enumerate(first.items()) if chosen >> at & 1}
        for chosen in sets
    ]
    sidecar.post("/v1/events", _NDJSON, _lines([*records, {}]))
    told = _stored(sidecar, ", ".join(f'"{name}"' for name in first))
    return log2(len(sets)), log2(len({tuple(value is not None for value in row) for row in told}))


def _count(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """Powers of two, which a record may have, and other numbers."""
    powers = {1 << at for at in range(COUNT_VALUES)}
    between = {random.randrange(1, MAX_TIMES + 1) for _ in range(_OFF_GRID)}
    others: list[Any] = [0, -1, 2.5, True, "3", None, MAX_TIMES + 1, 1 << 62, 1 << 70]
    common = {"schema": f"{_SCHEMA}/1.0.0"}
    counts = [*sorted(powers | between), *others]
    _send_records(
        sidecar, [common | _numbered(at) | {"count": times} for at, times in enumerate(counts)]
    )
    told = {count for (count,) in _stored(sidecar, "count")}
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
    common = {"schema": f"{_SCHEMA}/1.0.0", "os.type": "linux"}
    grid = [to_minute(minute) for minute in minutes]
    texts = [*grid, *(each.strftime("%Y-%m-%dT%H:%M:%SZ") for each in others)]
    for at in range(0, len(texts), _IN_A_BODY):
        sent = [common | {"received": text} for text in texts[at : at + _IN_A_BODY]]
        _send_records(sidecar, sent)
    told = {received for (received,) in _stored(sidecar, "received")}
    return log2(RECEIVED_VALUES), _bits_of(told, set(grid))


def _bits_of(told: AbstractSet[Any], counted: AbstractSet[Any]) -> float:
    """Return the bits of the values that were read: without a bound, if one was not counted."""
    return log2(max(1, len(told))) if told <= counted else inf


def _merged(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    times = random.randint(1, _MERGED)
    document = SHAPES["logs"].wrap([_numbered(1)] * times)
    sidecar.post("/v1/logs", "application/x-protobuf", export(document))
    told = [count for (count,) in _stored(sidecar, "count")]
    offered = log2(_MERGED)
    return offered, offered * (told == [times])


def _events(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """A sender that is alone chooses each count of its receipt, its answer and the metrics."""
    lines = {
        "admitted": '{"os.type":"linux"}',
        "malformed": '{"os.type":',
        "not_an_object": "7",
        "too_deep": "[" * 1_200 + "]" * 1_200,
        "nothing_admitted": "{}",
    }
    sent = {name: random.randrange(_MOST + 1) for name in lines}
    text = "\n".join("\n".join([lines[name]] * times) for name, times in sent.items() if times)
    told = sidecar.post("/v1/events", _NDJSON, text.encode())
    receipts = rows(sidecar.spool, f"SELECT {', '.join(lines)} FROM receipts")
    summed = dict(zip(lines, map(sum, zip(*receipts, strict=True)), strict=True))
    answered = {name: told["rejected"].get(name, 0) for name in lines} | {
        "admitted": told["admitted"]
    }
    offered = len(lines) * log2(_MOST + 1)
    return offered, offered * (summed == sent == answered)


def _sums(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """What is dropped and recognised is summed, by field, reason and category: in metrics at once,
    in the spool by hour."""
    events: list[tuple[str, str, Any]] = []
    for name in load_schema(_SCHEMA).fields:
        events += [(name, "wrong_type", 7), (name, "invalid_value", "?")]
    contents = [(category, "", names[0]) for category, names in CONTENT.items()]
    sent: Counter[tuple[str, str]] = Counter()
    lines = []
    for name, reason, value in [*events, *contents]:
        times = random.randrange(_SUMMED + 1)
        sent[name, reason] += times
        lines += [{name: value} if reason else {value: 1}] * times
    sidecar.post("/v1/events", _NDJSON, _lines(lines))
    told: Counter[tuple[str, str]] = Counter()
    for labels, value in sidecar.counters("collector_fields_dropped_total"):
        told[labels["field"], labels["reason"]] += value
    for labels, value in sidecar.counters("collector_content_total"):
        told[labels["category"], ""] += value
    sidecar.stop()
    query = "SELECT name, reason, times FROM hours WHERE what IN ('dropped', 'content')"
    summed: Counter[tuple[str, str]] = Counter()
    for name, reason, times in rows(sidecar.spool, query):
        summed[name, reason] += times
    offered = len(sent) * log2(_SUMMED + 1)
    return offered, offered * (+told == +sent == +summed)


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
    records = [_numbered(at) for at in range(_ORDERED)]
    random.shuffle(records)
    sidecar.post("/v1/events", _NDJSON, _lines(records))
    return [record["client.address"] for record in records]


def _order_in_spool(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    with sidecar.held():
        sent = _permuted(sidecar, random)
        lines = [line for payload in sidecar.waiting() for line in payload.splitlines()]
    told = [json.loads(line)["client.address"] for line in lines]
    return _factorial_bits(_ORDERED), _in_order(sent, told)


def _order_in_store(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    sent = _permuted(sidecar, random)
    told = [address for (address,) in _stored(sidecar, '"client.address"')]
    return _factorial_bits(_ORDERED), _in_order(sent, told)


def _order_in_file(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    sent = _permuted(sidecar, random)
    sidecar.delivered()
    told = [json.loads(line)["client.address"] for line in sidecar.lines()]
    return _factorial_bits(_ORDERED), _in_order(sent, told)


def _requests(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    times = random.randint(1, 16)
    for _ in range(times):
        sidecar.post("/v1/events", _JSON, b'{"os.type":"linux"}')
    told = len(rows(sidecar.spool, "SELECT sequence FROM receipts"))
    return log2(16), log2(16) * (told == times)


def _purposes(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    refuses = bool(random.getrandbits(1))
    headers = {"Sec-GPC": "1"} if refuses else {}
    with sidecar.held():
        sidecar.post("/v1/events", _JSON, b'{"os.type":"linux"}', headers)
        ((granted,),) = rows(sidecar.spool, "SELECT granted FROM batches")
    return 1.0, float((granted is not None) == refuses)


def _keys(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """A key of a request that may come again is chosen by the sender: its bytes must be nowhere."""
    key = random.randbytes(16)
    record = {"schema": f"{_SCHEMA}/1.0.0", "os.type": "linux"}
    headers = {"Idempotency-Key": key.hex()}
    sidecar.post("/v1/records", _NDJSON, _lines([record]), headers)
    sidecar.delivered()
    sidecar.write_down()
    files = b"".join(file.read_bytes() for file in sidecar.files())
    is_there = any(form in files for form in (key, key.hex().encode(), key[::-1]))
    return 128.0, 128.0 * is_there


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
    sidecar.post("/v1/events", _NDJSON, "\n".join(texts).encode())
    told = set(_stored(sidecar, "*"))
    return log2(len(texts)), log2(len(told))


def _buckets(sidecar: Sidecar) -> Counter[tuple[str, float]]:
    """Return the requests over HTTP by class of status and by the bound of their seconds; those of
    lower bounds are counted in each."""
    name = "collector_request_duration_seconds_bucket"
    return Counter(
        {
            (labels["status"], float(labels["le"])): times
            for labels, times in sidecar.counters(name)
            if labels["receiver"] == "http"
        }
    )


def _durations(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """A request takes longer than a second or not, and is refused or not: nothing but metrics tells
    of one that is refused. A quick one that a busy machine makes slow is sent again."""
    is_slow, is_refused = bool(random.getrandbits(1)), bool(random.getrandbits(1))
    path, body = ("/v1/logs", b"{") if is_refused else ("/v1/events", b'{"os.type":"linux"}')
    before, took = Counter[tuple[str, float]](), 2 * _SLOW_SECONDS
    while (took > _SLOW_SECONDS) != is_slow or not before:
        before = _buckets(sidecar)
        took = sidecar.post_slowly(path, _JSON, body, 1.2 * _SLOW_SECONDS * is_slow)
    new = _buckets(sidecar) - before
    status = "4xx" if is_refused else "2xx"
    is_told = {each for each, _ in new} == {status}
    is_told = is_told and (new[status, _SLOW_SECONDS] == 0) == is_slow
    return 2.0, 2.0 * is_told


_REFUSED = {
    "E413": ("/v1/nothing", _JSON, b"{}"),
    "E418": ("/v1/events", "text/plain", b"{}"),
    "E422": ("/v1/logs", _JSON, b"{"),
    "E434": ("/v1/events?schema=none", _JSON, b"{}"),
}
"""Requests that are refused, by the code."""


def _refusals(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """One of four requests that are refused."""
    code = random.choice([*_REFUSED])
    name = "collector_requests_refused_total"
    before = {labels["code"]: times for labels, times in sidecar.counters(name) if times}
    sidecar.post_slowly(*_REFUSED[code], 0)
    told = [
        labels["code"]
        for labels, times in sidecar.counters(name)
        if labels["receiver"] == "http" and times > before.get(labels["code"], 0)
    ]
    return log2(len(_REFUSED)), log2(len(_REFUSED)) * (told == [code])


def _moment(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """One of four times of two seconds each. What was not delivered within them is sent again."""
    chosen, is_late = random.randrange(_MOMENTS), True
    while is_late:
        sleep((chosen * _MOMENT_SECONDS - time()) % (_MOMENTS * _MOMENT_SECONDS))
        sidecar.post("/v1/events", _JSON, b'{"os.type":"linux"}')
        sidecar.delivered()
        is_late = int(time() // _MOMENT_SECONDS) % _MOMENTS != chosen
    name = "collector_sink_last_success_timestamp_seconds"
    (told,) = (when for labels, when in sidecar.counters(name) if labels["sink"] == "store")
    return log2(_MOMENTS), log2(_MOMENTS) * (told // _MOMENT_SECONDS % _MOMENTS == chosen)


def _clock(sidecar: Sidecar, _random: Random) -> tuple[float, float]:
    """One of two minutes."""
    sidecar.post("/v1/events", _JSON, b'{"os.type":"linux"}')
    sleep(61 - datetime.now(UTC).second)
    sidecar.post("/v1/events", _JSON, b'{"os.type":"linux"}')
    return 1.0, float(len({received for (received,) in _stored(sidecar, "received")}) == 2)


_EVENTS = "log2 of the events of a request (100,000 as it is shipped)"
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
        _EVENTS,
        _merged,
    ),
    Channel(
        "events",
        "How many events a lone request has, by outcome: receipts, answers, metrics.",
        "request",
        f"{_EVENTS}, for each of 8 outcomes",
        _events,
    ),
    Channel(
        "sums",
        "How often fields are dropped and content is met: hourly sums, metrics.",
        "request",
        f"{_EVENTS}, for each field, reason and category; and log2 of its bytes",
        _sums,
    ),
    Channel(
        "requests",
        "How many requests there are: receipts, batches, metrics.",
        "16 requests or fewer",
        "log2 of the number of requests",
        _requests,
    ),
    Channel(
        "durations",
        "How long a request takes, over which receiver, and whether it is refused: metrics.",
        "request",
        "log2 of the milliseconds that it may take, for each receiver and class of status",
        _durations,
    ),
    Channel(
        "refusals",
        "Why a request is refused, over which receiver: metrics, and the log at `debug`.",
        "refused request",
        f"log2 of the {len(REFUSAL_STATUSES)} codes, for each receiver; at `debug` with the second,"
        " in no order",
        _refusals,
    ),
    Channel(
        "purposes",
        "Whether optional purposes are refused.",
        "request, until it is delivered",
        "a bit for each optional purpose",
        _purposes,
    ),
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
        "keys",
        "The key of a request that may come again.",
        "request over /v1/records",
        "none: an HMAC is stored",
        _keys,
    ),
    Channel(
        "spellings",
        "How values, names and members of a record are written.",
        "record",
        "none: there is one canonical form",
        _spelled_twice,
    ),
    Channel(
        "clock",
        "The minute of a request: records, receipts, hourly sums.",
        "two minutes",
        "log2 of the minutes",
        _clock,
    ),
    Channel(
        "moment",
        "When a lone request comes, more exactly: metrics, times of files.",
        "request, until the next one",
        "log2 of the milliseconds",
        _moment,
    ),
)
"""All channels beside the record."""
_SLOW = ("clock", "moment")


def measure(random: Random, *, quick: bool, say: Callable[[str], None]) -> Iterator[Measured]:
    """Measure each channel on a sidecar of its own."""
    for channel in CHANNELS:
        offered, delivered = 1.0, None
        if not (quick and channel.name in _SLOW):
            say(f"leaks: channel {channel.name}")
            with TemporaryDirectory() as folder, running(Path(folder), _SCHEMA) as sidecar:
                offered, delivered = channel.measure(sidecar, random)
        told = channel.name, channel.sentence, channel.per, channel.ceiling
        yield Measured(*told, offered, delivered)


def _send_refused(sidecar: Sidecar) -> None:
    """Send requests that are refused: a reader may learn of them, too."""
    foreign = _lines([{"schema": "none/1.0.0", "os.type": "linux"}])
    for path, kind, body in (
        ("/v1/none", _JSON, b"{}"),
        ("/v1/events", "text/none", b"{}"),
        ("/v1/logs", _JSON, b"{"),
        ("/v1/traces", "application/x-protobuf", b"\xff"),
        ("/v1/records", _NDJSON, foreign),
    ):
        sidecar.post_slowly(path, kind, body, 0.0)


def unnamed(random: Random, command: Sequence[str] | None = None) -> list[str]:
    """Send different messages to two sidecars; return what is wrong with their places."""
    schema = load_schema(_SCHEMA)
    speller = Speller(values_of(schema))
    found = []
    for _ in range(2):
        with TemporaryDirectory() as folder, running(Path(folder), _SCHEMA, command) as sidecar:
            records = [speller.spell(random.randrange(speller.codes)) for _ in range(20)]
            odd = ['{"os.version":7,"audio":1}', "{", "7"][: random.randint(1, 3)]
            text = "\n".join([*event(schema, records), *odd])
            with sidecar.held():
                sidecar.post("/v1/events", _NDJSON, text.encode())
                sidecar.post("/v1/events", _JSON, text.split("\n")[0].encode())
                items = export(SHAPES["logs"].wrap(records[:2] * random.randint(2, 9)))
                sidecar.post("/v1/logs", "application/x-protobuf", items)
                sent = [{"schema": schema.id} | record for record in records[:3]]
                _send_records(sidecar, sent)
                _send_refused(sidecar)
                waiting = observed(sidecar)
            sidecar.delivered()
            after = observed(sidecar)
            found.append(waiting | after)
    return list(faults(*found))
