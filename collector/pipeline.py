"""The only wiring: requests go through the filter into the spool, batches out of it into sinks.

The two halves meet in the spool alone. A request is answered when what it admits is on disk; a sink
takes batches at its own pace, in a thread of its own, and one that fails holds up nobody else.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from time import monotonic, sleep

from collector.contracts import Batch, Entry, Granted, Request, Sink, Spooled, Tally, to_minute
from collector.errors import DeliveryError
from collector.filter import Admission, Filter
from collector.filter.minutes import Share
from collector.filter.stored import project, read
from collector.filter.text import slices
from collector.spool import Spool

__all__ = ["SLICE", "Delivery", "Drain", "Pipeline", "Reaching"]

SLICE = 1 << 17
"""Bytes of a body that are filtered before others get a turn."""
_LINES = 500
"""About as many lines at most: short ones take longer for their size."""
_QUICK = 1 << 15
"""Bytes of a text that cannot be cut, above which it is filtered in a thread beside the loop;"""
_MEDIUM = 1 << 20
"""and above which it does not keep smaller ones waiting there."""
_BREATH_SECONDS = 0.01
"""Between two such bodies. Parsers let no other thread work, and a request passes through three."""

_MORE = re.compile(rb"\s*+\S")

_Work = Callable[[], list[Share]]
Reaching = Callable[[str, Granted], Container[str] | None]
"""Says which fields of records reach a sink, by its name and by what is granted; ``None``: all."""
_REMEMBERED = 64

_BATCHES = 16
_GATHER_SECONDS = 0.1
"""Batches gather for so long, as a sink takes many together with less effort than one by one."""
_POLL_SECONDS = 0.25
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 30.0


def _everything(_sink: str, _granted: Granted) -> None:
    """Every field reaches every sink."""


@dataclass(slots=True)
class Delivery:
    """What became of the batches for one sink. ``last`` is ``time.monotonic()`` of the last one
    that it took, or of the start."""

    delivered: int = 0
    failures: int = 0
    failing: bool = False
    last: float = 0.0


class Pipeline:
    """A filter, a spool and the sinks behind it.

    ``observe`` gets the tally of every request that was kept, and of no other: a request that
    could not be kept is the sender's to send again, and counts then. ``reaching`` says which fields
    reach a sink. May be used from an event loop (``accept``) and from threads (``accept_now``) at
    once.
    """

    def __init__(
        self,
        filter_: Filter,
        spool: Spool,
        sinks: Mapping[str, Sink],
        observe: Callable[[Tally], None],
        reaching: Reaching = _everything,
    ) -> None:
        self._filter = filter_
        self._layout = filter_.schema.layout
        self._spool = spool
        self._observe = observe
        self._drains = [Drain(name, sink, spool, reaching) for name, sink in sinks.items()]
        self._turn = asyncio.Lock()
        names = ("collector-filter", "collector-filter-large")
        self._beside = [ThreadPoolExecutor(1, thread_name_prefix=name) for name in names]

    def __repr__(self) -> str:
        return f"<Pipeline of {len(self._drains)} sinks>"

    def start(self) -> None:
        """Begin to deliver."""
        for drain in self._drains:
            drain.start()

    async def accept(self, request: Request) -> Tally:
        """Filter a request; returns its tally when it is on disk.

        Raises ``DeliveryError`` E505 or E506 if it could not be kept; then nothing of it was; and
        ``InputError`` E429 for records of another version of the schema.
        """
        parts: list[Share] = []
        for size, work in self._pieces(request):
            if size > (SLICE if request.form == "ndjson" else _QUICK):
                parts += await self._in_a_thread(size, work)
            elif size == len(request.body):
                parts += work()
            else:  # one piece for each turn of the loop, whoever's it is
                async with self._turn:
                    parts += work()
                await asyncio.sleep(0)
        total = _sum(parts)
        if total.received:
            is_new = await asyncio.wrap_future(self._keep(parts, request.key))
            if is_new:
                self._observe(total)
        return total

    def accept_now(self, request: Request) -> Tally:
        """As ``accept``, for a thread that may wait."""
        parts = [part for _, work in self._pieces(request) for part in work()]
        total = _sum(parts)
        if total.received and self._keep(parts, request.key).result():
            self._observe(total)
        return total

    def deliveries(self) -> dict[str, Delivery]:
        """How each sink does, by its name."""
        return {drain.sink_name: drain.delivery for drain in self._drains}

    def close(self, seconds: float) -> bool:
        """Deliver what waits, for so long at most; says whether nothing is left."""
        deadline = monotonic() + seconds
        for beside in self._beside:
            beside.shutdown()
        for drain in self._drains:
            drain.finish()
        for drain in self._drains:
            drain.join(max(0.0, deadline - monotonic()))
        for drain in self._drains:
            drain.stop()
        return not any(drain.is_alive() or drain.left for drain in self._drains)

    async def _in_a_thread(self, size: int, work: _Work) -> list[Share]:
        beside = self._beside[size > _MEDIUM]
        done = beside.submit(work)
        if size > _MEDIUM:
            beside.submit(sleep, _BREATH_SECONDS)
        return await asyncio.wrap_future(done)

    def _pieces(self, request: Request) -> Iterator[tuple[int, _Work]]:
        """What there is to do for a request, in pieces, and how many bytes each is for."""
        minute = to_minute(datetime.now(UTC))
        chosen = self._filter.without(self._refused(request))
        if not _can_be_cut(request):
            yield len(request.body), partial(_whole, chosen, request, minute)
            return
        first = True
        for part in slices(request.body, SLICE, _LINES):
            yield len(part), partial(_slice, chosen, part, first, minute)
            first = False

    def _refused(self, request: Request) -> Collection[str]:
        """What is refused in all of a request, whatever its events say besides."""
        optional = self._filter.schema.optional
        if request.refuses:
            return optional
        granted = optional if request.granted is None else request.granted
        return [name for name in optional if name not in granted]

    def _keep(self, parts: Iterable[Share], key: bytes | None) -> Future[bool]:
        """Keep what there is, apart by minute and by what is granted, unless it is there under the
        same key."""
        groups: dict[tuple[str, Granted], list[Share]] = {}
        for part in parts:
            groups.setdefault((part.received, part.granted), []).append(part)
        entries = [
            Entry(self._layout, minute, b"".join(p.payload for p in same), _sum(same), granted)
            for (minute, granted), same in groups.items()
        ]
        return self._spool.put(*entries, key=key)


def _slice(chosen: Filter, part: bytes, first: bool, minute: str) -> list[Share]:
    return _shares(minute, chosen.apart("ndjson", part, first=first))


def _whole(chosen: Filter, request: Request, minute: str) -> list[Share]:
    if request.form == "records":
        return chosen.admit_records(request.body)
    admissions = chosen.apart(
        request.form,
        request.body,
        protobuf=request.protobuf,
        peer=request.peer,
        user_agent=request.user_agent,
    )
    return _shares(minute, admissions)


def _shares(minute: str, admissions: Iterable[Admission]) -> list[Share]:
    return [Share(minute, each.encode(), each.tally, each.granted) for each in admissions]


def _sum(parts: Iterable[Share]) -> Tally:
    total = Tally()
    for part in parts:
        total += part.tally
    return total


def _can_be_cut(request: Request) -> bool:
    """Whether a body is long, and has several lines. Of a single one the peer may be told."""
    body = request.body
    if request.form != "ndjson" or len(body) <= _LINES:
        return False
    if len(body) <= SLICE and body.count(b"\n") <= _LINES:
        return False
    body = body.lstrip()
    end = body.find(b"\n")
    return end >= 0 and _MORE.match(body, end) is not None


class Drain(threading.Thread):
    """Hands batches to one sink, in order, each until it is taken; of their fields, those that
    reach it. Between reading them and noting that they are delivered it has the ``turn``."""

    def __init__(
        self,
        sink_name: str,
        sink: Sink,
        spool: Spool,
        reaching: Reaching = _everything,
        turn: AbstractContextManager[object] | None = None,
    ) -> None:
        super().__init__(name=f"collector-drain-{sink_name}", daemon=True)
        self.sink_name = sink_name
        self.delivery: Delivery = Delivery(last=monotonic())
        self.left: bool = True
        self._sink = sink
        self._spool = spool
        self._turn = turn or nullcontext()
        self._reaching = lru_cache(_REMEMBERED)(partial(reaching, sink_name))
        self._ending = threading.Event()
        self._at_once = _BATCHES
        self._stopped = False

    def finish(self) -> None:
        """Deliver what is there, then end."""
        self._ending.set()

    def stop(self) -> None:
        """End after the batch at hand."""
        self._stopped = True
        self._ending.set()

    def run(self) -> None:
        """Until it is told to end. A sink that fails is asked again, after longer and longer."""
        pause = _FIRST_PAUSE
        try:
            while not self._stopped:
                is_last = self._ending.is_set()
                self.left = not self._deliver_all()
                if self.left:
                    sleep(_FIRST_PAUSE) if is_last else self._ending.wait(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                elif is_last:
                    return
                else:
                    pause = _FIRST_PAUSE
                    if self._spool.wait(self.sink_name, _POLL_SECONDS):
                        self._ending.wait(_GATHER_SECONDS)
                    else:
                        self._rest()
        finally:
            self.delivery.failing |= self.left

    def _rest(self) -> None:
        """Nothing is there: the sink has time to tidy up, if it wants to."""
        with self._turn, suppress(DeliveryError):
            self._sink.deliver()

    def _batch(self, spooled: Spooled) -> Batch:
        names = self._reaching(spooled.granted)
        return read(spooled if names is None else project(spooled, names))

    def _deliver_all(self) -> bool:
        """Deliver what waits; ``False`` if a batch was not taken. Then batches go one at a time
        until there are no more, so that the sink gets all before one that it does not take."""
        delivery = self.delivery
        try:
            while not self._stopped and (number := self._deliver_some()):
                delivery.delivered += number
                delivery.last = monotonic()
                delivery.failing = False
        except DeliveryError:
            self._at_once = 1
            delivery.failures += 1
            delivery.failing = True
            return False
        self._at_once = _BATCHES
        return not self._stopped

    def _deliver_some(self) -> int:
        """Deliver the next batches; how many there were."""
        with self._turn:
            waiting = self._spool.after(self.sink_name, self._at_once)
            if waiting:
                self.left = True
                self._sink.deliver(*(self._batch(spooled) for _, spooled in waiting))
                self._spool.delivered(self.sink_name, waiting[-1][0])
            return len(waiting)
