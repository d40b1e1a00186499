"""What the rooms of the house hand to one another: tallies, batches, and the sink protocol.

The reason codes are closed lists; every count in a tally, a metric or a report is keyed by one of
them, by a field name of the schema, or by a content category. Nothing here can hold a value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Literal, Protocol, Self, get_args

__all__ = [
    "CATEGORIES",
    "DROPS",
    "REJECTIONS",
    "SIGNALS",
    "Accept",
    "AcceptNow",
    "Batch",
    "Category",
    "Closing",
    "Drop",
    "Entry",
    "Form",
    "Granted",
    "Layout",
    "Record",
    "Rejection",
    "Request",
    "Row",
    "Scalar",
    "Signal",
    "Sink",
    "Spooled",
    "Subject",
    "Tally",
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
]
Drop = Literal["wrong_type", "invalid_value", "purpose_refused", "expired"]
Category = Literal["audio", "video", "chat", "transcript", "file"]

Signal = Literal["logs", "traces", "metrics"]
Form = Literal["json", "ndjson", "records", "logs", "traces", "metrics"]

REJECTIONS: tuple[Rejection, ...] = get_args(Rejection)
DROPS: tuple[Drop, ...] = get_args(Drop)
CATEGORIES: tuple[Category, ...] = get_args(Category)
SIGNALS: tuple[Signal, ...] = get_args(Signal)

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
    reason, ``content`` counts events by content category; bytes are of payloads and records.
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
        self.rejected.update(other.rejected)
        for name, reasons in other.dropped.items():
            self.dropped.setdefault(name, Counter()).update(reasons)
        self.content.update(other.content)
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        return self

    def as_dict(self) -> dict[str, object]:
        """The tally in its JSON form: zero entries left out except the first three keys."""
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


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """A body as a receiver hands it on: decompressed, not looked into.

    ``form`` says what it is: a JSON document, NDJSON, records (NDJSON that a filter of ours has
    made), or one of OTLP's three signals, as protobuf or as JSON. ``peer`` is the sender's address,
    or the one that trusted hops name; ``user_agent`` is what the sender calls itself. Both are
    unchecked text. ``key`` are 16 random bytes that a sender of records chose for this body, by
    which it is known when it is sent again.

    ``refuses`` says that the sender signals that every optional purpose is refused; ``granted``
    are the purposes that the filter of a sender of records was left with.
    """

    form: Form
    body: bytes
    protobuf: bool = False
    peer: str | None = None
    user_agent: str | None = None
    key: bytes | None = None
    refuses: bool = False
    granted: Granted = None


def to_minute(moment: datetime) -> str:
    """A moment (UTC) in the form that ``received`` has everywhere: RFC 3339, truncated to the
    minute."""
    return moment.strftime("%Y-%m-%dT%H:%M:00Z")


Accept = Callable[[Request], Awaitable[Tally]]
"""Filters a request and returns its tally once everything it admits is on disk. Raises
``DeliveryError`` if it could not be kept: then nothing of it was, and the sender may try again.
Raises ``InputError`` E429 for records of another version of the schema."""

AcceptNow = Callable[[Request], Tally]
"""The same for a thread, which waits."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The form of a schema's records, which is all that a spool and a sink know of it.

    ``schema`` is ``name/version``, ``digest`` is the schema's, ``table`` its name; ``columns`` are
    field names with their SQLite types, in schema order.
    """

    schema: str
    digest: str
    table: str
    columns: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, repr=False)
class Entry:
    """What one request gives to the spool for one minute: records as NDJSON, and the tally.

    ``received`` is RFC 3339 UTC, truncated to the minute. Only records of an SDK were received in
    other minutes than the present one. ``granted`` are the purposes that the records may be used
    for, if somebody has refused some.
    """

    layout: Layout
    received: str
    payload: bytes
    tally: Tally
    granted: Granted = None


@dataclass(frozen=True, slots=True, repr=False)
class Spooled:
    """A batch as it lies in the spool, unread: ``payload`` is its records as NDJSON, which may be
    used for the ``granted`` purposes."""

    id: bytes
    received: str
    layout: Layout
    payload: bytes
    granted: Granted = None


@dataclass(frozen=True, slots=True, repr=False)
class Batch:
    """Minimised records on their way to a sink.

    ``id`` is random and is the idempotency key: a sink that has taken it once takes it again
    without effect. ``received`` is RFC 3339 UTC, truncated to the minute.

    A batch out of a spool also has its ``layout``, the NDJSON ``payload``, and ``rows``, which
    reads it: quicker ways to the same records, for sinks that have a use for them. ``granted`` are
    the purposes that its records may be used for.
    """

    id: bytes
    received: str
    records: Sequence[Mapping[str, Scalar]]
    layout: Layout | None = None
    payload: bytes | None = None
    rows: Callable[[], list[Row]] | None = None
    granted: Granted = None


@dataclass(frozen=True, slots=True, repr=False)
class Subject:
    """Whose records are asked for: those with a value in a field, in canonical form, that were
    received in a window. ``start`` is its first minute, ``end`` the first one after it.

    A window, because an address is shared and changes hands.
    """

    field: str
    value: str
    start: str
    end: str


class Closing:
    """What a ``with`` block closes at its end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> object:
        """Let go of what is held."""
        raise NotImplementedError


class Sink(Protocol):
    """Where records go."""

    def deliver(self, *batches: Batch) -> None:
        """Keep the batches durably, each exactly once by its id, or raise ``DeliveryError``: then
        none of them is kept. Without any, it is time to tidy up."""
