"""Types that the packages hand to one another: requests, tallies, batches, and the sink protocol.

A payload has seven shapes on its way:

1. ``Request``: a body, as a receiver hands it to the pipeline.
2. ``filter.Admission``: the records and counts of one filter call.
3. ``PendingBatch``: records of one minute as NDJSON, with their tally, up to the commit.
4. ``spool.write_queue.PendingWrite``: the batches of one request, with its key and its future.
5. A row of the spool's table ``batches``.
6. ``Batch``: records that the spool reads back and a sink takes; decoded on access.
7. ``Row``: a record's values, as a table of the store takes them.

The reason codes are closed lists; every count in a tally, a metric or a report is keyed by one of
them, by a field name of the schema, or by a content category.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from time import monotonic
from typing import Literal, NamedTuple, Protocol, Self, get_args

from collector.errors import Cause, InputError, Refusal
from collector.units import size_text

__all__ = [
    "CATEGORIES",
    "COUNTED_AT_ONCE",
    "DROPS",
    "EMPTY",
    "FIRST",
    "LAST",
    "MESSAGE_OUTCOMES",
    "MOST_BYTES",
    "MOST_EVENTS",
    "REFUSALS",
    "REJECTIONS",
    "RESERVED",
    "SIGNALS",
    "SUMS",
    "Accept",
    "AcceptNow",
    "Backlog",
    "Batch",
    "BatchQueue",
    "Category",
    "Closing",
    "DeliveryState",
    "Depth",
    "Drop",
    "Earlier",
    "Form",
    "Granted",
    "KeyUsed",
    "Layout",
    "MessageOutcome",
    "Part",
    "PendingBatch",
    "Record",
    "Rejection",
    "Request",
    "RequestKey",
    "Row",
    "Scalar",
    "Share",
    "Signal",
    "SinkSums",
    "SpoolState",
    "Subject",
    "Tally",
    "Written",
    "added",
    "count_lines",
    "layout_of",
    "minute_number",
    "minute_text",
    "to_minute",
]

Rejection = Literal[
    "malformed",
    "not_an_object",
    "too_large",
    "too_deep",
    "missing_required",
    "nothing_admitted",
    "consent_withheld",
    "not_selected",
]
Drop = Literal["wrong_type", "invalid_value", "purpose_refused", "expired"]
Category = Literal["audio", "video", "chat", "transcript", "file"]

MessageOutcome = Refusal | Literal["taken", "repeated", "erased", "expired"]
"""What became of a message: it was taken, it had been taken before, or erasures or retention had
left nothing of it."""

Signal = Literal["logs", "traces", "metrics"]
Form = Literal["json", "ndjson", "records", "logs", "traces", "metrics"]

REJECTIONS: tuple[Rejection, ...] = get_args(Rejection)
DROPS: tuple[Drop, ...] = get_args(Drop)
CATEGORIES: tuple[Category, ...] = get_args(Category)
REFUSALS: tuple[Refusal, ...] = get_args(Refusal)
MESSAGE_OUTCOMES: tuple[MessageOutcome, ...] = (
    *("taken", "repeated", "erased", "expired"),
    *REFUSALS,
)
SIGNALS: tuple[Signal, ...] = get_args(Signal)

MOST_EVENTS = 20_000
"""The most events of a request, counted over lines, elements and nested lists of all levels, and
the most records that it may become. One request is one commit, so a batch has no more records."""
MOST_BYTES = 8 << 20
"""The most bytes of a request: as sent, after decompression, and as records."""

Granted = tuple[str, ...] | None
"""The purposes for which something may be used, in the schema's order; ``None``: all of them."""

Scalar = str | int | float | bool
Record = dict[str, Scalar]
"""A minimised record: ``schema`` first, then allowlisted fields in schema order."""
Row = tuple[Scalar | None, ...]
"""A record's values in the order of a layout's columns, ``None`` where absent, and its count."""


@dataclass(slots=True)
class Tally:
    """The counts of one or more filter calls. Tallies add up with ``+``.

    ``received == admitted + sum(rejected.values())`` always holds. ``dropped`` counts fields by
    reason, and ``content`` counts events by content category. ``bytes_in`` counts payloads,
    ``bytes_out`` records. An event that the schema does not ask for counts as ``not_selected`` and
    nowhere else.
    """

    received: int = 0
    admitted: int = 0
    rejected: Counter[Rejection] = field(default_factory=Counter)
    dropped: dict[str, Counter[Drop]] = field(default_factory=dict)
    content: Counter[Category] = field(default_factory=Counter)
    bytes_in: int = 0
    bytes_out: int = 0

    def __add__(self, other: Tally) -> Tally:
        total = Tally()
        total += self
        total += other
        return total

    def __iadd__(self, other: Tally) -> Self:
        self.received += other.received
        self.admitted += other.admitted
        if other.rejected:
            self.rejected.update(other.rejected)
        for name, reasons in other.dropped.items():
            self.dropped.setdefault(name, Counter()).update(reasons)
        if other.content:
            self.content.update(other.content)
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        return self

    @property
    def refused(self) -> int:
        """The number of events that were rejected although the schema asks for them."""
        return self.rejected.total() - self.rejected["not_selected"]

    def as_dict(self) -> dict[str, object]:
        """Return its JSON form, without zero entries except the first three keys."""
        out: dict[str, object] = {
            "received": self.received,
            "admitted": self.admitted,
            "rejected": {r: self.rejected[r] for r in REJECTIONS if self.rejected[r]},
        }
        dropped = {
            name: {d: reasons[d] for d in DROPS if reasons[d]}
            for name, reasons in self.dropped.items()
            if any(reasons.values())
        }
        content = {c: self.content[c] for c in CATEGORIES if self.content[c]}
        sizes = {"bytes_in": self.bytes_in, "bytes_out": self.bytes_out}
        optional = {"dropped": dropped, "content": content, **sizes}
        return out | {key: value for key, value in optional.items() if value}


@dataclass(slots=True, repr=False)
class Request:
    """A body as a receiver hands it on: decompressed and not parsed.

    ``form`` is its format: a JSON document, NDJSON, records (NDJSON that another filter wrote), or
    one of OTLP's three signals, as protobuf or as JSON. ``peer`` is the sender's address, or the
    one that trusted proxies report; ``user_agent`` is the sender's header. Both are unchecked text.
    ``key`` is the idempotency key of the request: 16 random bytes.

    ``refuses`` is true if the sender signals refusal of every optional purpose. ``refused`` are the
    unchecked names of purposes that a visitor's cookie refuses. ``granted`` are the purposes with
    which the filter of a sender of records ran. ``schema`` is the name of the schema that the
    sender asks for; ``None`` stands for the default, or for the schema of the records.
    """

    form: Form
    body: bytes
    protobuf: bool = False
    peer: str | None = None
    user_agent: str | None = None
    key: bytes | None = None
    refuses: bool = False
    refused: frozenset[str] = frozenset()
    granted: Granted = None
    schema: str | None = None


_CACHED_MINUTES = 64


def to_minute(moment: datetime) -> str:
    """Format a moment (UTC) like every ``received``: RFC 3339, truncated to the minute."""
    return moment.strftime("%Y-%m-%dT%H:%M:00Z")


@lru_cache(_CACHED_MINUTES)
def minute_text(number: int) -> str:
    """Format a number of minutes since 1970. Raises ``ValueError``, ``OverflowError`` and
    ``OSError`` for a minute that is too far away."""
    return to_minute(datetime.fromtimestamp(60 * number, UTC))


@lru_cache(_CACHED_MINUTES)
def minute_number(text: str) -> int:
    """Return a minute as the number of minutes since 1970."""
    return int(datetime.fromisoformat(text).timestamp()) // 60


class RequestKey(NamedTuple):
    """An idempotency key on its way to the spool: a hash of the key, and for records an HMAC of the
    body under the key; ``None`` if only the key counts. ``collector.spool.idempotency`` makes
    both."""

    key: bytes
    body: bytes | None = None


class Earlier(NamedTuple):
    """What an earlier request stored under a key: its counts, without dropped fields, content and
    bytes. ``is_same`` tells whether its body was the same."""

    counts: Tally
    is_same: bool


Written = Future[Earlier | None]
"""Resolved with ``None`` when a write is on disk. If an earlier request had the same key, nothing
is written, and the result is what that request stored."""


class KeyUsed(InputError):
    """E435: an earlier request was stored under the idempotency key, so nothing of this one is
    stored or counted."""

    def __init__(self, earlier: Earlier) -> None:
        super().__init__("E435", "an earlier request was stored under this idempotency key")
        self.earlier = earlier


class OtherSchema(InputError):
    """E429: a record belongs to another schema than its request."""

    def __init__(self) -> None:
        super().__init__("E429", "the records are of another schema")


class TooManyEvents(InputError):
    """E416: a request holds more events than ``limits.events``, or becomes more records."""

    def __init__(self) -> None:
        super().__init__("E416", "there are more events than `limits.events` allows")


class TooManyBytes(InputError):
    """E416: a request becomes more than ``MOST_BYTES`` of records."""

    def __init__(self) -> None:
        super().__init__(
            "E416", f"the records of the request would take more than {size_text(MOST_BYTES)}"
        )


class UnknownSchema(InputError):
    """E413: no schema has the name that a request asks for."""

    def __init__(self) -> None:
        super().__init__("E413", "the collector has no such schema")


Accept = Callable[[Request, Callable[[Tally | BaseException], object]], None]
"""Filters a request, and calls the function once, in the event loop. It gets the tally when all
records are on disk. If they could not be stored, it gets a ``DeliveryError``: then none is stored,
and the sender may retry. Otherwise it gets an ``InputError``: E429 for records of another schema,
E416 for a request that becomes too large, E413 for an unknown schema, or ``KeyUsed`` E435."""

AcceptNow = Callable[[Request], Tally]
"""Does the same, but blocks the calling thread: returns the tally, or raises the error."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The form of a schema's records: all that a spool and a sink know about the schema.

    ``schema`` is ``name/version``, ``digest`` the schema's digest, and ``table`` its name.
    ``columns`` are field names with their SQLite types, in schema order.
    """

    schema: str
    digest: str
    table: str
    columns: tuple[tuple[str, str], ...]


COUNTED_AT_ONCE = 1 << 16
"""Lines are counted in pieces of this many bytes. No other thread runs during a piece."""


def count_lines(text: bytes) -> int:
    """Count the ends of lines, piece by piece, so that other threads can run. Removing them takes a
    third of the time of ``bytes.count``."""
    if len(text) <= COUNTED_AT_ONCE:
        return len(text) - len(text.replace(b"\n", b""))
    starts = range(0, len(text), COUNTED_AT_ONCE)
    return sum(count_lines(text[at : at + COUNTED_AT_ONCE]) for at in starts)


class StoredRecords(NamedTuple):
    """The records of a batch as stored in its row, compressed if they are large, with the salt and
    the commitment to these bytes."""

    salt: bytes
    commitment: bytes
    payload: bytes

    def __repr__(self) -> str:
        return "<StoredRecords>"


@dataclass(repr=False)
class PendingBatch:
    """Records of one layout and minute that are not in the spool yet, as NDJSON, and their tally.

    ``received`` is RFC 3339 UTC, truncated to the minute; only records that an SDK sends have
    another minute than the present one. ``granted`` are the purposes for which the records may be
    used. ``rows`` are the decoded payload, if somebody decoded it and kept them. A batch with an
    ``id`` keeps it in the spool, and is not joined with others. ``stored`` is the payload as the
    spool stores it, if that was made already.
    """

    layout: Layout
    received: str
    payload: bytes
    tally: Tally
    granted: Granted = None
    rows: list[Row] | None = field(default=None, compare=False)
    id: bytes | None = None
    stored: StoredRecords | None = field(default=None, compare=False)

    @cached_property
    def record_count(self) -> int:
        """The number of records: one per line."""
        return count_lines(self.payload)


class BatchQueue(Protocol):
    """Stores the batches of requests: a spool, or a channel to the process that has one."""

    def put(self, *batches: PendingBatch, key: RequestKey | None = None) -> Written:
        """Store the batches of one request, all of them or none.

        Raises ``DeliveryError`` E505, E506 or E425, at once or from the future, if they are not
        stored.
        """


@dataclass(frozen=True, repr=False)
class Batch:
    """Minimised records in the spool or on their way to a sink.

    ``id`` is random and is the idempotency key: a sink that has taken a batch takes it again
    without effect. ``received`` is RFC 3339 UTC, truncated to the minute.

    ``records`` are ``given``, or are decoded at first use. A batch from a spool also has its
    ``layout``, the NDJSON ``payload``, and ``rows``, which decodes the payload faster than
    ``records`` or returns the rows decoded before. ``collector.filter.stored.read`` adds ``rows``
    and ``decode`` to a batch in the spool. ``granted`` are the purposes for which the records may
    be used.
    """

    id: bytes
    received: str
    given: Sequence[Mapping[str, Scalar]] = ()
    layout: Layout | None = None
    payload: bytes = b""
    rows: Callable[[], list[Row]] | None = None
    granted: Granted = None
    decode: Callable[[bytes], Sequence[Mapping[str, Scalar]]] | None = None

    @cached_property
    def records(self) -> Sequence[Mapping[str, Scalar]]:
        """The records as mappings."""
        return self.given if self.decode is None else self.decode(self.payload)

    @property
    def record_count(self) -> int:
        """The number of records; counting decodes none."""
        return len(self.given) if self.decode is None else count_lines(self.payload)


def layout_of(batch: Batch) -> Layout:
    """Return the layout of a batch from a spool. Raises ``ValueError`` for a batch without one."""
    if batch.layout is None:
        raise ValueError("a batch of a spool must have a layout")
    return batch.layout


@dataclass(frozen=True, slots=True, repr=False)
class Subject:
    """Selects a person's records: those that were received in a window and have a value, in
    canonical form, in a field. ``start`` is the first minute of the window, ``end`` the first one
    after it.

    The window is needed because an address is shared and is assigned to others later. With
    ``schema``, only records of the schema with that name are selected; records of the schemas in
    ``besides`` never are.
    """

    field: str
    value: str
    start: str
    end: str
    schema: str | None = None
    besides: frozenset[str] = frozenset()

    def concerns(self, schema: str) -> bool:
        """Return whether records of a schema, given as a name or ``name/version``, are selected."""
        name = schema.partition("/")[0]
        return self.schema in (None, name) and name not in self.besides


RESERVED = ("schema", "received", "count")
"""Members of a record that are not fields."""
FIRST, LAST = "", "~"
"""Minutes: the first precedes all others, and the second follows all."""


@dataclass(frozen=True, slots=True, repr=False)
class Part:
    """A part of a rule: some records lose the ``fields``, or all fields, except those in ``but``.

    It concerns records that were received from the minute ``start`` on and before ``end``. If it
    has a ``field``, they must also have the ``value`` in it. An unreadable minute precedes all
    others.
    """

    fields: frozenset[str] | None = None
    but: frozenset[str] = frozenset()
    start: str = FIRST
    end: str = LAST
    field: str | None = None
    value: str = ""

    def removed(self, names: Iterable[str]) -> frozenset[str]:
        """Return the names that are fields and that the records lose."""
        found = frozenset(names) if self.fields is None else self.fields.intersection(names)
        return found.difference(self.but, RESERVED)

    def overlaps(self, first: str, last: str) -> bool:
        """Return whether it may concern records that were received in these minutes."""
        return self.start <= last and first < self.end

    def covers(self, first: str, last: str) -> bool:
        """Return whether it concerns all records that were received in these minutes."""
        return self.field is None and self.start <= first and last < self.end


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed somewhere: the numbers of records that were ``deleted``, and of records that
    were ``shortened``, because they lost some fields. A spool also counts the ``batches`` that had
    them, ``damaged`` batches and quarantined ``files`` that it deleted completely, and ``hours`` of
    the ledger's sums. Over several locations, ``sinks`` has the number of records of each sink by
    its name.

    ``is_swept`` is true if no byte of the removed data is left; otherwise the same call removes
    them later. ``unruled`` are the names of collections with records whose retention is unknown.
    For lines the name is the empty text, which stands for the sink.
    """

    deleted: int = 0
    shortened: int = 0
    batches: int = 0
    damaged: int = 0
    files: int = 0
    hours: int = 0
    is_swept: bool = True
    unruled: tuple[str, ...] = ()
    sinks: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        numbers = (self.batches, self.damaged, self.files, *self.sinks.values())
        return bool(self.records or any(numbers))

    def __add__(self, other: Removal) -> Removal:
        return Removal(
            self.deleted + other.deleted,
            self.shortened + other.shortened,
            self.batches + other.batches,
            self.damaged + other.damaged,
            self.files + other.files,
            self.hours + other.hours,
            self.is_swept and other.is_swept,
            tuple(dict.fromkeys((*self.unruled, *other.unruled))),
            {**self.sinks, **other.sinks},
        )

    @property
    def records(self) -> int:
        """The number of records that were deleted or lost fields, not counting ``sinks``."""
        return self.deleted + self.shortened

    def of_sink(self, name: str) -> Removal:
        """Return a sink's removal as its part in the removal over several locations."""
        unruled = tuple(each or name for each in self.unruled)
        return Removal(is_swept=self.is_swept, unruled=unruled, sinks={name: self.records})


def added(some: Sequence[Removal], more: Sequence[Removal]) -> list[Removal]:
    """Return, rule by rule, what was removed in two places."""
    return [a + b for a, b in zip(some, more, strict=True)]


@dataclass(frozen=True, slots=True)
class Depth:
    """An amount in the spool; ``bytes`` are bytes of records."""

    batches: int = 0
    records: int = 0
    bytes: int = 0

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Batches, records and bytes."""
        return self.batches, self.records, self.bytes

    def __add__(self, other: Depth) -> Depth:
        return Depth(
            self.batches + other.batches, self.records + other.records, self.bytes + other.bytes
        )

    def __sub__(self, other: Depth) -> Depth:
        return Depth(
            self.batches - other.batches, self.records - other.records, self.bytes - other.bytes
        )


EMPTY = Depth()
"""Nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkSums:
    """What was ``taken`` for a sink and what became of it, except what waits or is set aside."""

    taken: Depth = EMPTY
    delivered: Depth = EMPTY
    skipped: Depth = EMPTY
    expired: Depth = EMPTY
    erased: Depth = EMPTY
    damaged: Depth = EMPTY

    @property
    def gone(self) -> Depth:
        """What was taken and no longer waits nor is set aside."""
        return self.delivered + self.skipped + self.expired + self.erased + self.damaged


SUMS: tuple[str, ...] = tuple(each.name for each in fields(SinkSums))


@dataclass(frozen=True, slots=True)
class Share:
    """How many bytes of the spool may wait for a sink (``None``: all), and whether the sink then
    skips new batches; if not, senders are refused."""

    limit: int | None = None
    skips: bool = False


_BLOCKING = 0.9
"""A sink holds up a full spool if at least this share of the largest backlog waits for it. With
less, other sinks would still fill the spool."""


@dataclass(frozen=True, slots=True)
class Backlog(SinkSums):
    """What waits for one sink, and what became of the rest. ``bytes`` are bytes of records.
    ``oldest`` is the age in seconds of the oldest waiting batch, 0 if none waits. ``lag`` is how
    long the batch that the sink took last had waited.

    Up to ``limit`` bytes of the spool may wait for the sink. While its share ``is_full``, senders
    are refused; while it ``is_skipping``, it gets no new batches. ``taken`` always equals what
    waits, plus what is set ``aside``, plus the other sums.
    """

    batches: int = 0
    records: int = 0
    bytes: int = 0
    oldest: float = 0.0
    lag: float = 0.0
    limit: int = 0
    is_full: bool = False
    is_skipping: bool = False
    aside: Depth = EMPTY

    @property
    def waiting(self) -> Depth:
        """What waits."""
        return Depth(self.batches, self.records, self.bytes)

    @property
    def share(self) -> float:
        """The used part of the limit, from 0 to 1."""
        return self.bytes / self.limit if self.limit else 0.0


@dataclass(frozen=True, slots=True)
class SpoolState:
    """The state of a spool. ``bytes`` are bytes of records, out of ``limit``; ``oldest`` is the age
    of the oldest pending batch in seconds. ``backlogs`` is what waits for each sink, and ``absent``
    what waits for sinks that are not named at present.

    ``is_ready`` is true while the file can be written, ``is_full`` while waiting batches leave no
    room. ``errors`` counts failed writes and syncs, ``damaged`` the files and batches that were
    quarantined since the start.
    """

    is_ready: bool
    batches: int
    records: int
    bytes: int
    limit: int
    oldest: float
    errors: int
    damaged: int
    is_full: bool = False
    backlogs: Mapping[str, Backlog] = field(default_factory=dict)
    absent: Mapping[str, Backlog] = field(default_factory=dict)

    @property
    def is_writable(self) -> bool:
        """Whether the spool takes batches."""
        return self.is_ready and not self.is_full and not self.blocking

    @property
    def blocking(self) -> list[str]:
        """The sinks because of which senders are refused, the one with the most bytes first: their
        share is full, or they hold up a full spool, even if absent. Empty while the file cannot be
        used, because then sinks get nothing."""
        backlogs = {**self.backlogs, **self.absent}
        sizes = {sink: each.bytes for sink, each in backlogs.items() if each.bytes}
        least = _BLOCKING * max(sizes.values(), default=0)
        found = [
            sink
            for sink, size in sizes.items()
            if self.is_ready and (backlogs[sink].is_full or (self.is_full and size >= least))
        ]
        return sorted(found, key=lambda sink: -sizes[sink])


_HUNG_SECONDS = 60.0
"""A sink that takes longer for a call is late."""


@dataclass(slots=True)
class DeliveryState:
    """The state of delivery to one sink. ``last`` is the ``time.monotonic()`` of the last batch
    that the sink took, or of the start, and ``since`` of the call in progress. ``delivered`` counts
    the batches that it took since the start. ``causes`` counts its failures by cause; ``cause`` is
    the last one, and ``answer`` the code with which the server refused, such as ``HTTP 403``."""

    delivered: int = 0
    causes: Counter[Cause] = field(default_factory=Counter)
    failing: bool = False
    cause: Cause = "failed"
    answer: str = ""
    last: float = 0.0
    since: float | None = None

    @property
    def is_late(self) -> bool:
        """Whether the sink fails, or does not answer."""
        since = self.since
        return self.failing or (since is not None and monotonic() - since > _HUNG_SECONDS)

    @property
    def failures(self) -> int:
        """How often the sink failed."""
        return self.causes.total()

    def fail(self, cause: Cause, answer: str = "") -> None:
        """Count a failure."""
        self.causes[cause] += 1
        self.cause, self.answer, self.failing = cause, answer, True

    def reason(self) -> dict[str, str]:
        """Return why the sink is late: the cause, and the code of an answer if there is one."""
        if not self.failing:
            return {"cause": "slow"}
        return {"cause": self.cause} | ({"answer": self.answer} if self.answer else {})


class Closing:
    """A context manager that calls ``close`` at the end of the block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> object:
        """Release all resources."""
        raise NotImplementedError
