"""How records get from memory to where they go: straight into a sink, or by way of a spool.

Whoever delivers counts what became of the records in the buffer's account.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from collector.contracts import Batch, Entry, Layout, Sink, Spooled, Tally
from collector.errors import DeliveryError
from collector.filter.revision import expired
from collector.filter.stored import read
from collector.schema import Schema
from collector.sdk.buffer import Buffer, Taken
from collector.sdk.settings import Settings
from collector.sdk.target import Target

if TYPE_CHECKING:
    from collector.spool import Spool

__all__ = ["Delivery", "open_delivery", "parcel"]

_Send = Callable[..., int]
"""Delivers batches durably, and says how many of their records will never be taken."""


class Delivery(Protocol):
    """Where a buffer's records are handed to, by one thread."""

    def keep(self, parcel: Spooled) -> None:
        """Keep a batch, and settle it in the buffer, or raise ``DeliveryError``."""

    def tidy(self) -> None:
        """There is time for it."""

    def close(self, seconds: float) -> None:
        """Finish within so many seconds."""


def open_delivery(settings: Settings, schema: Schema, buffer: Buffer) -> Delivery:
    """Open what the settings name. Raises ``ConfigError`` and ``DeliveryError`` when it cannot be
    used."""
    with ExitStack() as stack:
        send, tidy = _opened(settings.target, settings, schema, stack)
        if settings.spool is None:
            return _Direct(send, tidy, buffer, stack.pop_all())
        from collector.sdk.slots import claim  # noqa: PLC0415 - most do without, and it is large

        name = settings.target.scheme
        spools = claim(settings.spool, settings.spool_limit, name, [schema.layout])
        return _Spooled(name, spools, send, buffer, stack.pop_all())


def parcel(taken: Taken, layout: Layout) -> Spooled:
    """The batch of some lines, in the form that a spool has, with an id of its own."""
    payload = b"".join(taken.lines)
    return Spooled(secrets.token_bytes(16), taken.received, layout, payload, taken.granted)


class _Direct:
    """Records go into the sink, which is asked until it has them."""

    def __init__(
        self, send: _Send, tidy: Callable[[], None], buffer: Buffer, stack: ExitStack
    ) -> None:
        self._send, self._tidy, self._buffer, self._stack = send, tidy, buffer, stack

    def keep(self, parcel: Spooled) -> None:
        batch = read(parcel)
        self._buffer.settle(len(batch.records), refused=self._send(batch))

    def tidy(self) -> None:
        with suppress(DeliveryError):
            self._tidy()

    def close(self, seconds: float) -> None:
        self._stack.close()


class _Spooled:
    """Records go into a spool; from there a thread takes them to the sink."""

    def __init__(
        self, name: str, spools: list[Spool], send: _Send, buffer: Buffer, stack: ExitStack
    ) -> None:
        from collector.pipeline import Drain  # noqa: PLC0415 - as above

        self._spools, self._buffer, self._stack = spools, buffer, stack
        for spool in spools:
            buffer.recover(spool.depth())
        self._out = _Out(send, buffer)
        self._drains = [Drain(name, self._out, spool) for spool in spools]
        for drain in self._drains:
            drain.start()

    def keep(self, parcel: Spooled) -> None:
        number = parcel.payload.count(b"\n")
        tally = Tally(number, number, bytes_out=len(parcel.payload))
        entry = Entry(parcel.layout, parcel.received, parcel.payload, tally, parcel.granted)
        self._spools[0].put(entry).result()
        self._buffer.settle(number, spooled=True)

    def tidy(self) -> None:
        """The drains do."""

    def close(self, seconds: float) -> None:
        deadline = monotonic() + seconds
        for drain in self._drains:
            drain.finish()
        for drain in self._drains:
            drain.join(max(0.0, deadline - monotonic()))
            drain.stop()
        for spool in self._spools:
            spool.close()
        if self._out.end():  # else a drain is still using the sink
            self._stack.close()


class _Out:
    """The sink behind spools, for one drain at a time, and counted."""

    def __init__(self, send: _Send, buffer: Buffer) -> None:
        self._send, self._buffer = send, buffer
        self._turn = threading.Lock()
        self._is_over = False

    def end(self) -> bool:
        """Deliver nothing more; whether nobody is delivering now."""
        is_free = self._turn.acquire(blocking=False)
        self._is_over = True
        if is_free:
            self._turn.release()
        return is_free

    def deliver(self, *batches: Batch) -> None:
        try:
            with self._turn:
                if self._is_over:
                    raise DeliveryError("E510", "the time for delivery is over")
                refused = self._send(*batches)
        except DeliveryError as error:
            self._buffer.failed(error.code)
            raise
        if batches:
            self._buffer.unspool(sum(len(batch.records) for batch in batches), refused=refused)


def _opened(
    target: Target, settings: Settings, schema: Schema, stack: ExitStack
) -> tuple[_Send, Callable[[], None]]:
    if target.scheme == "sqlite":
        from collector.sinks.store import Store  # noqa: PLC0415 - of the sinks, one is used

        return _taking(stack.enter_context(Store(target.path, schema)))
    if target.scheme == "ndjson":
        from collector.sinks.files import NdjsonFile  # noqa: PLC0415

        file = NdjsonFile(target.path, shared=True, prune=expired(schema))
        return _taking(stack.enter_context(file))
    from collector.sdk.sidecar import Sidecar  # noqa: PLC0415

    sidecar = Sidecar(target, settings)
    stack.callback(sidecar.close)
    return sidecar.send, lambda: None


def _taking(sink: Sink) -> tuple[_Send, Callable[[], None]]:
    """A sink that takes every record."""

    def send(*batches: Batch) -> int:
        sink.deliver(*batches)
        return 0

    return send, sink.deliver
