"""Channels of requests: how many there are, of what kind, when they come, and what they count."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from math import log2
from random import Random
from time import sleep, time
from typing import Any

from benchmarks.leaks.channels.base import (
    EVENTS,
    JSON,
    NDJSON,
    OTHER_SCHEMA,
    SCHEMA,
    Channel,
    lines,
    stored,
)
from benchmarks.leaks.sidecar import Sidecar, rows
from collector import load_schema
from collector.ops.requests import REFUSAL_CODES
from collector.schema.policy import CONTENT

_MOST = 255
"""The greatest count of a request that spells with counts."""
_SUMMED = 31
_FEW = 16
"""More requests than are sent to spell with their number."""
_SLOW_SECONDS = 1.0
_LOOK_SECONDS = 0.05
"""Between two looks at metrics that a worker reports after it has answered."""
_MOMENTS, _MOMENT_SECONDS = 4, 2


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
    told = sidecar.post("/v1/events", NDJSON, text.encode())
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
    for name in load_schema(SCHEMA).fields:
        events += [(name, "wrong_type", 7), (name, "invalid_value", "?")]
    contents = [(category, "", names[0]) for category, names in CONTENT.items()]
    sent: Counter[tuple[str, str]] = Counter()
    texts = []
    for name, reason, value in [*events, *contents]:
        times = random.randrange(_SUMMED + 1)
        sent[name, reason] += times
        texts += [{name: value} if reason else {value: 1}] * times
    sidecar.post("/v1/events", NDJSON, lines(texts))
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


def _requests(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    times = random.randint(1, _FEW)
    for _ in range(times):
        sidecar.post("/v1/events", JSON, b'{"os.type":"linux"}')
    told = len(rows(sidecar.spool, "SELECT sequence FROM receipts"))
    return log2(_FEW), log2(_FEW) * (told == times)


def _purposes(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    refuses = bool(random.getrandbits(1))
    headers = {"Sec-GPC": "1"} if refuses else {}
    with sidecar.held():
        sidecar.post("/v1/events", JSON, b'{"os.type":"linux"}', headers)
        ((granted,),) = rows(sidecar.spool, "SELECT granted FROM batches")
    return 1.0, float((granted is not None) == refuses)


def _keys(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """A key of a request that may come again is chosen by the sender: its bytes must be nowhere."""
    key = random.randbytes(16)
    record = {"schema": f"{SCHEMA}/1.0.0", "os.type": "linux"}
    headers = {"Idempotency-Key": key.hex()}
    sidecar.post("/v1/records", NDJSON, lines([record]), headers)
    sidecar.delivered()
    sidecar.write_down()
    files = b"".join(file.read_bytes() for file in sidecar.files())
    is_there = any(form in files for form in (key, key.hex().encode(), key[::-1]))
    return 128.0, 128.0 * is_there


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
    of one that is refused. A quick one that a busy machine makes slow is sent again; a slow one is
    slow enough for a server that begins to read it late."""
    is_slow, is_refused = bool(random.getrandbits(1)), bool(random.getrandbits(1))
    path, body = ("/v1/logs", b"{") if is_refused else ("/v1/events", b'{"os.type":"linux"}')
    before, took = Counter[tuple[str, float]](), 2 * _SLOW_SECONDS
    while (took > _SLOW_SECONDS) != is_slow or not before:
        before = _buckets(sidecar)
        took = sidecar.post_slowly(path, JSON, body, 4 * _SLOW_SECONDS * is_slow)
    while not (new := _buckets(sidecar) - before):
        sleep(_LOOK_SECONDS)
    status = "4xx" if is_refused else "2xx"
    is_told = {each for each, _ in new} == {status}
    is_told = is_told and (new[status, _SLOW_SECONDS] == 0) == is_slow
    return 2.0, 2.0 * is_told


def _moment(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """One of four times of two seconds each. What was not delivered within them is sent again."""
    chosen, is_late = random.randrange(_MOMENTS), True
    while is_late:
        sleep((chosen * _MOMENT_SECONDS - time()) % (_MOMENTS * _MOMENT_SECONDS))
        sidecar.post("/v1/events", JSON, b'{"os.type":"linux"}')
        sidecar.delivered()
        is_late = int(time() // _MOMENT_SECONDS) % _MOMENTS != chosen
    name = "collector_sink_last_success_timestamp_seconds"
    (told,) = (when for labels, when in sidecar.counters(name) if labels["sink"] == "store")
    return log2(_MOMENTS), log2(_MOMENTS) * (told // _MOMENT_SECONDS % _MOMENTS == chosen)


def _clock(sidecar: Sidecar, _random: Random) -> tuple[float, float]:
    """One of two minutes."""
    sidecar.post("/v1/events", JSON, b'{"os.type":"linux"}')
    sleep(61 - datetime.now(UTC).second)
    sidecar.post("/v1/events", JSON, b'{"os.type":"linux"}')
    return 1.0, float(len({received for (received,) in stored(sidecar, "received")}) == 2)


_REFUSED = {
    "E413": ("/v1/nothing", JSON, b"{}"),
    "E410": ("/v1/events", "text/plain", b"{}"),
    "E422": ("/v1/logs", JSON, b"{"),
    "E429": ("/v1/records", "application/x-ndjson", b'{"schema":"none/1.0.0"}\n'),
}
"""Requests that are refused, by the code."""


def _refusals(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """One of four requests that are refused."""
    code = random.choice([*_REFUSED])
    name = "collector_requests_refused_total"
    before = {labels["code"]: times for labels, times in sidecar.counters(name) if times}
    sidecar.post_slowly(*_REFUSED[code], 0)
    told: list[str] = []
    while not told:
        sleep(_LOOK_SECONDS)
        told = [
            labels["code"]
            for labels, times in sidecar.counters(name)
            if labels["receiver"] == "http" and times > before.get(labels["code"], 0)
        ]
    return log2(len(_REFUSED)), log2(len(_REFUSED)) * (told == [code])


def _schemas(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """One of two schemas, which receipts have by its digest, tables and metrics by name."""
    names = (SCHEMA, OTHER_SCHEMA)
    sent = [random.choice(names) for _ in range(_FEW)]
    for name in sent:
        path = f"/v1/events?schema={name}"
        sidecar.post(path, JSON, b'{"os":{"type":"linux"},"os.type":"linux"}')
    query = "SELECT schema FROM receipts ORDER BY sequence"
    digests = {load_schema(name).digest: name for name in names}
    told = [digests[digest] for (digest,) in rows(sidecar.spool, query)]
    return _FEW * log2(len(names)), _FEW * log2(len(names)) * (told == sent)


CHANNELS: tuple[Channel, ...] = (
    Channel(
        "events",
        "How many events a lone request has, by outcome: receipts, answers, metrics.",
        "request",
        f"{EVENTS}, for each of 8 outcomes",
        _events,
    ),
    Channel(
        "sums",
        "How often fields are dropped and content is met: hourly sums, metrics.",
        "request",
        f"{EVENTS}, for each field, reason and category; and log2 of its bytes",
        _sums,
    ),
    Channel(
        "requests",
        "How many requests there are: receipts, batches, metrics.",
        f"{_FEW} requests or fewer",
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
        "purposes",
        "Whether optional purposes are refused.",
        "request, until it is delivered",
        "a bit for each optional purpose",
        _purposes,
    ),
    Channel(
        "refusals",
        "Why a request is refused, over which receiver: metrics, and the log at `debug`.",
        "refused request",
        f"log2 of the {len(REFUSAL_CODES)} codes, for each receiver; at `debug` with the second,"
        " in no order",
        _refusals,
    ),
    Channel(
        "schemas",
        "Which schema of a sidecar a request names.",
        f"{_FEW} requests",
        "log2 of the schemas of a sidecar (8 at most) for each request",
        _schemas,
    ),
    Channel(
        "keys",
        "The key of a request that may come again.",
        "request over /v1/records",
        "none: an HMAC is stored",
        _keys,
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
"""Those of requests."""
SLOW = ("clock", "moment")
"""The names of those that wait for a time to come."""
