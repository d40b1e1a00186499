"""Put another configuration into force while the sidecar runs, or leave everything as it is.

SIGHUP, a command over the control socket, or a file that has changed asks for it. The
configuration, its schemas and its certificates are read and checked as at a start. Only then the
workers get new terms, or others take their place; the ledger says so before anything is stored.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic, time
from typing import Any, NamedTuple, Protocol

from collector.config import Config, Loaded, examine
from collector.config.sink_settings import SinkSettings
from collector.errors import CollectorError, ConfigFaults, DeliveryError, Fault
from collector.ingest.tls import Certificates
from collector.ops.log import EventLog
from collector.ops.metrics import Reload, ReloadReading
from collector.routing import changes
from collector.schema import resources
from collector.server.components import Components
from collector.server.control import ControlServer
from collector.server.keeper import Keeper
from collector.server.ledger_notes import LedgerNotes, ReloadCause
from collector.server.lifecycle import notify
from collector.server.preflight import prepare_next
from collector.server.worker_setup import pseudonyms

__all__ = ["Reloader"]

_RESTART = ("data", "sandbox", "spool.limit", "admin.address", "admin.hosts")
"""The settings that change with a restart only, besides those of sinks but what is said of them."""
_READ_SECONDS = 60.0
_WATCH_SECONDS = 1.0
_MOST_FAULTS = 20
"""Faults of one reload that are logged, each by its code and place."""
_Seen = Mapping[Path, tuple[int, ...] | None]


class _Candidate(NamedTuple):
    """A configuration that was read and found to be sound."""

    loaded: Loaded
    components: Components


class Changeable(Protocol):
    """The receivers of a sidecar, as far as a reload changes them."""

    control: ControlServer | None
    log: EventLog

    async def renew_admin(self) -> None:
        """Serve operators with the certificate and the limits of now."""


class Reloader:
    """Reads the configuration again. While it changes, no command of the control socket is carried
    out."""

    def __init__(
        self,
        loaded: Loaded,
        components: Components,
        receivers: Changeable,
        keeper: Keeper,
        notes: LedgerNotes,
    ) -> None:
        self._loaded = loaded
        self._components = components
        self._receivers = receivers
        self._notes = notes
        self._keeper = keeper
        self._log = receivers.log
        control = receivers.control
        self._lock = asyncio.Lock() if control is None else control.lock
        self._outcomes: Counter[Reload] = Counter()
        self._is_successful, self._last = True, time()
        self._seen = _stats(_paths(loaded))
        self._asked: asyncio.Task[dict[str, Any]] | None = None
        self._has_begun = False
        self._watching: asyncio.Task[None] | None = None
        components.reloads = self._reading

    def __repr__(self) -> str:
        return f"<Reloader, {self._outcomes.total()} reloads>"

    def _reading(self) -> ReloadReading:
        return ReloadReading(self._outcomes, self._is_successful, self._last)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to listen to SIGHUP, to the control socket, and to changes of files."""
        loop.add_signal_handler(signal.SIGHUP, self.ask)
        self._watching = loop.create_task(self.watch())
        if self._receivers.control is not None:
            self._receivers.control.reload = self.command

    async def stop(self) -> None:
        """Give up what is not in force yet."""
        loop = asyncio.get_running_loop()
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for task in (self._watching, self._asked):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    def ask(self) -> None:
        """Have it reloaded, for a signal; once for several that come before it begins."""
        notify("RELOADING=1")
        if self._asked is None or self._asked.done() or self._has_begun:
            self._has_begun = False
            self._asked = asyncio.get_running_loop().create_task(self.reload("signal"))

    async def watch(self) -> None:
        """Reload when files have changed, if the configuration says so. A change counts once it is
        the same twice, so that files are written to their end."""
        before, is_first = self._seen, True
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if self._components.config.watch:
                now = await asyncio.to_thread(_stats, list(self._seen))
                has_changed = now != self._seen and now == before
                if has_changed or (is_first and await self._differs()):
                    await self.reload("watch")
                before = now
            is_first = False

    async def _differs(self) -> bool:
        """Return whether files say something else than what is in force: they may have changed
        between the start, when they were read, and the first look at them."""
        async with self._lock:
            try:
                found = await asyncio.to_thread(self._read)
            except CollectorError:
                return True
            return _facts(self._components) != _facts(found.components)

    async def command(self, allow_widening: bool) -> dict[str, Any]:
        """Reload for a command; return its answer."""
        return await self.reload("command", allow_widening=allow_widening)

    async def reload(self, cause: ReloadCause, *, allow_widening: bool = False) -> dict[str, Any]:
        """Reload; never raises. Return what came of it, as an answer: faults, or a code and a
        message, in constants and names of the configuration."""
        notify("RELOADING=1")
        try:
            async with self._lock:
                self._has_begun, began = True, monotonic()
                outcome, answer = await self._tried(cause, allow_widening=allow_widening)
        finally:
            notify("READY=1")
        self._outcomes[outcome] += 1
        self._is_successful = outcome not in ("refused", "failed")
        if outcome in ("kept", "swapped", "replaced"):
            seconds = round(monotonic() - began, 3)
            self._log.write("reloaded", replaced=outcome == "replaced", seconds=seconds)
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
            outcome = await self._put_into_force(found, cause, change)
        except ConfigFaults as refused:
            self._log.write("reload_refused", faults=len(refused.faults))
            for fault in refused.faults[:_MOST_FAULTS]:
                self._log_fault(fault)
            return "refused", {"faults": [fault._asdict() for fault in refused.faults]}
        except CollectorError as failed:
            error = failed
        except TimeoutError:
            error = DeliveryError("E223", "the files of the configuration cannot be read in time")
        except Exception as unexpected:  # noqa: BLE001 - whatever it is, what ran goes on
            self._log.unexpected(unexpected)
            error = DeliveryError("E223", "an unexpected error came between, which is logged")
        else:
            return outcome, {"change": change}
        self._log.write("reload_failed", code=error.code)
        return "failed", {"code": error.code, "message": error.message}

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
        seen = _stats(self._seen)
        if file is not None and _is_irregular(file):
            self._seen = seen
            raise ConfigFaults([Fault(str(file), 0, 0, "", "this is no regular file", "E206")])
        loaded = examine(file, self._loaded.environ)
        paths = _paths(loaded)
        self._seen = {**_stats(paths), **{path: seen[path] for path in paths if path in seen}}
        irregular = [
            loaded.fault(name, "this is no regular file", code)
            for name, code, path in _files(loaded.config)
            if _is_irregular(path)
        ]
        if irregular:
            raise ConfigFaults([*loaded.faults, *irregular])
        candidate = _Candidate(loaded, prepare_next(loaded))
        if fixed := list(_fixed(self._components.config, loaded)):
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
            name = following.config.schema_setting
            command = "`collector config reload --allow-widening` allows it"
            messages = (f"{reason}; {command}" for reason in changes.reasons(changed))
            raise ConfigFaults([found.loaded.fault(name, each, "E222") for each in messages])
        return verdict

    async def _put_into_force(self, found: _Candidate, cause: ReloadCause, change: str) -> Reload:
        """Have the workers change, and everything else with them. Raises ``CollectorError``; then
        nothing has changed."""
        following = found.components

        async def commit() -> None:
            written = await asyncio.to_thread(self._notes.reload, following, cause, change)
            await asyncio.wrap_future(written)
            self._components.use(following)

        had = (self._components.certificates, self._components.limits)
        outcome = await self._keeper.change(following, commit)
        if _pem(had[0]) != _pem(following.certificates) or had[1] != following.limits:
            await self._receivers.renew_admin()
        self._log.use(following.config.log.level)
        self._loaded = found.loaded
        return outcome


def _facts(components: Components) -> tuple[object, ...]:
    """Return all that a reload compares."""
    schemas = components.schemas
    keys = [(field.key, field.rotate) for field in pseudonyms(schemas)]
    digests = [schema.digest for schema in schemas]
    return components.config, digests, keys, _pem(components.certificates)


def _pem(pair: Certificates | None) -> object:
    return None if pair is None else pair.pem


def _fixed(before: Config, loaded: Loaded) -> Iterator[Fault]:
    """Yield a fault for each setting that has changed and cannot while the sidecar runs."""
    after, message = loaded.config, "this changes with a restart only; restart the sidecar for it"
    for name in _RESTART:
        if _value(before, name) != _value(after, name):
            yield loaded.fault(name, message, "E221")
    old, new = before.sinks.on(), after.sinks.on()
    for sink in dict.fromkeys([*old, *new]):
        if sink in old and sink in new and type(old[sink]) is type(new[sink]):
            own = type(new[sink]).model_fields.keys() - SinkSettings.model_fields.keys()
            for key in sorted({*own, "type"}):
                if getattr(old[sink], key) != getattr(new[sink], key):
                    yield loaded.fault(f"sinks.{sink}.{key}", message, "E221")
        elif f"sinks.{sink}.type" in loaded.origins:
            yield loaded.fault(f"sinks.{sink}.type", message, "E221")
        else:
            yield Fault("settings", 0, 0, f"sinks.{sink}", message, "E221")


def _value(config: Config, name: str) -> object:
    value: Any = config
    for key in name.split("."):
        value = getattr(value, key)
    return value


def _files(config: Config) -> Iterator[tuple[str, str, Path]]:
    """Yield the files that a configuration names and that are read: setting, code, path."""
    for reference in config.references:
        if resources.is_path(reference):
            yield config.schema_setting, "E206", Path(reference)
    for name, path in (
        ("tls.certificate", config.tls.certificate),
        ("tls.key", config.tls.key),
        ("tls.client_ca", config.tls.client_ca),
        ("claims", config.claims),
    ):
        if path is not None:
            yield name, "E203", path


def _paths(loaded: Loaded) -> list[Path]:
    """Return all files of a configuration."""
    found = [] if loaded.file is None else [loaded.file]
    return [*found, *(path for _, _, path in _files(loaded.config))]


def _is_irregular(path: Path) -> bool:
    """Return whether something is there that is no file: to read it may take forever."""
    with suppress(OSError, ValueError):
        return not stat.S_ISREG(path.stat().st_mode)
    return False


def _stats(paths: Iterable[Path]) -> _Seen:
    """Return what tells versions of files apart; ``None`` for one that is not there."""
    found: dict[Path, tuple[int, ...] | None] = {}
    for path in paths:
        found[path] = None
        with suppress(OSError, ValueError):
            of = os.stat(path)  # noqa: PTH116 - what a link leads to
            found[path] = (of.st_dev, of.st_ino, of.st_mode, of.st_size, of.st_mtime_ns)
    return found
