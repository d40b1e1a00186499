"""How records get from memory to where they go: straight into a sink, or by way of a spool.

Whoever delivers counts what became of the records in the buffer's account.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from typing import TYPE_CHECKING, Protocol

from collector.contracts import Batch, Spooled
from collector.errors import DeliveryError
from collector.filter.revision import expired
from collector.filter.stored import read
from collector.schema import Schema
from collector.sdk.buffer import Buffer
from collector.sdk.settings import Settings
from collector.sdk.target import Target

if TYPE_CHECKING:
    from collector.sinks.files import NdjsonFile
    from collector.sinks.store import Store
    from collector.spool import Spool

__all__ = ["Delivery", "Send", "open_delivery"]

Send = Callable[..., int]
"""Delivers batches durably, and says how many of their records will never be taken; without any,
there is time to tidy up."""

_log = logging.getLogger("collector.sdk")
_HELD = "what is over its retention cannot be taken out at present: is the disk full, or a reader?"


class Delivery(Protocol):
    """Where a buffer's records are handed to, by one thread."""

    def keep(self, parcel: Spooled) -> None:
        """Keep a batch, and settle it in the buffer, or raise ``DeliveryError``."""

    def tidy(self) -> None:
        """There is time for it."""

    def prune(self) -> None:
        """Take out of what waits on disk what is older than it may be, unless a sink is at it."""

    def still(self, seconds: float) -> AbstractContextManager[Sequence[Spool]]:
        """The spools, out of which nobody delivers for as long as it lasts. Raises
        ``DeliveryError`` E510 when it does not come to that within so many seconds."""

    def close(self, seconds: float) -> None:
        """Finish within so many seconds."""


def open_delivery(settings: Settings, schema: Schema, buffer: Buffer) -> Delivery:
    """Open what the settings name. Raises ``ConfigError`` and ``DeliveryError`` when it cannot be
    used."""
    with ExitStack() as stack:
        send = _opened(settings.target, settings, schema, stack)
        if settings.spool is None:
            return _Direct(send, buffer, stack.pop_all())
        from collector.sdk.detour import Detour  # noqa: PLC0415 - most do without, and it is large
        from collector.sdk.slots import claim  # noqa: PLC0415 - as above

        name = settings.target.scheme
        spools = claim(settings.spool, settings.spool_limit, name, [schema.layout])
        return Detour(name, spools, send, buffer, schema=schema, stack=stack.pop_all())


class _Direct:
    """Records go into the sink, which is asked until it has them."""

    def __init__(self, send: Send, buffer: Buffer, stack: ExitStack) -> None:
        self._send, self._buffer, self._stack = send, buffer, stack

    def keep(self, parcel: Spooled) -> None:
        batch = read(parcel)
        refused = self._send(batch) if batch.records else 0
        self._buffer.settle(len(batch.records), refused=refused)

    def tidy(self) -> None:
        with suppress(DeliveryError):
            self._send()

    def prune(self) -> None:
        """The sink does."""

    def still(self, seconds: float) -> AbstractContextManager[Sequence[Spool]]:
        return nullcontext(())

    def close(self, seconds: float) -> None:
        self._stack.close()


class _Local:
    """A store or a file of this machine: it takes every record. That something which is over its
    retention cannot be taken out of it is logged, once."""

    def __init__(self, sink: Store | NdjsonFile) -> None:
        self._sink = sink
        self._is_held = False

    def send(self, *batches: Batch) -> int:
        """Deliver the batches, and let the sink tidy up; it refuses no record."""
        self._sink.deliver(*batches)
        if self._sink.is_held != self._is_held:
            self._is_held = self._sink.is_held
            _log.warning(_HELD if self._is_held else "what was over its retention is gone")
        return 0


def _opened(target: Target, settings: Settings, schema: Schema, stack: ExitStack) -> Send:
    if target.scheme == "sqlite":
        from collector.sinks.store import Store  # noqa: PLC0415 - of the sinks, one is used

        return _Local(stack.enter_context(Store(target.path, schema))).send
    if target.scheme == "ndjson":
        from collector.sinks.files import NdjsonFile  # noqa: PLC0415

        file = NdjsonFile(target.path, shared=True, prune=expired(schema))
        return _Local(stack.enter_context(file)).send
    from collector.sdk.sidecar import Sidecar  # noqa: PLC0415

    sidecar = Sidecar(target, settings)
    stack.callback(sidecar.close)
    return sidecar.send
