"""Wire filter, spool and sinks: requests go through the filter into the spool, batches to sinks.

A request is answered when the records that it admits are on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic

from collector.contracts import DeliveryState, Request, Tally
from collector.drain import DeliveryTimes, Drain, FieldsFor, all_fields
from collector.filter import Filter
from collector.intake import MOST_EVENTS, Intake
from collector.sinks.sink import Sink
from collector.spool import Spool
from collector.spool.set_aside import SetAside

__all__ = ["Pipeline"]

_LAST_SECONDS = 1.0
"""How long a sink may take for the batches at hand when the time for delivery is over."""


class Pipeline:
    """Filter requests into a spool, and deliver from it to sinks.

    ``observe`` gets the tally of every request that was stored, and of no other: a request that
    could not be stored counts when the sender repeats it. ``fields_for`` returns the fields that
    reach a sink; ``most_events`` limits a request. ``accept`` is for an event loop, ``accept_now``
    for threads; both may be used at once.
    """

    def __init__(
        self,
        filter_: Filter,
        spool: Spool,
        sinks: Mapping[str, Sink],
        observe: Callable[[Tally], None],
        fields_for: FieldsFor = all_fields,
        *,
        times: DeliveryTimes = DeliveryTimes(),  # noqa: B008 - it is immutable
        most_events: int = MOST_EVENTS,
    ) -> None:
        self._intake = Intake(filter_, most_events)
        self._spool = spool
        self._observe = observe
        set_aside = SetAside(spool.path.parent)
        self._drains = [
            Drain(name, sink, spool, fields_for, set_aside=set_aside, times=times)
            for name, sink in sinks.items()
        ]

    def __repr__(self) -> str:
        return f"<Pipeline of {len(self._drains)} sinks>"

    def start(self) -> None:
        """Start the delivery threads."""
        for drain in self._drains:
            drain.start()

    async def accept(self, request: Request) -> Tally:
        """Filter a request; return its tally when its records are on disk.

        Raises ``DeliveryError`` E505 or E506 if they could not be stored; then none of them is. And
        ``InputError``: E429 for records of another version of the schema, E431 for a request that
        becomes more events or bytes than one may.
        """
        async with self._intake.filtered(request) as found:
            if found.total.received:
                stored = self._spool.put(*found.batches(), key=request.key)
                if await asyncio.wrap_future(stored):
                    self._observe(found.total)
            return found.total

    def accept_now(self, request: Request) -> Tally:
        """Do the same in a thread, which blocks."""
        with self._intake.filtered_now(request) as found:
            if found.total.received:
                stored = self._spool.put(*found.batches(), key=request.key)
                if stored.result():
                    self._observe(found.total)
            return found.total

    def deliveries(self) -> dict[str, DeliveryState]:
        """Return the state of each sink's delivery, by its name."""
        return {drain.sink_name: drain.delivery for drain in self._drains}

    def close(self, seconds: float) -> bool:
        """Deliver pending batches for at most ``seconds``, and a moment more for those at hand;
        return whether none is left."""
        deadline = monotonic() + seconds
        self._intake.close()
        for drain in self._drains:
            drain.finish()
        self._join(deadline)
        for drain in self._drains:
            drain.stop()
        self._join(monotonic() + _LAST_SECONDS)
        return not any(drain.is_alive() or drain.left for drain in self._drains)

    def is_using(self, name: str) -> bool:
        """Return whether the thread of a sink runs, so that the sink may not be closed."""
        return any(drain.is_alive() for drain in self._drains if drain.sink_name == name)

    def _join(self, deadline: float) -> None:
        for drain in self._drains:
            if drain.is_alive():
                drain.join(max(0.0, deadline - monotonic()))
