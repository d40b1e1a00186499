"""Run the sidecar: check, open everything, listen, wait for a signal, drain, end."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Timer
from time import monotonic

import uvloop

from collector.config import Address, Config, Loaded
from collector.contracts import SpoolState
from collector.extras import NO_GRPC
from collector.files import Tightened, tighten, tighten_directory
from collector.ops.error_log import LibraryLogHandler
from collector.ops.log import EventLog, EventName
from collector.ops.metrics import WorkerReading
from collector.ops.sink_state import SinkState
from collector.schema import Schema
from collector.schema.kinds.base import utc_now
from collector.server.admin import UNREADY, State, opened_admin
from collector.server.components import Components
from collector.server.consumer import MessageIntake
from collector.server.control import ControlServer
from collector.server.http_receiver import HttpReceiver
from collector.server.keeper import Keeper
from collector.server.ledger_notes import LedgerNotes, refuse_widening
from collector.server.lifecycle import (
    is_watched,
    notify,
    restore_signals,
    signalled,
)
from collector.server.listeners import Location
from collector.server.pages import LivePages
from collector.server.preflight import prepare
from collector.server.reload import Reloader
from collector.server.status import Status
from collector.server.worker_process import WorkerProcess
from collector.server.worker_setup import pseudonyms

_GRACE_SECONDS = 3
_FLUSH_SECONDS = 3.0
_SHUTDOWN_SECONDS = 8.5
_CHECK_SECONDS = 1.0
_FILES = ("spool.db*", "store.db*", "ledger.key*", "collector.lock", "verdicts.json", "sinks/*/*")
_ANYONE = 0o007


class Receivers:
    """The receivers for senders and operators. Raises ``ConfigError`` E207 for a taken address."""

    def __init__(
        self,
        components: Components,
        log: EventLog,
        stack: ExitStack,
        processes: list[WorkerProcess],
    ) -> None:
        self._components = components
        self.log: EventLog = log
        self.keeper: Keeper | MessageIntake
        if components.config.drain.is_on:
            self.keeper = MessageIntake(components)
        else:
            self.keeper = Keeper(components, log, stack, processes)
        components.metrics.workers = self._reading
        self.pages: LivePages = LivePages(components, self._status, log)
        self._make_admin = opened_admin(components, self.keeper, self._readiness, self.pages, stack)
        self._admin: HttpReceiver | None = None
        self.control: ControlServer = ControlServer(components, self._readiness, stack, log)
        if isinstance(self.keeper, Keeper):
            self.control.live = self.keeper.live

    async def renew_admin(self) -> None:
        """Serve operators with the present certificate and limits."""
        if self._admin is not None and self._make_admin is not None:
            following = self._make_admin()
            await following.start()
            before, self._admin = self._admin, following
            await before.stop(_GRACE_SECONDS)

    async def start(self) -> None:
        """Start accepting on all receivers. Raises ``ConfigError`` E207 and E519."""
        await self.keeper.start()
        if self._make_admin is not None:
            self._admin = self._make_admin()
            await self._admin.start()
        await self.control.start()

    async def stop(self, grace_seconds: float) -> None:
        """Stop the workers, and answer operators until the workers have stopped."""
        await self.control.stop(grace_seconds)
        await self.keeper.stop(grace_seconds)
        if self._admin is not None:
            await self._admin.stop(grace_seconds)

    def addresses(self) -> dict[str, Location]:
        """Return where each receiver listens."""
        found = self.keeper.addresses()
        if self._admin is not None and self._admin.address is not None:
            found["admin"] = self._admin.address
        return found

    def ports(self) -> dict[str, int]:
        """Return the port of each receiver that listens; 1 for a socket file."""
        return {
            name: address.port if isinstance(address, Address) else 1
            for name, address in self.addresses().items()
        }

    def _reading(self) -> WorkerReading:
        keeper = self.keeper
        return WorkerReading(keeper.ready, keeper.replaced, keeper.requests())

    def _status(self) -> Status:
        components, keeper = self._components, self.keeper
        spool, checks = components.spool.state(), self._readiness()
        reloads = components.metrics.reloads()
        return Status(
            utc_now(),
            [schema.id for schema in components.schemas],
            components.config.data or Path(),
            components.spool.path,
            checks,
            UNREADY.isdisjoint(checks.values()),
            spool.bytes,
            spool.limit,
            components.growth.until_full(spool.limit - spool.bytes),
            spool.batches,
            components.sink_states(),
            {
                name: datetime.fromtimestamp(expiry, UTC)
                for name, expiry in components.expiries().items()
            },
            (keeper.ready, keeper.number),
            keeper.replaced,
            keeper.confined,
            datetime.fromtimestamp(reloads.last, UTC),
            reloads.is_successful,
        )

    def _readiness(self) -> dict[str, State]:
        """Return the states that determine readiness."""
        components, keeper = self._components, self.keeper
        spool = components.spool.state()
        states: dict[str, State] = {"spool": "full" if spool.is_full else "ok"}
        if not spool.is_ready:
            states["spool"] = "failing"
        for name, sink in components.sink_states().items():
            states[f"sink {name}"] = sink.condition
        for name in keeper.addresses():
            states[f"receiver {name}"] = "ok" if keeper.ready else "failing"
        if keeper.number > 1:
            states["workers"] = "ok" if keeper.ready == keeper.number else "late"
        if not components.metrics.reloads().is_successful:
            states["configuration"] = "late"
        for reviewed in components.reviews():
            if reviewed.fields:
                states[f"review {reviewed.schema}"] = "late" if reviewed.unapproved else "ok"
        if components.config.sandbox != "off":
            is_confined = keeper.ready and keeper.confined == keeper.ready
            states["sandbox"] = "ok" if is_confined else "late"
        return states


@contextmanager
def opened(
    loaded: Loaded,
    log: EventLog,
    processes: list[WorkerProcess] | None = None,
    *,
    allow_widening: bool = False,
) -> Iterator[tuple[Components, Receivers]]:
    """Open everything that a sidecar needs, including receivers, and close it at the end.
    ``processes`` are workers that were started meanwhile.

    Raises ``ConfigFaults`` with all faults before a file is created, and E222 before anything is
    used if more data would flow than when the sidecar last ran and that is not allowed;
    ``ConfigError`` or ``DeliveryError`` if another process or the disk interferes.
    """
    with ExitStack() as stack:
        components = prepare(loaded)
        _announce_start(loaded.config, log, len(processes or []))
        modes = tighten_all(components.config, components.schemas)
        if modes.tightened:
            log.write("modes_tightened", files=modes.tightened)
        if modes.loose:
            log.write("modes_loose", files=modes.loose)
        components.open(
            stack, None if allow_widening else partial(refuse_widening, loaded, components)
        )
        yield components, Receivers(components, log, stack, processes or [])


def serve(loaded: Loaded, processes: list[WorkerProcess], *, allow_widening: bool = False) -> int:
    """Run until SIGTERM or SIGINT; return 0 when everything is flushed or time is up. Raises as
    ``opened``.

    ``processes`` are workers that were started. A second signal ends the process at once:
    acknowledged records are on disk anyway.
    """
    log = EventLog(loaded.config.log.level)
    LibraryLogHandler(log).install()
    # A locked file of a sink, or a disk that does not respond, must not keep the process.
    deadline = Timer(_SHUTDOWN_SECONDS, os._exit, (0,))
    deadline.daemon = True
    with ExitStack() as stack:
        stack.callback(deadline.cancel)
        components, receivers = stack.enter_context(
            opened(loaded, log, processes, allow_widening=allow_widening)
        )
        notes = LedgerNotes(components, log)
        with asyncio.Runner(debug=False, loop_factory=uvloop.new_event_loop) as runner:
            running = _run(components, receivers, notes, log, loaded=loaded, deadline=deadline)
            stopped_at = runner.run(running)
        restore_signals()
        components.upkeep.stop()
        delivered = components.delivery.close(_FLUSH_SECONDS)
        notes.end()
        components.spool.close()
        waiting, seconds = components.spool.state().batches, round(monotonic() - stopped_at, 3)
        log.write("stopped", delivered_all=delivered, waiting=waiting, seconds=seconds)
    return 0


async def _run(
    components: Components,
    receivers: Receivers,
    notes: LedgerNotes,
    log: EventLog,
    *,
    loaded: Loaded,
    deadline: Timer,
) -> float:
    """Serve until a signal; return its time."""
    loop = asyncio.get_running_loop()
    ending = signalled(loop, log)
    notes.begin()
    await receivers.start()
    components.delivery.start()
    components.upkeep.start()
    keeper, reloader = receivers.keeper, None
    if isinstance(keeper, Keeper):  # a drain of a broker has no workers to change
        reloader = Reloader(
            *(loaded, components, keeper, notes, log),
            lock=receivers.control.lock,
            renew_admin=receivers.renew_admin,
        )
        receivers.control.reload = reloader.command
        reloader.start(loop)
    notify("READY=1")  # from here on, a reload may be asked for
    _announce(components, receivers, log, lacks_grpc=loaded.lacks_grpc)
    if components.config.sandbox != "off" and keeper.confined < keeper.ready:
        log.write("unconfined")
    gc.collect()
    gc.freeze()  # what exists now stays; collections skip it
    status, watched = _StatusLog(components, receivers, log), is_watched()
    while not ending.done():
        if watched:
            notify("WATCHDOG=1")
        await receivers.keeper.refresh()
        if components.spool.refusal is not None:  # its file could not be opened before
            raise components.spool.refusal
        status.update()
        notes.update()
        await asyncio.wait([ending], timeout=_CHECK_SECONDS)
    received, stopped_at = ending.result()
    deadline.start()
    notify("STOPPING=1")
    log.write("stopping", signal=received)
    if reloader is not None:
        await reloader.stop()
    await receivers.stop(_GRACE_SECONDS)
    status.update()
    return stopped_at


def _announce_start(config: Config, log: EventLog, workers: int) -> None:
    """Report what is opened next: as a line on a terminal, or as a log event."""
    schemas, sinks = config.references, config.sinks.on()
    if not sys.stderr.isatty():
        log.write("starting", schemas=len(schemas), sinks=len(sinks), workers=workers)
        return
    loads = f"loading {', '.join(schemas)}; data in {config.data}"
    _tell(f"{loads}; sinks: {', '.join(sinks) or 'none'}")


def _announce(
    components: Components, receivers: Receivers, log: EventLog, *, lacks_grpc: bool
) -> None:
    """Report addresses, and that gRPC is missing: as lines on a terminal, or as log events."""
    if not sys.stderr.isatty():
        ports = receivers.ports()
        log.write("started", **ports, sinks=len(components.sinks))
        if lacks_grpc:
            log.write("grpc_unavailable")
        return
    where = ", ".join(f"{name} {address}" for name, address in receivers.addresses().items())
    schemas = ", ".join(schema.id for schema in components.schemas)
    named = "schema" if len(components.schemas) == 1 else "schemas"
    _tell(f"{where}; data in {components.config.data}; {named} {schemas}")
    if lacks_grpc:
        _tell(NO_GRPC)


def _tell(line: str) -> None:
    with suppress(OSError):
        print(f"collector: {line}", file=sys.stderr, flush=True)


class _StatusLog:
    """Logs changes since the last check: conditions that begin or end, and counts."""

    def __init__(self, components: Components, receivers: Receivers, log: EventLog) -> None:
        self._components = components
        self._keeper, self._control = receivers.keeper, receivers.control
        self._log = log
        self._lasting: set[tuple[EventName, str]] = set()
        self._aside, self._times = Counter[str](), Counter[EventName]()
        self._damaged = self._errors = 0

    def _turned(self, event: EventName, holds: bool, sink: str = "") -> bool:
        """Note whether a condition of a sink, or of the whole process, holds; return whether that
        changed."""
        if holds is ((event, sink) in self._lasting):
            return False
        self._lasting ^= {(event, sink)}
        return True

    def update(self) -> None:
        """Log every change since the last call."""
        sinks, write = self._components.sink_states(), self._log.write
        for name, sink in sinks.items():
            self._update_sink(name, sink)
        for event, name in [*self._lasting]:
            is_over = name not in sinks or not sinks[name].is_absent
            if event == "sink_absent" and is_over and self._turned(event, False, name):
                write("sink_absent_done", sink=name)
        self._log.refused(self._keeper.requests().refused())
        is_held = self._components.is_held
        if self._turned("pruning_held", is_held):
            write("pruning_held" if is_held else "pruning_done")
        self._update_spool(self._components.spool.state(), sinks)
        tokens = self._components.tokens
        unhashed = self._keeper.unhashed + (0 if tokens is None else tokens.unhashed)
        self._update_times("token_unhashed", unhashed)
        self._update_times("control_refused", self._control.refused)

    def _update_times(self, event: EventName, times: int) -> None:
        """Log how often something has happened, each time the number has doubled."""
        if times > 2 * self._times[event]:
            self._times[event] = times
            self._log.write(event, times=times)

    def _update_sink(self, name: str, sink: SinkState) -> None:
        """Log changes of a sink."""
        delivery, backlog, write = sink.delivery, sink.backlog, self._log.write
        if self._turned("sink_failing", delivery.is_late, name):
            if delivery.is_late:
                write("sink_failing", sink=name, failures=delivery.failures, **delivery.reason())
            else:
                write("sink_recovered", sink=name, delivered=delivery.delivered)
        if sink.is_absent and self._turned("sink_absent", True, name):
            write("sink_absent", sink=name, waiting=backlog.batches + backlog.aside.batches)
        if self._turned("sink_skipping", backlog.is_skipping, name):
            if backlog.is_skipping:
                write("sink_skipping", sink=name, waiting=backlog.records)
            else:
                write("sink_skipping_done", sink=name, skipped=backlog.skipped.records)
        if backlog.aside.batches > self._aside[name]:
            write("batches_set_aside", sink=name, set_aside=backlog.aside.batches)
        self._aside[name] = backlog.aside.batches

    def _update_spool(self, spool: SpoolState, sinks: Mapping[str, SinkState]) -> None:
        """Log when and why the spool refuses batches, and when it takes them again."""
        has_failed, self._errors = spool.errors > self._errors, spool.errors
        if (has_failed or not spool.is_ready) and self._turned("spool_failing", True):
            self._log.write("spool_failing", code="E506")
        if spool.is_ready and self._turned("spool_failing", False):
            self._log.write("spool_recovered")
        is_full = spool.is_full or bool(spool.blocking)
        if self._turned("spool_full", is_full):
            if is_full:
                known = (name for name in spool.blocking if name in sinks)
                blocking = (name for name in known if sinks[name].condition == "blocking")
                self._log.write("spool_full", code="E505", sink=next(blocking, ""))
            else:
                self._log.write("spool_has_room")
        if spool.damaged > self._damaged:
            self._damaged = spool.damaged
            self._log.write("spool_damaged", files=spool.damaged)


# -- files -----------------------------------------------------------------------------------------


def tighten_all(config: Config, schemas: Iterable[Schema]) -> Tightened:
    """Make the files of the data directory and of sinks private to their owner, and also the
    directory if nothing else is in it. For the operator's key files, remove only the permissions of
    other users, because a group may be meant to read them."""
    data = config.data or Path()
    written = [path for sink in config.sinks.values() for path in sink.files().values()]
    ours = [path for pattern in _FILES for path in data.glob(pattern) if path.is_file()]
    ours += [*written, *(path for each in written for path in each.parent.glob(f"{each.name}.*"))]
    keys = [path.resolve() for path in _keys(config, schemas) if path.is_file()]
    return tighten(ours) + tighten(keys, _ANYONE) + tighten_directory(data, written)


def _keys(config: Config, schemas: Iterable[Schema]) -> Iterator[Path]:
    if config.tls.key is not None:
        yield config.tls.key
    for field in pseudonyms(schemas):
        scheme, _, place = field.key.partition(":")
        if scheme == "file":
            yield Path(place)
