"""The thread that takes records out of the buffer, and sees to it that they are delivered."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic

from collector.contracts import Spooled
from collector.errors import CollectorError
from collector.filter.revision import Expiry, changing
from collector.schema import Schema
from collector.sdk.buffer import Buffer
from collector.sdk.delivery import Delivery

__all__ = ["Courier"]

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 30.0
_HOUR = 3600.0


class Courier(threading.Thread):
    """Delivers until the buffer is closed and empty, or abandoned.

    A batch is tried until it is kept, after longer and longer pauses. ``opens`` opens what
    ``delivery`` is not there for; that is tried again as well. What waits for too long loses what
    is older than it may be, once an hour.
    """

    def __init__(
        self,
        buffer: Buffer,
        schema: Schema,
        opens: Callable[[], Delivery],
        delivery: Delivery | None = None,
    ) -> None:
        super().__init__(name="collector-sdk", daemon=True)
        self.delivery = delivery
        self._buffer, self._schema, self._opens = buffer, schema, opens
        self._due = monotonic() + _HOUR

    def run(self) -> None:
        """What the thread does. Given up, it closes what it has as soon as that lets it."""
        while (taken := self._buffer.take()) is not None:
            if taken.lines:
                self._see_to_it()
            elif self.delivery is not None:
                self.delivery.tidy()
            self._prune()
        if self._buffer.is_abandoned:
            self.close(0)

    def try_once(self) -> None:
        """The same without a thread, and without a second attempt. The buffer must be closed."""
        while self._buffer.take() is not None:
            if not self._kept():
                return

    def _see_to_it(self) -> None:
        pause = _FIRST_PAUSE
        while not self._kept():
            # Many processes that lost the same sidecar should not come back at one moment.
            if not self._buffer.rest(pause * random.uniform(0.5, 1.0)):  # noqa: S311
                return
            self._prune()
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _kept(self) -> bool:
        """Whether what was taken is where it is to go, as far as something of it is left."""
        why = ""
        try:
            with self._buffer.turn:
                if self.delivery is None:
                    self.delivery = self._opens()
                self.delivery.keep(self._parcel())
        except CollectorError as error:
            why = error.code
        except Exception as error:  # noqa: BLE001 - the caller's process goes on, whatever it is
            why = type(error).__name__
        if why:
            self._buffer.failed(why)
        return not why

    def _parcel(self) -> Spooled:
        """What was taken, in the form that a spool has."""
        taken = self._buffer.taken
        payload = b"".join(taken.lines)
        return Spooled(taken.id, taken.received, self._schema.layout, payload, taken.granted)

    def _prune(self) -> None:
        if monotonic() < self._due:
            return
        self._due = monotonic() + _HOUR
        expiry = Expiry(self._schema.retentions, datetime.now(UTC))
        with self._buffer.turn:
            self._buffer.revise(changing(expiry), "expired")
        if self.delivery is not None:
            self.delivery.prune()

    def close(self, seconds: float) -> None:
        """Close what was opened, once the thread has ended."""
        delivery, self.delivery = self.delivery, None
        if delivery is not None:
            with suppress(CollectorError):
                delivery.close(seconds)
