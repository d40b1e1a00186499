"""The keeper believes no worker: whatever is said in a worker's place, what is stored is valid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.contracts import (
    CATEGORIES,
    DROPS,
    REJECTIONS,
    Batch,
    PendingBatch,
    RequestKey,
    Tally,
    to_minute,
)
from collector.keyring import Keyring
from collector.ops.error_log import LIBRARIES
from collector.server import keeper
from collector.server.channel import BatchCode, framed
from collector.server.messages import (
    Answers,
    Ask,
    ErrorSeen,
    Failed,
    LibrarySeen,
    LiveSeen,
    Put,
    PutBatch,
    PutTally,
    Ready,
    Report,
    error_types,
    modules,
)
from collector.testing import scan
from tests.filter.test_recheck import CONFERENCING, LINE, MINUTE, NOW, batches, is_valid
from tests.filter.traces import CANARY
from tests.server.keeping import Keeping, keeping
from tests.support.make_schemas import PSEUDONYM
from tests.support.rows import for_each

_CODE = BatchCode([CONFERENCING])
_some = settings(
    max_examples=max(10, settings().max_examples // 2),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeping]:
    """A keeper's parts, which all examples share."""
    with keeping(tmp_path_factory.mktemp("keeping")) as found:
        yield found


def _pending(payload: bytes = LINE, minute: str = MINUTE, **counts: Any) -> PendingBatch:
    number = payload.count(b"\n")
    tally = Tally(number, number, bytes_in=5, bytes_out=len(payload))
    return PendingBatch(CONFERENCING.layout, minute, payload, replace(tally, **counts))


def _put(*found: PendingBatch, number: int = 1, key: RequestKey | None = None) -> bytes:
    """A message with its records."""
    return framed(_CODE.put(number, key, found)) + b"".join(each.payload for each in found)


def _events(batch: Batch) -> int:
    return sum(json.loads(line).get("count", 1) for line in batch.payload.splitlines())


def _holds(kept: Keeping, before: int) -> list[Batch]:
    """Check what was stored after so many batches, and the ledger; return the new batches."""
    found = kept.batches()
    for batch in found[before:]:
        events = _events(batch)
        tally = Tally(events, events, bytes_out=len(batch.payload))
        layout = CONFERENCING.layout
        again = PendingBatch(layout, batch.received, batch.payload, tally, batch.granted)
        assert is_valid(again, CONFERENCING)
    said = kept.ledger()
    assert said.flaws == []
    assert said.received == sum(map(_events, found)) + sum(said.rejected.values())
    assert CANARY not in "".join(kept.log)
    return found[before:]


# -- arbitrary messages ---------------------------------------------------------------------------

_JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 9),
    st.sampled_from([-(2**63), 2**16, 2**16 + 1, 2**31, 2**53, 2**62, 2**63, 2**64 - 1]),
    st.floats(),
    st.sampled_from([CANARY, CANARY.encode(), CANARY.encode() * 99, "", b"", b"k" * 16]),
    st.lists(st.integers(0, 9), max_size=9),
    st.dictionaries(st.integers(0, 99), st.lists(st.integers(0, 9), min_size=6, max_size=6)),
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items: Any = ()
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield from _places(inner, (*path, key))


@st.composite
def _changed(draw: st.DrawFn, message: bytes) -> bytes:
    """A message in which one part is another."""
    whole = msgspec.msgpack.decode(message[4:])
    path = draw(st.sampled_from(list(_places(whole))))
    new = draw(_JUNK)
    if path:
        inner = whole
        for key in path[:-1]:
            inner = inner[key]
        if isinstance(inner, list) and draw(st.booleans()):
            inner.insert(path[-1], new)
        else:
            inner[path[-1]] = new
    raw = msgspec.msgpack.encode(whole if path else new)
    return len(raw).to_bytes(4, "big") + raw


_HASHES = st.sampled_from([b"a" * 16, b"b" * 16])


@st.composite
def _puts(draw: st.DrawFn) -> bytes:
    """Batches that a filter made, in which the message, the records, or none are changed."""
    found = draw(batches(CONFERENCING)) or [_pending()]
    payload = b"".join(each.payload for each in found)
    key = draw(st.none() | st.builds(RequestKey, _HASHES, _HASHES))
    message = framed(_CODE.put(draw(st.integers(0, 3)), key, found))
    where = draw(st.integers(0, 3))
    if where == 1:
        message = draw(_changed(message))
    elif where == 2:
        at = draw(st.integers(0, len(payload)))
        put = draw(st.sampled_from([b'"chat":"%b"' % CANARY.encode(), b" ", b"\n", b"9", b"{}\n"]))
        payload = (payload[:at] + put + payload[at + len(put) :])[: len(payload)]
    elif where == 3:
        payload = payload[: draw(st.integers(0, len(payload)))]
    return message + payload


_SMALL = st.integers(0, 1 << 16)
_NUMBERS = st.lists(st.integers(0, 9), max_size=99)
_OTHERS = st.one_of(
    st.builds(Ready, st.booleans()),
    st.builds(Failed, st.booleans()),
    st.builds(Report, _NUMBERS, st.lists(st.floats(0, 9)), _NUMBERS, _SMALL),
    st.builds(ErrorSeen, _SMALL, st.none() | _SMALL, _SMALL),
    st.builds(LibrarySeen, _SMALL),
    st.builds(Answers, st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)))),
    st.just(Ask()),
).map(framed)
_SAID = st.one_of(_puts(), _puts(), _OTHERS, _OTHERS.flatmap(_changed), st.binary(max_size=99))


@_some
@given(st.lists(_SAID, max_size=5), st.integers(1, 1 << 14))
def test_whatever_is_said(kept: Keeping, said: list[bytes], cut: int) -> None:
    """In a worker's place, in pieces of any size: what is stored are valid rows with counts that
    conserve, no memory is counted twice, and a worker that tells the truth is heard before."""
    before, data = len(kept.batches()), b"".join(said)
    pieces = [data[at : at + cut] for at in range(0, len(data), cut)]
    heard = kept.hear(_put(_pending(), number=99), *pieces, now=NOW)
    assert (99, 1, []) in heard.outcomes or heard.is_distrusted
    assert _holds(kept, before)
    assert scan([kept.components.spool.path.parent], [CANARY]) == []


# -- each lie -------------------------------------------------------------------------------------

_RECORD = b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.7","chat":"%b"}\n'
_REJECTED = PutTally(1, 0, [1] + [0] * (len(REJECTIONS) - 1), {}, [0] * len(CATEGORIES), 9, 0)


def _minute(**later: int) -> str:
    return to_minute(NOW + timedelta(**later))


def _announced(**changes: Any) -> bytes:
    minute = int(datetime.fromisoformat(MINUTE).timestamp()) // 60
    batch = PutBatch(0, minute, None, _REJECTED, 0)
    return framed(Put(1, None, [msgspec.structs.replace(batch, **changes)]))


def _tally(**changes: Any) -> bytes:
    return _announced(tally=msgspec.structs.replace(_REJECTED, **changes))


_COUNTS = Report([0] * 90, [0.0] * 6, [0] * 69, 0)
_LIES = {
    "a foreign column": _put(_pending(_RECORD % CANARY.encode())),
    "a foreign column, counted": _put(_pending(LINE + _RECORD % b"x")),
    "a value of another kind": _put(_pending(LINE.replace(b'"linux"', b'"%b"' % CANARY.encode()))),
    "more events than records": _put(_pending(received=2, admitted=2)),
    "fewer events than records": _put(_pending(LINE * 2, received=1, admitted=1)),
    "counts that do not add up": _tally(received=2),
    "more dropped than received": _tally(dropped={0: [2] + [0] * (len(DROPS) - 1)}),
    "a field that is none": _tally(dropped={999: [1] + [0] * (len(DROPS) - 1)}),
    "a reason that cannot be": _tally(dropped={0: [0] * (len(DROPS) - 1) + [1]}),
    "more content than events": _tally(content=[2] + [0] * (len(CATEGORIES) - 1)),
    "bytes of no records": _tally(bytes_out=1),
    "an old minute": _put(_pending(minute=_minute(days=-40))),
    "an old minute that is no hour": _put(_pending(minute=_minute(hours=-3, minutes=-7))),
    "a minute of the future": _put(_pending(minute=_minute(minutes=9))),
    "a minute before all": _announced(minute=0),
    "a minute after all": _announced(minute=1 << 60),
    "purposes that are none": _announced(granted=[99]),
    "purposes that cannot be granted": _announced(granted=[]),
    "a purpose twice": _announced(granted=[0, 0]),
    "ready again": framed(Ready(is_confined=True)),
    "a failure later": framed(Failed(is_confined=True)),
    "counters without being asked": framed(_COUNTS),
    "what was seen, without being asked": framed(LiveSeen(1, [])),
    "an error that is none": framed(ErrorSeen(len(error_types()), None, 0)),
    "a module that is none": framed(ErrorSeen(0, len(modules()), 0)),
    "a library that is none": framed(LibrarySeen(len(LIBRARIES))),
    "a message of the keeper": framed(Ask()) + framed(Answers([(1, 1, [])])),
    "a great message": (1 << 31).to_bytes(4, "big"),
    "an empty message": bytes(4),
    "no message": b"\0\0\0\1\xc1",
}


@for_each("lie", _LIES)
def test_a_lie(kept: Keeping, lie: str) -> None:
    """Nothing of its message is stored, and nothing after it is heard."""
    before = len(kept.batches())
    heard = kept.hear(_put(_pending()), _LIES[lie] + 2 * _put(_pending(), number=7), now=NOW)
    assert heard.is_distrusted
    assert 7 not in [number for number, *_ in heard.outcomes]
    (stored,) = _holds(kept, before)
    assert stored.payload == LINE


@for_each("said", [_put(_pending()), framed(_COUNTS)])
def test_what_comes_before_it_is_ready(kept: Keeping, said: bytes) -> None:
    before = len(kept.batches())
    assert kept.hear(before=said, now=NOW).is_distrusted
    assert _holds(kept, before) == []


@for_each("asked", [b"\xff" * 10, bytes(10), b"\0"])
def test_keys_of_nothing(kept: Keeping, asked: bytes) -> None:
    assert kept.hear(asked=asked, now=NOW).is_distrusted


def test_a_key_is_stored_once(kept: Keeping) -> None:
    before, key = len(kept.batches()), RequestKey(Random().randbytes(16), bytes(16))
    counts = [1] + [0] * len(REJECTIONS)
    same = [_put(_pending(), number=number, key=key) for number in (1, 2, 1)]
    expected = [(1, 0, counts), (1, 1, []), (2, 0, counts)]
    assert sorted(kept.hear(*same, now=NOW).outcomes) == expected
    assert kept.hear(_put(_pending(), number=5, key=key), now=NOW).outcomes == [(5, 0, counts)]
    other = _put(_pending(LINE * 3), number=6, key=key._replace(body=b"o" * 16))
    assert kept.hear(other, now=NOW).outcomes == [(6, 409, counts)]
    assert kept.hear(_put(number=7, key=key), now=NOW).outcomes == [(7, 0, counts)]
    assert len(_holds(kept, before)) == 1


def test_a_key_without_batches(kept: Keeping) -> None:
    """It is stored, with counts of nothing. Without a key there is nothing to store: a lie."""
    before, key = len(kept.batches()), RequestKey(Random().randbytes(16), bytes(16))
    assert kept.hear(_put(number=1, key=key), now=NOW).outcomes == [(1, 1, [])]
    counts = [0] * (1 + len(REJECTIONS))
    assert kept.hear(_put(_pending(), number=2, key=key), now=NOW).outcomes == [(2, 0, counts)]
    assert kept.hear(_put(number=3), now=NOW).is_distrusted
    assert _holds(kept, before) == []


def test_half_a_message(kept: Keeping) -> None:
    """It is as if it had not been begun, and its memory is free."""
    before, put = len(kept.batches()), _put(_pending(LINE * 1000))
    for end in (2, 30, len(put) - 40_000, len(put) - 1):
        assert not kept.hear(put[:end], now=NOW).is_distrusted
    assert _holds(kept, before) == []


def test_what_errors_can_say_is_bounded(kept: Keeping) -> None:
    """Very many places of errors become few lines of the log, over the keeper's life."""
    random, before = Random(5), len(kept.log)
    kinds, places = len(error_types()), len(modules())
    errors = [
        framed(ErrorSeen(random.randrange(kinds), random.randrange(places), random.randrange(9999)))
        for _ in range(30_000)
    ]
    assert not kept.hear(b"".join(errors), now=NOW).is_distrusted
    said = [json.loads(line) for line in kept.log[before:]]
    places_said = {(each["error"], each["place"]) for each in said if each["event"] == "unexpected"}
    assert len(places_said) == 33
    assert len(said) < 33 * 16


def test_messages_that_are_small_count_as_what_they_become(kept: Keeping) -> None:
    """Batches without records take memory, too: those of one message, and of many."""
    tally = msgspec.structs.replace(_REJECTED, dropped={})
    minute = int(datetime.now(UTC).timestamp()) // 60
    batch = PutBatch(0, minute, None, tally, 0)
    many = framed(Put(1, None, [batch] * 10_000))
    few = b"".join(framed(Put(number, None, [batch])) for number in range(2, 500))
    heard = kept.hear(many, many, many, few)
    outcomes = {number: outcome for number, outcome, _ in heard.outcomes}
    assert not heard.is_distrusted
    assert (outcomes[1], set(outcomes.values())) == (425, {1, 425}) or set(outcomes.values()) == {1}


def test_a_worker_that_reads_no_answer(kept: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended before they fill the keeper's memory."""
    monkeypatch.setattr(keeper, "_MOST_UNREAD", 1 << 12)
    minute = int(datetime.now(UTC).timestamp()) // 60
    batch = PutBatch(0, minute, None, _REJECTED, 0)
    many = b"".join(framed(Put(1 << 60, None, [batch])) for _ in range(5_000))
    assert kept.hear(*[many] * 10, reads=False).is_distrusted


def test_a_key_that_is_gone(tmp_path: Path) -> None:
    """Since the schema was read, and no worker has asked for it yet: the worker is ended, as it
    would wait for ever; there is an error in the log, without the reference."""
    secret, schema = tmp_path / "secret", tmp_path / "devices.yaml"
    secret.write_text("0123456789abcdef")
    schema.write_text(PSEUDONYM.format(key=f"file:{secret}"))
    with keeping(tmp_path, {"COLLECTOR__SCHEMA": str(schema)}) as kept:
        kept.components.keyring = Keyring()  # that of a schema which came with a reload is new
        secret.unlink()
        heard = kept.hear(asked=bytes(10))
        assert not heard.is_distrusted
        lines = [json.loads(line) for line in kept.log]
        errors = [line["error"] for line in lines if line["event"] == "unexpected"]
        assert errors == ["ConfigError"]
        assert "secret" not in "".join(kept.log)
