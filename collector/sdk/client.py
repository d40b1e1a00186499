"""``Collector``, the SDK's main class: filter events in the calling thread, deliver in another.

``emit`` puts the records into a queue in memory, and never waits for their delivery. It reports an
event without admitted records by returning ``False``, and never raises for one.
"""

from __future__ import annotations

import _thread
import asyncio
import atexit
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from time import monotonic
from types import TracebackType
from typing import Any, Self

from collector.consent import Consent, refused, refused_by_application
from collector.contracts import Closing
from collector.errors import ConfigError, ConfigFaults, Fault, SchemaError
from collector.filter import Filter
from collector.keyring import Keyring
from collector.schema import Schema, load_schema, resources
from collector.sdk.account import Account
from collector.sdk.delivery import DeliveryWorker, RecordDelivery, open_delivery
from collector.sdk.objects import ObjectReader
from collector.sdk.queue import RecordQueue
from collector.sdk.settings import PREFIX, Mode, Settings, WhenFull, read
from collector.sdk.withdrawal import Moment, Withdrawal, WithdrawalRequest

__all__ = ["Collector"]

_WITHDRAW_SECONDS = 30.0
_FORK_SECONDS = 5.0
"""How long a fork waits for deliveries to files of this machine."""
_START_SECONDS = 1.0
_SPOOL_SECONDS = 0.5
"""How much longer than its timeout ``close`` waits for a write to the spool that is under way."""
_REJECTED = (
    "all of the last %d events were rejected (%s): write one into FILE and run"
    " `collector explain FILE --schema %s`"
)
_log = logging.getLogger("collector.sdk")
_NO_SETTINGS = frozenset(["self", "keys", "consent"])
"""Arguments of ``Collector`` that are not settings."""
Keys = Callable[[str, int], bytes]


class Collector(Closing):
    """Minimises events and delivers the records. May be used from any thread, from asyncio, and
    after ``fork``: each process has its own account, and delivers the events that it emitted.

    ``schema`` is a shipped schema's name, the path of a file, or a ``Schema``. ``to`` is where
    records go: ``sqlite:///PATH`` (a store), ``ndjson:///PATH``, or a sidecar by ``http://``,
    ``https://`` or ``unix:///PATH``. ``consent`` refuses optional purposes: ``{"<purpose>":
    bool}``, the names of the refused purposes, or ``False`` for all. ``keys`` resolves the key
    references of pseudonyms. ``docs/sdk.md`` has the other settings; times are in seconds and sizes
    in bytes, or texts such as ``5s`` and ``64MiB``. Environment variables override the settings.

    Raises ``ConfigError`` for settings that cannot be used, ``SchemaError`` for a faulty schema,
    and ``DeliveryError`` for a file that is not a store.
    """

    schema: Schema
    _worker: DeliveryWorker | None
    _delivery: RecordDelivery | None

    def __init__(
        self,
        schema: str | os.PathLike[str] | Schema | None = None,
        to: str | None = None,
        *,
        mode: Mode | None = None,
        local: str | None = None,
        queue: int | None = None,
        when_full: WhenFull | None = None,
        batch: int | None = None,
        interval: float | str | None = None,
        timeout: float | str | None = None,
        exit_timeout: float | str | None = None,
        spool: str | os.PathLike[str] | None = None,
        spool_limit: int | str | None = None,
        token: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        certificate: str | os.PathLike[str] | None = None,
        consent: Consent | None = None,
        keys: Keys | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in _NO_SETTINGS}
        loaded = schema if isinstance(schema, Schema) else None
        if loaded is not None:
            given["schema"] = None
        faults: Sequence[Fault] = ()
        try:
            settings = read(given)
        except ConfigFaults as error:
            faults = error.faults
        if faults:
            others = _other_faults(schema, consent)
            raise ConfigFaults(dict.fromkeys([*faults, *others]))
        self._begin(settings, loaded, keys, consent)

    def __repr__(self) -> str:
        return f"<Collector of {self.schema.id}, {self._settings.mode}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __getstate__(self) -> tuple[Settings, Schema, Keys | None, Consent | None]:
        return self._settings, self.schema, self._keys, self._consent

    def __setstate__(self, state: tuple[Settings, Schema, Keys | None, Consent | None]) -> None:
        """Restore the settings in another process, with an account of its own."""
        self._begin(*state)

    def emit(
        self,
        event: Any,
        *,
        peer: str | None = None,
        user_agent: str | None = None,
        consent: Consent | None = None,
    ) -> bool:
        """Filter an event and queue its records. Never waits, and never raises for an event.

        An event is a mapping, a pydantic model, a dataclass, or JSON as ``bytes`` or ``str``; for a
        schema that reads lists also a list: ``["getstats", "PC_0", {...}, 1697]``. ``peer`` is the
        sender's address and ``user_agent`` its ``User-Agent``, for schemas with fields for them.
        ``consent`` may refuse more for this event; an unreadable one refuses every optional
        purpose. Returns whether the filter admitted records and the queue had room for all of them.
        """
        if self._is_off:
            return False
        if type(event) is not dict:
            try:
                event = self._objects.plain(event)
            except Exception:  # noqa: BLE001 - raised by the event's own code; its text may hold a value
                event = b""
        if consent is None and not self._has_consent:
            is_queued = self._queue.put(self._admit(event, peer=peer, user_agent=user_agent))
        else:
            is_queued = self._put_by_consent(event, peer, user_agent, consent)
        if not is_queued:
            self._warn()
        elif not self._is_started:
            self._start()
        return is_queued

    def set_consent(self, consent: Consent | None) -> None:
        """Filter later events under this consent; ``None`` refuses nothing. Earlier records stay,
        and so do refusals of the environment.

        Raises ``ConfigError`` E132 for a purpose that the schema does not have, or that cannot be
        refused.
        """
        always: Consent = list(self._settings.consent)
        if always == ["all"]:
            always = False
        self._filter = self._whole.without(
            refused_by_application(self.schema, consent)
            | refused_by_application(self.schema, always)
        )
        self._consent = consent
        self._admit = self._filter.admit

    def withdraw(
        self,
        field: str,
        value: str,
        *,
        since: Moment,
        until: Moment | None = None,
        timeout: float | None = None,
    ) -> Withdrawal:
        """Remove a person's data that is for optional purposes only: from memory, from the spool,
        and from a store or file on this machine. For later events, set ``consent``.

        The person is found by a field that identifies one at a time, for example
        ``client.address``, in records from ``since`` until ``until`` (default: now). Both are RFC
        3339 texts, or days or moments of ``datetime``. Waits at most ``timeout`` seconds (default:
        30) for readers and for deliveries under way.

        Raises ``InputError`` E404 or E107 for a field or value that does not identify one person,
        and ``DeliveryError`` or ``ConfigError`` when a place cannot be reached; then call it again.
        """
        return WithdrawalRequest(
            self._settings,
            self.schema,
            field=field,
            value=value,
            since=since,
            until=until,
            seconds=_WITHDRAW_SECONDS if timeout is None else timeout,
        ).run(self._queue, self._current_delivery())

    def _warn(self, *, is_end: bool = False) -> None:
        """Log once that all events are rejected: the counts by reason, and the command that
        explains them."""
        reasons = self._queue.rejections(is_end=is_end)
        if not reasons:
            return
        name = self.schema.name if self.schema.name in resources.names() else "SCHEMA"
        counts = ", ".join(f"{reason} {times:,}" for reason, times in reasons.most_common())
        with suppress(Exception):  # a filter of the application's logging may raise anything
            _log.warning(_REJECTED, reasons.total(), counts, name)

    def _put_by_consent(self, event: Any, peer: Any, user_agent: Any, consent: Any) -> bool:
        """Queue each record with the purposes that are granted for it. Returns the same as
        ``emit``."""
        filter_ = self._filter.without(refused(self.schema.optional, consent))
        parts = filter_.admit_by_grant("json", event, peer=peer, user_agent=user_agent)
        queued = [self._queue.put(part) for part in parts if part.tally.received]
        return bool(queued) and all(queued)

    def emit_host(self) -> bool:
        """Emit the kind of this machine: device and operating system, without an identifier."""
        from collector.sdk.host import host_event  # noqa: PLC0415 - rarely used

        return not self._is_off and self.emit(host_event())

    def tally(self) -> Account:
        """Return the current account: counts of events, and where each record is."""
        return self._queue.snapshot()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every record of an earlier ``emit`` has left memory: it is delivered, spooled,
        refused by the receiver, or counted as lost.

        Waits ``timeout`` seconds at most (default: ``exit_timeout``). Returns whether that was long
        enough.
        """
        return self._queue.flush(self._seconds(timeout))

    def close(self, timeout: float | None = None) -> bool:
        """Deliver the queue, and refuse all later events. Records in the spool stay there for the
        next process; without a spool, records that are still queued at the end are lost as
        ``unsent``.

        Waits ``timeout`` seconds at most (default: ``exit_timeout``). Returns whether the queue was
        emptied; a second call does nothing and returns ``True``.
        """
        deadline = monotonic() + self._seconds(timeout)
        if not self._closing.acquire(blocking=False):  # closed, or being closed by another thread
            return True
        self._queue.close()
        self._warn(is_end=True)
        # No thread starts from now on. If a signal handler interrupted the start, go on.
        self._starting.acquire(timeout=_START_SECONDS)
        worker = self._worker
        if worker is None or worker.ident is None:  # it was not started, or nothing was emitted
            self._worker = worker = self._new_worker()
            worker.end_by(deadline)
            worker.run_once()
        else:
            worker.end_by(deadline)
            worker.join(max(0.0, deadline - monotonic()))
        self._queue.abandon()
        if worker.is_alive() and self._settings.spool is not None:
            worker.join(_SPOOL_SECONDS)
        if worker.has_ended:  # else it closes the delivery itself
            worker.close(max(0.0, deadline - monotonic()))
        _open_collectors.pop(self, None)
        return not self.tally().lost["unsent"]

    async def aclose(self, timeout: float | None = None) -> bool:
        """Close as ``close`` does, without blocking the event loop."""
        return await asyncio.to_thread(self.close, timeout)

    def _begin(
        self,
        settings: Settings,
        schema: Schema | None,
        keys: Keys | None,
        consent: Consent | None,
    ) -> None:
        self._settings, self._keys = settings, keys
        self.schema = load_schema(settings.schema_) if schema is None else schema
        self._whole = Filter(self.schema, keys=keys or Keyring())
        self._has_consent = self.schema.consent is not None
        self.set_consent(consent)
        self._objects = ObjectReader(self._whole)
        self._is_off = settings.mode == "off"
        self._reset(is_closed=False)
        if not self._is_off:
            self._delivery = self._open()
            _open_collectors[self] = self._before_fork, self._after_fork

    def _reset(self, *, is_closed: bool) -> None:
        """Begin with a new account, no thread and no open sink: when created, and after a fork."""
        of = self._settings
        self._queue = RecordQueue(of.queue, of.batch, of.interval, oldest=of.when_full == "oldest")
        self._worker = None
        self._delivery = None
        self._starting, self._closing = threading.Lock(), threading.Lock()
        self._is_started = False
        if is_closed:
            self._closing.acquire()
            self._queue.close()

    def _open(self) -> RecordDelivery:
        return open_delivery(self._settings, self.schema, self._queue)

    def _new_worker(self) -> DeliveryWorker:
        return DeliveryWorker(self._queue, self.schema, self._open, self._delivery)

    def _start(self) -> None:
        """Start the delivery thread. If the interpreter can no longer start one, ``close``
        delivers. If a signal handler interrupts this by raising, the next event tries again.

        A signal handler that raises inside ``Thread.start`` leaves the thread half started.
        Handlers run in the main thread only, so a separate thread calls ``Thread.start``.
        """
        has_tried = threading.Event()
        with suppress(RuntimeError):
            _thread.start_new_thread(self._start_worker, (has_tried,))
            has_tried.wait()

    def _start_worker(self, has_tried: threading.Event) -> None:
        if self._starting.acquire(blocking=False):
            with suppress(RuntimeError):
                if not self._is_started:
                    worker = self._new_worker()
                    worker.start()
                    self._worker, self._is_started = worker, True
                    _close_with_worker(self)
            self._starting.release()
        has_tried.set()

    def _seconds(self, timeout: float | None) -> float:
        return self._settings.exit_timeout if timeout is None else timeout

    def _current_delivery(self) -> RecordDelivery | None:
        worker = self._worker
        return self._delivery if worker is None else worker.delivery

    def _before_fork(self, stack: ExitStack, deadline: float) -> None:
        """Wait for the delivery under way, and keep the delivery thread out of SQLite until
        ``stack`` is closed: a child that inherits an open SQLite file relies on locks that it does
        not hold, and a child that inherits a transaction waits for ever."""
        is_remote = self._settings.spool is None and not self._settings.target.is_sink
        seconds = 0.0 if is_remote else max(0.0, deadline - monotonic())
        if self._queue.delivery_lock.acquire(timeout=seconds):
            stack.callback(self._queue.delivery_lock.release)
            delivery = self._current_delivery()
            if delivery is not None:
                delivery.before_fork(stack, seconds)

    def _after_fork(self) -> None:
        """Begin anew in the child: queue and delivery are the parent's. The garbage collector must
        not close a SQLite file that is open nevertheless."""
        delivery = self._current_delivery()
        if delivery is not None:
            delivery.after_fork()
        _inherited.append((self._queue, self._worker, delivery))
        self._reset(is_closed=self._closing.locked())


_BeforeFork = Callable[[ExitStack, float], None]
_open_collectors: dict[Collector, tuple[_BeforeFork, Callable[[], None]]] = {}
"""All open instances, each with the functions to run before a fork, and after it in the child
process. They are closed when the process ends."""
_inherited: list[object] = []
_forking = threading.local()


def _close_all() -> None:
    for telemetry in list(_open_collectors):
        telemetry.close()


def _pause_all() -> None:
    """Prepare for a fork, and never keep it from happening."""
    _forking.stack = ExitStack()
    deadline = monotonic() + _FORK_SECONDS
    for before_fork, _ in list(_open_collectors.values()):
        with suppress(Exception):
            before_fork(_forking.stack, deadline)


def _resume_all() -> None:
    _forking.stack.close()


def _forget_parent() -> None:
    for _, after_fork in list(_open_collectors.values()):
        after_fork()


def _other_faults(schema: Any, consent: Any) -> Iterator[Fault]:
    """Yield the faults of a schema and of consent, to report them together with those of settings.
    A fault of a schema that does not exist does not name it: an event may have been passed by
    mistake."""
    reference = os.environ.get(f"{PREFIX}SCHEMA") or schema or "conferencing"
    try:
        found = reference if isinstance(reference, Schema) else load_schema(os.fspath(reference))
        refused_by_application(found, consent)
    except (SchemaError, ConfigFaults) as error:
        for fault in error.faults:
            unnamed = Fault("settings", 0, 0, "schema", fault.message, fault.code)
            yield unnamed if fault.is_absent else fault
    except ConfigError as error:
        yield Fault("arguments", 0, 0, "consent", error.message, error.code)
    except TypeError:
        return  # not a reference of any kind: a fault of the setting


def _close_with_worker(telemetry: Collector) -> None:
    """Close at the end of a ``multiprocessing`` worker, which runs its own finalizers but not those
    of ``atexit``."""
    util = sys.modules.get("multiprocessing.util")
    process = sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(telemetry, telemetry.close, exitpriority=10)


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_pause_all, after_in_parent=_resume_all, after_in_child=_forget_parent
    )
