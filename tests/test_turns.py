"""Long work lets other threads go on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count
from threading import Semaphore, Thread

import pytest

from collector.turns import in_turns


@pytest.fixture(autouse=True)
def patient() -> Iterator[None]:
    """No thread takes the interpreter from another one that does not give it up."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(3600.0)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 9])
def test_all_items_come_in_order(number: int) -> None:
    assert [*in_turns(iter(range(number)), 3)] == [*range(number)]


def test_others_go_on_between_items() -> None:
    """Sooner or later, however long the work is."""
    may_go, seen = Semaphore(0), list[int]()

    def go() -> None:
        may_go.acquire()
        seen.append(1)

    other = Thread(target=go)
    other.start()
    for item in in_turns(count(), 100):
        if not item:
            may_go.release()
        if seen or item > 1_000_000:
            break
    had_turn = bool(seen)
    other.join()
    assert had_turn
