"""Types that the packages exchange: requests, tallies, batches, and the sink protocol.

A payload has seven shapes on its way:

1. ``Request``: a body that a receiver passes to the pipeline.
2. ``filter.Admission``: the records and counts of one filter call.
3. ``PendingBatch``: records of one minute as NDJSON, with their tally, up to the commit.
4. ``spool.write_queue.PendingWrite``: the batches of one request, with its key and its future.
5. A row of the spool's table ``batches``.
6. ``Batch``: records that the spool reads back and a sink takes; decoded on access.
7. ``Row``: a record's values for a table of the store.

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
"""The outcome of a message: it was taken, it had been taken before, or erasure or retention had
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
the most records that they become. One request is one commit, so a batch has no more records."""
MOST_BYTES = 8 << 20
"""The most bytes of a request: as sent, after decompression, and of its records."""

Granted = tuple[str, ...] | None
"""The purposes for which records may be used, in the schema's order; ``None`` for all."""

Scalar = str | int | float | bool
Record = dict[str, Scalar]
"""A minimised record: ``schema`` first, then allowlisted fields in schema order."""
Row = tuple[Scalar | None, ...]
"""A record's values in the order of a layout's columns, ``None`` where absent, and its count."""


@dataclass(slots=True)
class Tally:
    """The counts of one or more filter calls. Tallies add up with ``+``.

    ``received == admitted + sum(rejected.values())`` always holds. ``dropped`` counts fields by
    reason, ``content`` counts events by content category; bytes are of payloads and records. An
    event that is ``not_selected``, because the schema does not ask for it, has no other counts.
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
    """A body that a receiver passes on, decompressed but not parsed.

    ``form`` is its format: a JSON document, NDJSON, records (NDJSON that another filter wrote), or
    one of OTLP's three signals, as protobuf or as JSON. ``peer`` is the sender's address, or the
    one that trusted hops name; ``user_agent`` is the sender's header. Both are unchecked text.
    ``key`` is the idempotency key of the request: 16 random bytes.

    ``refuses`` is true if the sender signals that every optional purpose is refused; ``refused``
    are the unchecked names of purposes that a visitor's cookie refuses. For records, ``granted``
    are the purposes with which the sender's filter ran. ``schema`` is the name of the schema that
    the sender asks for; ``None`` is the default schema, or for records the schema that they name.
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
    """Return the minute for a number of minutes since 1970. Raises ``ValueError``,
    ``OverflowError`` or ``OSError`` for a number out of range."""
    return to_minute(datetime.fromtimestamp(60 * number, UTC))


@lru_cache(_CACHED_MINUTES)
def minute_number(text: str) -> int:
    """Return the number of minutes from 1970 to a minute."""
    return int(datetime.fromisoformat(text).timestamp()) // 60


class RequestKey(NamedTuple):
    """An idempotency key for the spool: a hash of the key, and for records an HMAC of the body
    under the key; ``None`` where only the key counts. ``collector.spool.idempotency`` makes
    these."""

    key: bytes
    body: bytes | None = None


class Earlier(NamedTuple):
    """What an earlier request stored under a key: its counts, without dropped fields, content and
    bytes. ``is_same`` tells whether its body was the same."""

    counts: Tally
    is_same: bool


Written = Future[Earlier | None]
"""Resolves to ``None`` when a write is on disk. If an earlier request was stored under the key,
nothing is stored, and the result is the earlier request."""


class KeyUsed(InputError):
    """E435: an earlier request has stored something under the idempotency key, so nothing of this
    request is stored or counted."""

    def __init__(self, earlier: Earlier) -> None:
        super().__init__("E435", "an earlier request was stored under this idempotency key")
        self.earlier = earlier


class OtherSchema(InputError):
    """E429: a record has another schema than its request."""

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
    """E413: no schema has the name in the request."""

    def __init__(self) -> None:
        super().__init__("E413", "the collector has no such schema")


Accept = Callable[[Request, Callable[[Tally | BaseException], object]], None]
"""Filters a request, and calls the function once, in the event loop: with the tally when all
records are on disk; with a ``DeliveryError`` if none of them could be stored, and the sender may
retry; or with an ``InputError``: E429 for records of another schema, E416 for a request that
becomes too large, E413 for an unknown schema, and ``KeyUsed`` E435."""

AcceptNow = Callable[[Request], Tally]
"""Does the same for a thread and blocks it: returns the tally, or raises the error."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The form of a schema's records. A spool and a sink know nothing else of the schema.

    ``schema`` is ``name/version``, ``digest`` is the schema's, ``table`` its name; ``columns`` are
    field names with their SQLite types, in schema order.
    """

    schema: str
    digest: str
    table: str
    columns: tuple[tuple[str, str], ...]


COUNTED_AT_ONCE = 1 << 16
"""Lines are counted in pieces of this many bytes; other threads run between two pieces."""


def count_lines(text: bytes) -> int:
    """Count the ends of lines, piece by piece, so that other threads run. Removing them takes a
    third of the time of ``bytes.count``."""
    if len(text) <= COUNTED_AT_ONCE:
        return len(text) - len(text.replace(b"\n", b""))
    starts = range(0, len(text), COUNTED_AT_ONCE)
    return sum(count_lines(text[at : at + COUNTED_AT_ONCE]) for at in starts)


class StoredRecords(NamedTuple):
    """The records of a batch as in its row of the spool, compressed if they are many, with the
    row's salt and commitment."""

    salt: bytes
    commitment: bytes
    payload: bytes

    def __repr__(self) -> str:
        return "<StoredRecords>"


@dataclass(repr=False)
class PendingBatch:
    """Records of one layout and minute that are not in the spool yet, as NDJSON, and their tally.

    ``received`` is RFC 3339 UTC, truncated to the minute; only records from an SDK have another
    minute than the present one. ``granted`` are the purposes for which the records may be used.
    ``rows`` are the decoded payload, if it was kept. A batch with an ``id`` keeps it in the spool,
    and is not joined with others. ``stored`` is the payload in the spool's form, if it was made
    already.
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
        """The number of records: one line each."""
        return count_lines(self.payload)


class BatchQueue(Protocol):
    """Stores the batches of requests: a spool, or a channel to the process that has the spool."""

    def put(self, *batches: PendingBatch, key: RequestKey | None = None) -> Written:
        """Store the batches of one request, all of them or none.

        Raises ``DeliveryError`` E505, E506 or E425, at once or from the future, if they are not
        stored.
        """


@dataclass(frozen=True, repr=False)
class Batch:
    """Minimised records in the spool, or in delivery to a sink.

    ``id`` is random and is the idempotency key: a sink that has taken a batch takes it again
    without effect. ``received`` is RFC 3339 UTC, truncated to the minute.

    ``records`` are ``given``, or are decoded on access. A batch from a spool also has its
    ``layout``, the NDJSON ``payload``, and ``rows``, which decodes the payload faster than
    ``records`` or returns rows decoded earlier; ``collector.filter.stored.read`` adds ``rows`` and
    ``decode`` to a batch in the spool. ``granted`` are the purposes for which the records may be
    used.
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
        """The number of records, counted without decoding them."""
        return len(self.given) if self.decode is None else count_lines(self.payload)


def layout_of(batch: Batch) -> Layout:
    """Return the layout of a batch from a spool. Raises ``ValueError`` for a batch without one."""
    if batch.layout is None:
        raise ValueError("a batch of a spool must have a layout")
    return batch.layout


@dataclass(frozen=True, slots=True, repr=False)
class Subject:
    """Selects a person's records: those with a value in a field, in canonical form, that were
    received in a window. ``start`` is its first minute, ``end`` the first one after it.

    The window is needed because an address is shared, and is assigned to others later. ``schema``
    limits the selection to records of that schema; ``besides`` lists schemas that are left out.
    """

    field: str
    value: str
    start: str
    end: str
    schema: str | None = None
    besides: frozenset[str] = frozenset()

    def concerns(self, schema: str) -> bool:
        """Return whether the subject selects records of a schema, by its name or by
        ``name/version``."""
        name = schema.partition("/")[0]
        return self.schema in (None, name) and name not in self.besides


RESERVED = ("schema", "received", "count")
"""Members of a record that are not fields."""
FIRST, LAST = "", "~"
"""Minutes before and after all others."""


@dataclass(frozen=True, slots=True, repr=False)
class Part:
    """A part of a rule: some records lose ``fields``, or all fields, except those in ``but``.

    It concerns records that were received from the minute ``start`` on and before ``end``. With a
    ``field``, it concerns only those that have the ``value`` there. A minute that cannot be read
    precedes all others.
    """

    fields: frozenset[str] | None = None
    but: frozenset[str] = frozenset()
    start: str = FIRST
    end: str = LAST
    field: str | None = None
    value: str = ""

    def removed(self, names: Iterable[str]) -> frozenset[str]:
        """Return the names of fields that are removed."""
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
    """What a rule removed: the number of records that were ``deleted``, and of those that lost some
    fields (``shortened``). For a spool also the ``batches`` that had them, the ``damaged`` batches
    and quarantined ``files`` that were deleted whole, and ``hours`` of the ledger's sums. Over
    several locations, ``sinks`` has the number of records by the sink's name.

    ``is_swept`` is true if no byte of the removed data is left; if false, repeat the call later.
    ``unruled`` are the names of collections whose retention is unknown; for lines it is the empty
    text, which stands for the sink.
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
        """The number of records that were deleted or lost fields, without those of ``sinks``."""
        return self.deleted + self.shortened

    def of_sink(self, name: str) -> Removal:
        """Return what a sink removed, as a part of the removal over several locations."""
        unruled = tuple(each or name for each in self.unruled)
        return Removal(is_swept=self.is_swept, unruled=unruled, sinks={name: self.records})


def added(some: Sequence[Removal], more: Sequence[Removal]) -> list[Removal]:
    """Return, rule by rule, what was removed in two places."""
    return [a + b for a, b in zip(some, more, strict=True)]


@dataclass(frozen=True, slots=True)
class Depth:
    """An amount of data in the spool; ``bytes`` are of records."""

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
    """What was ``taken`` for a sink, and its outcome, except for what waits or is set aside."""

    taken: Depth = EMPTY
    delivered: Depth = EMPTY
    skipped: Depth = EMPTY
    expired: Depth = EMPTY
    erased: Depth = EMPTY
    damaged: Depth = EMPTY

    @property
    def gone(self) -> Depth:
        """What was taken and neither waits nor is set aside."""
        return self.delivered + self.skipped + self.expired + self.erased + self.damaged


SUMS: tuple[str, ...] = tuple(each.name for each in fields(SinkSums))


@dataclass(frozen=True, slots=True)
class Share:
    """How many bytes of the spool may wait for a sink (``None`` for all of it), and what happens at
    the limit: the sink skips new batches, or senders are refused."""

    limit: int | None = None
    skips: bool = False


_BLOCKING = 0.9
"""A sink blocks a full spool if at least this share of the largest backlog waits for it. With less,
the other sinks alone would still fill the spool."""


@dataclass(frozen=True, slots=True)
class Backlog(SinkSums):
    """What waits for one sink, and the outcome of the rest. ``bytes`` are of records; ``oldest`` is
    the age in seconds of the oldest waiting batch, 0 if none waits; ``lag`` is how long the batch
    that the sink took last had waited.

    ``limit`` bytes of the spool may wait for the sink. While its share ``is_full``, senders are
    refused; while it ``is_skipping``, it gets no new batches. ``taken`` is always exactly the sum
    of what waits, what is set ``aside``, and all the other amounts.
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
        """How much of its limit is used, from 0 to 1."""
        return self.bytes / self.limit if self.limit else 0.0


@dataclass(frozen=True, slots=True)
class SpoolState:
    """The state of a spool. ``bytes`` are of records, out of ``limit``; ``oldest`` is the age of
    the oldest pending batch in seconds; ``backlogs`` is what waits for each sink, and ``absent``
    what waits for sinks that the configuration no longer names.

    ``is_ready`` is true while the file can be written; ``is_full`` while waiting batches leave no
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
        """The sinks because of which senders are refused: those whose share is full, and those that
        block a full spool, absent ones too; the one with the most bytes first. Empty while the file
        cannot be used, because sinks then get nothing."""
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
"""A sink whose call takes longer is late."""


@dataclass(slots=True)
class DeliveryState:
    """The state of delivery to one sink. ``last`` is the ``time.monotonic()`` when it took a batch
    last, or of the start; ``since`` is when the current call began. ``delivered`` counts the
    batches that it took since the start. ``causes`` counts its failures; ``cause`` is the last
    one's, and ``answer`` the code with which the server refused it, such as ``HTTP 403``."""

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
        """How often it failed."""
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
