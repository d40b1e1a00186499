"""Bodies on their way in: counted, shared out, given back."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.ingest.limits import MIB, Limits
from collector.ingest.reading import Body, Receive, Room
from collector.ingest.refusals import BUSY, INFLATED, LATE, TOO_LARGE, Refusal, Refused


def _parts(*parts: bytes, whole: bool = True) -> Receive:
    """Gives one part after the other, and then, if it is not the whole body, a disconnection."""
    messages: list[Mapping[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": not whole or at < len(parts)}
        for at, part in enumerate(parts, start=1)
    ]
    waiting = iter([*messages, {"type": "http.disconnect"}])

    async def receive() -> Mapping[str, Any]:
        return next(waiting)

    return receive


def _refusal(body: Body) -> Refusal:
    with pytest.raises(Refused) as caught:
        asyncio.run(body.read())
    return caught.value.refusal


@given(st.lists(st.binary(max_size=50), min_size=1))
def test_parts_are_joined(parts: list[bytes]) -> None:
    """And counted, until they are released."""
    room = Room(Limits())
    body = Body(room, _parts(*parts), {})
    assert asyncio.run(body.read()) == b"".join(parts)
    assert (body.begun, body.whole) == (True, True)
    assert room.held == sum(map(len, parts))
    body.release()
    body.release()
    assert room.held == 0


def test_no_more_than_may_be() -> None:
    """Of one body, and of all together; what was taken is given back."""
    limits = Limits(wire=10, body=10, held=1)
    room = Room(limits)
    assert _refusal(Body(room, _parts(b"12345", b"123456"), {})) is TOO_LARGE
    room = Room(limits)
    bodies = [Body(room, _parts(b"1234567890"), {}) for _ in range(3)]
    assert asyncio.run(bodies[0].read()) is not None
    assert asyncio.run(bodies[1].read()) is not None
    assert _refusal(bodies[2]) is BUSY
    for body in bodies:
        body.release()
    assert room.held == 0


def test_faults_and_disconnections() -> None:
    """A fault of the connection is the body's; a sender that is gone is told nothing."""
    body = Body(Room(Limits()), _parts(b"1", b"2"), {"fault": LATE})
    assert _refusal(body) is LATE
    assert (body.begun, body.whole) == (True, False)
    assert asyncio.run(Body(Room(Limits()), _parts(b"1", whole=False), {}).read()) is None


def test_large_bodies_grow_one_after_the_other() -> None:
    """Small ones need not wait for them; all come out whole, and are counted."""
    room = Room(Limits(held=128 * MIB))
    line = b"".join(b"%d\n" % number for number in range(20_000))
    large, small = line * 40, line
    done: list[int] = []

    async def grow(data: bytes) -> None:
        wire = gzip.compress(data, 1)
        body = Body(room, _parts(wire), {})
        got = await body.read()
        assert got is not None
        assert await body.decompressed("gzip", got) == data
        done.append(len(data))

    async def all_of_them() -> None:
        await asyncio.gather(*(grow(large) for _ in range(5)), grow(small))

    asyncio.run(all_of_them())
    assert done[0] == len(small)
    assert sorted(done) == [len(small), *[len(large)] * 5]
    assert room.held > 5 * len(large)


def test_refused_while_growing() -> None:
    """A body that grows too much, or into no room, is refused, and its turn is over."""
    room = Room(Limits())
    wire = gzip.compress(bytes(32 * MIB))

    async def grow() -> None:
        body = Body(room, _parts(wire), {})
        got = await body.read()
        assert got is not None
        try:
            await body.decompressed("gzip", got)
        finally:
            body.release()

    for _ in range(5):
        with pytest.raises(Refused) as caught:
            asyncio.run(grow())
        assert caught.value.refusal is INFLATED
    assert room.held == 0
