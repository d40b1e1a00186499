"""The thread that takes records out of the buffer, and sees to it that they are delivered."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress

from collector.contracts import Layout, Spooled
from collector.errors import CollectorError
from collector.sdk.buffer import Buffer
from collector.sdk.delivery import Delivery, parcel

__all__ = ["Courier"]

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 30.0


class Courier(threading.Thread):
    """Delivers until the buffer is closed and empty, or abandoned.

    A batch is tried until it is kept, after longer and longer pauses. ``opens`` opens what
    ``delivery`` is not there for; that is tried again as well.
    """

    def __init__(
        self,
        buffer: Buffer,
        layout: Layout,
        opens: Callable[[], Delivery],
        delivery: Delivery | None = None,
    ) -> None:
        super().__init__(name="collector-sdk", daemon=True)
        self.delivery = delivery
        self._buffer, self._layout, self._opens = buffer, layout, opens

    def run(self) -> None:
        """What the thread does. Given up, it closes what it has as soon as that lets it."""
        while (taken := self._buffer.take()) is not None:
            if taken.lines:
                self._see_to(parcel(taken, self._layout))
            elif self.delivery is not None:
                self.delivery.tidy()
        if self._buffer.is_abandoned:
            self.close(0)

    def try_once(self) -> None:
        """The same without a thread, and without a second attempt. The buffer must be closed."""
        while (taken := self._buffer.take()) is not None:
            if not self._kept(parcel(taken, self._layout)):
                return

    def _see_to(self, batch: Spooled) -> None:
        pause = _FIRST_PAUSE
        while not self._kept(batch):
            # Many processes that lost the same sidecar should not come back at one moment.
            if not self._buffer.rest(pause * random.uniform(0.5, 1.0)):  # noqa: S311
                return
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _kept(self, batch: Spooled) -> bool:
        why = ""
        try:
            if self.delivery is None:
                self.delivery = self._opens()
            self.delivery.keep(batch)
        except CollectorError as error:
            why = error.code
        except Exception as error:  # noqa: BLE001 - the caller's process goes on, whatever it is
            why = type(error).__name__
        if why:
            self._buffer.failed(why)
        return not why

    def close(self, seconds: float) -> None:
        """Close what was opened, once the thread has ended."""
        delivery, self.delivery = self.delivery, None
        if delivery is not None:
            with suppress(CollectorError):
                delivery.close(seconds)
