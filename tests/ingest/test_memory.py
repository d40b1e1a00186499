"""The memory for bodies: turns in their order, in time, and never more than there is."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.ingest.decompression import Compressed, Encoding, zstd_library
from collector.ingest.limits import MIB, SMALL_BODY, IngestLimits
from collector.ingest.memory import MemoryBudget, Reservation, Turns
from collector.ingest.refusals import BUSY, RequestRefused
from tests.support.deadline import WAIT_SECONDS
from tests.support.rows import for_each
from tests.support.zeros import zeros


def _is_refused(turns: Turns, size: int, left: int = 0) -> bool:
    try:
        turns.take(size, left=left)
    except RequestRefused as error:
        return error.refusal is BUSY
    return False


def test_what_is_taken_at_once() -> None:
    turns = Turns(10)
    turns.take(4)
    assert _is_refused(turns, 7)
    assert _is_refused(turns, 3, left=4)
    turns.take(6)
    turns.give_back(10)
    assert turns.used == 0


@given(
    amount=st.integers(1, 20),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=30),
    gone=st.sets(st.integers(0, 29)),
)
@settings(deadline=None)
def test_turns_come_in_order(amount: int, sizes: list[int], gone: set[int]) -> None:
    sizes = [min(size, amount) for size in sizes]
    turns, order = Turns(amount), list[int]()

    async def work(number: int) -> None:
        await turns.awaited(sizes[number], WAIT_SECONDS)
        order.append(number)
        assert turns.used <= amount
        await asyncio.sleep(0)
        turns.give_back(sizes[number])

    async def run() -> None:
        turns.take(amount)
        tasks = [asyncio.create_task(work(number)) for number in range(len(sizes))]
        await asyncio.sleep(0)
        for number in gone:
            if number < len(tasks):
                tasks[number].cancel()
        await asyncio.sleep(0)
        turns.give_back(amount)
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    assert order == [number for number in range(len(sizes)) if number not in gone]
    assert turns.used == 0


def test_threads_and_loops_share() -> None:
    """Twenty of each ask at random, some in vain: never is more used than there is, and nothing is
    in the end."""
    turns, most, served = Turns(10), list[int](), list[int]()
    start = Barrier(21)

    def note(size: int) -> None:
        most.append(turns.used)
        served.append(size)
        turns.give_back(size)

    def block(seed: int) -> None:
        chance = random.Random(seed)
        start.wait(WAIT_SECONDS)
        for _ in range(50):
            size = chance.randint(1, 10)
            try:
                turns.blocking(size, chance.choice([0.0001, WAIT_SECONDS]))
            except RequestRefused:
                continue
            note(size)

    async def wait(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(50):
            size = chance.randint(1, 10)
            try:
                await turns.awaited(size, chance.choice([0.0001, WAIT_SECONDS]))
            except RequestRefused:
                continue
            note(size)

    async def run() -> None:
        await asyncio.to_thread(start.wait, WAIT_SECONDS)
        await asyncio.gather(*map(wait, range(20)))

    with ThreadPoolExecutor(20) as pool:
        blocked = [pool.submit(block, seed) for seed in range(20)]
        asyncio.run(run())
        for each in blocked:
            each.result(WAIT_SECONDS)
    assert max(most) <= 10
    assert len(served) > 100
    assert turns.used == 0


def test_a_turn_that_does_not_come_is_refused() -> None:
    turns = Turns(1)
    turns.take(1)
    with pytest.raises(RequestRefused) as caught:
        turns.blocking(1, 0.01)
    assert caught.value.refusal is BUSY
    with pytest.raises(RequestRefused) as caught:
        asyncio.run(turns.awaited(1, 0.01))
    assert caught.value.refusal is BUSY
    assert caught.value.__context__ is None
    turns.give_back(1)
    assert turns.used == 0
    turns.blocking(1, 0.01)


def test_a_queue_that_is_too_long_is_refused_at_once() -> None:
    """Turns that take a tenth of a second each: the eleventh would wait for more than a second."""
    turns = Turns(1)

    async def run() -> list[BaseException | None]:
        turns.take(1)
        waiting = [asyncio.create_task(turns.awaited(1, WAIT_SECONDS)) for _ in range(40)]
        for _ in range(30):
            await asyncio.sleep(0.1)
            turns.give_back(1)
        late = asyncio.create_task(turns.awaited(1, 0.5))
        await asyncio.sleep(0)
        assert late.done()
        patient = asyncio.create_task(turns.awaited(1, WAIT_SECONDS))
        await asyncio.sleep(0)
        assert not patient.done()
        for _ in range(11):
            turns.give_back(1)
            await asyncio.sleep(0)
        return await asyncio.gather(*waiting, late, patient, return_exceptions=True)

    *kept, late, patient = asyncio.run(run())
    assert kept == [None] * 40
    assert patient is None
    assert isinstance(late, RequestRefused)


@for_each("body", [1, 100, SMALL_BODY, MIB, 8 * MIB])
@for_each("memory", [1, MIB, 80 * MIB])
@for_each("encoding", ["gzip", "deflate", "zstd"])
def test_every_body_finds_room(body: int, memory: int, encoding: Encoding) -> None:
    limits = IngestLimits(wire=body, body=body, memory=memory)
    budget = MemoryBudget(limits)
    wires = [zeros(encoding, 1), zeros(encoding, 1)[: body // 2], b"\x28\xb5\x2f\xfd\0\x68"]
    if encoding == "zstd":
        wires.append(bytes(zstd_library().compress(bytes(min(body, 8 * MIB)))))
    for wire in wires:
        with Reservation(budget, body) as memory_of_one:
            memory_of_one.add(body)
            try:
                found = Compressed(encoding, wire, limits)
            except RequestRefused:
                continue
            memory_of_one.turn_now(found)
            assert budget.used == body + found.memory
            memory_of_one.keep(found.most)
            assert budget.used == found.most
        assert budget.used == 0


def test_small_bodies_have_their_part() -> None:
    budget = MemoryBudget(IngestLimits())
    held = list[Reservation]()
    while True:
        held.append(Reservation(budget, MIB))
        try:
            held[-1].add(MIB)
        except RequestRefused:
            break
    for turns in (budget.medium, budget.large):
        turns.take(turns.amount)
    wire = bytes(zstd_library().compress(bytes(SMALL_BODY)))
    with Reservation(budget, len(wire)) as small:
        small.add(SMALL_BODY)
        small.turn_now(Compressed("zstd", wire, budget.limits))
    for each in held:
        each.keep(0)
    assert budget.wire.used == budget.small.used == 0


def test_memory_is_within_what_is_set() -> None:
    """All parts together take what is set, and little more for the largest bodies."""
    budget = MemoryBudget(IngestLimits())
    parts = (budget.wire, budget.small, budget.medium, budget.large)
    assert sum(each.amount for each in parts) <= 82 * MIB
