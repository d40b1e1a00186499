"""The life of a serving process: event loop, signals, and messages to its supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import suppress
from functools import partial
from time import CLOCK_MONOTONIC, clock_gettime_ns, monotonic
from typing import Any, Literal

from collector.ops.error_log import ErrorLog

_REPEAT_SECONDS = 0.1
"""A second signal within this time counts as the first, because a terminal and a supervisor may
both send one."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_IGNORED = (signal.SIGUSR1, signal.SIGUSR2)
"""Some supervisors and tools send these signals to all processes. By default they end a process."""


def signalled(loop: asyncio.AbstractEventLoop, log: ErrorLog) -> asyncio.Future[tuple[int, float]]:
    """Return a future that SIGTERM or SIGINT sets to its number and its time (``monotonic``).

    A second signal ends the process at once. Errors outside tasks go to the log.
    """
    loop.set_exception_handler(partial(on_loop_error, log))
    ending: asyncio.Future[tuple[int, float]] = loop.create_future()
    for number in _SIGNALS:
        loop.add_signal_handler(number, _on_signal, ending, number)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    return ending


def restore_signals() -> None:
    """Restore the default action of the signals."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def _on_signal(ending: asyncio.Future[tuple[int, float]], number: int) -> None:
    if not ending.done():
        ending.set_result((int(number), monotonic()))
    elif monotonic() - ending.result()[1] > _REPEAT_SECONDS:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def on_loop_error(log: ErrorLog, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error outside tasks; the exception handler of an event loop."""
    error = context.get("exception")
    if isinstance(error, BaseException):
        log.unexpected(error)
    else:
        log.library("asyncio")


def _microseconds() -> int:
    return clock_gettime_ns(CLOCK_MONOTONIC) // 1000


def is_watched() -> bool:
    """Return whether the service manager restarts this process when ``WATCHDOG=1`` is late. It sets
    ``WATCHDOG_USEC``, and ``WATCHDOG_PID`` if only one process is watched."""
    watched = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    return "WATCHDOG_USEC" in os.environ and watched == str(os.getpid())


def notify(state: Literal["READY=1", "RELOADING=1", "STOPPING=1", "WATCHDOG=1"]) -> None:
    """Send the state to ``NOTIFY_SOCKET``, if set; for a reload also its time, as systemd
    requires."""
    text = state if state != "RELOADING=1" else f"{state}\nMONOTONIC_USEC={_microseconds()}"
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(text.encode(), "\0" + path[1:] if path.startswith("@") else path)
