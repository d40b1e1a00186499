"""The life of a serving process: event loop, signals, and what its supervisor is told."""

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
"""A second signal within this time counts as the first: a terminal and a supervisor may both send
one."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_IGNORED = (signal.SIGUSR1, signal.SIGUSR2)
"""Some supervisors and tools send them to all processes; they would end these."""


def signalled(loop: asyncio.AbstractEventLoop, log: ErrorLog) -> asyncio.Future[tuple[int, float]]:
    """Return a future that SIGTERM or SIGINT sets to its number and its time (``monotonic``).

    A second signal ends the process at once. Errors that no task gets go to the log.
    """
    loop.set_exception_handler(partial(on_loop_error, log))
    ending: asyncio.Future[tuple[int, float]] = loop.create_future()
    for number in _SIGNALS:
        loop.add_signal_handler(number, _on_signal, ending, number)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    return ending


def restore_signals() -> None:
    """Let the signals end the process again."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def _on_signal(ending: asyncio.Future[tuple[int, float]], number: int) -> None:
    if not ending.done():
        ending.set_result((int(number), monotonic()))
    elif monotonic() - ending.result()[1] > _REPEAT_SECONDS:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def on_loop_error(log: ErrorLog, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that no task gets; the handler of an event loop."""
    error = context.get("exception")
    if isinstance(error, BaseException):
        log.unexpected(error)
    else:
        log.library("asyncio")


def _microseconds() -> int:
    return clock_gettime_ns(CLOCK_MONOTONIC) // 1000


def is_watched() -> bool:
    """Tell whether the service manager restarts this process when ``WATCHDOG=1`` does not come in
    time. It says so by ``WATCHDOG_USEC``, and by ``WATCHDOG_PID`` if only one process is meant."""
    watched = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    return "WATCHDOG_USEC" in os.environ and watched == str(os.getpid())


def notify(state: Literal["READY=1", "RELOADING=1", "STOPPING=1", "WATCHDOG=1"]) -> None:
    """Send the state to ``NOTIFY_SOCKET``, if there is one; with a reload its time, as systemd
    wants it."""
    text = state if state != "RELOADING=1" else f"{state}\nMONOTONIC_USEC={_microseconds()}"
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(text.encode(), "\0" + path[1:] if path.startswith("@") else path)
