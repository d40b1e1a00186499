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
from time import monotonic
from typing import Any

from collector.config import Config
from collector.ops.log import Log, Silence
from collector.server.notify import notify
from collector.server.parts import Parts
from collector.server.receivers import Receivers
from collector.server.watch import Watch

__all__ = ["serve"]

_IN_FLIGHT_SECONDS = 4
_FLUSH_SECONDS = 4.0
_LOOK_SECONDS = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(config: Config) -> int:
    """Run until SIGTERM or SIGINT; 0 once all is flushed or the time for it is over.

    A second signal ends the process at once: what was acknowledged is on disk anyway.
    """
    log = Log(config.log.level)
    Silence(log).install()
    with ExitStack() as stack:
        parts = Parts(config, stack)
        receivers = Receivers(parts, stack, _IN_FLIGHT_SECONDS)
        with asyncio.Runner(debug=False, loop_factory=_loop_factory()) as runner:
            began = runner.run(_run(parts, receivers, log))
        delivered = parts.pipeline.close(_FLUSH_SECONDS)
        waiting = parts.spool.state().batches
    log.say(
        "stopped",
        delivered_all=delivered,
        waiting=waiting,
        seconds=round(monotonic() - began, 3),
    )
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415 - not on every platform

    return uvloop.new_event_loop


async def _run(parts: Parts, receivers: Receivers, log: Log) -> float:
    """Serve until a signal; returns when it came."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(partial(_unhandled, log))
    ending: asyncio.Future[int] = loop.create_future()
    for number in _SIGNALS:
        loop.add_signal_handler(number, _signalled, ending, number)
    await receivers.start()
    parts.pipeline.start()
    notify("READY=1")
    _announce(parts, receivers, log)
    gc.collect()
    gc.freeze()  # what is there now stays: it need not be looked at again and again
    watch = Watch(parts, log)
    while not ending.done():
        await receivers.tick()
        watch.look()
        await asyncio.wait([ending], timeout=_LOOK_SECONDS)
    began = monotonic()
    notify("STOPPING=1")
    log.say("stopping", signal=ending.result())
    await receivers.stop()
    return began


def _signalled(ending: asyncio.Future[int], number: int) -> None:
    if ending.done():
        os._exit(128 + number)
    ending.set_result(int(number))


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
