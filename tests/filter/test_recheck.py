"""Batches of another process: what a filter made comes back as it is, anything else is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import Filter, InputError, Schema, load_schema
from collector.contracts import Batch, PendingBatch, Tally, to_minute
from collector.errors import RecheckError
from collector.filter.recheck import Recheck
from collector.filter.stored import read
from collector.testing import lines, schemas
from collector.testing.documents import PURPOSES
from collector.testing.laws import fixed_key as key
from collector.testing.values import junk, scalars
from tests.filter.test_sdk_records import bodies
from tests.filter.traces import CANARY

NOW = datetime(2026, 6, 1, 12, 30, 29, 5, tzinfo=UTC)
MINUTE = "2026-06-01T12:30:00Z"
SHIPPED = ("conferencing", "conferencing-strict", "participants-qos", "web", "webrtc")
some = settings(max_examples=max(1, settings().max_examples // 3))
granted = st.none() | st.sets(st.sampled_from(PURPOSES), max_size=2)


@cache
def shipped(name: str) -> Schema:
    return load_schema(name)


def made(schema: Schema, purposes: Any = None, now: datetime = NOW) -> Filter:
    return Filter(schema, purposes=purposes, as_of=now, keys=key)


def rechecked(batch: PendingBatch, schema: Schema, purposes: Any = None) -> PendingBatch:
    return Recheck(schema, purposes=purposes, keep_rows=True, now=lambda: NOW).check(batch)


CONFERENCING = shipped("conferencing")
LINE = b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.7","os.type":"linux"}\n'
CHECK = Recheck(CONFERENCING, now=lambda: NOW)


def pending(payload: bytes = LINE, received: str = MINUTE, **counts: Any) -> PendingBatch:
    """A batch of some lines, each of which stands for one event."""
    number = payload.count(b"\n")
    tally = Tally(number, number, bytes_in=5, bytes_out=len(payload))
    for name, count in counts.items():
        setattr(tally, name, count)
    return PendingBatch(CONFERENCING.layout, received, payload, tally)


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
    with suppress(InputError):  # of another version
        return made(schema, purposes).admit_records(draw(bodies(schema, purposes)))
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


def stays(batch: PendingBatch, schema: Schema, purposes: Any) -> None:
    """It comes back as it is, with rows as a drain decodes them."""
    found = rechecked(batch, schema, purposes)
    assert found == batch
    spooled = Batch(b"i" * 16, batch.received, layout=batch.layout, payload=batch.payload)
    rows = read(spooled).rows
    assert rows is not None
    assert repr(found.rows) == repr(rows())


@given(st.data(), schemas(), granted)
def test_what_a_filter_made_comes_back(data: st.DataObject, schema: Schema, purposes: Any) -> None:
    """Byte for byte, with its counts, minute and purposes."""
    for batch in data.draw(batches(schema, purposes)):
        stays(batch, schema, purposes)


@pytest.mark.parametrize("name", SHIPPED)
@given(st.data())
def test_what_a_filter_made_of_shipped_schemas_comes_back(name: str, data: st.DataObject) -> None:
    """The same, where catalogues are long."""
    for batch in data.draw(batches(shipped(name))):
        stays(batch, shipped(name), None)


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


@given(st.data(), schemas(), granted)
def test_what_passes_is_valid(data: st.DataObject, schema: Schema, purposes: Any) -> None:
    """However a batch is changed, it is refused, or holds nothing but what its schema allows."""
    drawn = data.draw(batches(schema, purposes)) or [
        PendingBatch(schema.layout, MINUTE, b"", Tally())
    ]
    batch = data.draw(mutated(data.draw(st.sampled_from(drawn)), schema))
    try:
        found = rechecked(batch, schema, purposes)
    except RecheckError:
        return
    assert is_valid(found, schema)
    assert found == batch


@pytest.mark.parametrize("name", SHIPPED)
@some
@given(st.data())
def test_what_passes_is_valid_under_the_shipped_schemas(name: str, data: st.DataObject) -> None:
    """The same, where records are larger."""
    schema = shipped(name)
    for batch in data.draw(batches(schema)):
        changed_batch = data.draw(mutated(batch, schema))
        try:
            found = rechecked(changed_batch, schema)
        except RecheckError:
            continue
        assert is_valid(found, schema)
