"""The sidecar's side of the control socket: it carries out commands that change stored data, while
it receives.

Commands that change something are carried out one after the other: on the sidecar's own spool, and
on each sink in the thread that delivers to it, between two deliveries. People's requests that wait
meanwhile are carried out together, so that each sink is searched once for all of them. A connection
from another user, a late, overlong or unknown command, and a connection beyond the limit are closed
without an answer, and counted.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import Any, TypeVar

import msgspec

from collector import drain
from collector.contracts import Removal
from collector.control_socket import FILE_NAME
from collector.errors import CollectorError, ConfigError, DeliveryError, NoTurn, packed
from collector.files import short_path
from collector.filter.redaction import Rule
from collector.ledger import Note
from collector.ops.error_log import ErrorLog
from collector.retention import upkeep
from collector.retention.locations import Locations, Reachable
from collector.retention.upkeep import Dropped, prune_all
from collector.routing import reaching
from collector.server import listeners
from collector.server.admin import UNREADY
from collector.server.components import Components
from collector.server.control_client import (
    Command,
    Drop,
    Erase,
    ExplainLive,
    Object,
    Prune,
    Redeliver,
    Reload,
    Status,
)
from collector.server.live_explain import LiveExplain, explained
from collector.sinks.sink import ErasableSink
from collector.spool import Spool
from collector.spool.tables import aside_batches
from collector.subject.rights import Removing, remove_all, select

_MOST_BYTES = 1 << 16
_MOST_CONNECTIONS = 64
_REQUEST_SECONDS = 5.0
_MOST_WAIT = 3600.0
_BUSY_SECONDS = 60.0
"""How long a command waits for a sink's turn before it gives up."""
_LOOK_SECONDS = 0.5
_PAUSE_SECONDS = 0.2
_CREDENTIALS = struct.Struct("3i")
_decode = msgspec.json.Decoder(Command).decode
_Answer = dict[str, Any]
_UNEXPECTED: _Answer = packed(
    DeliveryError("E519", "an unexpected error came between, which the log of the sidecar tells of")
)
_T = TypeVar("_T")


class ControlServer:
    """Carries out commands for a sidecar. ``stack`` closes and removes its listening socket.
    ``checks`` are the checks of ``/readyz``.

    Raises ``ConfigError`` E207 if it cannot listen.
    """

    def __init__(
        self,
        components: Components,
        checks: Callable[[], Mapping[str, str]],
        stack: ExitStack,
        log: ErrorLog,
    ) -> None:
        self.refused: int = 0
        """How many connections and requests were refused."""
        self.lock: asyncio.Lock = asyncio.Lock()
        """Held while a command is carried out or the configuration changes."""
        self.reload: Callable[[bool], Awaitable[dict[str, Any]]] | None = None
        """Reloads the configuration; the argument allows widening. Takes ``lock`` itself."""
        self.live: LiveExplain | None = None
        """Asks the workers what they see in events."""
        self._components = components
        self._checks = checks
        self._log = log
        self._data = components.config.data or Path()
        with short_path(self._data / FILE_NAME) as path:
            self._socket = listeners.unix(Path(path), "data")
        stack.callback((self._data / FILE_NAME).unlink, missing_ok=True)
        stack.callback(self._socket.close)
        self._connections = 0
        self._ending = Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: list[tuple[Erase | Object, asyncio.Future[_Answer]]] = []

    async def start(self) -> None:
        """Start accepting connections."""
        self._server = await asyncio.start_unix_server(
            self._serve, sock=self._socket, limit=_MOST_BYTES, **listeners.KEEP_FILE
        )

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more connections, and let a running command end within the grace period."""
        self._server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        self._ending.set()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type
        self._tasks.add(task)
        self._connections += 1
        try:
            command = await self._command(reader, writer)
            if command is None:
                self.refused += 1
                return
            answer = await (
                self._while_there(reader, command)
                if isinstance(command, ExplainLive)
                else self._carried_out(command)
            )
            with suppress(OSError):  # the asker is gone; the command was carried out
                writer.write(msgspec.json.encode(answer) + b"\n")
                await writer.drain()
        except asyncio.CancelledError:
            return  # by ``stop``; streams of asyncio would report it as an error
        finally:
            self._connections -= 1
            self._tasks.discard(task)
            writer.close()

    async def _while_there(
        self, reader: asyncio.StreamReader, command: ExplainLive
    ) -> dict[str, Any]:
        """Carry out a long question, which ends when nobody waits for its answer any more."""
        answer = asyncio.create_task(self._carried_out(command))
        gone = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                gone.exception()  # ignore a reset connection
            return answer.result() if answer.done() else _UNEXPECTED
        finally:
            answer.cancel()
            gone.cancel()

    async def _carried_out(self, command: Command) -> dict[str, Any]:
        """Return the answer of a command. An unexpected error becomes a constant answer."""
        try:
            return await self._carry_out(command)
        except Exception as error:  # noqa: BLE001 - after any error the command is answered
            self._log.unexpected(error)
        return _UNEXPECTED

    async def _carry_out(self, command: Command) -> dict[str, Any]:
        if isinstance(command, Reload):
            if self.reload is None:
                message = "this process does not reload now; restart it"
                return packed(ConfigError("E221", message))
            return await self.reload(command.allow_widening)
        if isinstance(command, Erase | Object):
            return await self._removed(command)
        if isinstance(command, ExplainLive):
            return await self._explained(command.seconds)
        if isinstance(command, Status):  # it changes nothing, and waits for no sink
            return await asyncio.to_thread(self._answer, command)
        async with self.lock:
            return await asyncio.to_thread(self._answer, command)

    async def _explained(self, seconds: float) -> _Answer:
        """Ask the workers, after the ledger has noted it."""
        components = self._components
        if self.live is None:
            message = "a process that drains a broker cannot look at events; ask the sidecar"
            return packed(ConfigError("E221", message))
        try:
            note = Note.of("read", command="explain live")
            await asyncio.wrap_future(components.spool.note(note))
            before = components.metrics.tallies()
            workers, seen = await self.live.ask(seconds)
        except CollectorError as error:
            return packed(error)
        schemas = explained(before, components.metrics.tallies(), seen)
        return {"workers": workers, "schemas": schemas}

    async def _removed(self, command: Erase | Object) -> _Answer:
        """Carry out a person's request together with all waiting requests."""
        mine: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, mine))
        async with self.lock:
            together = [each for each in self._waiting if each[0].wait == command.wait]
            if not mine.done():
                self._waiting = [each for each in self._waiting if each not in together]
                await self._remove_together(together)
        return await mine

    async def _remove_together(
        self, requests: Sequence[tuple[Erase | Object, asyncio.Future[_Answer]]]
    ) -> None:
        """Answer requests of people."""
        commands = [command for command, _ in requests]
        answers = [_UNEXPECTED] * len(requests)
        try:
            answers = await asyncio.to_thread(self._remove_all, commands)
        except Exception as error:  # noqa: BLE001 - after any error the commands are answered
            self._log.unexpected(error)
        finally:
            for (_, future), answer in zip(requests, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    async def _command(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Command | None:
        """Read the command of a connection; ``None`` if it is refused."""
        if self._connections > _MOST_CONNECTIONS or not _is_own(writer):
            return None
        try:
            line = await asyncio.wait_for(reader.readline(), _REQUEST_SECONDS)
            return _decode(line) if line.endswith(b"\n") else None
        except (TimeoutError, ValueError, OSError, RecursionError):
            return None  # ValueError: too long, or not a command

    def _answer(self, command: Command) -> dict[str, Any]:
        """Carry out a command in a thread. Errors become answers, made of constants and names of
        the configuration."""
        try:
            if isinstance(command, Prune):
                locations = self._locations()
                pruned = prune_all(locations, _bounded(command.wait))
                return {"pruned": asdict(pruned), **_reach(locations)}
            if isinstance(command, Drop):
                return asdict(self._drop(command))
            if isinstance(command, Redeliver):
                return self._redeliver(command.sink)
            return self._status()
        except CollectorError as error:
            return packed(error)

    def _remove_all(self, commands: Sequence[Erase | Object]) -> list[_Answer]:
        """Carry out people's requests with the same ``wait``; return the answer to each."""
        answers: list[_Answer] = [{} for _ in commands]
        requests: dict[int, Removing] = {}
        for at, each in enumerate(commands):
            try:
                selected = select(
                    self._components.schemas, each.name, each.value, each.since, each.until
                )
                requests[at] = Removing(selected, is_objection=isinstance(each, Object))
            except CollectorError as error:
                answers[at] = packed(error)
        if not requests:
            return answers
        try:
            locations = self._locations()
            done = remove_all(locations, [*requests.values()], _bounded(commands[0].wait))
            for at, removed in zip(requests, done, strict=True):
                if isinstance(removed, Removal):
                    answers[at] = {"removed": asdict(removed), **_reach(locations)}
                else:
                    answers[at] = self._failed(removed)
        except CollectorError as error:
            answers = [answers[at] or packed(error) for at in range(len(answers))]
        return answers

    def _failed(self, error: Exception) -> _Answer:
        if isinstance(error, CollectorError):
            return packed(error)
        self._log.unexpected(error)
        return _UNEXPECTED

    def _drop(self, command: Drop) -> Dropped:
        if command.sink in self._components.config.sinks.on():
            raise ConfigError("E122", "the sidecar delivers to this sink; switch it off first")
        spool = self._components.spool
        return upkeep.drop(spool, command.sink, is_dry_run=command.is_dry_run)

    def _redeliver(self, only: str | None) -> dict[str, Any]:
        components, spool, taken = self._components, self._components.spool, 0
        refused = [each for each in aside_batches(spool.path) if only in (None, each.sink)]
        fields_for = reaching(components.flows)
        for name in dict.fromkeys(each.sink for each in refused):
            if name in components.sinks:
                sink = components.sinks[name]
                work = partial(drain.redeliver, name, sink, spool, fields_for)
                taken += _in_time(components.delivery.submit(name, work), name, 0, self._ending)
        return {"delivered": taken, "left": len(refused) - taken}

    def _status(self) -> dict[str, Any]:
        components = self._components
        spool, workers = components.spool.state(), components.metrics.workers()
        checks = self._checks()
        sinks = components.sink_states().items()
        return {
            "schemas": [schema.id for schema in components.schemas],
            "events": {
                # Live counts of bytes would show the size of one message.
                schema: replace(tally, bytes_in=0, bytes_out=0).as_dict()
                for schema, tally in components.metrics.tallies().items()
            },
            "ready": UNREADY.isdisjoint(checks.values()),
            "checks": dict(checks),
            "workers": {"ready": workers.ready, "replaced": workers.replaced},
            "spool": {
                "batches": spool.batches,
                "records": spool.records,
                "bytes": spool.bytes,
                "limit": spool.limit,
                "oldest_seconds": round(spool.oldest, 1),
                "blocking": spool.blocking,
            },
            "sinks": {name: each.as_dict() for name, each in sinks if not each.is_absent},
            "absent": {name: each.as_dict() for name, each in sinks if each.is_absent},
        }

    def _locations(self) -> _Running:
        components = self._components
        found = Locations.of(components.config, components.schemas)
        given = {name: getattr(found, name) for name in found.__dataclass_fields__}
        return _Running(**given, components=components, ending=self._ending)


def _is_own(writer: asyncio.StreamWriter) -> bool:
    """Return whether the other end is a process of this user or of root. If the system does not
    say, rely on the mode of the file."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    found = writer.get_extra_info("socket")
    text = found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(text)[1] in (0, os.geteuid())


def _reach(locations: Locations) -> _Answer:
    return {"beyond": locations.beyond, "unreached": locations.unreached}


def _bounded(wait: float) -> float:
    return min(max(wait, 0.0), _MOST_WAIT)


def _in_time(done: Future[_T], name: str, wait: float, ending: Event) -> _T:
    """Return the result of work in a sink's turn. Once the turn has come, the work may take up to
    an hour. Raises ``DeliveryError`` E519 if the turn does not come, and when the sidecar ends."""
    until = monotonic() + wait + _BUSY_SECONDS
    while not wait_for([done], _LOOK_SECONDS).done:
        late = monotonic() - until
        if ending.is_set() or late > (_MOST_WAIT if done.running() else 0.0):
            done.cancel()
            message = f"the sink {name} is busy or does not answer; try again later"
            raise NoTurn(message)
    return done.result()


@dataclass(frozen=True)
class _Running(Locations):
    """The locations of a running sidecar: its own spool, and its sinks, each in its turn."""

    components: Components | None = field(default=None, repr=False)
    ending: Event = field(default_factory=Event, repr=False)
    """Set when waiting must end."""

    @contextmanager
    def opened_spool(self) -> Iterator[Spool]:
        """Yield the sidecar's spool, which stays open."""
        assert self.components is not None  # noqa: S101 - for the type
        yield self.components.spool

    @contextmanager
    def reached(self, wait: float = 0.0) -> Iterator[Mapping[str, Reachable]]:
        """Yield the sidecar's sinks; open those that it has not opened."""
        assert self.components is not None  # noqa: S101 - for the type
        running: dict[str, Reachable] = {
            name: _SinkInTurn(name, self.components, wait, self.ending)
            for name, sink in [*self.components.sinks.items()]
            if isinstance(sink, ErasableSink)
        }
        others = {name: sink for name, sink in self.sinks.items() if name not in running}
        locations = Locations(self.data, self.schemas, others, earlier=self.earlier)
        with locations.opened(wait) as sinks:
            yield {**running, **sinks}


class _SinkInTurn:
    """A sink that the sidecar has open, called in the thread that delivers to it. Changes are
    repeated for ``wait`` seconds while a reader keeps bytes of deleted data; deliveries go on in
    between."""

    def __init__(self, name: str, components: Components, wait: float, ending: Event) -> None:
        self._name, self._wait, self._components = name, wait, components
        self._ending = ending
        self._submit = partial(components.delivery.submit, name)

    def prune(self, now: datetime) -> Removal:
        """Delete what is older than its retention at ``now``."""
        return self._change(lambda: [self._sink.prune(now)])[0]

    def rewrite(self, rules: Sequence[Rule]) -> list[Removal]:
        """Carry out rules."""
        return self._change(lambda: self._sink.rewrite(rules))

    @property
    def _sink(self) -> ErasableSink:
        """The sink at the time of its turn, because a reload may have reopened it."""
        sink = self._components.sinks[self._name]
        assert isinstance(sink, ErasableSink)  # noqa: S101 - its type does not change
        return sink

    def _change(self, work: Callable[[], list[Removal]]) -> list[Removal]:
        deadline, total = monotonic() + self._wait, self._call(work)
        while not all(each.is_swept for each in total) and monotonic() < deadline:
            sleep(_PAUSE_SECONDS)
            total = [
                replace(before, is_swept=True) + again
                for before, again in zip(total, self._call(work), strict=True)
            ]
        return total

    def _call(self, work: Callable[[], _T]) -> _T:
        return _in_time(self._submit(work), self._name, self._wait, self._ending)
