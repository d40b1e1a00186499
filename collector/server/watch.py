"""What changed since the last look: sinks and spool that fail, or work again. Said once each."""

from __future__ import annotations

from collector.ops.log import Log
from collector.server.parts import Parts

__all__ = ["Watch"]


class Watch:
    """Looks at the parts now and then, and tells the log."""

    def __init__(self, parts: Parts, log: Log) -> None:
        self._parts = parts
        self._log = log
        self._failing: set[str] = set()
        self._damaged = self._errors = 0
        self._writable = True
        self._held = False

    def look(self) -> None:
        """Say what is other than it was."""
        for name, delivery in self._parts.pipeline.deliveries().items():
            if delivery.failing and name not in self._failing:
                self._failing.add(name)
                self._log.say("sink_failing", sink=name, failures=delivery.failures)
            elif not delivery.failing and name in self._failing:
                self._failing.discard(name)
                self._log.say("sink_recovered", sink=name, delivered=delivery.delivered)
        if self._parts.is_held != self._held:
            self._held = not self._held
            self._log.say("pruning_held" if self._held else "pruning_done")
        spool = self._parts.spool_reading()
        has_failed, self._errors = spool.errors > self._errors, spool.errors
        if self._writable and (has_failed or not spool.writable):
            self._writable = False
            self._log.say("spool_failing")
        if spool.writable and not self._writable:
            self._writable = True
            self._log.say("spool_recovered")
        if spool.damaged > self._damaged:
            self._damaged = spool.damaged
            self._log.say("spool_damaged", files=spool.damaged)
