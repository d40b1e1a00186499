"""What a sender can spell beside the fields of a record, measured on a running sidecar.

Each channel has a sentence, the bits of its alphabet in this measurement, and the bits that a
reader decoded. ``places`` lists where each channel is read, and finds places without a channel.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf, lgamma, log, log2
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import sleep, time
from typing import Any, NamedTuple

from benchmarks.figures import say
from benchmarks.leaks.events import SHAPES, export
from benchmarks.leaks.places import Places, faults, observed
from benchmarks.leaks.sidecar import BACKEND, LAKE, WAREHOUSE, Sidecar, opened, rows, running
from benchmarks.leaks.spelling import Record, Speller, event, values_of
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
from collector.ops.requests import REFUSAL_CODES
from collector.schema.policy import CONTENT

SCHEMA, OTHER_SCHEMA = "conferencing", "web"
"""The schema of every sidecar, and the second schema of some."""
_JSON, _NDJSON, _PROTOBUF = "application/json", "application/x-ndjson", "application/x-protobuf"
_EVENTS = "log2 of the events of a request (20,000 as it is shipped)"
_LINUX = b'{"os.type":"linux"}'
_MERGED, _SUMMED, _MOST = 4_095, 31, 255
"""The greatest counts that spell: of equal items, of a sum, of a request."""
_FEW = 16
"""The number of requests spells fewer than this many values."""
_IN_A_BODY = 60
_OFF_GRID = 120
"""How many numbers and times of records are tried besides the valid ones."""
_ORDERED = 64
"""The number of records in a request whose order spells."""
_SLOW_SECONDS = 1.0
_LOOK_SECONDS = 0.05
"""Between two looks at metrics that a worker reports after its answer."""
_MOMENTS, _MOMENT_SECONDS = 4, 2
_AT_ONCE = 2
_SEVERAL = {"COLLECTOR__SCHEMAS": f"{SCHEMA},{OTHER_SCHEMA}"}

_Spell = Callable[[Sidecar, Random], tuple[float, float]]
"""Sends to a sidecar and reads there; returns the bits offered and delivered."""


class Channel(NamedTuple):
    """A way to send information beside the fields. ``per`` is the unit that is counted, ``ceiling``
    the limit, and ``needs`` the location that its sidecar delivers to, in addition to store and
    file."""

    name: str
    sentence: str
    per: str
    ceiling: str
    measure: _Spell
    needs: str = ""


class Measured(NamedTuple):
    """One channel: ``offered`` bits were sent at a time, and ``delivered`` bits were read."""

    channel: Channel
    offered: float
    delivered: float | None


def numbered(number: int) -> Record:
    """Return the record that stands for a number: an address."""
    return {"client.address": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"}


def _lines(records: Sequence[Any]) -> bytes:
    return "\n".join(map(json.dumps, records)).encode()


def _send_records(sidecar: Sidecar, records: Sequence[Any]) -> None:
    sidecar.post("/v1/records", _NDJSON, _lines(records))


def _stored(sidecar: Sidecar, columns: str) -> list[tuple[Any, ...]]:
    """Return columns of the store, row by row, after everything is delivered."""
    sidecar.server.drained()
    return rows(sidecar.store, f"SELECT {columns} FROM {SCHEMA} ORDER BY _rowid_")


# -- of a record -----------------------------------------------------------------------------------


def _presence(sidecar: Sidecar, _random: Random) -> tuple[float, float]:
    """Every set of fields, each with one value."""
    first = {name: each.nth(0) for name, each in values_of(load_schema(SCHEMA)).items()}
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
    common = {"schema": f"{SCHEMA}/1.0.0"}
    counts = enumerate([*sorted(powers | between), *others])
    _send_records(sidecar, [common | numbered(at) | {"count": times} for at, times in counts])
    told = {count for (count,) in _stored(sidecar, "count")}
    return log2(COUNT_VALUES), _bits_of(told, powers)


def _received(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """Minutes that a record may have, and other times."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    minute, hour = timedelta(minutes=1), timedelta(hours=1)
    minutes = [now + minute * at for at in range(-(EXACT // minute), AHEAD // minute + 1)]
    minutes += [(now - EXACT).replace(minute=0) - hour * at for at in range(OLDEST // hour)]
    wide = OLDEST // timedelta(seconds=1) + 3_600
    others = [now + timedelta(seconds=random.randint(-wide, 3_600)) for _ in range(_OFF_GRID)]
    others += [each.replace(second=0) for each in others]
    common = {"schema": f"{SCHEMA}/1.0.0", "os.type": "linux"}
    grid = [to_minute(each) for each in minutes]
    texts = [*grid, *(each.strftime("%Y-%m-%dT%H:%M:%SZ") for each in others)]
    for at in range(0, len(texts), _IN_A_BODY):
        sent = [common | {"received": text} for text in texts[at : at + _IN_A_BODY]]
        _send_records(sidecar, sent)
    told = {received for (received,) in _stored(sidecar, "received")}
    return log2(RECEIVED_VALUES), _bits_of(told, set(grid))


def _bits_of(told: AbstractSet[Any], counted: AbstractSet[Any]) -> float:
    """Return the bits of the values that were read; infinite if one was unexpected."""
    return log2(max(1, len(told))) if told <= counted else inf


def _merged(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    times = random.randint(1, _MERGED)
    sidecar.post("/v1/logs", _PROTOBUF, export(SHAPES["logs"].wrap([numbered(1)] * times)))
    told = [count for (count,) in _stored(sidecar, "count")]
    return log2(_MERGED), log2(_MERGED) * (told == [times])


def _spelled_twice(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """One record in many spellings: the order of members, aliases, capitals and zeros of addresses,
    additional members. None of this may remain."""
    texts = [
        '{"ip":"2001:db8::a","os":{"type":"iOS"}}',
        '{"os":{"type":"ios"},"client.address":"2001:DB8:0:0:0:0:0:A"}',
        '{"os.type":"iPadOS","ip_address":"2001:0db8::000A","zoom":1}',
        '{"os.type":"ios","client":{"address":"2001:db8::A"},"audio":0}',
    ]
    random.shuffle(texts)
    sidecar.post("/v1/events", _NDJSON, "\n".join(texts).encode())
    return log2(len(texts)), log2(len(set(_stored(sidecar, "*"))))


# -- of requests: how many there are, of what kind, when they come, and what they count ------------


def _events(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """A sender who is alone chooses each count in its receipt, its answer and the metrics."""
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
    answered = dict.fromkeys(lines, 0) | told["rejected"] | {"admitted": told["admitted"]}
    offered = len(lines) * log2(_MOST + 1)
    return offered, offered * (summed == sent == {name: answered[name] for name in lines})


def _sums(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """Dropped and recognised content is summed by field, reason and category: immediately in
    metrics, by hour in the spool."""
    kinds: list[tuple[str, str, dict[str, Any]]] = []
    for name in load_schema(SCHEMA).fields:
        kinds += [(name, "wrong_type", {name: 7}), (name, "invalid_value", {name: "?"})]
    kinds += [(category, "", {names[0]: 1}) for category, names in CONTENT.items()]
    sent, texts = Counter[tuple[str, str]](), []
    for name, reason, member in kinds:
        times = random.randrange(_SUMMED + 1)
        sent[name, reason] += times
        texts += [member] * times
    sidecar.post("/v1/events", _NDJSON, _lines(texts))
    told = Counter[tuple[str, str]]()
    for labels, value in sidecar.counters("collector_fields_dropped_total"):
        told[labels["field"], labels["reason"]] += value
    for labels, value in sidecar.counters("collector_content_total"):
        told[labels["category"], ""] += value
    sidecar.server.stop()
    summed = Counter[tuple[str, str]]()
    query = "SELECT name, reason, times FROM hours WHERE what IN ('dropped', 'content')"
    for name, reason, times in rows(sidecar.spool, query):
        summed[name, reason] += times
    offered = len(sent) * log2(_SUMMED + 1)
    return offered, offered * (+told == +sent == +summed)


def _requests(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    times = random.randint(1, _FEW)
    for _ in range(times):
        sidecar.post("/v1/events", _JSON, _LINUX)
    told = len(rows(sidecar.spool, "SELECT sequence FROM receipts"))
    return log2(_FEW), log2(_FEW) * (told == times)


def _buckets(sidecar: Sidecar) -> Counter[tuple[str, float]]:
    """Return the requests over HTTP by class of status and by the upper bound of their seconds. A
    bucket includes the requests of all lower bounds."""
    found = sidecar.counters("collector_request_duration_seconds_bucket")
    http = ((labels, times) for labels, times in found if labels["receiver"] == "http")
    return Counter({(labels["status"], float(labels["le"])): times for labels, times in http})


def _durations(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """A request takes more than a second or not, and is refused or not; only metrics show a refused
    one. If a busy machine makes a quick request slow, it is sent again once the metrics show this.
    A slow request is slow enough even for a server that begins to read it late."""
    is_slow, is_refused = bool(random.getrandbits(1)), bool(random.getrandbits(1))
    path, body = ("/v1/logs", b"{") if is_refused else ("/v1/events", _LINUX)
    is_meant = False
    while not is_meant:
        before = _buckets(sidecar)
        took = sidecar.post_slowly(path, _JSON, body, 4 * _SLOW_SECONDS * is_slow)
        is_meant = (took > _SLOW_SECONDS) == is_slow
        while not (new := _buckets(sidecar) - before):
            sleep(_LOOK_SECONDS)
    status = "4xx" if is_refused else "2xx"
    is_told = {each for each, _ in new} == {status}
    is_told = is_told and (new[status, _SLOW_SECONDS] == 0) == is_slow
    return 2.0, 2.0 * is_told


def _purposes(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    refuses = bool(random.getrandbits(1))
    with sidecar.held():
        sidecar.post("/v1/events", _JSON, _LINUX, {"Sec-GPC": "1"} if refuses else {})
        ((granted,),) = rows(sidecar.spool, "SELECT granted FROM batches")
    return 1.0, float((granted is not None) == refuses)


_REFUSED = {
    "E413": ("/v1/nothing", _JSON, b"{}"),
    "E410": ("/v1/events", "text/plain", b"{}"),
    "E422": ("/v1/logs", _JSON, b"{"),
    "E429": ("/v1/records", _NDJSON, b'{"schema":"none/1.0.0"}\n'),
}
"""Requests that are refused, by code."""


def _refusals(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """One of four refused requests."""
    code, name = random.choice([*_REFUSED]), "collector_requests_refused_total"
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
    """One of two schemas. Receipts name it by its digest, tables and metrics by its name."""
    names = (SCHEMA, OTHER_SCHEMA)
    sent = [random.choice(names) for _ in range(_FEW)]
    for name in sent:
        both = b'{"os":{"type":"linux"},"os.type":"linux"}'
        sidecar.post(f"/v1/events?schema={name}", _JSON, both)
    digests = {load_schema(name).digest: name for name in names}
    query = "SELECT schema FROM receipts ORDER BY sequence"
    told = [digests[digest] for (digest,) in rows(sidecar.spool, query)]
    return _FEW * log2(len(names)), _FEW * log2(len(names)) * (told == sent)


def _keys(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """The sender chooses a retry key, so its bytes must be nowhere."""
    key = random.randbytes(16)
    record = {"schema": f"{SCHEMA}/1.0.0", "os.type": "linux"}
    sidecar.post("/v1/records", _NDJSON, _lines([record]), {"Idempotency-Key": key.hex()})
    sidecar.server.drained()
    sidecar.write_down()
    files = b"".join(file.read_bytes() for file in sidecar.files())
    is_there = any(form in files for form in (key, key.hex().encode(), key[::-1]))
    return 128.0, 128.0 * is_there


def _clock(sidecar: Sidecar, _random: Random) -> tuple[float, float]:
    """One of two minutes."""
    sidecar.post("/v1/events", _JSON, _LINUX)
    sleep(61 - datetime.now(UTC).second)
    sidecar.post("/v1/events", _JSON, _LINUX)
    return 1.0, float(len({received for (received,) in _stored(sidecar, "received")}) == 2)


def _moment(sidecar: Sidecar, random: Random) -> tuple[float, float]:
    """One of four slots of two seconds. A request that was not delivered in its slot is sent
    again."""
    chosen, is_late = random.randrange(_MOMENTS), True
    while is_late:
        sleep((chosen * _MOMENT_SECONDS - time()) % (_MOMENTS * _MOMENT_SECONDS))
        sidecar.post("/v1/events", _JSON, _LINUX)
        sidecar.server.drained()
        is_late = int(time() // _MOMENT_SECONDS) % _MOMENTS != chosen
    name = "collector_sink_last_success_timestamp_seconds"
    (told,) = (when for labels, when in sidecar.counters(name) if labels["sink"] == "store")
    return log2(_MOMENTS), log2(_MOMENTS) * (told // _MOMENT_SECONDS % _MOMENTS == chosen)


# -- of an order -----------------------------------------------------------------------------------

_ADDRESS = "client.address"
_Order = list[str]


def _in_spool(sidecar: Sidecar) -> Iterator[_Order]:
    texts = (line for payload in sidecar.waiting() for line in payload.splitlines())
    yield [json.loads(line)[_ADDRESS] for line in texts]


def _in_store(sidecar: Sidecar) -> Iterator[_Order]:
    yield [address for (address,) in _stored(sidecar, f'"{_ADDRESS}"')]


def _in_file(sidecar: Sidecar) -> Iterator[_Order]:
    yield [json.loads(line)[_ADDRESS] for line in sidecar.lines()]


def _in_lake(sidecar: Sidecar) -> Iterator[_Order]:
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    tables = (parquet.read_table(path, columns=[_ADDRESS]) for path in sidecar.locations.files())
    yield [str(text) for table in tables for text in table[_ADDRESS].to_pylist()]


def _over_otlp(sidecar: Sidecar) -> Iterator[_Order]:
    """Yield the order of log records, and the order of their names."""
    told: list[tuple[str, str]] = []
    for request in sidecar.locations.exported():
        for record in request.resource_logs[0].scope_logs[0].log_records:
            found = {each.key: each.value.string_value for each in record.attributes}
            told.append((found["log.record.uid"], found[_ADDRESS]))
    yield from ([address for _, address in each] for each in (told, sorted(told)))


def _in_tables(sidecar: Sidecar) -> Iterator[_Order]:
    query = f'SELECT host("{_ADDRESS}") FROM collector.{SCHEMA} ORDER BY ctid'
    yield [address for (address,) in sidecar.locations.ask(query)]


def _order(
    read: Callable[[Sidecar], Iterator[_Order]], sidecar: Sidecar, random: Random
) -> tuple[float, float]:
    """Send records in an order, and read them in their place: from the spool, or after delivery."""
    records = [numbered(at) for at in range(_ORDERED)]
    random.shuffle(records)
    sent = [record[_ADDRESS] for record in records]
    if read is _in_spool:
        with sidecar.held():
            sidecar.post("/v1/events", _NDJSON, _lines(records))
            told = [*read(sidecar)]
    else:
        sidecar.post("/v1/events", _NDJSON, _lines(records))
        sidecar.server.drained()
        told = [*read(sidecar)]
    whole = lgamma(_ORDERED + 1) / log(2)
    return whole, whole * max(_agreement(sent, each) for each in told)


def _agreement(sent: _Order, told: _Order) -> float:
    """Return how many more pairs are in order than by chance (Kendall's tau). A value within five
    standard deviations may be an accident and gives 0."""
    at = {text: number for number, text in enumerate(told)}
    known = [at[text] for text in sent if text in at]
    pairs = [(a < b) for i, a in enumerate(known) for b in known[i + 1 :]]
    tau = 2 * sum(pairs) / max(1, len(pairs)) - 1
    number = len(sent)
    chance = 5 * (2 * (2 * number + 5) / (9 * number * (number - 1))) ** 0.5
    return tau if tau > chance else 0.0


_ORDERS: dict[Callable[[Sidecar], Iterator[_Order]], tuple[str, str, str, str]] = {
    _in_spool: ("in the spool", "The order of records.", "log2 of n! for n records", ""),
    _in_store: ("in the store", "The order of rows.", "none: rows lie in random order", ""),
    _in_file: (
        "in files",
        "The order of lines.",
        "none: lines that arrive together are shuffled",
        "",
    ),
    _in_lake: ("in Parquet files", "The order of rows.", "none: rows are shuffled", LAKE),
    _over_otlp: (
        *("over OTLP", "The order of log records, and of their names."),
        "none: records of a batch are shuffled; a name is a hash under a key that is not sent",
        BACKEND,
    ),
    _in_tables: ("in PostgreSQL", "The order of rows.", "none: rows are shuffled", WAREHOUSE),
}
"""For each reader of an order: where it reads, what spells, the ceiling, and the location that it
needs."""


# -- all of them -----------------------------------------------------------------------------------

_SENT = "stored record, sent over /v1/records"
_TABLE: dict[_Spell, tuple[str, str, str, str]] = {
    _presence: (
        *("presence", "Which fields a record has.", "record"),
        "the sets of fields, which are in the bits of the record",
    ),
    _count: (
        *("count", "How many events a sent record stands for.", _SENT),
        f"{COUNT_VALUES} values: `schema capacity`",
    ),
    _received: (
        *("received", "When a sent record was received, as its sender says.", _SENT),
        f"{RECEIVED_VALUES} values: `schema capacity`",
    ),
    _merged: (
        *("merge counts", "How many items of an OTLP request are alike."),
        *("different record of a request", _EVENTS),
    ),
    _spelled_twice: (
        *("spellings", "How values, names and members of a record are written.", "record"),
        "none: there is one canonical form",
    ),
    _events: (
        *("events", "How many events a lone request has, by outcome: receipts, answers, metrics."),
        *("request", f"{_EVENTS}, for each of 8 outcomes"),
    ),
    _sums: (
        *("sums", "How often fields are dropped and content is met: hourly sums, metrics."),
        *("request", f"{_EVENTS}, for each field, reason and category; and log2 of its bytes"),
    ),
    _requests: (
        *("requests", "How many requests there are: receipts, batches, metrics."),
        *(f"{_FEW} requests or fewer", "log2 of the number of requests"),
    ),
    _durations: (
        "durations",
        "How long a request takes, over which receiver, and whether it is refused: metrics.",
        "request",
        "log2 of the milliseconds that it may take, for each receiver and class of status",
    ),
    _purposes: (
        *("purposes", "Whether optional purposes are refused."),
        *("request, until it is delivered", "a bit for each optional purpose"),
    ),
    _refusals: (
        "refusals",
        "Why a request is refused, over which receiver: metrics, and the log at `debug`.",
        "refused request",
        f"log2 of the {len(REFUSAL_CODES)} codes, for each receiver; at `debug` with the second",
    ),
    _schemas: (
        *("schemas", "Which schema of a sidecar a request names.", f"{_FEW} requests"),
        "log2 of the schemas of a sidecar (8 at most) for each request",
    ),
    _keys: (
        *("keys", "The key of a request that may come again.", "request over /v1/records"),
        "none: an HMAC is stored",
    ),
    _clock: (
        *("clock", "The minute of a request: records, receipts, hourly sums.", "two minutes"),
        "log2 of the minutes",
    ),
    _moment: (
        *("moment", "When a lone request comes, more exactly: metrics, times of files."),
        *("request, until the next one", "log2 of the milliseconds"),
    ),
}
_ONE = f"request of {_ORDERED} records"
CHANNELS: tuple[Channel, ...] = (
    *(Channel(*row, measure) for measure, row in _TABLE.items()),
    *(
        Channel(
            f"order {place}",
            sentence,
            f"{_ONE}, until it is delivered" if read is _in_spool else _ONE,
            ceiling,
            partial(_order, read),
            needs,
        )
        for read, (place, sentence, ceiling, needs) in _ORDERS.items()
    ),
)
"""All channels beside the record."""
SLOW = ("clock", "moment")
"""The names of channels that wait for a certain time."""


def of_channel(channel: Channel, folder: Path, random: Random) -> tuple[float, float] | None:
    """Measure a channel on a sidecar in a folder; ``None`` if its prerequisites are not
    installed."""
    with opened((channel.needs,), folder) as locations:
        if channel.needs and not locations.environ:
            return None
        more = _SEVERAL if channel.name == "schemas" else {}
        with running(folder, SCHEMA, more=more, locations=locations) as sidecar:
            return channel.measure(sidecar, random)


def measure(seed: int, *, quick: bool) -> Iterator[Measured]:
    """Measure each channel on its own sidecar, two at a time."""

    def measured(channel: Channel) -> Measured:
        found = None
        if not (quick and channel.name in SLOW):
            say(f"leaks: channel {channel.name}")
            with TemporaryDirectory() as folder:
                found = of_channel(channel, Path(folder), Random(f"{seed} {channel.name}"))
        offered, delivered = found or (1.0, None)
        return Measured(channel, offered, delivered)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(measured, CHANNELS)


# -- places without a channel ----------------------------------------------------------------------


def _send(sidecar: Sidecar, random: Random) -> None:
    """Send a message over every way in, a message of a second schema, and requests that are
    refused."""
    schema = load_schema(SCHEMA)
    speller = Speller(values_of(schema))
    spelled = [speller.spell(random.randrange(speller.codes)) for _ in range(20)]
    odd = ['{"os.version":7,"audio":1}', "{", "7"][: random.randint(1, 3)]
    text = "\n".join([*event(schema, spelled), *odd])
    items = export(SHAPES["logs"].wrap(spelled[:2] * random.randint(2, 9)))
    for path, kind, body in (
        ("/v1/events", _NDJSON, text.encode()),
        ("/v1/events", _JSON, text.split("\n")[0].encode()),
        (f"/v1/events?schema={OTHER_SCHEMA}", _NDJSON, text.encode()),
        ("/v1/logs", _PROTOBUF, items),
    ):
        sidecar.post(path, kind, body)
    sidecar.call("logs", items)
    _send_records(sidecar, [{"schema": schema.id} | record for record in spelled[:3]])
    foreign = _lines([{"schema": "none/1.0.0", "os.type": "linux"}])
    for path, kind, body in (
        ("/v1/none", _JSON, b"{}"),
        ("/v1/events?schema=none", _JSON, b"{}"),
        ("/v1/events", "text/none", b"{}"),
        ("/v1/logs", _JSON, b"{"),
        ("/v1/traces", _PROTOBUF, b"\xff"),
        ("/v1/records", _NDJSON, foreign),
    ):
        sidecar.post_slowly(path, kind, body, 0.0)


def unnamed(random: Random, command: Sequence[str] = ()) -> list[str]:
    """Send different messages to two sidecars with two schemas that deliver to every type of sink;
    return what is wrong with their places."""

    def places(own: Random) -> Places:
        with (
            TemporaryDirectory() as folder,
            opened((LAKE, BACKEND, WAREHOUSE), Path(folder)) as locations,
            running(Path(folder), SCHEMA, command, more=_SEVERAL, locations=locations) as sidecar,
        ):
            with sidecar.held():
                _send(sidecar, own)
                waiting = observed(sidecar)
            sidecar.server.drained()
            locations.files()
            return waiting | observed(sidecar)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        first, second = pool.map(places, [Random(random.random()) for _ in range(2)])
    return list(faults(first, second))
