"""A sum that several threads add to, across forks."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from collector.contracts import Tally
from collector.ops.total import Total
from tests.support.programs import script


def test_what_threads_add() -> None:
    total = Total(Counter[str])
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda _: total.add(Counter(["a", "b"])), range(1000)):
            pass
    total.sum().clear()
    assert total.sum() == {"a": 1000, "b": 1000}


def test_tallies() -> None:
    """They add up as ever."""
    total = Total(Tally)
    total.add(Tally(2, 1, Counter({"malformed": 1})))
    total.add(Tally(1, 1))
    assert total.sum().as_dict() == {"received": 3, "admitted": 2, "rejected": {"malformed": 1}}


_FORKED = """
import os, signal
from collections import Counter
from collector.ops.total import Total

total = Total(Counter)
total.add(Counter("a"))
with total._lock:
    child = os.fork()
    if not child:
        signal.alarm(60)
        total.add(Counter("a"))
        os._exit(total.sum()["a"])
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
assert total.sum()["a"] == 1
"""


def test_a_fork_does_not_lock_it() -> None:
    """The thread that held the lock is missing in the new process."""
    script(_FORKED)
