"""Filter requests in pieces: nothing that a request becomes is unbounded, and none holds up others.

A request becomes one batch for each schema and set of granted purposes, or is refused as soon as it
is known to be too much. It is filtered in pieces, which yield to other requests. Short requests
need one piece and go on at once; the others take turns: a few with medium bodies at a time, and one
with a large one. A request that has become more than a few records keeps its slot until it is
stored, so that no more than these are in memory.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from time import sleep
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from collector.contracts import (
    MOST_BYTES,
    MOST_EVENTS,
    BatchQueue,
    Earlier,
    KeyUsed,
    PendingBatch,
    Request,
    RequestKey,
    Tally,
    TooManyBytes,
    TooManyEvents,
    UnknownSchema,
    count_lines,
    to_minute,
)
from collector.errors import Overloaded
from collector.files import failing_as
from collector.filter import Filter
from collector.filter.admission import Bounds
from collector.filter.sdk_records import schema_named
from collector.filter.text import MOST_LINES, Pace, has_more_lines, slices
from collector.ingest.memory import Turns
from collector.ingest.refusals import RequestRefused
from collector.spool.idempotency import key_within, request_key
from collector.spool.write_queue import merge

if TYPE_CHECKING:
    from collector.filter.sdk_records import Minutes

SLICE = 1 << 17
"""Bytes of a body that are filtered before the event loop serves other requests."""
_SHORT_LINES = 500
"""The most lines of a body that is filtered at once: short lines take longer for their size."""
_SLICE_COMMAS = 2_000
"""The most commas of what is filtered on the event loop, where each could divide two events."""
_MOST_INLINE = 1 << 15
"""Bytes of an indivisible body, above which it is filtered in a thread;"""
_MOST_MEDIUM = 1 << 20
"""and above which that is another thread, so that smaller bodies need not wait for it."""
_PAUSE_SECONDS = 0.01
"""Between two such bodies: a parser holds the lock that three threads of a request need."""
_MEDIUM_AT_ONCE = 4
_FEW_BYTES = 1 << 18
"""Bytes of records with which a request waits for its commit without a slot."""

_SECOND_LINE = re.compile(rb"\s*+\S")
_LINE_FORMS = ("ndjson", "records")

_T = TypeVar("_T")
_Work = Callable[[Bounds], list[PendingBatch]]


class _Piece(NamedTuple):
    """A part of the work for a request. ``is_light`` is true if an event loop may do it."""

    is_light: bool
    work: _Work


class Filtered:
    """What has become of a request so far: its tally and its batches. Raises ``InputError`` E416
    when it becomes too much."""

    def __init__(self, most_events: int, key: RequestKey | None = None) -> None:
        self.total: Tally = Tally()
        self.key: RequestKey | None = key
        self._batches: list[PendingBatch] = []
        self._most_events = most_events
        self._records, self._elements = 0, [0]
        self.size: int = 0

    @property
    def left(self) -> Bounds:
        """What the rest of the request may become."""
        left = self._most_events - self._events
        return Bounds(left, MOST_BYTES - self.size, self._elements)

    @property
    def _events(self) -> int:
        """The records so far, and the events that became none."""
        return self._records + self.total.rejected.total()

    def add(self, batches: Sequence[PendingBatch]) -> None:
        """Add what a piece has become."""
        for batch in batches:
            self.total += batch.tally
            self._records += batch.record_count
            self.size += len(batch.payload)
            self._batches.append(batch)
        if self._events > self._most_events:
            raise TooManyEvents
        if self.size > MOST_BYTES:
            raise TooManyBytes

    def batches(self) -> Sequence[PendingBatch]:
        """Return the batches, after the last piece."""
        return merge(self._batches)


_SLOT_SECONDS = 5.0
"""How long a thread waits for its slot."""


@asynccontextmanager
async def _awaited(slots: Turns) -> AsyncIterator[None]:
    """Hold a slot, however long it takes to get one."""
    await slots.awaited(1, None)
    try:
        yield
    finally:
        slots.give_back(1)


@contextmanager
def _blocking(slots: Turns) -> Iterator[None]:
    """Hold a slot in a thread. Raises ``DeliveryError`` E425 if that would take long."""
    busy = Overloaded("there are too many large requests; send again later")
    with failing_as(busy, RequestRefused):
        slots.blocking(1, _SLOT_SECONDS)
    try:
        yield
    finally:
        slots.give_back(1)


class _Filters:
    """The filters of all schemas, the first by default."""

    def __init__(self, filters: Sequence[Filter]) -> None:
        self.by_name: dict[str, Filter] = {each.schema.name: each for each in filters}
        self.default: Filter = filters[0]

    def chosen(self, request: Request) -> tuple[Filter, bytes | None]:
        """Return the filter for a request, and its key there. Raises ``InputError`` E413."""
        name = request.schema
        if name is None and request.form == "records" and len(self.by_name) > 1:
            name = schema_named(request.body, self.by_name)
        found = self.default if name is None else self.by_name.get(name)
        if found is None:
            raise UnknownSchema
        if request.key is None or found is self.default:
            return found, request.key
        return found, key_within(found.schema.name, request.key)


class Intake:
    """Filters requests, each by the filter of its schema, the first by default. ``filtered`` is for
    an event loop, ``filtered_now`` for threads."""

    def __init__(self, filters: Sequence[Filter], most_events: int = MOST_EVENTS) -> None:
        self._filters = _Filters(filters)
        self._most_events = most_events
        self._slice_lock = asyncio.Lock()
        self._medium, self._large = Turns(_MEDIUM_AT_ONCE), Turns(1)
        names = ("collector-filter", "collector-filter-large")
        self._executors = [ThreadPoolExecutor(1, thread_name_prefix=name) for name in names]

    def __repr__(self) -> str:
        return f"<Intake of {', '.join(self._filters.by_name)}>"

    def replace(self, filters: Sequence[Filter], most_events: int) -> None:
        """Filter by others from the next request on; those in progress go on as they began."""
        self._filters, self._most_events = _Filters(filters), most_events

    def close(self) -> None:
        """Finish what is in progress."""
        for executor in self._executors:
            executor.shutdown()

    @asynccontextmanager
    async def filtered(self, request: Request) -> AsyncIterator[Filtered]:
        """Hold a slot, in which it is stored. Raises ``InputError`` E429, E416, E413."""
        filter_, key = self._filters.chosen(request)
        if self._is_short(request, filter_):
            yield self._filter_now(request, filter_, key)
            return
        is_large = len(request.body) > _MOST_MEDIUM
        if self._must_count(request):
            count = partial(has_more_lines, request.body, self._most_events)
            if await self._run_in_thread(count, is_large=True) if is_large else count():
                raise TooManyEvents
        async with AsyncExitStack() as slot:
            await slot.enter_async_context(_awaited(self._slots(is_large=is_large)))
            found = await self._filter_yielding(request, filter_, key, is_large=is_large)
            if found.size <= _FEW_BYTES:
                await slot.aclose()
            yield found

    @contextmanager
    def filtered_now(self, request: Request) -> Iterator[Filtered]:
        """Do the same in a thread, which blocks. Raises ``DeliveryError`` E425 as well."""
        filter_, key = self._filters.chosen(request)
        if self._is_short(request, filter_):
            yield self._filter_now(request, filter_, key)
            return
        if self._must_count(request) and has_more_lines(request.body, self._most_events):
            raise TooManyEvents
        with ExitStack() as slot:
            is_large = len(request.body) > _MOST_MEDIUM
            slot.enter_context(_blocking(self._slots(is_large=is_large)))
            found = self._filter_now(request, filter_, key)
            if found.size <= _FEW_BYTES:
                slot.close()
            yield found

    def _slots(self, *, is_large: bool) -> Turns:
        return self._large if is_large else self._medium

    def _filter_now(self, request: Request, filter_: Filter, key: bytes | None) -> Filtered:
        found = Filtered(self._most_events, _request_key(key, request.body))
        for piece in self._pieces(request, filter_, Pace(MOST_LINES)):
            _add_piece(found, piece)
        return found

    async def _filter_yielding(
        self, request: Request, filter_: Filter, key: bytes | None, *, is_large: bool
    ) -> Filtered:
        """Filter a request while others go on."""
        hashes = partial(_request_key, key, request.body)
        is_long = key is not None and len(request.body) > SLICE
        made = await self._run_in_thread(hashes, is_large=is_large) if is_long else hashes()
        found, pace = Filtered(self._most_events, made), Pace()
        for piece in self._pieces(request, filter_, pace):
            add = partial(_add_piece, found, piece)
            if piece.is_light:  # one slice of one request for each iteration of the event loop
                async with self._slice_lock:
                    with pace.measured():
                        add()
                await asyncio.sleep(0)
            else:
                await self._run_in_thread(add, is_large=is_large)
        return found

    async def _run_in_thread(self, work: Callable[[], _T], *, is_large: bool) -> _T:
        executor = self._executors[is_large]
        future = executor.submit(work)
        if is_large:
            executor.submit(sleep, _PAUSE_SECONDS)
        try:
            return await asyncio.wrap_future(future)
        finally:
            del future  # it holds the exception, whose traceback holds this frame, and so the body

    def _must_count(self, request: Request) -> bool:
        """Return whether a body may hold too many lines."""
        return request.form in _LINE_FORMS and len(request.body) >= 2 * self._most_events

    def _is_short(self, request: Request, filter_: Filter) -> bool:
        """Return whether an event loop may filter all of a request at once."""
        body = request.body
        if request.form not in _LINE_FORMS:
            return len(body) <= _MOST_INLINE and _is_sparse(request, filter_, body)
        if len(body) > SLICE or (len(body) > _SHORT_LINES and count_lines(body) > _SHORT_LINES):
            return False
        return _is_sparse(request, filter_, body)

    def _pieces(self, request: Request, filter_: Filter, pace: Pace) -> Iterator[_Piece]:
        """Divide the work for a request into pieces."""
        minute = to_minute(datetime.now(UTC))
        refused = _refused(request, filter_)
        chosen = filter_.without(refused) if refused else filter_
        minutes = chosen.minutes() if request.form == "records" else None
        if not _is_divisible(request):
            work = partial(_filter_body, chosen, request, minute)
            if minutes is not None:
                work = partial(_filter_records, chosen, request.body, minutes)
            yield _Piece(self._is_short(request, filter_), work)
            return
        first = True
        for part in slices(request.body, SLICE, pace):
            work = partial(_filter_slice, chosen, part, first, minute)
            if minutes is not None:
                work = partial(_filter_records, chosen, part, minutes)
            yield _Piece(len(part) <= SLICE and _is_sparse(request, filter_, part), work)
            first = False


class Acceptor:
    """Filter requests as ``Intake`` does, and have what they become stored by ``queue``.

    ``most_events`` limits a request.
    ``accept`` is for an event loop, ``accept_now`` for threads; both may be used at once.
    """

    def __init__(
        self,
        filters: Sequence[Filter],
        queue: BatchQueue,
        *,
        most_events: int = MOST_EVENTS,
    ) -> None:
        self._intake = Intake(filters, most_events)
        self.replace: Callable[[Sequence[Filter], int], None] = self._intake.replace
        self._queue = queue

    def __repr__(self) -> str:
        return "<Acceptor>"

    async def accept(self, request: Request) -> Tally:
        """Filter a request; return its tally when its records are on disk.
        Raises ``DeliveryError`` E505, E506 or E425 if they could not be stored; then none is. And
        ``InputError``: E429 for records of another schema, E416 for a request that
        becomes more events or bytes than one may, E413 for a schema that there is not; and
        ``KeyUsed`` if a request was stored under the key before.
        """
        async with self._intake.filtered(request) as found:
            if found.total.received or found.key is not None:
                stored = self._queue.put(*found.batches(), key=found.key)
                _require_unused(await asyncio.wrap_future(stored))
            return found.total

    def accept_now(self, request: Request) -> Tally:
        """Do the same in a thread, which blocks."""
        with self._intake.filtered_now(request) as found:
            if found.total.received or found.key is not None:
                stored = self._queue.put(*found.batches(), key=found.key)
                _require_unused(stored.result())
            return found.total

    def close(self) -> None:
        """Finish what is in progress."""
        self._intake.close()


def _require_unused(earlier: Earlier | None) -> None:
    if earlier is not None:
        raise KeyUsed(earlier)


def _refused(request: Request, filter_: Filter) -> Collection[str]:
    """Return the optional purposes that are refused for a whole request, besides those that its
    events refuse."""
    if not request.refuses and not request.refused and request.granted is None:
        return ()
    optional = filter_.schema.optional
    if request.refuses:
        return optional
    granted = optional if request.granted is None else request.granted
    return [name for name in optional if name not in granted or name in request.refused]


def _request_key(key: bytes | None, body: bytes) -> RequestKey | None:
    return None if key is None else request_key(key, body)


def _is_sparse(request: Request, filter_: Filter, part: bytes) -> bool:
    """Return whether a part of a body cannot hold very many events for its lines."""
    holds_lists = filter_.schema.records or request.form not in _LINE_FORMS
    if not holds_lists or request.form == "records" or len(part) <= _SLICE_COMMAS:
        return True
    return part.count(b",") <= _SLICE_COMMAS


def _add_piece(found: Filtered, piece: _Piece) -> None:
    found.add(piece.work(found.left))


def _filter_records(chosen: Filter, part: bytes, minutes: Minutes, _: Bounds) -> list[PendingBatch]:
    return chosen.admit_records(part, minutes)


def _filter_slice(
    chosen: Filter, part: bytes, first: bool, minute: str, bounds: Bounds
) -> list[PendingBatch]:
    return [
        PendingBatch(chosen.schema.layout, minute, each.encode(), each.tally, each.granted)
        for each in chosen.admit_by_grant("ndjson", part, first=first, bounds=bounds)
    ]


def _filter_body(
    chosen: Filter, request: Request, minute: str, bounds: Bounds
) -> list[PendingBatch]:
    admissions = chosen.admit_by_grant(
        request.form,
        request.body,
        protobuf=request.protobuf,
        peer=request.peer,
        user_agent=request.user_agent,
        bounds=bounds,
    )
    return [
        PendingBatch(chosen.schema.layout, minute, each.encode(), each.tally, each.granted)
        for each in admissions
    ]


def _is_divisible(request: Request) -> bool:
    """Return whether a body is long and has several lines. The events of one with a single line may
    be filled with the peer's address."""
    body = request.body
    if request.form not in _LINE_FORMS or len(body) <= _SHORT_LINES:
        return False
    if len(body) <= SLICE and count_lines(body) <= _SHORT_LINES:
        return False
    body = body.lstrip()
    end = body.find(b"\n")
    return end >= 0 and _SECOND_LINE.match(body, end) is not None
