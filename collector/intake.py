"""Filter requests: short ones at once, larger ones without blocking other senders.

A small body is filtered on arrival. Bodies of ordinary size, as an SDK sends them, take turns: the
event loop filters one and serves everybody else before the next. Larger bodies, and those that a
parser would turn into very many objects at once, go to one of two threads, so that medium ones need
not wait for large ones. After a request with many records, the thread waits until they are stored
before it filters the next one.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from threading import get_ident
from time import time
from typing import Literal

from collector.contracts import (
    MOST_BYTES,
    MOST_EVENTS,
    BatchQueue,
    KeyUsed,
    PendingBatch,
    Request,
    RequestKey,
    Tally,
    TooManyBytes,
    TooManyEvents,
    UnknownSchema,
    Written,
    count_lines,
    minute_text,
)
from collector.errors import InputError, Overloaded
from collector.filter import Filter
from collector.filter.admission import Bounds
from collector.filter.sdk_records import schema_named
from collector.filter.text import has_more_lines, pieces
from collector.ingest.responses import refused_whole
from collector.spool.idempotency import request_key
from collector.spool.write_queue import merge

_SMALL, _ORDINARY, _MEDIUM = 1 << 16, 1 << 19, 1 << 20
"""The most bytes of a body that is filtered at once, in turn, or in the first of the threads."""
_SLICE = 1 << 18
"""Bytes of lines that are decoded at once."""
_MOST_LINES = 500
"""The most lines of a body that the event loop filters: short lines take longer per byte."""
_MOST_COMMAS = 2_000
"""The most commas in a body that the event loop filters, if each of them could separate two
events."""
_MOST_DOCUMENT = 1 << 15
"""A larger body that cannot be divided is filtered in a thread."""
_FEW_BYTES = 1 << 18
"""A thread waits until more bytes of records than this are stored."""
_BUSY_SECONDS = 5.0
"""How long a caller's thread waits for one of the two threads."""

_SECOND_LINE = re.compile(rb"\s*+\S")
_LINE_FORMS = ("ndjson", "records")

Place = Literal["at once", "in turn", "medium", "large"]
Outcome = Tally | BaseException
Done = Callable[[Outcome], object]


class Filtered:
    """The result of a request so far: its tally and batches. Raises ``InputError`` E416 when it is
    too large."""

    def __init__(self, most_events: int) -> None:
        self.total: Tally = Tally()
        self._batches: list[PendingBatch] = []
        self._most_events = most_events
        self._records, self._elements = 0, [0]
        self.size: int = 0

    @property
    def left(self) -> Bounds:
        """The bounds for the rest of the request."""
        left = self._most_events - self._events
        return Bounds(left, MOST_BYTES - self.size, self._elements)

    @property
    def _events(self) -> int:
        """The number of records so far and of rejected events."""
        return self._records + self.total.rejected.total()

    def add(self, batches: Sequence[PendingBatch]) -> None:
        """Add the batches of a piece."""
        for batch in batches:
            self.total = self.total + batch.tally if self._batches else batch.tally
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


class _Filters:
    """The filters of all schemas, the first by default."""

    def __init__(self, filters: Sequence[Filter]) -> None:
        self.by_name: dict[str, Filter] = {each.schema.name: each for each in filters}
        self.default: Filter = filters[0]

    def chosen(self, request: Request) -> Filter:
        """Return the filter for a request. Raises ``InputError`` E413."""
        name = request.schema
        if name is None and request.form == "records" and len(self.by_name) > 1:
            name = schema_named(request.body, self.by_name)
        found = self.default if name is None else self.by_name.get(name)
        if found is None:
            raise UnknownSchema
        return found


class Acceptor:
    """Filter requests, each by the filter of its schema, by default the first one; ``queue`` stores
    the batches. ``most_events`` limits a request. ``accept`` is for an event loop, ``accept_now``
    for threads; both may be used at once.
    """

    def __init__(
        self,
        filters: Sequence[Filter],
        queue: BatchQueue,
        *,
        most_events: int = MOST_EVENTS,
    ) -> None:
        self._filters, self._most_events = _Filters(filters), most_events
        self._queue = queue
        self.watch: Callable[[Request, Filter], None] | None = None
        """Called with each filtered request and its filter, from several threads."""
        self._waiting: deque[Callable[[], None]] = deque()
        self._threads = {
            place: ThreadPoolExecutor(1, thread_name_prefix=f"collector-filter-{place}")
            for place in ("medium", "large")
        }

    def close(self) -> None:
        """Finish the requests in progress."""
        for thread in self._threads.values():
            thread.shutdown()

    def accept(self, request: Request, done: Done) -> None:
        """Filter a request, and call ``done`` in the event loop once its records are on disk: with
        its tally, or with an error as ``Accept`` says."""
        loop = asyncio.get_running_loop()
        try:
            filter_ = self._filters.chosen(request)
        except InputError as error:
            done(error)
            return
        place = place_of(request, filter_)
        tell = partial(_call, done, loop, get_ident())
        work = partial(self._store, request, filter_, tell)
        if place == "at once":
            work()
        elif place == "in turn":
            self._waiting.append(work)
            if len(self._waiting) == 1:
                loop.call_soon(self._next, loop)
        else:
            self._threads[place].submit(work, is_alone=True)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        """Handle one request that waits for its turn, then let others be served."""
        work = self._waiting.popleft()
        if self._waiting:
            loop.call_soon(self._next, loop)
        work()

    def accept_now(self, request: Request) -> Tally:
        """Do the same in a thread and block it. Also raises ``DeliveryError`` E425 if too many
        large requests are waiting."""
        told: Future[Outcome] = Future()
        filter_ = self._filters.chosen(request)
        place = place_of(request, filter_)
        work = partial(self._store, request, filter_, told.set_result)
        if place == "at once":
            work()
        else:
            thread = self._threads["large" if place == "large" else "medium"]
            job = thread.submit(work, is_alone=True)
            wait([job], _BUSY_SECONDS)
            if job.cancel():
                raise Overloaded("there are too many large requests; send again later")
        outcome = told.result()
        if isinstance(outcome, Tally):
            return outcome
        raise outcome

    def _store(
        self,
        request: Request,
        filter_: Filter,
        done: Done,
        *,
        is_alone: bool = False,
    ) -> None:
        """Filter a request by what its sender grants, commit it, and call ``done``. With
        ``is_alone``, in a thread, wait for the commit of a large result."""
        try:
            refused = _refused(request, filter_)
            found = self._filtered(request, filter_.without(refused) if refused else filter_)
            key = _key(request, filter_, found.total)
            if found.total.received or key is not None:
                stored = self._queue.put(*found.batches(), key=key)
            else:
                stored = None
        except BaseException as error:  # noqa: BLE001 - the sender gets an answer, whatever it is
            done(error)
            return
        if stored is None:
            done(found.total)
            return
        stored.add_done_callback(partial(_tell, done, found.total))
        if is_alone and found.size > _FEW_BYTES:
            wait([stored])

    def _filtered(self, request: Request, filter_: Filter) -> Filtered:
        """Filter a request. Raises ``InputError`` E429 and E416."""
        body, most = request.body, self._most_events
        is_lines = request.form in _LINE_FORMS
        if is_lines and len(body) >= 2 * most and has_more_lines(body, most):
            raise TooManyEvents
        found = Filtered(most)
        if self.watch is not None:
            self.watch(request, filter_)
        for batches in _batches(request, filter_, found):
            found.add(batches)
        return found


def _key(request: Request, filter_: Filter, total: Tally) -> RequestKey | None:
    """Return the key under which a request is stored; ``None`` if it is refused as a whole."""
    if request.key is None or (request.form not in _LINE_FORMS and refused_whole(total)):
        return None
    records = request.body if request.form == "records" else None
    path = "events" if request.form in ("json", "ndjson") else request.form
    return request_key(request.key, path, filter_.schema.name, records)


def _call(done: Done, loop: asyncio.AbstractEventLoop, thread: int, outcome: Outcome) -> None:
    """Call a function in an event loop that runs in ``thread``: at once if that is this thread."""
    if get_ident() == thread:
        done(outcome)
    else:
        with suppress(RuntimeError):  # loop and connections have ended
            loop.call_soon_threadsafe(done, outcome)


def _tell(done: Done, total: Tally, stored: Written) -> None:
    """Report the outcome of a queued request."""
    if (error := stored.exception()) is not None:
        done(error)
    elif (earlier := stored.result()) is not None:
        done(KeyUsed(earlier))
    else:
        done(total)


def place_of(request: Request, filter_: Filter) -> Place:
    """Return where a request is filtered."""
    body = request.body
    size, is_lines = len(body), request.form in _LINE_FORMS
    is_short = size <= (_ORDINARY if is_lines else _MOST_DOCUMENT)
    if is_short and is_lines and size > _MOST_LINES:
        is_short = count_lines(body) <= _MOST_LINES
    may_hold_lists = request.form != "records" and (filter_.schema.records or not is_lines)
    if is_short and may_hold_lists and size > _MOST_COMMAS:
        is_short = body.count(b",") <= _MOST_COMMAS
    if is_short:
        return "at once" if size <= _SMALL else "in turn"
    return "medium" if size <= _MEDIUM else "large"


def _batches(request: Request, filter_: Filter, found: Filtered) -> Iterator[list[PendingBatch]]:
    """Yield the batches of each slice of a request, within its remaining bounds."""
    minute = minute_text(int(time() // 60))
    if request.form == "records":
        minutes = filter_.minutes()
        for part in pieces(request.body, _SLICE):
            yield filter_.admit_records(part, minutes)
        return
    is_first, is_sliced = True, _is_divisible(request)
    for part in pieces(request.body, _SLICE) if is_sliced else (request.body,):
        admissions = filter_.admit_by_grant(
            request.form,
            part,
            first=is_first,
            protobuf=request.protobuf,
            peer=None if is_sliced else request.peer,
            user_agent=None if is_sliced else request.user_agent,
            bounds=found.left,
        )
        yield [
            PendingBatch(filter_.schema.layout, minute, each.encode(), each.tally, each.granted)
            for each in admissions
        ]
        is_first = False


def _refused(request: Request, filter_: Filter) -> Collection[str]:
    """Return the optional purposes that are refused for a whole request; its events may refuse
    more."""
    if not request.refuses and not request.refused and request.granted is None:
        return ()
    optional = filter_.schema.optional
    if request.refuses:
        return optional
    granted = optional if request.granted is None else request.granted
    return [name for name in optional if name not in granted or name in request.refused]


def _is_divisible(request: Request) -> bool:
    """Return whether a body has several lines and more than one slice. Only the event of a body
    with a single line may get the peer's address."""
    if request.form != "ndjson" or len(request.body) <= _SLICE:
        return False
    body = request.body.lstrip()
    end = body.find(b"\n")
    return end >= 0 and _SECOND_LINE.match(body, end) is not None
