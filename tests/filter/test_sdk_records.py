"""Records that come in again: the same as they were, or nothing of what they pretend to be."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import add
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import Filter, InputError, Schema, load_schema
from collector.contracts import REJECTIONS, PendingBatch, Record, Tally
from collector.filter import sdk_records
from collector.filter.recheck import Recheck
from collector.filter.sdk_records import (
    COUNT_VALUES,
    MAX_TIMES,
    MOST_MINUTES,
    RECEIVED_VALUES,
    schema_named,
)
from collector.filter.text import MAX_LINE
from collector.testing._texts import seeds, write
from collector.testing._values import junk, scalars, values
from collector.testing.laws import fixed_key as key
from tests.conftest import IS_WHOLE
from tests.filter.sdk_record_reference import SdkRecordReference
from tests.filter.test_laws import changed
from tests.filter.traces import CANARY, mentions, told_by
from tests.strategies import lines, payloads, schemas
from tests.strategies.documents import PURPOSES
from tests.support.make_schemas import field
from tests.support.raising import raises

NOW = datetime(2026, 6, 1, 12, 30, 29, 5, tzinfo=UTC)
MINUTE = "2026-06-01T12:30:00Z"
some = settings(max_examples=max(1, settings().max_examples // 3))
granted = st.none() | st.sets(st.sampled_from(PURPOSES), max_size=2)


def made(schema: Schema, purposes: Any = None, now: datetime = NOW) -> Filter:
    return Filter(schema, purposes=purposes, as_of=now, keys=key)


def never_ends(schema: Schema) -> Schema:
    """The schema, all of whose fields are collected for ever."""
    fields = schema.fields.items()
    return changed(schema, {n: f.model_copy(update={"expires": None}) for n, f in fields})


CONFERENCING = made(load_schema("conferencing"))
RECORD = {"schema": "conferencing/1.0.0", "client.address": "203.0.113.7", "os.type": "linux"}
LINE = b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.7","os.type":"linux"}\n'


def text(*records: Any) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def only(shares: list[PendingBatch]) -> PendingBatch:
    """The share of a body of one minute."""
    (share,) = shares
    return share


# -- strategies -----------------------------------------------------------------------------------

COUNTS: st.SearchStrategy[Any] = st.sampled_from(
    [*3 * (None, 1, 2, 3, MAX_TIMES), 0, -1, MAX_TIMES + 1, 10**30, 1.0, 2.5, True, "2", [2], {}]
)
RECEIVED: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, MINUTE, "2026-06-01T12:29:00Z", "2026-06-01T12:35:00Z", "2026-06-01T12:36:00Z"),
        *("2026-05-01T12:30:00Z", "2026-05-01T12:29:00Z", "2030-01-01T00:00:00Z", "", "now"),
        *("2026-06-01T12:30:01Z", "2026-06-01T12:30:00.0Z", "2026-06-01T12:30:00+00:00"),
        *("2026-06-01t12:30:00z", "2026-06-01 12:30:00Z", "2026-02-30T12:30:00Z", f" {MINUTE}"),
        *(
            "2026-06-01T24:00:00Z",
            "2026-05-31T23:60:00Z",
            "2026-06-01T12:30Z",
            "9999-12-31T23:59:00Z",
        ),
        *(
            *("0000-00-00T00:00:00Z", "٢026-06-01T12:30:00Z", f"{MINUTE}\n", 1780317000, True),
            [MINUTE],
        ),
    ]
)


@st.composite
def stored(draw: st.DrawFn, schema: Schema, purposes: Any = None) -> dict[str, Any]:
    """A line: a record, often of what its fields accept, with something else in it."""
    fields = schema.fields.items()
    line: dict[str, Any] = {"schema": schema.id}
    line |= draw(st.fixed_dictionaries({}, optional={n: values(f, NOW) for n, f in fields}))
    for record in (
        made(schema, purposes).admit({n: line[n] for n in schema.fields if n in line}).records
    ):
        line |= record
    names = st.sampled_from(
        [*schema.fields, *schema.content_names, "unlisted", "received", "count"]
    )
    line |= draw(st.dictionaries(names, junk() | scalars(), max_size=2))
    line |= draw(st.fixed_dictionaries({}, optional={"count": COUNTS, "received": RECEIVED}))
    odd: dict[str, st.SearchStrategy[Any]] = {
        "schema": st.sampled_from([None, 1, [], "", "other/1.0.0", schema.id.upper()])
    }
    return line | draw(st.just({}) | st.just({}) | st.just({}) | st.fixed_dictionaries(odd))


@st.composite
def bodies(draw: st.DrawFn, schema: Schema, purposes: Any = None) -> bytes:
    """Lines of records, written in all ways that mean the same, among lines of any kind."""
    listed = [
        write(draw(stored(schema, purposes)), draw(seeds()), spaces=" \t\r")
        for _ in range(draw(st.integers(1, 4)))
    ]
    listed += draw(st.lists(lines(schema, now=NOW), max_size=1))
    return b"\n".join(draw(st.permutations(listed)))


# -- laws -----------------------------------------------------------------------------------------


@st.composite
def sent(draw: st.DrawFn, schema: Schema, purposes: Any = None) -> bytes:
    """Lines as an SDK writes them, of one or two minutes, some of them damaged or of others."""
    minutes = st.sampled_from([MINUTE, "2026-06-01T11:00:00Z", "2026-05-31T10:20:00Z", "now"])
    usual, record_lines = draw(minutes), list[bytes]()
    for _ in range(draw(st.integers(1, 4))):
        events = draw(lines(schema, now=NOW))
        record_lines += made(schema, purposes).admit_lines(events).encode().splitlines()
    found = []
    for line in record_lines[:20]:
        minute = draw(st.sampled_from([usual, usual, usual, usual, draw(minutes)]))
        count = draw(st.sampled_from([b"", b"", b"", b',"count":2', b',"count":3', b',"count":0']))
        end = b'%b,"received":"%b"}' % (count, minute.encode())
        found.append(line[:-1] + end)
    body = b"".join(line + b"\n" for line in found)
    damages = [(b"", b""), (b',"received"', b',"recieved"'), (b'"}\n', b'"]\n'), (b"1", b"2")]
    damages += [(b"}\n", b"}"), (b"}\n", b"}\r\n"), (b",", b", "), (b"}\n{", b"}{"), (b'"', b"'")]
    old, new = draw(st.sampled_from([*3 * damages[:1], *damages]))
    return body.replace(old, new, draw(st.sampled_from([-1, 1])))


def _agree(
    schema: Schema, purposes: Any, body: bytes, sizes: tuple[int, ...]
) -> list[PendingBatch] | None:
    """Filter and reference agree, however many lines are taken together, also on what they refuse
    as a whole; return the shares, or ``None``."""
    expected: Any = None
    reference = SdkRecordReference(schema, purposes=purposes, as_of=NOW, keys=key)
    with suppress(InputError):
        expected = reference.admit_records(body)
    shares: list[PendingBatch] | None = None
    tested = made(schema, purposes)
    for size in sizes:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sdk_records, "_PIECE", size)
            if expected is None:
                with raises("E429", InputError):
                    tested.admit_records(body)
                continue
            shares = tested.admit_records(body)
        assert [share.received for share in shares] == list(expected)
        for share in shares:
            assert share.payload == expected[share.received].encode()
            assert share.tally == expected[share.received].tally
    return shares


@given(st.data(), schemas(), granted)
def test_one_meaning_of_what_an_sdk_sends(
    data: st.DataObject, schema: Schema, purposes: Any
) -> None:
    """Many lines at once are what they are one by one, and where one of them is damaged."""
    _agree(schema, purposes, data.draw(sent(schema, purposes)), (1, 300, 1 << 14))


@some
@given(st.data(), schemas(), granted)
def test_one_meaning(data: st.DataObject, schema: Schema, purposes: Any) -> None:
    """Filter and reference agree, for any bytes. ``received == admitted + sum(rejected)``, and
    every record counts as often as it says. A body gives what its lines give one by one."""
    payload = data.draw(bodies(schema, purposes))
    whole = _agree(schema, purposes, payload, (1 << 14,))
    if whole is None:
        return
    assert len({share.received for share in whole}) == len(whole)
    tested, parts = made(schema, purposes), payload.split(b"\n")
    alone = [
        s for n, part in enumerate(parts) for s in tested.admit_records(b"\n" * (n > 0) + part)
    ]
    for share in whole:
        tally = share.tally
        assert tally.received == tally.admitted + tally.rejected.total() > 0
        kept = [json.loads(line) for line in share.payload.splitlines()]
        assert tally.admitted == sum(record.get("count", 1) for record in kept)
        assert set(tally.rejected) <= set(REJECTIONS)
        assert tally.bytes_out == len(share.payload)
        same = [each for each in alone if each.received == share.received]
        assert share.payload == b"".join(each.payload for each in same)
        total = reduce(add, (each.tally for each in same))
        total.bytes_in = tally.bytes_in
        assert tally == total
    assert {share.received for share in alone} == {share.received for share in whole}


@some
@given(st.data(), schemas(), st.integers(0, 59), st.integers(0, 30 * 86400))
def test_a_record_comes_out_as_it_went_in(
    data: st.DataObject, schema: Schema, second: int, later: int
) -> None:
    """Every admitted record of any event, pseudonyms and times included, whenever it arrives."""
    schema = never_ends(schema)
    then = NOW.replace(second=second)
    admission = made(schema, now=then).admit(data.draw(payloads(schema, now=then)))
    times = data.draw(st.sampled_from([1, 2, 1 << 19]))
    counted = {"count": times} if times > 1 else {}
    kept = [record | counted for record in admission.records]
    is_exact = (second + later) // 60 <= 60
    minute = MINUTE if is_exact else f"{MINUTE[:13]}:00:00Z"
    sent = text(*(record | {"received": MINUTE} for record in kept))
    shares = made(schema, now=then + timedelta(seconds=later)).admit_records(sent)
    assert b"".join(share.payload for share in shares) == _written(kept)
    assert [share.received for share in shares] == [minute] * bool(kept)
    for share in shares:
        expected = Tally(len(kept) * times, len(kept) * times)
        expected.bytes_in, expected.bytes_out = len(sent), len(share.payload)
        assert share.tally == expected


def _written(records: list[Record]) -> bytes:
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


@some
@given(st.data(), schemas(), seeds(), seeds())
def test_noninterference(data: st.DataObject, schema: Schema, seed: int, other: int) -> None:
    """What is not listed, what is dropped, and how a line is written change no record, and nothing
    that is counted but drops and content."""
    tested = made(schema)
    line = data.draw(stored(schema)) | {"schema": schema.id}
    first = tested.admit_records(write(line, seed, spaces=" \t\r"))
    kept = {"schema", "count", "received", *schema.fields} - set(only(first).tally.dropped)
    names = st.text(max_size=4) | st.sampled_from(list(schema.content_names))
    more = data.draw(st.dictionaries(names, junk(), max_size=3))
    twin = {name: line[name] for name in data.draw(st.permutations(list(line))) if name in kept}
    twin |= {name: value for name, value in more.items() if name not in {*kept, *schema.fields}}
    second = tested.admit_records(write(twin, other, spaces=" \t\r"))
    for one, two in zip(first, second, strict=True):
        assert (one.received, one.payload) == (two.received, two.payload)
        fields = ("received", "admitted", "rejected", "bytes_out")
        assert [getattr(one.tally, f) for f in fields] == [getattr(two.tally, f) for f in fields]


# -- what is in a line ----------------------------------------------------------------------------


def test_a_record_of_a_minute() -> None:
    """What an SDK sends: the record, how often, and when; out come the record and its minute."""
    share = only(
        CONFERENCING.admit_records(text({**RECORD, "count": 4, "received": "2026-06-01T12:10:00Z"}))
    )
    assert share.received == "2026-06-01T12:10:00Z"
    assert share.payload == LINE.replace(b"}", b',"count":4}')
    assert (share.tally.received, share.tally.admitted, share.tally.rejected) == (4, 4, {})


@pytest.mark.parametrize("count", [3, 4, 7, 100, 524_287, 999_999, MAX_TIMES])
def test_a_count_becomes_powers_of_two(count: int) -> None:
    """A stored record tells one of a few numbers, and none of the events is lost."""
    said = RECORD | {"count": count, "received": MINUTE}
    as_written = json.dumps(said, separators=(",", ":")).encode() + b"\n"
    for sent in (text(RECORD | {"count": count}), as_written):
        share = only(CONFERENCING.admit_records(sent))
        counts = [json.loads(line).get("count", 1) for line in share.payload.splitlines()]
        assert (sum(counts), share.tally.admitted) == (count, count)
        assert all(each & (each - 1) == 0 for each in counts)
        assert len(set(counts)) == len(counts)


def test_what_a_sender_of_records_can_say_is_counted() -> None:
    """Every minute and every number of events that it may claim becomes one of so many."""
    first, hours = -31 * 24 * 60 - 2, 150
    middle = range(first + hours, -hours, 1 if IS_WHOLE else 31)
    chosen = (*range(first, first + hours), *middle, *range(-hours, 10))
    minutes = [NOW + timedelta(minutes=n) for n in chosen]
    found = set[str]()
    for at in range(0, len(minutes), MOST_MINUTES):
        claimed = (f"{minute:%Y-%m-%dT%H:%M}:00Z" for minute in minutes[at : at + MOST_MINUTES])
        sent = text(*(RECORD | {"received": each} for each in claimed))
        shares = CONFERENCING.admit_records(sent)
        found |= {share.received for share in shares if share.payload}
    assert len(found) == RECEIVED_VALUES
    numbers = [2**n for n in range(40)]
    sent = text(*(RECORD | {"count": number} for number in numbers))
    lines = only(CONFERENCING.admit_records(sent)).payload.splitlines()
    assert len({json.loads(line).get("count", 1) for line in lines}) == COUNT_VALUES


@pytest.mark.parametrize("count", [1, None])
def test_once_is_not_said(count: int | None) -> None:
    """A record that stands for itself has no count."""
    share = only(CONFERENCING.admit_records(text(RECORD | {"count": count})))
    assert (share.payload, share.tally.admitted) == (LINE, 1)


@pytest.mark.parametrize("count", [0, -1, MAX_TIMES + 1, 2**70, 1.0, 1e3, True, "2", [2], {}])
def test_counts_that_are_none(count: Any) -> None:
    """The line is malformed, and is one event, whatever it says."""
    share = only(CONFERENCING.admit_records(text(RECORD | {"count": count}, RECORD)))
    assert share.payload == LINE
    assert (share.tally.received, share.tally.rejected) == (2, {"malformed": 1})


@pytest.mark.parametrize(
    ("received", "minute"),
    [
        (None, MINUTE),
        ("2026-06-01T12:30:00Z", MINUTE),
        ("2026-06-01T11:30:00Z", "2026-06-01T11:30:00Z"),
        ("2026-06-01T11:29:00Z", "2026-06-01T11:00:00Z"),
        ("2026-05-31T23:59:00Z", "2026-05-31T23:00:00Z"),
        ("2026-05-01T12:30:00Z", "2026-05-01T12:00:00Z"),
        ("2026-06-01T12:35:00Z", "2026-06-01T12:35:00Z"),
        ("2026-06-01T12:36:00Z", MINUTE),
        ("9999-12-31T23:59:00Z", MINUTE),
    ],
)
def test_minutes(received: str | None, minute: str) -> None:
    share = only(CONFERENCING.admit_records(text(RECORD | {"received": received})))
    assert (share.received, share.payload) == (minute, LINE)


@pytest.mark.parametrize(
    "received",
    [
        *(
            *("2026-05-01T12:29:00Z", "0001-01-01T00:00:00Z", "2026-06-01T12:30:01Z", "", "now"),
            *(0, True),
        ),
        *("2026-06-01T12:30:00", "2026-06-01T12:30:00+00:00", "2026-06-01T12:30:00.000Z", [MINUTE]),
        *(
            "2026-06-01t12:30:00z",
            "2026-06-01 12:30:00Z",
            "2026-02-30T12:30:00Z",
            f"{MINUTE}\n",
            {},
        ),
    ],
)
def test_minutes_that_are_none(received: Any) -> None:
    """The line is malformed, and is counted as of now."""
    share = only(CONFERENCING.admit_records(text(RECORD | {"received": received})))
    assert (share.received, share.payload) == (MINUTE, b"")
    assert share.tally.rejected == {"malformed": 1}


def test_several_minutes() -> None:
    """Each has its records and its counts, in the order in which it was met; what cannot be read
    counts as of now, and the bytes of all with the first."""
    early, late = "2026-06-01T12:10:00Z", "2026-06-01T12:11:00Z"
    sent = text(
        RECORD | {"received": late, "chat": "x"},
        RECORD | {"received": early, "count": 8, "os.type": "Linux"},
        {"schema": RECORD["schema"], "received": early, "count": 7},
        RECORD | {"received": late},
        [],
    )
    shares = CONFERENCING.admit_records(sent + b"\n{\n")
    assert [share.received for share in shares] == [late, early, MINUTE]
    address = b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.7","count":8}\n'
    assert [share.payload for share in shares] == [2 * LINE, address, b""]
    assert [share.tally.as_dict() for share in shares] == [
        {"received": 2, "admitted": 2, "rejected": {}, "content": {"chat": 1}}
        | {"bytes_in": len(sent) + 3, "bytes_out": 2 * len(LINE)},
        {"received": 15, "admitted": 8, "rejected": {"nothing_admitted": 7}}
        | {"dropped": {"os.type": {"invalid_value": 8}}, "bytes_out": len(address)},
        {"received": 2, "admitted": 0, "rejected": {"malformed": 1, "not_an_object": 1}},
    ]


@pytest.mark.parametrize(
    "end",
    [
        *(b',"recieved":"%b"}\n', b',"received":"%b"]\n', b' "received":"%b"}\n'),
        *(b',"received":"%b"}\r', b',"received":"%b"} ', b'{"received":"%b"}\n'),
    ],
)
def test_ends_of_lines_that_are_not_those_of_an_sdk(end: bytes) -> None:
    line = LINE[:-2] + end % b"2026-06-01T12:10:00Z"
    alone = CONFERENCING.admit_records(line)
    twice = CONFERENCING.admit_records(line.rstrip(b"\n") + b"\n" + line)
    assert [share.received for share in alone] == [share.received for share in twice]
    assert b"2026" not in b"".join(share.payload for share in twice)
    assert not any("12:10" in share.received for share in twice if b"recieved" in end)


def test_lines_of_an_sdk_among_others() -> None:
    """One without a minute is of the present one; a number becomes powers of two."""
    early = "2026-06-01T12:10:00Z"
    end = b',"received":"%b"}\n' % early.encode()
    shares = CONFERENCING.admit_records(LINE + LINE[:-2] + end)
    assert {share.received: share.payload for share in shares} == {MINUTE: LINE, early: LINE}
    three = LINE[:-2] + b',"count":3'
    share = only(CONFERENCING.admit_records(three + end))
    assert share.payload == LINE + LINE[:-2] + b',"count":2}\n'
    assert (share.tally.received, share.tally.admitted) == (3, 3)


def test_long_lines_are_not_decoded() -> None:
    address = "😀" + "a" * MAX_LINE
    line = text(RECORD | {"client.address": address, "received": MINUTE}).replace(b": ", b":")
    tracemalloc.start()
    try:
        share = only(CONFERENCING.admit_records(line.replace(b", ", b",")))
        assert tracemalloc.get_traced_memory()[1] < 2.5 * len(line)
    finally:
        tracemalloc.stop()
    assert share.tally.rejected == {"too_large": 1}


def test_times_within_the_hour_of_a_late_record() -> None:
    """A record that comes after two hours says its hour: a time at its middle was near enough."""
    time = field("time", within="10m", purposes=["security"])
    schema = changed(CONFERENCING.schema, CONFERENCING.schema.fields | {"seen": time})
    event = RECORD | {"seen": "2026-06-01T10:31:00Z", "received": "2026-06-01T10:30:00Z"}
    (share,) = made(schema).admit_records(text(event))
    assert (share.received, share.tally.dropped) == ("2026-06-01T10:00:00Z", {})
    far = event | {"seen": "2026-06-01T11:10:00Z"}
    (share,) = made(schema).admit_records(text(far))
    assert share.tally.dropped == {"seen": {"invalid_value": 1}}


def test_minutes_of_one_body_are_few() -> None:
    """Further ones are too many; those that are there already are not."""
    minutes = [NOW - timedelta(minutes=n) for n in range(MOST_MINUTES)]
    minutes += [NOW - timedelta(hours=n) for n in range(2, 12)]
    sent = [RECORD | {"received": f"{minute:%Y-%m-%dT%H:%M}:00Z"} for minute in minutes]
    shares = CONFERENCING.admit_records(text(*sent, sent[0]))
    assert len(shares) == MOST_MINUTES
    assert shares[0].payload == 2 * LINE
    assert shares[0].received == MINUTE
    assert shares[0].tally.rejected == {"too_large": 10}


_WRITTEN = b'{"schema":"conferencing/1.0.0","os.type":"linux"%s,"received":"%s"}\n'
_MINUTE = MINUTE.encode()


@pytest.mark.parametrize(
    "line", [_WRITTEN % (b',"count":0', _MINUTE), _WRITTEN % (b"", b"2020-01-01T00:00:00Z")]
)
def test_lines_that_only_look_like_an_sdks(line: bytes) -> None:
    assert only(CONFERENCING.admit_records(line)).tally.rejected == {"malformed": 1}


def test_a_body_in_parts() -> None:
    """Each part gives its own batches, and is counted once; all have the same few minutes."""
    minutes = CONFERENCING.minutes()
    lines = _WRITTEN % (b"", _MINUTE), _WRITTEN % (b"", b"2026-06-01T12:29:00Z")
    first = only(CONFERENCING.admit_records(b"{\n" + lines[0], minutes))
    assert (first.tally.received, first.tally.rejected) == (2, {"malformed": 1})
    second = only(CONFERENCING.admit_records(lines[1], minutes))
    assert (second.received, second.tally.received) == ("2026-06-01T12:29:00Z", 1)
    third = only(CONFERENCING.admit_records(2 * lines[0], minutes))
    assert (third.payload.count(b"\n"), third.tally.received) == (2, 2)
    for n in range(2, MOST_MINUTES):
        moment = f"{NOW - timedelta(minutes=n):%Y-%m-%dT%H:%M}:00Z"
        CONFERENCING.admit_records(_WRITTEN % (b"", moment.encode()), minutes)
    late = _WRITTEN % (b"", b"2026-06-01T01:00:00Z")
    assert only(CONFERENCING.admit_records(late, minutes)).tally.rejected == {"too_large": 1}


def test_moments_of_a_minute() -> None:
    minutes = CONFERENCING.minutes()
    last, older = datetime(2026, 6, 1, 11, 30, tzinfo=UTC), datetime(2026, 6, 1, 11, tzinfo=UTC)
    assert minutes.moments(f"{last:%Y-%m-%dT%H:%M}:00Z") == (last, last + sdk_records.MINUTE_SPAN)
    assert minutes.moments("2026-06-01T11:29:00Z") == (older, older + sdk_records.HOUR_SPAN)


def test_a_number_of_no_type() -> None:
    """It is a value like others, which is refused."""
    line = LINE.replace(b'"linux"', b"1e999")
    assert only(CONFERENCING.admit_records(line)).tally.dropped == {"os.type": {"wrong_type": 1}}


_NAMED, _SIZE = b'{"schema":"web/1"}', 1 << 14
_LONG = b'{"a":"%s"' % (b"a" * _SIZE)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"{}\n" * (_SIZE // 3 + 1) + _NAMED, None),
        ((b"{}\n" + b" " * (_SIZE - 4 - len(_NAMED)) + b"\n" + _NAMED), "web"),
        (b"{}\n" + _NAMED + b"\n" + b"{}\n" * _SIZE, "web"),
        (b"{}\n" + _NAMED + b"\n" + _LONG + b"}", "web"),
        (_LONG + b',"schema":"web/1"}', "web"),
        (_LONG + b',"schema":"web/1"}\n{}\n', "web"),
        (_LONG + b"}\n" + _NAMED + b"\n", None),
    ],
)
def test_a_schema_is_named_near_the_start(body: bytes, found: str | None) -> None:
    """In the first 16 KiB of whole lines, or in the first line."""
    assert schema_named(body, {"web"}) == found


def test_names_are_those_of_records() -> None:
    """No other source of a field is read, nested or flat, and no alias is one of its values."""
    share = only(
        CONFERENCING.admit_records(
            text(
                {"schema": RECORD["schema"], "ip": "203.0.113.7", "client": {"address": "::1"}},
                {"schema": RECORD["schema"], "device.type": "iPhone", "os.version": "٣"},
                {"schema": RECORD["schema"], "client.address": "2001:DB8::1", "os.type": 5},
            )
        )
    )
    assert share.tally.rejected == {"nothing_admitted": 3}
    assert share.tally.as_dict()["dropped"] == {
        "client.address": {"invalid_value": 1},
        "device.type": {"invalid_value": 1},
        "os.type": {"wrong_type": 1},
        "os.version": {"invalid_value": 1},
    }


# -- of another version ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0.1", "0.9.0", "2", "." * 40])
def test_another_version_is_filtered_by_this_one(version: str) -> None:
    """What fits stays, what does not is dropped and counted; other names are skipped as bytes."""
    other = {
        "schema": f"conferencing/{version}",
        "client.address": "203.0.113.7",
        "os.type": "an OS of another version",
        "os.version": 11,
        CANARY: CANARY,
        "received": "2026-06-01T12:30:00Z",
        "count": 3,
    }
    share = only(CONFERENCING.admit_records(text(other, RECORD | {"received": MINUTE})))
    lone = b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.7"%b}\n'
    assert share.payload == lone % b"" + lone % b',"count":2' + LINE
    assert share.tally.dropped == {
        "os.type": {"invalid_value": 3},
        "os.version": {"wrong_type": 3},
    }
    assert (share.tally.received, share.tally.admitted) == (4, 4)
    assert not mentions(share.payload)


def test_finer_values_of_another_version_become_coarser() -> None:
    """A whole address where this version has a prefix, a finer number; a pseudonym stays."""
    schema = changed(
        load_schema("conferencing"),
        {
            "net": field("ip", truncate={"ipv4": 24, "ipv6": 48}),
            "load": field("number", minimum=0, maximum=100, step=5),
            "who": field("pseudonym", key="env:KEY", rotate="1d"),
            "raw": field("pseudonym", key="env:KEY", rotate="1d"),
        },
    )
    stored = "a" * 26
    other = {"net": "203.0.113.7", "load": 13.5, "who": stored, "raw": CANARY}
    for version, fields in ((schema.version, {"who"}), ("0.9", {"net", "load", "who"})):
        shares = made(schema).admit_records(text({"schema": f"conferencing/{version}", **other}))
        record = json.loads(only(shares).payload)
        assert set(record) == fields | {"schema"}, version
        assert only(shares).tally.dropped["raw"] == {"invalid_value": 1}
        assert record["who"] == stored
        assert record.get("net", "203.0.113.0") == "203.0.113.0"
        assert record["schema"] == schema.id


@some
@given(st.data(), schemas(), granted)
def test_what_another_version_becomes_is_of_this_one(
    data: st.DataObject, schema: Schema, purposes: Any
) -> None:
    """A keeper takes the records, and they come in again unchanged."""
    other = {name: data.draw(values(each, NOW)) for name, each in schema.fields.items()}
    line = text({"schema": f"{schema.name}/0.0.0", **other, "received": MINUTE})
    for share in made(schema, purposes).admit_records(line):
        if purposes is None:  # a worker's filter is granted all
            with patch("collector.filter.recheck.utc_now", lambda: NOW):
                assert Recheck(schema).check(share).payload == share.payload
        again = [*map(json.loads, share.payload.splitlines())]
        timed = text(*(record | {"received": MINUTE} for record in again))
        back = made(schema, purposes).admit_records(timed)
        assert b"".join(each.payload for each in back) == share.payload
        assert not sum((each.tally.rejected.total() for each in back), 0)


@pytest.mark.parametrize(
    "schema",
    [
        *("conferencing", "conferencing/", "other/1.0.0", "", CANARY, "conferencing/1.0.0 "),
        *(f"conferencing/{CANARY}", "Conferencing/1.0.0", "conferencing/1/2"),
        f"conferencing/{'1' * 41}",
    ],
)
@pytest.mark.parametrize("place", ["{0}", "{1}{0}", "{0}{1}", "{2}\n{1}{0}"])
def test_another_schema_is_refused_as_a_whole(schema: str, place: str) -> None:
    """One such line is enough: who sends it may keep all of it, and nothing is there twice."""
    other = text(RECORD | {"schema": schema, "count": "x"}).decode()
    with raises("E429", InputError) as caught:
        CONFERENCING.admit_records(place.format(other, LINE.decode(), "no JSON"))
    assert not any(map(mentions, told_by(caught.value)))


@pytest.mark.parametrize("schema", [None, 1, True, [], {}, ["conferencing/1.0.0"]])
def test_what_names_no_schema_is_no_record(schema: Any) -> None:
    """It costs its line."""
    share = only(CONFERENCING.admit_records(text(RECORD | {"schema": schema}, RECORD)))
    assert (share.payload, share.tally.rejected) == (LINE, {"malformed": 1})


# -- payloads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, bytes.decode])
def test_types_of_payloads(kind: Any) -> None:
    assert only(CONFERENCING.admit_records(kind(LINE))).payload == LINE


@pytest.mark.parametrize("payload", ["\ud800", 5, None])
def test_no_payload(payload: Any) -> None:
    """What is no text is one malformed line."""
    assert only(CONFERENCING.admit_records(payload)).tally.rejected == {"malformed": 1}


@pytest.mark.parametrize("payload", [b"", b"\n", b" \r\n\t\n", b"\xef\xbb\xbf"])
def test_nothing(payload: bytes) -> None:
    assert CONFERENCING.admit_records(payload) == []


def test_expired_fields() -> None:
    """What ended stays out, whenever it was received, and counts as often as the record says."""
    field = CONFERENCING.schema.fields["os.type"].model_copy(update={"expires": NOW.date()})
    schema = changed(CONFERENCING.schema, CONFERENCING.schema.fields | {"os.type": field})
    sent = RECORD | {"received": "2026-05-30T00:00:00Z", "count": 4}
    share = only(made(schema).admit_records(text(sent)))
    assert b"linux" not in share.payload
    assert share.tally.dropped == {"os.type": {"expired": 4}}


def test_it_shows_nothing() -> None:
    """Its name says which schema it is for."""
    CONFERENCING.admit_records(text(RECORD | {"os.version": CANARY}))
    records = CONFERENCING.router.sdk_records
    assert repr(records) == "<SdkRecordFilter of conferencing/1.0.0>"


@pytest.mark.parametrize("before", [b"", b"\n" * 17_000, b" \r\n\t\n" * 5_000])
def test_blank_lines_do_not_hide_the_schema(before: bytes) -> None:
    text = before + b'{"schema":"web/1.0.0","os.type":"linux"}\n'
    for mark in (b"", b"\xef\xbb\xbf"):
        assert schema_named(mark + text, {"web", "conferencing"}) == "web"
