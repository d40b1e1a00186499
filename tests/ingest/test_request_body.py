"""Bodies on their way in: counted, limited together, given back."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable

from hypothesis import given
from hypothesis import strategies as st

from collector.contracts import Request, Tally
from collector.ingest.http import EventsHandler
from collector.ingest.limits import MIB, IngestLimits
from collector.ingest.memory import MemoryBudget
from collector.ingest.refusals import REQUEST_TIMEOUT, Refusal
from collector.ingest.request import HttpRequest
from collector.ingest.responses import HttpResponse
from tests.support.calling import accepting, responded
from tests.support.deadline import wait_until


class _Accepting:
    """Records bodies, and the memory that is reserved for them meanwhile."""

    def __init__(self, limits: IngestLimits | None = None) -> None:
        self.handler = EventsHandler(accepting(self), budget=MemoryBudget(limits or IngestLimits()))
        self.bodies: list[bytes] = []
        self.used: list[int] = []
        self.during: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)

    async def __call__(self, request: Request) -> Tally:
        self.bodies.append(request.body)
        self.used.append(self.handler.budget.used)
        await self.during()
        return Tally()


def _request(
    *parts: bytes, whole: bool = True, fault: Refusal | None = None, encoding: bytes = b""
) -> HttpRequest:
    """A request that gets one part after the other, and then, if that is not all, a fault or the
    end of its connection."""

    def feed() -> None:
        for part in parts:
            request.feed(part)
        if fault is not None:
            request.fail(fault)
        elif whole:
            request.complete()
        else:
            request.close()

    headers = [(b"content-type", b"application/x-ndjson"), (b"content-encoding", encoding)]
    request = HttpRequest("POST", "/v1/events", headers, on_demand=feed)
    return request


def _answer(taking: _Accepting, request: HttpRequest) -> HttpResponse | None:
    return asyncio.run(responded(taking.handler, request))


@given(st.lists(st.binary(max_size=50), min_size=1))
def test_parts_are_joined(parts: list[bytes]) -> None:
    taking, request = _Accepting(), _request(*parts)
    response = _answer(taking, request)
    assert response is not None
    assert (response.status, request.must_close(100)) == (200, False)
    assert (taking.bodies, taking.used) == ([b"".join(parts)], [sum(map(len, parts))])
    assert taking.handler.budget.used == 0


def test_a_body_has_a_limit_and_all_together() -> None:
    """A longer one is refused, as is one more than the memory is for; all is given back."""
    limits = IngestLimits(wire=100_000, body=100_000, memory=200_000)
    for size, status in ((100_000, 200), (100_001, 413)):
        longest = _answer(_Accepting(limits), _request(bytes(50_000), bytes(size - 50_000)))
        assert longest is not None
        assert longest.status == status
    limits = IngestLimits(wire=100_000, body=100_000, memory=1)
    taking = _Accepting(limits)
    response = _answer(taking, _request(bytes(50_000), bytes(60_000)))
    assert response is not None
    assert response.status == 413
    assert b"E416" in response.body

    async def three() -> list[int]:
        barrier = asyncio.Event()
        taking.during = barrier.wait
        requests = [_request(bytes(70_000)) for _ in range(3)]
        tasks = [asyncio.ensure_future(responded(taking.handler, request)) for request in requests]
        refused = await tasks[2]
        barrier.set()
        found = [*await asyncio.gather(*tasks[:2]), refused]
        return [response.status for response in found if response]

    assert asyncio.run(three()) == [200, 503, 503]
    assert taking.handler.budget.used == 0


def test_faults_and_disconnections() -> None:
    """A fault of the connection is the body's; a sender that is gone gets no response."""
    request = _request(b"1", b"2", fault=REQUEST_TIMEOUT)
    response = _answer(_Accepting(), request)
    assert response is not None
    assert (response.status, request.must_close(100)) == (408, True)
    assert _answer(_Accepting(), _request(b"1", whole=False)) is None


def test_nothing_is_decompressed_before_its_turn() -> None:
    """Bodies wait as they were sent, until there is memory for them; smaller ones need not wait for
    larger ones. All come out whole, and are counted."""
    taking = _Accepting()
    budget = taking.handler.budget
    small, medium = b"[" * 1000, b"".join(b"%d\n" % number for number in range(20_000))
    large = [b"%d" % first + medium * 40 for first in range(5)]

    async def all_of_them() -> None:
        barrier = asyncio.Event()
        taking.during = barrier.wait
        wires = [gzip.compress(data, 1) for data in (*large, medium, small)]
        budget.large.take(budget.large.amount)  # as if there were others
        tasks = [
            asyncio.ensure_future(responded(taking.handler, _request(wire, encoding=b"gzip")))
            for wire in wires
        ]
        await asyncio.to_thread(wait_until, lambda: len(taking.bodies) == 2)
        assert {*taking.bodies} == {small, medium}
        assert budget.wire.used == sum(map(len, wires[:5]))
        budget.large.give_back(budget.large.amount)
        barrier.set()
        assert {response.status for response in await asyncio.gather(*tasks) if response} == {200}

    asyncio.run(all_of_them())
    assert sorted(taking.bodies[2:]) == large
    assert taking.used[-1] >= len(large[0])
    assert budget.used == 0


def test_a_sender_that_is_gone_waits_no_longer() -> None:
    """Its body, which waited for its turn, is given up; those behind it have theirs."""
    taking = _Accepting()
    budget, wire = taking.handler.budget, gzip.compress(bytes(100_000))

    async def gone() -> None:
        budget.medium.take(budget.medium.amount)
        requests = [_request(wire, encoding=b"gzip") for _ in range(2)]
        tasks = [asyncio.ensure_future(responded(taking.handler, request)) for request in requests]
        await asyncio.to_thread(wait_until, lambda: budget.wire.used == 2 * len(wire))
        requests[0].close()
        assert await tasks[0] is None
        assert budget.wire.used == len(wire)
        budget.medium.give_back(budget.medium.amount)
        response = await tasks[1]
        assert response is not None
        assert response.status == 200

    asyncio.run(gone())
    assert taking.bodies == [bytes(100_000)]
    assert budget.used == 0


def test_refused_while_it_is_decompressed() -> None:
    """A body that grows too much is refused, and others are decompressed after it."""
    taking = _Accepting()
    wire = gzip.compress(bytes(32 * MIB))
    for _ in range(5):
        response = _answer(taking, _request(wire, encoding=b"gzip"))
        assert response is not None
        assert response.status == 413
        assert b"E416" in response.body
    assert taking.handler.budget.used == 0
