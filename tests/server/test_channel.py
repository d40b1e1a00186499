"""The channel: batches come out as they went in, however they are cut; other bytes do not."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.contracts import (
    CATEGORIES,
    DROPS,
    MOST_BYTES,
    REJECTIONS,
    Drop,
    Earlier,
    PendingBatch,
    RequestKey,
    Tally,
    Written,
    to_minute,
)
from collector.errors import DeliveryError
from collector.schema import load_schema
from collector.server.channel import (
    BatchCode,
    Channel,
    ChannelQueue,
    Frames,
    framed,
    frames_of_keeper,
    frames_of_workers,
)
from collector.server.keeper import RecordBudget
from collector.server.messages import (
    Answers,
    ChannelError,
    FromKeeper,
    FromWorker,
    Put,
    PutBatch,
    PutTally,
    Ready,
    Report,
    error_types,
    modules,
)
from tests.support.deadline import WAIT_SECONDS
from tests.support.rows import for_each

_SCHEMA, _OTHER = map(load_schema, ("web", "conferencing"))
_CODE = BatchCode([_OTHER, _SCHEMA])
_COUNTS = st.integers(0, 1 << 50)
_TALLIES = st.builds(
    Tally,
    received=_COUNTS,
    admitted=_COUNTS,
    rejected=st.dictionaries(st.sampled_from(REJECTIONS), st.integers(1, 99)).map(Counter),
    dropped=st.dictionaries(
        st.sampled_from(list(_SCHEMA.fields)),
        st.dictionaries(st.sampled_from(DROPS), st.integers(1, 99), min_size=1).map(Counter),
    ),
    content=st.dictionaries(st.sampled_from(CATEGORIES), st.integers(1, 99)).map(Counter),
    bytes_in=_COUNTS,
    bytes_out=_COUNTS,
)
_GRANTS = st.none() | st.lists(st.sampled_from(list(_SCHEMA.purposes)), unique=True).map(tuple)
_WRONG = Counter[Drop]({"wrong_type": 1})
_MINUTES = st.integers(0, 1 << 31).map(lambda at: to_minute(datetime.fromtimestamp(at, UTC)))
_BATCHES = st.builds(
    PendingBatch,
    layout=st.just(_SCHEMA.layout),
    received=_MINUTES,
    payload=st.binary(max_size=99),
    tally=_TALLIES,
    granted=_GRANTS,
) | st.builds(
    PendingBatch,
    layout=st.just(_OTHER.layout),
    received=_MINUTES,
    payload=st.binary(max_size=99),
    tally=st.integers(1, 99).map(lambda n: Tally(n, n, dropped={"os.build_id": _WRONG})),
    granted=st.sampled_from([None, ("service_operations",), ("capacity_planning",)]),
)
_HASHES = st.binary(min_size=16, max_size=16)
_KEYS = st.none() | st.builds(RequestKey, _HASHES, _HASHES)


def _frames() -> Frames[FromWorker]:
    return frames_of_workers(RecordBudget().take)


def _sent(puts: list[tuple[RequestKey | None, list[PendingBatch]]]) -> bytes:
    parts = []
    for number, (key, batches) in enumerate(puts):
        parts.append(framed(_CODE.put(number, key, batches)))
        parts += [batch.payload for batch in batches]
    return b"".join(parts) + framed(Ready(is_confined=True))


@given(
    st.lists(st.tuples(_KEYS, st.lists(_BATCHES, max_size=4)), max_size=4),
    st.lists(st.integers(1, 200), min_size=1),
)
def test_batches_come_through(
    puts: list[tuple[RequestKey | None, list[PendingBatch]]], cuts: list[int]
) -> None:
    """In order, with their keys, in pieces of any size."""
    data, frames, found = _sent(puts), _frames(), []
    while data:
        piece, data = data[: cuts[0]], data[cuts[0] :]
        cuts = [*cuts[1:], cuts[0]]
        found += list(frames.feed(piece))
    *messages, (last, _) = found
    assert last == Ready(is_confined=True)
    got = []
    for message, records in messages:
        assert isinstance(message, Put)
        assert records is not None
        key = None if message.key is None else RequestKey(*message.key)
        got.append((key, list(_CODE.batches(message, records))))
        assert not records
    assert got == puts


@given(st.lists(st.binary(max_size=300), max_size=9))
def test_other_bytes_are_refused_or_wait(pieces: list[bytes]) -> None:
    frames = _frames()
    with suppress(ChannelError):
        for piece in pieces:
            for message, records in frames.feed(piece):
                if isinstance(message, Put) and records is not None:
                    list(_CODE.batches(message, records))


def test_where_there_is_no_room_records_are_dropped_as_they_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The message is known, and the next one is found."""
    batch = PendingBatch(_SCHEMA.layout, "2026-01-01T00:00:00Z", b"x" * 5000, Tally(1, 1))
    monkeypatch.setattr("collector.server.keeper._MOST_UNSTORED", 4000)
    frames, found = _frames(), []
    data = _sent([(None, [batch])])
    for at in range(0, len(data), 700):
        found += list(frames.feed(data[at : at + 700]))
    (put, records), (last, _) = found
    assert isinstance(put, Put)
    assert records is None
    assert last == Ready(is_confined=True)


@pytest.mark.long
def test_where_there_is_no_room_a_message_is_not_kept() -> None:
    """Each worker may send the largest one and no records: the keeper has none of them."""
    nothing = {number: [0] * len(DROPS) for number in range(4096)}
    tally = PutTally(1, 0, [1, *[0] * (len(REJECTIONS) - 1)], nothing, [0] * len(CATEGORIES), 9, 0)
    batches = [PutBatch(0, 1, None, tally, 0)] * 60
    batches.append(PutBatch(0, 1, None, tally, MOST_BYTES))
    message, budget = framed(Put(1, None, batches)), RecordBudget()
    assert len(message) > 1 << 20
    links = [frames_of_workers(budget.take) for _ in range(3)]
    tracemalloc.start()
    try:
        for frames in links:
            assert list(frames.feed(message)) == []
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (budget.used, taken < 8 << 20) == (0, True)
    ((put, records),) = links[0].feed(bytes(MOST_BYTES))
    assert isinstance(put, Put)
    assert (put.number, put.batches, records) == (1, [], None)


def _put(size: int, number: int = 1) -> bytes:
    tally = PutTally(1, 0, [0] * len(REJECTIONS), {}, [0] * len(CATEGORIES), 0, 0)
    return framed(Put(1, None, [PutBatch(0, 0, None, tally, size)] * number))


@for_each(
    "data",
    [
        (1 << 31).to_bytes(4, "big"),
        _put(MOST_BYTES, 2),
        framed(Put(1, (bytes(16), b"short"), [])),
        framed(Report([1] * 2000, [], [], 0)),
        framed(Report([], [float("nan")], [], 0)),
        framed(Report([-1], [], [], 0)),
    ],
)
def test_sizes_are_refused_before_memory_is_taken(data: bytes) -> None:
    """A length, a sum of sizes, a key, a number or a list beyond its bounds."""
    with pytest.raises(ChannelError):
        list(_frames().feed(data))


def test_numbers_of_nothing_are_refused() -> None:
    """A field, a purpose, a minute, a schema that there is not."""
    counts = [0] * len(REJECTIONS), [0] * len(CATEGORIES)
    plain = PutTally(1, 1, counts[0], {}, counts[1], 0, 0)
    for batch in (
        PutBatch(0, 0, None, PutTally(1, 1, counts[0], {9999: [1] * 4}, counts[1], 0, 0), 0),
        PutBatch(0, 0, [99], plain, 0),
        PutBatch(0, 1 << 60, None, plain, 0),
        PutBatch(2, 0, None, plain, 0),
    ):
        with pytest.raises(ChannelError):
            list(_CODE.batches(Put(1, None, [batch]), bytearray()))


def test_the_tables_of_a_log_are_closed() -> None:
    """Names of exceptions and of modules, of ours and of Python's own."""
    assert {"ValueError", "DeliveryError"} <= set(error_types())
    assert "collector.server.worker" in modules()
    assert all(name.partition(".")[0] == "collector" for name in modules())


def _batch(number: int, minute: str = "2026-01-01T00:00:00Z", size: int = 1) -> PendingBatch:
    payload = b"%d\n" % number * size
    return PendingBatch(_SCHEMA.layout, minute, payload, Tally(size, size, bytes_out=len(payload)))


_NONE = [0] * (len(REJECTIONS) - 1)


def _said(
    put: Callable[[ChannelQueue], list[Written]], outcomes: list[tuple[int, int, list[int]]]
) -> tuple[list[tuple[bytes | None, list[bytes], int]], list[Written]]:
    """What a worker says when it puts requests, all in one turn: whether with a key, the records
    and the number of events; and the futures after these outcomes."""

    async def say() -> tuple[list[tuple[bytes | None, list[bytes], int]], list[Written]]:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        answered: list[FromKeeper] = []
        channel = Channel(frames_of_keeper(), lambda each, _: answered.append(each), lambda _: None)
        await loop.create_unix_connection(lambda: channel, sock=ours)
        queue = ChannelQueue(loop, channel, [_SCHEMA])
        found: list[tuple[bytes | None, list[bytes], int]] = []
        futures, frames = put(queue), _frames()
        with theirs:
            while len(found) < len(outcomes):
                for message, records in frames.feed(await loop.sock_recv(theirs, 1 << 20)):
                    assert isinstance(message, Put)
                    assert records is not None
                    batches = list(_CODE.batches(message, records))
                    events = sum(batch.tally.received for batch in batches)
                    payloads = [batch.payload for batch in batches]
                    found.append((message.key and b"key", payloads, events))
            queue.answered(Answers(outcomes))
            channel.close()
            await asyncio.sleep(0)
        return found, futures

    return asyncio.run(say())


def test_small_requests_of_a_turn_share_a_message() -> None:
    later, long = _batch(3, "2026-01-01T00:01:00Z"), _batch(5, size=9000)

    def put(queue: ChannelQueue) -> list[Written]:
        keyed = queue.put(_batch(4), key=RequestKey(bytes(16), bytes(16)))
        return [*map(queue.put, (_batch(1), _batch(2), later)), keyed, queue.put(long)]

    found, futures = _said(put, [(0, 0, [2, 1, *_NONE]), (1, 506, []), (2, 1, [])])
    assert found == [
        (b"key", [b"4\n"], 1),
        (None, [long.payload], 9000),
        (None, [b"1\n2\n", b"3\n"], 3),
    ]
    *small, keyed, large = futures
    assert [each.result() for each in small] == [None] * 3
    assert keyed.result() == Earlier(Tally(3, 2, Counter({REJECTIONS[0]: 1})), is_same=True)
    with pytest.raises(DeliveryError, match="E506"):
        large.result()


def test_what_shares_a_message_is_bounded() -> None:
    one = _batch(1, size=4000)

    def put(queue: ChannelQueue) -> list[Written]:
        return [queue.put(replace(one)) for _ in range(100)]

    found, futures = _said(put, [(0, 1, []), (1, 505, []), (2, 1, []), (3, 1, [])])
    sizes = [sum(map(len, payloads)) for _, payloads, _ in found]
    assert sum(sizes) == 100 * len(one.payload)
    assert max(sizes) < (1 << 18) + len(one.payload)
    refused = [each for each in futures if each.exception() is not None]
    assert 0 < len(refused) < 50
    assert all(each.done() for each in futures)


def test_numbers_of_purposes_take_memory() -> None:
    """What a message becomes is counted before it is taken, also where it has no records."""
    tally = PutTally(1, 0, [1] + [0] * (len(REJECTIONS) - 1), {}, [0] * len(CATEGORIES), 0, 0)
    few, many = RecordBudget(), RecordBudget()
    assert few.take(Put(0, None, [PutBatch(0, 0, [1], tally, 0)]))
    assert many.take(Put(0, None, [PutBatch(0, 0, [1] * 1024, tally, 0)]))
    assert many.used >= few.used + 1000 * 40


@for_each("number", [1, 40])
def test_an_error_ends_the_channel(number: int) -> None:
    async def say() -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        ours, theirs = socket.socketpair()
        seen: list[FromWorker] = []
        ended: asyncio.Future[bool] = loop.create_future()

        def fail(message: FromWorker, _: bytearray | None) -> None:
            seen.append(message)
            if len(seen) == number:
                raise MemoryError

        channel = Channel(_frames(), fail, ended.set_result)
        await loop.create_unix_connection(lambda: channel, sock=ours)
        with theirs:
            theirs.sendall(framed(Ready(is_confined=True)) * 100)
            async with asyncio.timeout(WAIT_SECONDS):
                assert await ended is False
        return len(seen)

    assert asyncio.run(say()) == number
