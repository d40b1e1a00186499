"""The life of the process: open, listen, wait for a signal, drain, end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from threading import Timer
from time import monotonic
from typing import Any

from collector.config import Config
from collector.ops.log import Log, Silence
from collector.server.evidence import Evidence
from collector.server.notify import notify
from collector.server.parts import Parts
from collector.server.receivers import Receivers
from collector.server.watch import Watch

__all__ = ["serve"]

_IN_FLIGHT_SECONDS = 3
_FLUSH_SECONDS = 3.0
_LONGEST_SECONDS = 8.5
_LOOK_SECONDS = 1.0
_ECHO_SECONDS = 0.1
"""A terminal and a supervisor may both send what was meant as one signal."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SWITCH_SECONDS = 0.0002
"""How long a thread keeps others waiting; a request passes through three. Between two slices of a
body the event loop lets go and is back before others wake, so only one who has waited for longer
than this gets his turn: it must be shorter than a slice takes, or the spool's writer starves."""


def serve(config: Config) -> int:
    """Run until SIGTERM or SIGINT; 0 once all is flushed or the time for it is over.

    A second signal ends the process at once: what was acknowledged is on disk anyway.
    """
    log = Log(config.log.level)
    Silence(log).install()
    sys.setswitchinterval(_SWITCH_SECONDS)
    # Whoever holds a sink's file, or a disk that does not answer, must not hold us too.
    last = Timer(_LONGEST_SECONDS, os._exit, (0,))
    last.daemon = True
    with ExitStack() as stack:
        stack.callback(last.cancel)
        parts = Parts(config, stack)
        evidence = Evidence(parts, log)
        receivers = Receivers(parts, stack, _IN_FLIGHT_SECONDS)
        with asyncio.Runner(debug=False, loop_factory=_loop_factory()) as runner:
            began = runner.run(_run(parts, receivers, evidence, log, last))
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        parts.upkeep.stop()
        delivered = parts.pipeline.close(_FLUSH_SECONDS)
        evidence.end()
        parts.spool.close()
        waiting, seconds = parts.spool.state().batches, round(monotonic() - began, 3)
        log.say("stopped", delivered_all=delivered, waiting=waiting, seconds=seconds)
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415 - not on every platform

    return uvloop.new_event_loop


async def _run(
    parts: Parts, receivers: Receivers, evidence: Evidence, log: Log, last: Timer
) -> float:
    """Serve until a signal; returns when it came."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(partial(_unhandled, log))
    ending: asyncio.Future[tuple[int, float]] = loop.create_future()
    for handled in _SIGNALS:
        loop.add_signal_handler(handled, _signalled, ending, handled)
    evidence.begin()
    await receivers.start()
    parts.pipeline.start()
    parts.upkeep.start()
    notify("READY=1")
    _announce(parts, receivers, log)
    gc.collect()
    gc.freeze()  # what is there now stays: it need not be looked at again and again
    watch = Watch(parts, log)
    while not ending.done():
        await receivers.tick()
        watch.look()
        evidence.look()
        await asyncio.wait([ending], timeout=_LOOK_SECONDS)
    number, began = ending.result()
    last.start()
    notify("STOPPING=1")
    log.say("stopping", signal=number)
    await receivers.stop()
    return began


def _signalled(ending: asyncio.Future[tuple[int, float]], number: int) -> None:
    if not ending.done():
        ending.set_result((int(number), monotonic()))
    elif monotonic() - ending.result()[1] > _ECHO_SECONDS:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def _unhandled(log: Log, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, BaseException):
        log.unexpected(error)
    else:
        log.library("asyncio")


def _announce(parts: Parts, receivers: Receivers, log: Log) -> None:
    """One line for people, or the log's first event for machines."""
    if not sys.stderr.isatty():
        ports = receivers.ports()
        log.say("started", **ports, sinks=len(parts.sinks))
        return
    where = ", ".join(f"{name} {place}" for name, place in receivers.places().items())
    line = f"collector: {where}; data in {parts.config.data}; schema {parts.schema.id}"
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)
