"""Wire filter, spool and sinks: requests go through the filter into the spool, batches to sinks.

The two halves may be in different processes: an ``Acceptor`` receives, a ``Delivery`` has spool and
sinks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from time import monotonic
from typing import TypeVar

from collector.contracts import DeliveryState, Request, Tally
from collector.drain import Drain, FieldsFor, all_fields
from collector.filter import Filter
from collector.intake import Acceptor
from collector.sinks.sink import Sink
from collector.spool import Spool

_Result = TypeVar("_Result")
_LAST_SECONDS = 1.0
"""How long a sink may take for its current batches after the time for delivery is over."""


class Delivery:
    """Deliver the batches of a spool to sinks. ``fields_for`` returns the fields that reach a
    sink."""

    def __init__(
        self,
        spool: Spool,
        sinks: Mapping[str, Sink],
        fields_for: FieldsFor = all_fields,
    ) -> None:
        self._spool = spool
        # It is replaced, never changed, because several threads read it.
        self._drains = {name: self._drain(name, sink, fields_for) for name, sink in sinks.items()}

    def _drain(self, name: str, sink: Sink | Callable[[], Sink], fields_for: FieldsFor) -> Drain:
        return Drain(name, sink, self._spool, fields_for, sets_aside=True)

    def start(self) -> None:
        """Start the delivery threads."""
        for drain in self._drains.values():
            drain.start()

    def deliveries(self) -> dict[str, DeliveryState]:
        """Return the state of each sink's delivery, by its name."""
        return {name: drain.delivery for name, drain in self._drains.items()}

    def close(self, seconds: float) -> bool:
        """Deliver pending batches for at most ``seconds``, plus a moment for the current ones;
        return whether none is left."""
        deadline, drains = monotonic() + seconds, self._drains.values()
        for drain in drains:
            drain.finish()
        self._join(deadline)
        for drain in drains:
            drain.stop()
        self._join(monotonic() + _LAST_SECONDS)
        return not any(drain.is_alive() or drain.left for drain in drains)

    def submit(self, name: str, work: Callable[[], _Result]) -> Future[_Result]:
        """Have work on a sink done in the thread that delivers to it, between two deliveries."""
        return self._drains[name].submit(work)

    def route(self, fields_for: FieldsFor) -> None:
        """Use another flow matrix from the next batches on."""
        for drain in self._drains.values():
            drain.route(fields_for)

    def reopen(self, name: str, make: Callable[[], Sink]) -> None:
        """Have a sink closed and reopened in its thread, as ``Drain.reopen`` does."""
        self._drains[name].reopen(make)

    def add(self, name: str, make: Callable[[], Sink], fields_for: FieldsFor) -> None:
        """Deliver to one more sink, which is made in its thread, as ``Drain.reopen`` does."""
        drain = self._drain(name, make, fields_for)
        self._drains = {**self._drains, name: drain}
        drain.start()

    def remove(self, name: str) -> None:
        """Deliver nothing more to a sink, and close it. A sink that does not return from a call is
        left to its thread after a moment."""
        drain = self._drains[name]
        drain.stop(is_retired=True)
        drain.join(_LAST_SECONDS)
        self._drains = {other: each for other, each in self._drains.items() if other != name}

    def is_using(self, name: str) -> bool:
        """Return whether the thread of a sink runs, so that the sink may not be closed."""
        return name in self._drains and self._drains[name].is_alive()

    def _join(self, deadline: float) -> None:
        for drain in self._drains.values():
            if drain.is_alive():
                drain.join(max(0.0, deadline - monotonic()))


class Pipeline(Delivery):
    """Both halves in one process: filter requests into a spool, and deliver from it to sinks."""

    def __init__(
        self,
        filter_: Filter,
        spool: Spool,
        sinks: Mapping[str, Sink],
        fields_for: FieldsFor = all_fields,
    ) -> None:
        super().__init__(spool, sinks, fields_for)
        self._acceptor = Acceptor([filter_], spool)

    def accept_now(self, request: Request) -> Tally:
        """Filter a request and store its records, as ``Acceptor.accept_now`` does."""
        return self._acceptor.accept_now(request)

    def close(self, seconds: float) -> bool:
        """Finish the requests in progress, and deliver as ``Delivery.close`` does."""
        self._acceptor.close()
        return super().close(seconds)
