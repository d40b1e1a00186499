"""``Collector``: three lines in an application, and its telemetry can hold nothing but the schema.

The filter runs in the thread that calls ``emit``. Records wait in memory for a thread that delivers
them; whoever emits never waits for that, and never hears of bad data but by ``False``.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any, Self

from collector.consent import Consent, chosen, refused
from collector.contracts import Closing
from collector.filter import Filter
from collector.keyring import Keyring
from collector.schema import Schema, load_schema
from collector.sdk.account import Account
from collector.sdk.buffer import Buffer
from collector.sdk.courier import Courier
from collector.sdk.delivery import Delivery, open_delivery
from collector.sdk.objects import Objects
from collector.sdk.settings import Mode, Settings, WhenFull, read
from collector.sdk.withdrawal import Moment, Withdrawal, Withdrawing

__all__ = ["Collector"]

_PATIENCE = 30.0
_NO_SETTINGS = frozenset(["self", "keys", "consent"])
Keys = Callable[[str, int], bytes]


class Collector(Closing):
    """Minimises events and delivers the records. May be used from any thread, from asyncio, and
    after ``fork``: each process has its own account, and delivers what it emitted itself.

    ``schema`` is a shipped schema's name, the path of a file, or a ``Schema``; ``to`` is where
    records go: ``sqlite:///PATH`` (a store), ``ndjson:///PATH``, or a sidecar by ``http://``,
    ``https://`` or ``unix:///PATH``. ``consent`` is what optional purposes are refused or not:
    ``{"<purpose>": bool}``, the names of refused ones, or ``False`` for all of them. ``keys``
    resolves the key references of pseudonyms. The other
    settings are in ``docs/sdk.md``; each may be set in the environment, which has the last word.

    Raises ``ConfigError`` for settings that cannot be used, ``SchemaError`` for a faulty schema,
    and ``DeliveryError`` for a store that is none.
    """

    schema: Schema
    _courier: Courier | None
    _delivery: Delivery | None

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
        interval: float | None = None,
        timeout: float | None = None,
        exit_timeout: float | None = None,
        spool: str | os.PathLike[str] | None = None,
        spool_limit: int | None = None,
        token: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        certificate: str | os.PathLike[str] | None = None,
        consent: Consent | None = None,
        keys: Keys | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in _NO_SETTINGS}
        if isinstance(schema, Schema):
            given["schema"] = None
        self._begin(read(given), schema if isinstance(schema, Schema) else None, keys, consent)

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
        """Another process gets one of the same settings, with an account of its own."""
        self._begin(*state)

    def emit(
        self,
        event: Any,
        *,
        peer: str | None = None,
        user_agent: str | None = None,
        consent: Consent | None = None,
    ) -> bool:
        """Filter an event, and queue what is left of it; whether it was admitted and had room.

        An event is a mapping, a pydantic model, a dataclass, or JSON as ``bytes`` or ``str``.
        ``peer`` is the address of whoever sent it, ``user_agent`` what it calls itself, where the
        schema wants them. ``consent`` may refuse more for this event; what cannot be read as one
        refuses all that can be. Never waits, and never raises for an event.
        """
        if self._is_off:
            return False
        if type(event) is not dict:
            try:
                event = self._objects.plain(event)
            except Exception:  # noqa: BLE001 - of the event's own code; what it says may hold a value
                event = b""
        if consent is None and not self._hears:
            is_kept = self._buffer.put(self._admit(event, peer=peer, user_agent=user_agent))
        else:
            is_kept = self._put_apart(event, peer, user_agent, consent)
        if is_kept and not self._is_started:
            self._start()
        return is_kept

    def set_consent(self, consent: Consent | None) -> None:
        """From now on, events are filtered under this consent; ``None`` refuses nothing. What was
        emitted before stays as it was filtered.

        Raises ``ConfigError`` E205 for a purpose that the schema has not, or that cannot be
        refused. What the environment says stays refused.
        """
        always: Consent = list(self._settings.consent)
        if always == ["all"]:
            always = False
        self._filter = self._whole.without(
            chosen(self.schema, consent) | chosen(self.schema, always)
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
        """Take out of what is kept of a person, in memory, on disk and in a store or file of this
        machine, what is for optional purposes only. The person is found by a field that leads to
        one at a time, ``client.address`` for example; from ``since`` until ``until`` (now). Days
        and moments are RFC 3339, or objects of ``datetime``. What is emitted later is a matter of
        ``consent``.

        Waits for readers and for what is on its way, ``timeout`` seconds at most (unless said, 30).
        Raises ``InputError`` E404 to E406 for what leads to nobody or to many, and
        ``DeliveryError`` or ``ConfigError`` when a place could not be reached: do it again then.
        """
        return Withdrawing(
            self._settings,
            self.schema,
            field=field,
            value=value,
            since=since,
            until=until,
            seconds=_PATIENCE if timeout is None else timeout,
        ).carry_out(
            self._buffer, self._delivery if self._courier is None else self._courier.delivery
        )

    def _put_apart(self, event: Any, peer: Any, user_agent: Any, consent: Any) -> bool:
        """Each record under what is granted for it; whether all had room, and there were some."""
        filter_ = self._filter.without(refused(self.schema.optional, consent))
        parts = filter_.apart("json", event, peer=peer, user_agent=user_agent)
        kept = [self._buffer.put(part) for part in parts if part.tally.received]
        return bool(kept) and all(kept)

    def emit_host(self) -> bool:
        """Emit what kind of machine this is: device, and operating system; no identifier."""
        from collector.sdk.host import host_event  # noqa: PLC0415 - many never ask

        return not self._is_off and self.emit(host_event())

    def tally(self) -> Account:
        """What came in, what was kept of it, and where each record is, at this moment."""
        return self._buffer.snapshot()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until nothing that was emitted before waits in memory any more: it is delivered, or
        in the spool, on disk. ``timeout`` is in seconds (unless said, ``exit_timeout``); says
        whether it was long enough."""
        return self._buffer.flush(self._seconds(timeout))

    def close(self, timeout: float | None = None) -> bool:
        """Deliver what waits, for ``timeout`` seconds at most (unless said, ``exit_timeout``), and
        take nothing more; whether nothing was lost thereby. A spool keeps what it has."""
        deadline = monotonic() + self._seconds(timeout)
        if not self._closing.acquire(blocking=False):  # also of another thread
            return True
        self._buffer.close()
        courier = self._courier
        if courier is None or courier.ident is None:  # it was not started, or nothing was emitted
            self._courier = courier = self._new_courier()
            courier.try_once()
        else:
            courier.join(max(0.0, deadline - monotonic()))
        is_sent = not self.tally().queued
        self._buffer.abandon()
        if not courier.is_alive():
            courier.close(max(0.0, deadline - monotonic()))
        _living.pop(self, None)
        return is_sent

    async def aclose(self, timeout: float | None = None) -> bool:
        """As ``close``, without holding up the event loop."""
        return await asyncio.to_thread(self.close, timeout)

    def _begin(
        self,
        settings: Settings,
        schema: Schema | None,
        keys: Keys | None,
        consent: Consent | None,
    ) -> None:
        self._settings, self._keys = settings, keys
        self.schema = load_schema(settings.schema) if schema is None else schema
        self._whole = Filter(self.schema, keys=keys or Keyring())
        self._hears = self.schema.consent is not None
        self.set_consent(consent)
        self._objects = Objects(self._whole)
        self._is_off = settings.mode == "off"
        self._reset(is_closed=False)
        if not self._is_off:
            self._delivery = self._open()
            _living[self] = self._after_fork

    def _reset(self, *, is_closed: bool) -> None:
        """A new account, without a thread and with nothing open: at first, and after a fork."""
        chosen = self._settings
        self._buffer = Buffer(
            chosen.queue, chosen.batch, chosen.interval, oldest=chosen.when_full == "oldest"
        )
        self._courier = None
        self._delivery = None
        self._starting, self._closing = threading.Lock(), threading.Lock()
        self._is_started = False
        if is_closed:
            self._closing.acquire()
            self._buffer.close()

    def _open(self) -> Delivery:
        return open_delivery(self._settings, self.schema, self._buffer)

    def _new_courier(self) -> Courier:
        return Courier(self._buffer, self.schema, self._open, self._delivery)

    def _start(self) -> None:
        """Start the thread. Where none can be started any more, ``close`` delivers; where the
        handler of a signal has broken it off, the next event tries again."""
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._courier is None or self._courier.ident is None:
                self._courier = self._new_courier()
                self._courier.start()
                _close_with_worker(self)
            self._is_started = True
        except RuntimeError:
            self._courier = None
        finally:
            self._starting.release()

    def _seconds(self, timeout: float | None) -> float:
        return self._settings.exit_timeout if timeout is None else timeout

    def _after_fork(self) -> None:
        """In the child: what waits is the parent's to deliver, and so is what is open. It must not
        even be closed here, as SQLite would tidy up under the parent's feet."""
        _inherited.append((self._buffer, self._courier, self._delivery))
        self._reset(is_closed=self._closing.locked())


_living: dict[Collector, Callable[[], None]] = {}
"""All that are not closed, so that the end of the process closes them, with what each does in a
child of the process."""
_inherited: list[object] = []


def _close_all() -> None:
    for telemetry in list(_living):
        telemetry.close()


def _forget_parent() -> None:
    for after_fork in list(_living.values()):
        after_fork()


def _close_with_worker(telemetry: Collector) -> None:
    """The workers of ``multiprocessing`` end without what ``atexit`` has, but with its own."""
    util = sys.modules.get("multiprocessing.util")
    process = sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(telemetry, telemetry.close, exitpriority=10)


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
