"""How long something may take, until it ends as if somebody had pressed Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from collector.errors import InputError

__all__ = ["patience"]


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """A block that ends when its time is over, even if it waits for whoever reads our output. For
    the main thread. Raises ``InputError`` E409 then."""
    is_over = False

    def ring(*_: object) -> None:
        nonlocal is_over
        is_over = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except KeyboardInterrupt:
        if not is_over:
            raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if is_over:
        message = "the statement took too long; ask for less, or give it more time with --timeout"
        raise InputError("E409", message)
