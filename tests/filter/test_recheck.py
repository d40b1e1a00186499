"""Batches of another process: what a filter made comes back as it is, anything else is refused."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from traceback import walk_tb
from typing import Any, ClassVar, TypeVar, cast
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import Filter, InputError, Schema, load_schema
from collector.contracts import MOST_BYTES, Batch, PendingBatch, Signal, Tally, to_minute
from collector.errors import RecheckError
from collector.filter import recheck
from collector.filter.columns import NOT_AS_WRITTEN
from collector.filter.recheck import Recheck
from collector.filter.stored import read
from collector.schema.kinds import Canonical, Circumstances, FieldBase
from collector.spool.write_queue import merge
from collector.testing._values import junk, scalars
from collector.testing.laws import fixed_key as key
from tests.filter import otlp_bodies
from tests.filter.test_laws import changed
from tests.filter.test_sdk_records import bodies
from tests.filter.traces import CANARY, is_ours, mentions, told_by
from tests.strategies import lines, schemas
from tests.strategies.documents import PURPOSES
from tests.support.make_schemas import field

NOW = datetime(2026, 6, 1, 12, 30, 29, 5, tzinfo=UTC)
MINUTE = "2026-06-01T12:30:00Z"
SHIPPED = ("conferencing", "conferencing-strict", "participants-qos", "web", "webrtc")
some = settings(max_examples=max(1, settings().max_examples // 3))
granted = st.none() | st.sets(st.sampled_from(PURPOSES), max_size=2)


@cache
def shipped(name: str) -> Schema:
    return load_schema(name)


_T = TypeVar("_T")
_COMPILED: dict[Any, tuple[Schema, Any]] = {}


def once(make: Callable[[], _T], schema: Schema, purposes: Any, *others: Any) -> _T:
    """What is compiled once for the same schema, purposes and others."""
    of = (id(schema), None if purposes is None else frozenset(purposes), *others)
    if of not in _COMPILED:
        if len(_COMPILED) >= 64:
            _COMPILED.clear()
        _COMPILED[of] = schema, make()  # the schema too, or another one could get its id
    return cast("_T", _COMPILED[of][1])


def made(schema: Schema, purposes: Any = None, now: datetime = NOW) -> Filter:
    """A filter for a person who refuses all optional purposes but these."""
    needed = {name for name, each in schema.purposes.items() if not each.optional}
    granted = None if purposes is None else needed | (set(purposes) & set(schema.purposes))
    new = partial(Filter, schema, purposes=granted, as_of=now, keys=key)
    return once(new, schema, purposes, now)


def rechecked(batch: PendingBatch, schema: Schema) -> PendingBatch:
    return once(partial(Recheck, schema), schema, None).check(batch, keep_rows=True)


@pytest.fixture(scope="module", autouse=True)
def _present() -> Iterator[None]:
    """It is ``NOW`` for what checks."""
    with patch.object(recheck, "utc_now", lambda: NOW):
        yield


CONFERENCING = shipped("conferencing")
LINE = b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.7","os.type":"linux"}\n'
CHECK = Recheck(CONFERENCING)


def pending(payload: bytes = LINE, minute: str = MINUTE, **counts: Any) -> PendingBatch:
    """A batch of some lines, each of which stands for one event."""
    number = payload.count(b"\n")
    tally = Tally(number, number, bytes_in=5, bytes_out=len(payload))
    for name, count in counts.items():
        setattr(tally, name, count)
    return PendingBatch(CONFERENCING.layout, minute, payload, tally)


def refusal(batch: PendingBatch, check: Recheck = CHECK) -> RecheckError:
    with pytest.raises(RecheckError) as caught:
        check.check(batch)
    assert caught.value.code == "E513"
    return caught.value


# -- strategies -----------------------------------------------------------------------------------


def of_events(schema: Schema, payload: bytes, purposes: Any) -> list[PendingBatch]:
    found = made(schema, purposes).admit_by_grant("ndjson", payload)
    return [PendingBatch(schema.layout, MINUTE, f.encode(), f.tally, f.granted) for f in found]


@st.composite
def batches(draw: st.DrawFn, schema: Schema, purposes: Any = None) -> list[PendingBatch]:
    """What the filter makes of events, and of an SDK's records."""
    if draw(st.booleans()):
        return of_events(schema, draw(lines(schema, now=NOW)), purposes)
    tested = made(schema, purposes)
    with suppress(InputError):  # of another version
        return tested.admit_records(draw(bodies(schema, tested.plan.granted)))
    return []


def _of_bytes(draw: st.DrawFn, payload: bytes) -> bytes:
    at = draw(st.integers(0, len(payload)))
    end = draw(st.integers(at, min(len(payload), at + 4)))
    put = draw(st.binary(max_size=3) | st.sampled_from([b" ", b"\n", b"\\u0041", b"0", b"-"]))
    return payload[:at] + put + payload[end:]


def _of_lines(draw: st.DrawFn, payload: bytes) -> bytes:
    found = payload.splitlines(keepends=True)
    picked = draw(st.lists(st.sampled_from(found), max_size=4)) if found else []
    return b"".join(picked)


def _of_members(draw: st.DrawFn, payload: bytes) -> bytes:
    """Other values, names and orders, written as a filter would."""
    records = [json.loads(line) for line in payload.splitlines()]
    if not records:
        return payload
    record = draw(st.sampled_from(records))
    name = draw(st.sampled_from([*record, "unlisted", "count", "chat", "a", "os.type"]))
    record[name] = draw(junk() | scalars() | st.sampled_from([*record.values()]))
    if draw(st.booleans()):
        first, *others = record.items()
        record_items = draw(st.permutations(others))
        record.clear()
        record.update([first, *record_items])
    if draw(st.booleans()):
        del record[draw(st.sampled_from(sorted(record)))]
    return b"".join(
        json.dumps(each, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        + b"\n"
        for each in records
    )


_WRITTEN: list[Callable[[st.DrawFn, bytes], bytes]] = [_of_bytes, _of_lines, _of_members]
_COUNTS: st.SearchStrategy[Any] = st.sampled_from([-1, 0, 1, 2, 3, 2**70, True, 1.0, None, "1"])


def _fitting(batch: PendingBatch, payload: bytes) -> PendingBatch:
    """The batch with another payload, and the counts that seem to belong to it."""
    admitted = 0
    for line in payload.splitlines():
        try:
            count = json.loads(line).get("count", 1)
            admitted += count if type(count) is int else 1
        except (ValueError, AttributeError):
            admitted += 1
    tally = replace(batch.tally, admitted=admitted, bytes_out=len(payload))
    tally.received = admitted + tally.rejected.total()
    return replace(batch, payload=payload, tally=tally)


@st.composite
def mutated(draw: st.DrawFn, batch: PendingBatch, schema: Schema) -> PendingBatch:
    """Something else in its place: bytes, counts, minute or purposes."""
    tally = batch.tally
    where = draw(st.integers(0, 6))
    if where <= 2:
        payload = _WRITTEN[where](draw, batch.payload)
        fits = draw(st.booleans())
        return _fitting(batch, payload) if fits else replace(batch, payload=payload)
    if where == 3:
        name = draw(st.sampled_from(["received", "admitted", "bytes_in", "bytes_out"]))
        return replace(batch, tally=replace(tally, **{name: draw(_COUNTS)}))
    if where == 4:
        names = st.sampled_from(["malformed", "too_deep", "wrong_type", "expired", "chat", CANARY])
        counts = st.dictionaries(names, _COUNTS, min_size=1, max_size=2).map(Counter)
        fields = st.sampled_from([*schema.fields, CANARY])
        parts: dict[str, st.SearchStrategy[Any]] = {
            "rejected": counts,
            "content": counts,
            "dropped": st.dictionaries(fields, counts, min_size=1, max_size=2),
        }
        name = draw(st.sampled_from(sorted(parts)))
        return replace(batch, tally=replace(tally, **{name: draw(parts[name])}))
    if where == 5:
        moved = st.integers(-32 * 24 * 60, 20).map(lambda n: to_minute(NOW + timedelta(minutes=n)))
        near = st.integers(-90, 20).map(lambda n: to_minute(NOW + timedelta(minutes=n)))
        return replace(batch, received=draw(moved | near | st.text(max_size=20)))
    names = st.sampled_from([*schema.purposes, CANARY])
    return replace(batch, granted=draw(st.none() | st.lists(names, max_size=3).map(tuple)))


# -- laws -----------------------------------------------------------------------------------------


def stays(batch: PendingBatch, schema: Schema) -> None:
    """It comes back as it is, with rows as a drain decodes them."""
    found = rechecked(batch, schema)
    assert found == batch
    spooled = Batch(b"i" * 16, batch.received, layout=batch.layout, payload=batch.payload)
    rows = read(spooled).rows
    assert rows is not None
    assert repr(found.rows) == repr(rows())


def is_valid(batch: PendingBatch, schema: Schema) -> bool:
    """Whether each line is a record of the schema that passes a filter of the batch's purposes
    unchanged, and the counts conserve, by a plain look at them."""
    tally = batch.tally
    assert tally.received == tally.admitted + sum(tally.rejected.values())
    assert tally.bytes_out == len(batch.payload)
    assert set(tally.dropped) <= set(schema.fields)
    minute = datetime.fromisoformat(batch.received)
    assert to_minute(minute) == batch.received
    assert NOW - timedelta(days=31, hours=2) <= minute <= NOW + timedelta(minutes=5)
    moments = [minute, minute + timedelta(seconds=59), minute + timedelta(minutes=59), NOW]
    within = [*schema.purposes] if batch.granted is None else batch.granted
    filters = [made(schema, within, now) for now in moments]
    admitted = 0
    for line in batch.payload.splitlines(keepends=True):
        pairs = json.loads(line, object_pairs_hook=list)
        record = dict(pairs)
        assert len(record) == len(pairs)
        order = ["schema", *schema.fields, "count"]
        assert [*record] == sorted(record, key=order.index)
        admitted += record.pop("count", 1)
        alone = json.dumps(record).encode()
        passed = [found.admit_records(alone) for found in filters]
        bare = line.partition(b',"count":')[0].rstrip(b"}\n") + b"}\n"
        assert any(share.payload == bare and not share.tally.dropped for (share,) in passed)
    assert admitted == tally.admitted
    return True


@given(st.data(), schemas() | st.sampled_from(SHIPPED).map(shipped), granted)
def test_what_a_filter_made_comes_back_and_what_passes_is_valid(
    data: st.DataObject, schema: Schema, purposes: Any
) -> None:
    """Byte for byte, with its counts, minute and purposes. However a batch is changed, it is
    refused, or holds nothing but what its schema allows."""
    drawn = data.draw(batches(schema, purposes))
    for batch in drawn:
        stays(batch, schema)
    for batch in drawn or [PendingBatch(schema.layout, MINUTE, b"", Tally())]:
        other = data.draw(mutated(batch, schema))
        with suppress(RecheckError):
            found = rechecked(other, schema)
            assert is_valid(found, schema)
            assert found == other


def test_batches_that_were_joined_come_back() -> None:
    """Pieces of one request are one batch; so are the body's records of one minute."""
    events = b'{"ip":"192.0.2.1","os":{"type":"linux"}}\n{"ip":5,"chat":1}\n'
    pieces = [*of_events(CONFERENCING, events, None), *of_events(CONFERENCING, events, None)]
    (batch,) = merge(pieces)
    stays(batch, CONFERENCING)
    assert batch.tally.received == 4


@some
@given(st.data(), schemas(), st.sampled_from(otlp_bodies.SIGNALS), granted)
def test_batches_of_otlp_come_back(
    data: st.DataObject, schema: Schema, signal: Signal, purposes: Any
) -> None:
    body = data.draw(otlp_bodies.bodies(schema, signal)).SerializeToString()
    for found in made(schema, purposes).admit_by_grant(signal, body, protobuf=True):
        batch = PendingBatch(schema.layout, MINUTE, found.encode(), found.tally, found.granted)
        stays(batch, schema)


# -- what is refused ------------------------------------------------------------------------------


_SCHEMA = b'{"schema":"conferencing/1.0.0"'
_PAYLOADS = {
    "no JSON": b"{\n",
    "no objects": b"[]\n5\nnull\n",
    "no end of line": LINE[:-1],
    "a blank line": LINE + b"\n",
    "a blank": LINE.replace(b",", b", "),
    "a carriage return": LINE.replace(b"\n", b"\r\n"),
    "two on a line": LINE[:-1] + LINE,
    "one on two lines": LINE.replace(b",", b",\n"),
    "another order": _SCHEMA + b',"os.type":"linux","client.address":"203.0.113.7"}\n',
    "the schema last": b'{"os.type":"linux","schema":"conferencing/1.0.0"}\n',
    "a member twice": _SCHEMA + b',"os.type":"linux","os.type":"linux"}\n',
    "an unlisted member": _SCHEMA + b',"os.type":"linux","secret":"a"}\n',
    "the minute": LINE.replace(b"}", b',"received":"2026-06-01T12:30:00Z"}'),
    "content": _SCHEMA + b',"os.type":"linux","chat":"hello"}\n',
    "null": _SCHEMA + b',"client.address":null,"os.type":"linux"}\n',
    "no schema": b'{"os.type":"linux"}\n',
    "another schema": LINE.replace(b"1.0.0", b"1.0.1"),
    "a schema of another type": LINE.replace(b'"conferencing/1.0.0"', b"5"),
    "no field": _SCHEMA + b"}\n",
    "no field but a count": _SCHEMA + b',"count":2}\n',
    "a count of one": LINE.replace(b"}", b',"count":1}'),
    "a count of none": LINE.replace(b"}", b',"count":0}'),
    "a negative count": LINE.replace(b"}", b',"count":-1}'),
    "a count that is a fraction": LINE.replace(b"}", b',"count":2.0}'),
    "a great count": LINE.replace(b"}", b',"count":1000001}'),
    "an escaped letter": LINE.replace(b"linux", b"\\u006cinux"),
    "an alias": LINE.replace(b"linux", b"Linux"),
    "another type": LINE.replace(b'"linux"', b"true"),
    "a list": LINE.replace(b'"linux"', b'["linux"]'),
    "an object": LINE.replace(b'"linux"', b'{"a":"linux"}'),
    "another spelling": LINE.replace(b"203.0.113.7", b"2001:DB8::7"),
    "a multicast address": LINE.replace(b"203.0.113.7", b"224.0.0.1"),
    "a link-local address": LINE.replace(b"203.0.113.7", b"169.254.0.1"),
    "a zero in front": LINE.replace(b"203.0.113.7", b"203.0.113.07"),
    "digits of others": LINE.replace(b"203", "٢٠٣".encode()),
    "a NUL": LINE.replace(b"203.0.113.7", b"203.0.113.7\\u0000"),
    "half a character": LINE.replace(b"203.0.113.7", b"203.0.113.7\xc3"),
    "a lone surrogate": LINE.replace(b"203.0.113.7", b"\\ud800"),
    "text": LINE.replace(b"linux", CANARY.encode()),
    "the last of many": 3000 * LINE + LINE.replace(b"linux", CANARY.encode()),
}


_OF_RECORDS = {
    NOT_AS_WRITTEN,
    "client.address: a value is not of its kind",
    "a record has no field",
    "a record has a count that it may not have",
}


@pytest.mark.parametrize("name", _PAYLOADS)
def test_payloads_that_no_filter_writes(name: str) -> None:
    payload = _PAYLOADS[name]
    for admitted in {1, 2, payload.count(b"\n")}:
        error = refusal(pending(payload, received=admitted, admitted=admitted))
        assert error.message in _OF_RECORDS
        assert error.__context__ is None
        assert not any(map(mentions, told_by(error)))


_TALLIES: dict[str, dict[str, Any]] = {
    "more received": {"received": 2},
    "fewer received": {"received": 0},
    "more admitted": {"received": 2, "admitted": 2},
    "none admitted": {"received": 0, "admitted": 0},
    "rejected besides": {"rejected": Counter(malformed=1)},
    "rejected and given back": {"received": 1, "rejected": Counter(malformed=1, too_deep=-1)},
    "rejected for no reason": {"received": 2, "rejected": Counter({CANARY: 1})},
    "rejected as a fraction": {"received": 2, "rejected": Counter({"malformed": cast("int", 1.0)})},
    "rejected in a list": {"received": 2, "rejected": ["malformed"]},
    "very many": {"received": 2**41, "rejected": Counter(malformed=2**41 - 1)},
    "very many bytes": {"bytes_in": 2**41},
    "negative bytes": {"bytes_in": -1},
    "bytes as a text": {"bytes_in": CANARY},
    "more bytes": {"bytes_out": len(LINE) + 1},
    "fewer bytes": {"bytes_out": 0},
    "true": {"received": True, "admitted": True},
    "a field of no schema": {"dropped": {CANARY: Counter(wrong_type=1)}},
    "a field of no schema, never": {"dropped": {CANARY: Counter()}},
    "a reason that there is not": {"dropped": {"os.type": Counter({CANARY: 1})}},
    "a purpose that nobody refused": {"dropped": {"os.type": Counter(purpose_refused=1)}},
    "a field that does not end": {"dropped": {"os.type": Counter(expired=1)}},
    "a field twice": {"dropped": {"os.type": Counter(wrong_type=1, invalid_value=1)}},
    "a field more often": {"dropped": {"os.type": Counter(wrong_type=2)}},
    "dropped in a list": {"dropped": [CANARY]},
    "content that there is not": {"content": Counter({CANARY: 1})},
    "content more often": {"content": Counter(chat=2)},
    "negative content": {"content": Counter(chat=-1)},
}


_OF_COUNTS = {
    "a count is not valid",
    "a count has an unlisted name",
    "a field that was dropped is not listed",
    "a field was dropped more often than events were received",
    "the bytes are not those of the records",
    "the counts do not add up",
    "the records are not those that were counted",
}


@pytest.mark.parametrize("name", _TALLIES)
def test_tallies_that_do_not_conserve(name: str) -> None:
    error = refusal(pending(**_TALLIES[name]))
    assert error.message in _OF_COUNTS
    assert not any(map(mentions, told_by(error)))


@pytest.mark.parametrize(
    "received",
    [
        *("", "now", CANARY, 5, None, b"2026-06-01T12:30:00Z", "2026-06-01T12:30:01Z"),
        *("2026-06-01T12:30Z", "2026-06-01t12:30:00z", "2026-06-31T12:30:00Z", f"{MINUTE}\n"),
        *("2026-06-01T12:36:00Z", "2027-06-01T12:30:00Z", "2026-06-01T11:24:00Z"),
        *("2026-06-01T10:30:00Z", "2026-05-01T11:00:00Z", "0001-01-01T00:00:00Z"),
    ],
)
def test_minutes_in_which_nothing_is_received(received: Any) -> None:
    error = refusal(pending(minute=received))
    assert not any(map(mentions, told_by(error)))


@pytest.mark.parametrize(
    ("received", "is_present"),
    [
        *(("2026-06-01T12:35:00Z", True), (MINUTE, True), ("2026-06-01T12:25:00Z", True)),
        *(("2026-06-01T12:24:00Z", False), ("2026-06-01T11:30:00Z", False)),
        *(("2026-06-01T11:25:00Z", False), ("2026-06-01T11:00:00Z", False)),
        *(("2026-05-31T00:00:00Z", False), ("2026-05-01T12:00:00Z", False)),
    ],
)
def test_records_of_earlier_minutes_are_of_an_sdk(received: str, is_present: bool) -> None:
    three = replace(pending(LINE.replace(b"}", b',"count":3}')), received=received)
    three = replace(three, tally=replace(three.tally, received=3, admitted=3))
    four = replace(pending(LINE.replace(b"}", b',"count":4}')), received=received)
    four = replace(four, tally=replace(four.tally, received=4, admitted=4))
    assert CHECK.check(four) == four
    if is_present:
        assert CHECK.check(three) == three
    else:
        refusal(three)


def test_purposes() -> None:
    needed = ("service_operations", "security")
    batch = replace(pending(), granted=needed)
    assert CHECK.check(batch) == batch
    others: list[Any] = [needed[:1], needed[::-1], (*needed, CANARY), (), [*needed], 5, (5,), ([],)]
    for purposes in others:
        refusal(replace(pending(), granted=purposes))
    refusal(replace(pending(), granted=(*needed, "capacity_planning")))  # which are all: `None`


def test_fields_whose_purposes_are_refused() -> None:
    """They are neither there nor dropped for another reason."""
    line = _SCHEMA + b',"client.address":"203.0.113.7","os.name":"Fedora Linux"}\n'
    assert CHECK.check(pending(line)).payload == line
    needed = ("service_operations", "security")
    refusal(replace(pending(line), granted=needed))
    for reason in ("purpose_refused", "wrong_type"):
        batch = pending(dropped={"os.name": Counter({reason: 1})})
        batch = replace(batch, granted=needed)
        if reason == "purpose_refused":
            assert CHECK.check(batch) == batch
        else:
            refusal(batch)


def test_the_layout_is_the_schemas() -> None:
    others: list[Any] = [shipped("web").layout, replace(CONFERENCING.layout, digest="0" * 64), None]
    for layout in others:
        refusal(replace(pending(), layout=layout))


def test_rows_stay_with_batches_that_are_joined() -> None:
    check = partial(CHECK.check, keep_rows=True)
    one, other = check(pending()), check(pending(2 * LINE))
    assert one.rows is not None
    (joined,) = merge([one, other])
    assert joined.rows == 3 * one.rows
    (joined,) = merge([one, CHECK.check(pending())])
    assert joined.rows is None


def test_an_error_holds_no_batch() -> None:
    error = refusal(pending(b"{}\n"))
    frames = [frame for frame, _ in walk_tb(error.__traceback__) if is_ours(frame)]
    assert frames
    assert not any(
        type(one) in (PendingBatch, bytes) for f in frames for one in f.f_locals.values()
    )


# -- kinds and days -------------------------------------------------------------------------------


def with_field(kind: str, **options: Any) -> Schema:
    """A schema with a field more."""
    added = field(kind, **{"purposes": ["security"], **options})
    return changed(CONFERENCING, {**CONFERENCING.fields, "f": added})


def of_field(schema: Schema, value: str, received: str = MINUTE) -> PendingBatch:
    line = LINE.replace(b"}", b',"f":' + value.encode() + b"}")
    return replace(pending(line, received), layout=schema.layout)


@pytest.mark.parametrize(
    "value", ["-0.0", "1", "1e0", "1.50", "0.7", "3.0", '"1.0"', "true", "0.50"]
)
def test_numbers_have_one_notation(value: str) -> None:
    """A negative zero equals the one that a filter writes, and is not it."""
    schema = with_field("number", minimum=-1, maximum=2, step=0.5)
    check = Recheck(schema)
    for good in ("0.0", "1.0", "-0.5"):
        assert check.check(of_field(schema, good)) == of_field(schema, good)
    refusal(of_field(schema, value), check)


@pytest.mark.parametrize("value", [str(2**64), "1" * 5000, "-7", "1.0", "8", "105"])
def test_whole_numbers(value: str) -> None:
    """Within the range, and in its steps."""
    schema = with_field("integer", minimum=0, maximum=100, step=7)
    check = Recheck(schema)
    assert check.check(of_field(schema, "98")) == of_field(schema, "98")
    refusal(of_field(schema, value), check)


class _NumberOrFlag(FieldBase):
    """A kind whose values are equal where their types differ."""

    wire: ClassVar[frozenset[type]] = frozenset({bool, int})
    column = "INTEGER"
    remembers = True

    def canonical(self, circumstances: Circumstances) -> Canonical:
        return lambda value: int(value) if value in (0, 1) else None

    def value_schema(self) -> dict[str, Any]:
        return {"enum": [0, 1]}


def test_values_that_are_equal_and_of_another_type() -> None:
    others = field("boolean", purposes=["security"]).model_dump(by_alias=True)
    schema = changed(CONFERENCING, {**CONFERENCING.fields, "f": _NumberOrFlag(**others)})
    check = Recheck(schema)
    assert check.check(of_field(schema, "1")) == of_field(schema, "1")
    for value in ("true", "2", "1.0"):
        refusal(of_field(schema, value), check)


@pytest.mark.parametrize("name", ["os.version", "os.build_id", "client.address"])
def test_what_is_refused_is_not_remembered(name: str) -> None:
    """It is refused again."""
    batch = pending(_SCHEMA + b',"%b":"7 7"}\n' % name.encode())
    for _ in range(2):
        assert refusal(batch).message == f"{name}: a value is not of its kind"


def test_required_fields() -> None:
    """No record is without one, nor is there any where it may not be used."""
    schema = with_field("boolean", required=True, purposes=["capacity_planning"])
    check = Recheck(schema)
    batch = of_field(schema, "true")
    assert check.check(batch) == batch
    without = replace(pending(), layout=schema.layout)
    assert refusal(without, check).message == "a record lacks a required field"
    assert check.check_delayed(without).payload == without.payload  # it was there once
    needed = ("service_operations", "security")
    refusal(replace(batch, granted=needed), check)
    refusal(replace(without, granted=needed), check)


def test_times_lie_around_the_minute() -> None:
    schema = with_field("time", within="10m")
    check = Recheck(schema)

    def is_taken(value: str, received: str, tested: Any = check.check) -> bool:
        batch = of_field(schema, f'"{value}"', received)
        with suppress(RecheckError):
            return bool(tested(batch).payload == batch.payload)
        return False

    assert is_taken("2026-06-01T12:20:00Z", MINUTE)
    assert not is_taken("2026-06-01T12:19:59Z", MINUTE)
    assert is_taken("2026-06-01T12:40:59Z", MINUTE)
    assert not is_taken("2026-06-01T12:41:00Z", MINUTE)
    assert is_taken("2026-06-01T12:40:59Z", "2026-06-01T12:27:00Z")
    assert is_taken("2026-06-01T12:17:00Z", "2026-06-01T12:27:00Z")
    assert is_taken("2026-05-31T10:30:00Z", "2026-05-31T10:00:00Z")
    assert not is_taken("2026-05-31T11:10:00Z", "2026-05-31T10:00:00Z")
    assert not is_taken("2026-06-01T12:30:60Z", MINUTE)
    late = check.check_delayed  # of the hour, where it has the time of one
    assert is_taken("2026-05-31T11:14:59Z", "2026-05-31T10:00:00Z", late)
    assert not is_taken("2026-05-31T11:15:00Z", "2026-05-31T10:00:00Z", late)
    assert is_taken("2026-05-31T10:16:59Z", "2026-05-31T10:01:00Z", late)
    assert not is_taken("2026-05-31T10:17:00Z", "2026-05-31T10:01:00Z", late)


def test_the_day_on_which_a_field_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of the day before may come a little later, with the field or without."""
    schema = with_field("boolean", expires="2026-06-01")
    midnight = datetime(2026, 6, 1, tzinfo=UTC)
    before, after = "2026-05-31T23:59:00Z", "2026-06-01T00:01:00Z"
    for now, received, has_it in (
        (midnight - timedelta(seconds=1), before, True),
        (midnight + timedelta(seconds=5), before, True),
        (midnight + timedelta(minutes=6), after, False),
    ):
        monkeypatch.setattr(recheck, "utc_now", lambda now=now: now)
        check = Recheck(schema)
        batch = of_field(schema, "true", received)
        if has_it:
            assert check.check(batch) == batch
        else:
            refusal(batch, check)
        ended = pending(minute=received, dropped={"f": Counter(expired=1)})
        without = replace(ended, layout=schema.layout)
        if now >= midnight:
            assert check.check(without) == without
        else:
            refusal(without, check)


def test_the_clock_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was the present minute is none in an hour and a half."""
    now = [NOW]
    monkeypatch.setattr(recheck, "utc_now", lambda: now[0])
    check = Recheck(CONFERENCING)
    assert check.check(pending()) == pending()
    now[0] += timedelta(minutes=90)
    refusal(pending(), check)
    now[0] = NOW
    assert check.check(pending()) == pending()


_FLAGS = {name: field("boolean", purposes=["security"]) for name in "ab"}
_ONE = b'{"schema":"conferencing/1.0.0","a":true}\n'


def test_records_of_different_fields() -> None:
    """No field is in all of them, and none of them is empty."""
    schema = changed(CONFERENCING, _FLAGS)
    batch = replace(pending(_ONE + _ONE.replace(b'"a"', b'"b"')), layout=schema.layout)
    assert Recheck(schema).check(batch) == batch


def test_a_negative_zero_in_a_schema_of_fractions() -> None:
    number = field("number", purposes=["security"], minimum=-1, maximum=2, step=0.5)
    schema = changed(CONFERENCING, {"a": number})
    batch = replace(pending(_ONE.replace(b"true", b"-0.0")), layout=schema.layout)
    refusal(batch, Recheck(schema))


def test_a_record_that_is_longer_than_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recheck, "PIECE", 1)
    assert Recheck(CONFERENCING).check(pending()).payload == LINE


@pytest.mark.parametrize(("more", "is_taken"), [(0, True), (-1, False)])
def test_the_longest_record(more: int, is_taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It grows with the number of fields."""
    schema = changed(CONFERENCING, {"a": _FLAGS["a"]})
    line = _ONE.replace(b"true", b"false")
    assert len(line) % 2 == 0
    monkeypatch.setattr(recheck, "PIECE", 1)
    monkeypatch.setattr(recheck, "_MOST_VALUE", len(line) // 2 + more)
    batch = replace(pending(line), layout=schema.layout)
    if is_taken:
        assert Recheck(schema).check(batch) == batch
    else:
        refusal(batch, Recheck(schema))


@pytest.mark.parametrize("check", [CHECK.check, CHECK.check_delayed])
def test_payloads_are_bounded_bytes(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recheck, "MOST_BYTES", len(LINE))
    assert check(pending()).payload == LINE
    other: Any = bytearray(LINE)
    for payload in (other, LINE.replace(b"7", b"77")):
        with pytest.raises(RecheckError, match="the payload is too long"):
            check(pending(payload))


@pytest.mark.parametrize("less", [0, 1])
def test_rows_of_a_large_batch(less: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recheck, "_MOST_ROW_BYTES", len(LINE) - less)
    assert (CHECK.check(pending(), keep_rows=True).rows is None) == bool(less)


def test_counts_and_drops_may_be_as_many_as_there_are() -> None:
    most = pending(LINE.replace(b"}", b',"count":1000000}'), received=10**6, admitted=10**6)
    assert CHECK.check(most) == most
    dropped = {name: Counter(wrong_type=1) for name in CONFERENCING.fields}
    every = pending(received=2, rejected=Counter(nothing_admitted=1), dropped=dropped)
    assert CHECK.check(every) == every


@pytest.mark.parametrize(
    ("minute", "is_taken"),
    [
        *(
            (NOW - timedelta(days=31, minutes=5), True),
            (NOW - timedelta(days=31, minutes=6), False),
        ),
        *((NOW + timedelta(minutes=5), True), (NOW + timedelta(minutes=6), False)),
    ],
)
def test_minutes_of_delayed_batches(
    minute: datetime, is_taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = NOW.replace(second=0, microsecond=0)
    monkeypatch.setattr(recheck, "utc_now", lambda: now)
    batch = pending(minute=to_minute(minute))
    with nullcontext() if is_taken else pytest.raises(RecheckError, match="too old, or of the"):
        assert CHECK.check_delayed(batch).payload == LINE


@pytest.mark.parametrize("number", [64, 65])
def test_purposes_of_delayed_batches(number: int) -> None:
    """A sink may name some of a later version."""
    names = ("service_operations", "security", *map(str, range(number - 2)))
    batch = replace(pending(), granted=names)
    with nullcontext() if number == 64 else pytest.raises(RecheckError, match="purposes"):
        assert CHECK.check_delayed(batch).payload == LINE


@pytest.mark.parametrize(
    ("now", "minute", "value", "is_taken"),
    [
        ("12:02", "2026-05-01T11:00:00Z", "2026-05-01T11:30:00Z", True),
        ("12:00", "2026-06-01T11:00:00Z", "2026-06-01T12:05:00Z", True),
        ("12:30", "2026-06-01T12:00:00Z", "2026-06-01T12:09:00Z", True),
        ("12:30", "2026-06-01T12:00:00Z", "2026-06-01T12:50:00Z", False),
    ],
)
def test_an_hour_begins_when_the_minute_is_forgotten(
    now: str, minute: str, value: str, is_taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = datetime.fromisoformat(f"2026-06-01T{now}:29Z")
    monkeypatch.setattr(recheck, "utc_now", lambda: moment)
    schema = with_field("time", within="10m")
    batch = of_field(schema, f'"{value}"', minute)
    if is_taken:
        assert Recheck(schema).check(batch) == batch
    else:
        refusal(batch, Recheck(schema))


# -- floods ---------------------------------------------------------------------------------------


def peak(work: Callable[[], object]) -> int:
    """The most bytes that are in use at once for some work, besides those before it and what the
    first check of a schema keeps."""
    CHECK.check(pending(LINE))
    with pytest.raises(RecheckError):
        CHECK.check(pending(b"{}"))
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


_SHORT = _SCHEMA + b"}\n"
_FLOODS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: bytes(MOST_BYTES),
    "ends of lines": lambda: b"\n" * MOST_BYTES,
    "brackets": lambda: b"[" * MOST_BYTES,
    "braces": lambda: b'{"a":' * (MOST_BYTES // 5),
    "lines without a field": lambda: _SHORT * (MOST_BYTES // len(_SHORT)),
    "one long text": lambda: _SCHEMA + b',"os.type":"' + b"a" * (MOST_BYTES - 100) + b'"}\n',
    "one long number": lambda: _SCHEMA + b',"count":' + b"9" * (MOST_BYTES - 100) + b"}\n",
    "members": lambda: _SCHEMA + b',"a":1' * (MOST_BYTES // 6 - 10) + b"}\n",
    "more than may be": lambda: b" " * (MOST_BYTES + 1),
}


@pytest.mark.parametrize("name", _FLOODS)
def test_floods_cost_little(name: str) -> None:
    """They are refused before they are read, or with the first piece of them."""
    batch = pending(_FLOODS[name]())
    assert peak(lambda: refusal(batch)) < 4 << 20


def test_floods_of_counts() -> None:
    """Nothing is looked at that is longer than it may be."""
    CHECK.check(pending())
    many = {f"{CANARY}{at}": 1 for at in range(100_000)}
    for counts in (
        {"rejected": Counter(many)},
        {"content": Counter(many)},
        {"dropped": {name: Counter(wrong_type=1) for name in many}},
        {"dropped": {"os.type": Counter(many)}},
    ):
        batch = pending(**counts)
        assert peak(lambda batch=batch: refusal(batch)) < 1 << 20  # type: ignore[misc]
    batch = replace(pending(), granted=tuple(many), received=CANARY * 100_000)
    assert peak(lambda: refusal(batch)) < 1 << 20


def test_a_large_batch_is_in_memory_twice() -> None:
    batch = pending(LINE * ((5 << 20) // len(LINE)))
    check = partial(CHECK.check, keep_rows=True)
    found: list[PendingBatch] = []
    assert peak(lambda: found.append(check(batch))) < 1.25 * len(batch.payload)
    assert found == [batch]
    assert found[0].rows is None


def test_what_is_remembered_is_bounded() -> None:
    def flood() -> None:
        numbers = iter(range(60_000))
        for at in range(50):
            received = to_minute(NOW - timedelta(minutes=at))
            lines_of = [
                _SCHEMA + b',"os.version":"1.%d.%d"}\n' % divmod(next(numbers), 1000)
                for _ in range(1200)
            ]
            CHECK.check(pending(b"".join(lines_of), received))

    assert peak(flood) < 6 << 20


def test_it_shows_nothing() -> None:
    """Its name says which schema it is for."""
    assert repr(CHECK) == "<Recheck of conferencing/1.0.0>"
