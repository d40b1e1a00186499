"""Turns: small bodies never wait, large ones wait for one another, and too many are refused."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from collector.ingest.limits import MIB
from collector.ingest.refusals import BUSY, Refused
from collector.ingest.turns import Turns


def test_small_bodies_never_wait() -> None:
    """Whatever else is going on."""
    turns = Turns(4)
    with ExitStack() as busy:
        for size in (*[MIB] * 4, MIB + 1, *[64 << 10] * 100):
            busy.enter_context(turns.of(size))
        with turns.of(0):
            pass


@pytest.mark.parametrize(("size", "at_once"), [((64 << 10) + 1, 4), (MIB, 4), (MIB + 1, 1)])
def test_larger_ones_take_turns(size: int, at_once: int) -> None:
    """So many at once, and everyone in the end."""
    turns, lock = Turns(20), threading.Lock()
    most = now = done = 0
    full = threading.Event()

    def work() -> None:
        nonlocal most, now, done
        with turns.of(size):
            with lock:
                now += 1
                most = max(most, now)
                if now == at_once:
                    full.set()
            assert full.wait(10)
            with lock:
                now -= 1
                done += 1

    with ThreadPoolExecutor(20) as pool:
        for future in [pool.submit(work) for _ in range(20)]:
            future.result(20)
    assert (most, done) == (at_once, 20)


def test_too_many_large_ones_are_refused() -> None:
    """BUSY, at once; and there is room again afterwards, also after a failure."""
    turns = Turns(1)

    def crowd() -> None:
        with turns.of(MIB + 1):
            with pytest.raises(Refused) as caught, turns.of(MIB + 1):
                pass
            assert caught.value.refusal is BUSY
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            crowd()
