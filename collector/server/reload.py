"""Put another configuration into force while the sidecar runs, or change nothing.

SIGHUP, a command over the control socket, or a changed file causes a reload. The sidecar reads and
checks the configuration, its schemas and its certificates as at a start. Only then new workers
start. Once they receive, the sidecar notes the reload in the ledger, adds, removes and changes
sinks, and stores what the new workers filter. The old workers finish their requests, and end.
"""

from __future__ import annotations

import asyncio
import signal
import stat
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic, time
from typing import Any, NamedTuple

from collector.config import Loaded, examine
from collector.config.loading import file_stats
from collector.config.model import plain_settings
from collector.errors import CollectorError, ConfigFaults, DeliveryError, Fault, packed
from collector.ingest.tls import Certificates
from collector.ops.log import EventLog
from collector.ops.metrics import Reload, ReloadReading
from collector.routing import changes
from collector.server.components import Components
from collector.server.keeper import Keeper
from collector.server.ledger_notes import LedgerNotes, ReloadCause, widening_faults
from collector.server.lifecycle import notify
from collector.server.preflight import prepare_next, restart_faults
from collector.server.worker_setup import pseudonyms

_READ_SECONDS = 60.0
_WATCH_SECONDS = 1.0


class _Candidate(NamedTuple):
    """A configuration that was read and found valid."""

    loaded: Loaded
    components: Components


class Reloader:
    """Reads the configuration again. It holds ``lock`` meanwhile, as commands of the control socket
    do. ``renew_admin`` makes the admin receiver use the present certificate and limits."""

    def __init__(
        self,
        loaded: Loaded,
        components: Components,
        keeper: Keeper,
        notes: LedgerNotes,
        log: EventLog,
        *,
        lock: asyncio.Lock,
        renew_admin: Callable[[], Awaitable[None]],
    ) -> None:
        self._loaded = loaded
        self._components = components
        self._keeper, self._notes, self._log = keeper, notes, log
        self._lock, self._renew_admin = lock, renew_admin
        self._outcomes: Counter[Reload] = Counter()
        self._is_successful, self._last = True, time()
        self._seen = loaded.stats
        self._asked: set[asyncio.Task[dict[str, Any]]] = set()
        self._is_asked = False
        self._watching: asyncio.Task[None] | None = None
        components.metrics.reloads = self._reading

    def _reading(self) -> ReloadReading:
        return ReloadReading(self._outcomes, self._is_successful, self._last)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start listening for SIGHUP and for changed files."""
        loop.add_signal_handler(signal.SIGHUP, self.ask)
        self._watching = loop.create_task(self.watch())

    async def stop(self) -> None:
        """Give up a reload that is not in force yet."""
        loop = asyncio.get_running_loop()
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        tasks = [*self._asked, *(() if self._watching is None else (self._watching,))]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def ask(self) -> None:
        """Reload for a signal; once for several signals that arrive before the reload begins."""
        if not self._is_asked:
            self._is_asked = True
            task = asyncio.get_running_loop().create_task(self.reload("signal"))
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)

    async def watch(self) -> None:
        """Reload when files have changed, if the configuration says so. A change counts when two
        checks in a row see the same state, so that files are completely written."""
        before = self._seen
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if self._components.config.watch:
                now = await asyncio.to_thread(file_stats, list(self._seen))
                if now != self._seen and now == before:
                    await self.reload("watch")
                before = now

    async def command(self, allow_widening: bool) -> dict[str, Any]:
        """Reload for a command; return its answer."""
        return await self.reload("command", allow_widening=allow_widening)

    async def reload(self, cause: ReloadCause, *, allow_widening: bool = False) -> dict[str, Any]:
        """Reload; never raises. Return the result as an answer: faults, or a code and a message,
        made of constants and names of the configuration."""
        async with self._lock:
            if cause == "signal":
                self._is_asked = False  # another signal means later contents of the files
            notify("RELOADING=1")
            began = monotonic()
            try:
                outcome, answer = await self._tried(cause, allow_widening=allow_widening)
            finally:
                notify("READY=1")
        self._outcomes[outcome] += 1
        self._is_successful = outcome not in ("refused", "failed")
        if outcome == "reloaded":
            self._log.write("reloaded", seconds=round(monotonic() - began, 3))
        elif outcome == "unchanged":
            self._log.write("reload_unchanged")
        if self._is_successful:
            self._last = time()
        return {"outcome": outcome, **answer}

    async def _tried(
        self, cause: ReloadCause, *, allow_widening: bool
    ) -> tuple[Reload, dict[str, Any]]:
        error: CollectorError
        try:
            async with asyncio.timeout(_READ_SECONDS):
                found = await asyncio.to_thread(self._read)
            change = self._judged(found, allow_widening=allow_widening)
            if change is None:
                return "unchanged", {}
            await self._put_into_force(found, cause, change)
        except ConfigFaults as refused:
            self._log.write("reload_refused", faults=len(refused.faults))
            for fault in refused.faults:
                self._log_fault(fault)
            return "refused", {"faults": [fault._asdict() for fault in refused.faults]}
        except CollectorError as failed:
            error = failed
        except TimeoutError:
            error = DeliveryError("E519", "the files of the configuration cannot be read in time")
        except Exception as unexpected:  # noqa: BLE001 - after any error the old configuration goes on
            self._log.unexpected(unexpected)
            error = DeliveryError("E519", "an unexpected error came between, which is logged")
        else:
            return "reloaded", {"change": change}
        self._log.write("reload_failed", code=error.code)
        return "failed", packed(error)

    def _log_fault(self, fault: Fault) -> None:
        config = "" if self._loaded.file is None else str(self._loaded.file)
        source = "configuration" if fault.file in (config, "default", "settings") else "schema"
        source = "environment" if fault.file == "environment" else source
        self._log.write(
            "reload_fault", code=fault.code, source=source, line=fault.line, column=fault.column
        )

    def _read(self) -> _Candidate:
        """Read and check everything, in a thread. Raises ``ConfigFaults``."""
        file = self._loaded.file
        if file is not None and _is_irregular(file):
            self._seen = {**self._seen, **file_stats([file])}
            raise ConfigFaults([Fault(str(file), 0, 0, "", "this is no regular file", "E101")])
        loaded = examine(file, self._loaded.environ)
        self._seen = loaded.stats
        irregular = [
            loaded.fault(name, "this is no regular file", code)
            for name, code, path in loaded.files()
            if _is_irregular(path)
        ]
        if irregular:
            raise ConfigFaults([*loaded.faults, *irregular])
        candidate = _Candidate(loaded, prepare_next(loaded))
        if fixed := restart_faults(plain_settings(self._components.config), loaded):
            raise ConfigFaults(fixed)
        return candidate

    def _judged(self, found: _Candidate, *, allow_widening: bool) -> str | None:
        """Return the verdict on the change; ``None`` if nothing changes. Raises ``ConfigFaults``
        E222 if more would flow and that is not allowed."""
        mine, following = self._components, found.components
        if _facts(mine) == _facts(following):
            return None
        changed = changes.all_changes(mine.flows, following.flows)
        verdict = changes.verdict(changed)
        if verdict == "widening" and not allow_widening:
            command = "`collector config reload --allow-widening` allows it"
            raise ConfigFaults(widening_faults(changed, found.loaded, command))
        return verdict

    async def _put_into_force(self, found: _Candidate, cause: ReloadCause, change: str) -> None:
        """Have new workers take over, and change everything else with them. Raises
        ``CollectorError``; then nothing has changed."""
        following = found.components

        async def commit() -> None:
            written = await asyncio.to_thread(self._notes.reload, following, cause, change)
            await asyncio.wrap_future(written)
            await asyncio.to_thread(self._components.use, following)

        had = (self._components.certificates, self._components.limits)
        await self._keeper.change(following, commit)
        self._log.use(following.config.log.level)
        self._loaded = found.loaded
        if _pem(had[0]) != _pem(following.certificates) or had[1] != following.limits:
            try:
                await self._renew_admin()
            except Exception as error:  # noqa: BLE001 - operators keep the old receiver
                self._log.unexpected(error)


def _facts(components: Components) -> tuple[object, ...]:
    """Return all that a reload compares."""
    schemas = components.schemas
    keys = [(field.key, field.rotate) for field in pseudonyms(schemas)]
    digests = [schema.digest for schema in schemas]
    copies = [copy.state for copy in components.copies]
    return components.config, digests, copies, keys, _pem(components.certificates)


def _pem(pair: Certificates | None) -> object:
    return None if pair is None else pair.pem


def _is_irregular(path: Path) -> bool:
    """Return whether something other than a regular file is there: reading it may never end."""
    with suppress(OSError, ValueError):
        return not stat.S_ISREG(path.stat().st_mode)
    return False
