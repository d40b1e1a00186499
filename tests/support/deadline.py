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
from typing import TypeVar

_T = TypeVar("_T")

WAIT_SECONDS = 120.0
"""The longest wait for anything: a busy machine may need seconds. It is less than the time limit of
a test, so the line that waits is the line that fails."""
_PAUSE_SECONDS = (0.001, 0.05)
"""The first and the longest pause between two looks."""


def eventually(find: Callable[[], _T], seconds: float = WAIT_SECONDS) -> _T:
    """Look until something is found or the time is over, and return the last result."""
    deadline, (pause, longest) = monotonic() + seconds, _PAUSE_SECONDS
    while not (found := find()) and monotonic() < deadline:
        sleep(pause)
        pause = min(2 * pause, longest)
    return found


def wait_until(find: Callable[[], _T], seconds: float = WAIT_SECONDS) -> _T:
    """Wait until something is found, and return it; fail if the time is over."""
    found = eventually(find, seconds)
    assert found, f"not found after {seconds:g} s"
    return found


def stays(holds: Callable[[], object], seconds: float) -> None:
    """Fail if something stops holding within this time."""
    assert not eventually(lambda: not holds(), seconds), "it holds no more"


def children() -> set[int]:
    """Return the child processes of this one; none on systems without ``/proc``."""
    found = set[int]()
    with suppress(FileNotFoundError):
        for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 - faster, and for each test
            with suppress(OSError):
                text = Path(f"/proc/self/task/{thread}/children").read_text()
                found.update(map(int, text.split()))
    return found


def kill_at_timeout() -> None:
    """Make a test's timer first kill the processes that the test starts from now on."""
    fail, before = signal.getsignal(signal.SIGALRM), children()
    if not callable(fail):
        return

    def kill(number: int, frame: FrameType | None) -> None:
        for process in children() - before:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        fail(number, frame)

    signal.signal(signal.SIGALRM, kill)
