"""How long tests wait: for an event, and for a test as a whole.

A test that takes too long fails in its main thread (``timeout`` of pytest-timeout, by a signal), so
that its ``finally`` and ``with`` blocks run, and the process goes on with the next test. The
processes that it started are killed first: some of these blocks wait for them. If a block waits for
something else, ``faulthandler_timeout`` ends the process, with the stacks of all threads.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from types import FrameType

__all__ = ["WAIT_SECONDS", "children", "kill_at_timeout", "wait_until"]

WAIT_SECONDS = 60.0
"""For anything that a test waits for: a machine that is busy may need seconds for it. Less than the
limit of a test, so that the line that waits is the one that fails."""
_PAUSE_SECONDS = 0.01


def wait_until(holds: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    """Wait for something to hold; fail if it does not in time."""
    deadline = monotonic() + seconds
    while not holds():
        assert monotonic() < deadline, f"it does not hold after {seconds:g} s"
        sleep(_PAUSE_SECONDS)


def children() -> set[int]:
    """The processes that this one has started; none where the system does not tell."""
    found = set[int]()
    for thread in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found.update(map(int, thread.read_text().split()))
    return found


def kill_at_timeout() -> None:
    """Let the timer that is set for a test first kill the processes that it starts from now on."""
    fail, before = signal.getsignal(signal.SIGALRM), children()
    if not callable(fail):
        return

    def kill(number: int, frame: FrameType | None) -> None:
        for process in children() - before:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        fail(number, frame)

    signal.signal(signal.SIGALRM, kill)
