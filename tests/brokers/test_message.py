"""The form of a message: what was sent is read; anything else is refused for a listed reason."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import load_schema
from collector.brokers.message import (
    MOST_BYTES,
    MOST_PART_BYTES,
    Message,
    Outgoing,
    mac_key,
    outgoing,
    read_message,
)
from collector.contracts import REFUSALS, Batch, Granted, PendingBatch, Tally
from collector.errors import ConfigError, MessageError, RecheckError, Unacceptable
from collector.filter.recheck import Recheck
from collector.testing.sinks import batch_of
from tests.support.raising import raises
from tests.support.rows import for_each

SCHEMA = load_schema("conferencing")
KEY, OTHER = b"k" * 32, b"o" * 32
keys = st.sampled_from([None, KEY])
purposes = st.none() | st.lists(st.text("abc_", min_size=1, max_size=9), max_size=4).map(tuple)


def _batch(payload: bytes, number: int = 7) -> Batch:
    layout = SCHEMA.layout
    return Batch(number.to_bytes(16), "2026-06-01T12:30:00Z", layout=layout, payload=payload)


def _sent(batch: Batch, most: int = MOST_BYTES, key: bytes | None = None) -> list[Outgoing]:
    return list(outgoing(batch, None, most, key))


def _refusal(data: bytes, keys: Sequence[bytes] = ()) -> str:
    with raises("E520", MessageError) as caught:
        read_message(data, keys)
    assert caught.value.reason in REFUSALS
    return caught.value.reason


@given(
    st.lists(st.binary(max_size=40).map(lambda text: text.replace(b"\n", b"") + b"\n")),
    purposes,
    keys,
    st.integers(400, 1000),
)
def test_what_is_sent_is_read(
    lines: list[bytes], granted: Granted, key: bytes | None, most: int
) -> None:
    """Every record is in one part, and no message is longer than it may be. In which order they
    came is not told."""
    batch, read = _batch(b"".join(lines)), list[Message]()
    try:
        sent = list(outgoing(batch, granted, most, key))
    except Unacceptable:
        assert most < 500 + max(map(len, lines))
        return
    for message in sent:
        assert len(message.data) <= most
        read.append(read_message(message.data, [OTHER, key] if key else []))
        assert read[-1].id.hex() == message.id
    payload = b"".join(each.payload for each in read)
    assert payload == b"".join(
        line + b"\n" for line in sorted(line.removesuffix(b"\n") for line in lines)
    )
    assert _sent(_batch(b"".join(reversed(lines))), most, key) == _sent(batch, most, key)
    assert [(each.part, each.parts) for each in read] == [
        (number, len(read)) for number in range(1, len(read) + 1)
    ]
    assert len({each.id for each in read}) == len(read)
    for each in read:
        assert (each.schema, each.digest) == (SCHEMA.id, SCHEMA.digest)
        assert (each.received, each.granted) == (batch.received, granted)
    assert [each.id for each in read] == [batch.id] or len(read) != 1


def test_a_batch_that_is_sent_again_has_the_same_ids() -> None:
    """A part from which nothing was erased too; another part of that number has another id."""
    lines = [b"%03d\n" % number for number in range(100)]
    whole = _sent(_batch(b"".join(lines)), 400)
    assert whole == _sent(_batch(b"".join(lines)), 400)
    less = _sent(_batch(b"".join(lines[:-1])), 400)
    assert whole[0] == less[0]
    fewer = _sent(_batch(b"".join(lines[1:])), 400)
    assert not {each.id for each in whole[:-1]} & {each.id for each in fewer}
    assert _sent(_batch(b"x\n"))[0].id == _batch(b"").id.hex()
    assert _sent(_batch(b"")) == []


@given(st.binary(max_size=200), keys)
def test_what_is_no_message_is_refused(data: bytes, key: bytes | None) -> None:
    for prefix in (b"", b"CLTM", b"CLTM\1\0", b"CLTM\1\1", b"CLTM\1\0\0\5", b"CLTM\1\0\0\2{}"):
        _refusal(prefix + data, [key] if key else [])


@given(st.data(), keys)
def test_what_was_damaged_is_refused_or_is_not_what_it_was(
    data: st.DataObject, key: bytes | None
) -> None:
    (message,) = _sent(_batch(b'{"a":1}\n{"a":2}\n'), key=key)
    text = bytearray(message.data)
    match data.draw(st.sampled_from(["flip", "cut", "insert", "swap"])):
        case "flip":
            at = data.draw(st.integers(0, len(text) - 1))
            text[at] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del text[data.draw(st.integers(0, len(text) - 1)) :]
        case "insert":
            at = data.draw(st.integers(0, len(text)))
            text[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        case _:
            text.reverse()
    if bytes(text) == message.data:
        return
    if key is not None:
        assert _refusal(bytes(text), [key]) in ("foreign", "version", "unauthenticated")
        return
    with suppress(MessageError):
        read_message(bytes(text))


def test_a_mac_is_wanted_where_there_is_a_key() -> None:
    """One of another key, none, and one of any of several keys."""
    batch = _batch(b"{}\n")
    (plain,), (signed,) = _sent(batch), _sent(batch, key=KEY)
    assert read_message(plain.data).payload == read_message(signed.data).payload == b"{}\n"
    assert read_message(signed.data, [OTHER, KEY]).payload == b"{}\n"
    assert _refusal(plain.data, [KEY]) == "unauthenticated"
    assert _refusal(signed.data, [OTHER]) == "unauthenticated"
    assert _refusal(plain.data[:5] + b"\1" + plain.data[6:], [KEY]) == "unauthenticated"


@for_each(
    ("change", "reason"),
    [
        ({"batch": "0" * 31}, "malformed"),
        ({"batch": "G" * 32}, "malformed"),
        ({"part": 2}, "malformed"),
        ({"part": 0}, "malformed"),
        ({"part": True}, "malformed"),
        ({"parts": 1 << 20}, "malformed"),
        ({"received": "2026-06-01T12:30:01Z"}, "malformed"),
        ({"received": None}, "malformed"),
        ({"purposes": "all"}, "malformed"),
        ({"purposes": ["a"] * 65}, "malformed"),
        ({"schema": "x" * 201}, "malformed"),
        ({"chat": "hello"}, "malformed"),
        ({"digest": "-" * 64}, "malformed"),
    ],
)
def test_a_header_that_is_none(change: dict[str, object], reason: str) -> None:
    """Each member is of its type and within its bounds, and there are no others."""
    (message,) = _sent(_batch(b"{}\n"))
    (length,) = struct.unpack(">H", message.data[6:8])
    header = json.loads(message.data[8 : 8 + length]) | change
    text = json.dumps(header).encode()
    data = message.data[:6] + struct.pack(">H", len(text)) + text + b"{}\n"
    assert _refusal(data) == reason


def test_bounds_come_before_work() -> None:
    """A message of any size, and a deep header, cost no more memory than they have."""
    huge = b"CLTM\1\0" + bytes(MOST_BYTES)
    deep = b"CLTM\1\0" + struct.pack(">H", 8000) + b'{"schema":' + b"[" * 7990 + b"{}\n"
    tracemalloc.start()
    try:
        assert _refusal(huge) == "too_large"
        assert _refusal(b"") == "foreign"
        assert _refusal(deep) == "malformed"
        assert _refusal(b"CLTM\1\0\xff\xff" + b"x" * 70_000) == "malformed"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_more_records_than_a_part_has() -> None:
    """A message has no more: a drain would refuse it."""
    line = b"x" * 1023 + b"\n"
    (message,) = _sent(_batch(line * 512))
    assert len(read_message(message.data).payload) == MOST_PART_BYTES
    assert len(message.data) + len(line) < MOST_BYTES
    assert _refusal(message.data + line) == "too_large"


def test_a_record_that_is_too_much_for_a_message() -> None:
    """It is unacceptable; one of an earlier version may be as large as it likes."""
    with raises("E511", Unacceptable):
        _sent(_batch(b"x" * 2000 + b"\n"), 1000)
    with raises("E511", Unacceptable):
        _sent(_batch(b"x\n"), 10)


def test_the_key_of_macs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is by reference, and long enough."""
    monkeypatch.setenv("BROKER_KEY", "0123456789abcdef" * 2)
    assert mac_key("env:BROKER_KEY") == b"0123456789abcdef" * 2
    assert mac_key(None) is None
    monkeypatch.setenv("BROKER_KEY", "short")
    for reference in ("env:BROKER_KEY", "env:BROKER_NONE"):
        with raises("E202", ConfigError):
            mac_key(reference)


# -- records that waited --------------------------------------------------------------------------


def _delayed(
    payload: bytes, received: str = "", granted: Granted = None, minutes: int = 0
) -> PendingBatch:
    now = datetime.now(UTC) - timedelta(minutes=minutes)
    minute = received or now.strftime("%Y-%m-%dT%H:%M:00Z")
    return PendingBatch(SCHEMA.layout, minute, payload, Tally(), granted)


LINE = b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.7","os.type":"linux"}\n'


@for_each("minutes", [0, 7, 90, 24 * 60, 30 * 24 * 60])
def test_records_that_waited(minutes: int) -> None:
    """They may be of any minute of a month, and have any counts."""
    counted = LINE[:-2] + b',"count":3}\n'
    checked = Recheck(SCHEMA).check_delayed(_delayed(LINE + counted, minutes=minutes))
    assert checked.payload == LINE + counted
    assert (checked.tally.received, checked.tally.admitted) == (4, 4)
    assert checked.rows is not None
    assert len(checked.rows) == 2
    batch = batch_of(1, [1, 2], SCHEMA)
    assert Recheck(SCHEMA).check_delayed(_delayed(batch.payload)).record_count == 2


@for_each(
    "batch",
    [
        _delayed(b""),
        _delayed(b"{}\n"),
        _delayed(LINE[:-1]),
        _delayed(LINE.replace(b"linux", b"hello")),
        _delayed(LINE.replace(b"1.0.0", b"1.0.1")),
        _delayed(LINE.replace(b'"os.type"', b'"os.tipe"')),
        _delayed(LINE.replace(b":", b": ", 1)),
        _delayed(LINE[:-2] + b',"count":0}\n'),
        _delayed(LINE[:-2] + b',"count":1000001}\n'),
        _delayed(LINE, received="2026-01-01T00:00:00Z"),
        _delayed(LINE, received="2999-01-01T00:00:00Z"),
        _delayed(LINE, received="yesterday"),
        _delayed(LINE, minutes=-60 * 24),
        _delayed(LINE, granted=("advertising",)),
        _delayed(LINE, granted=()),
        _delayed(b"[" * 5000 + b"\n"),
    ],
)
def test_what_no_filter_makes(batch: PendingBatch) -> None:
    """One value, or one minute, refuses the batch."""
    with raises("E513", RecheckError):
        Recheck(SCHEMA).check_delayed(batch)


def test_records_for_some_purposes() -> None:
    """A sink for named purposes sends fewer fields, and says so: others are refused then."""
    names = tuple(SCHEMA.purposes)
    check = Recheck(SCHEMA).check_delayed
    assert check(_delayed(LINE, granted=names[::-1])).granted is None
    assert check(_delayed(LINE, granted=(*names, "of_a_later_version"))).granted is None
    with raises("E513", RecheckError):
        check(_delayed(LINE, granted=tuple(f"{names[0]}{number}" for number in range(65))))
    for name in names:
        fields = {key for key, field in SCHEMA.fields.items() if name in field.purposes}
        record = json.loads(LINE)
        kept = {key: value for key, value in record.items() if key in {"schema", *fields}}
        text = json.dumps(kept, separators=(",", ":")).encode() + b"\n"
        if len(kept) > 1:
            assert check(_delayed(text, granted=(name,))).granted == (
                (name,) if len(names) > 1 else None
            )
        if len(kept) < len(record):
            with raises("E513", RecheckError):
                check(_delayed(LINE, granted=(name,)))
