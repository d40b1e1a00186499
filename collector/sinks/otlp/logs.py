"""Records as OTLP log records, and the judgement of a receiver's answers by OTLP's rules.

A log record has the fields of its record as attributes under their own names. Its only other
attributes are ``log.record.uid``, and ``collector.count`` if the record stands for several events.
Both of its times are the minute in which the record was received. It has no body, severity, name,
trace or span. The scope names the schema and its version; the resource is a setting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, TypeVar

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from collector.contracts import Batch, Row, layout_of
from collector.errors import Cause, DeliveryError, cause_of_status
from collector.sinks.otlp.settings import COUNT, UID
from collector.sinks.sink import random_order

_T = TypeVar("_T")

_SERVICE = "service.name"
_LONGEST_PAUSE = 300.0
_LONGEST_HEADER = 64
_STATUSES: dict[int, Outcome] = {
    400: "refused",
    401: "denied",
    403: "denied",
    413: "too_large",
    422: "refused",
}
_WITH_PAUSE = frozenset({429, 502, 503, 504})
"""``Retry-After`` counts with these statuses, which OTLP lets clients retry."""
_CODES: dict[int, Outcome] = {3: "refused", 7: "denied", 16: "denied"}
"""INVALID_ARGUMENT, PERMISSION_DENIED and UNAUTHENTICATED of gRPC."""
_RESOURCE_EXHAUSTED = 8
_CODE_CAUSES: dict[int, Cause] = {4: "unreachable", 7: "denied", 14: "unreachable", 16: "denied"}
"""DEADLINE_EXCEEDED, PERMISSION_DENIED, UNAVAILABLE and UNAUTHENTICATED of gRPC."""
_MOST_DETAILS = 16
_MEMBER = b'":'
_MEMBER_BYTES = 18
"""The most bytes that an attribute takes beyond its text in JSON, for tags, lengths and a number.
``_MEMBER`` occurs once in each member of the JSON."""
_RECORD_BYTES = 128
"""The most bytes of a log record besides its attributes: uid, times, tag and length."""


Outcome = Literal["taken", "rejected", "refused", "too_large", "exhausted", "denied", "later"]
"""``rejected``: the receiver took the request, but not all of its records. ``refused``: it will
never take the request. ``exhausted``: the request is too large, or the receiver has no resources
for it. ``denied``: it wants other credentials. ``later``: it takes nothing now, or is not a
receiver of OTLP."""


class Verdict(NamedTuple):
    """The outcome of a request, the answer in constants and numbers, the seconds for which the
    receiver wants no requests, and why it did not take the request."""

    outcome: Outcome
    answer: str
    pause: float = 0.0
    cause: Cause = "refused"


class ExportRequest(NamedTuple):
    """The body of a request, with a number of records from some ``batches``. ``complete`` are the
    ids of the batches whose last record is in it."""

    body: bytes
    records: int
    batches: Sequence[Batch]
    complete: Sequence[bytes]


class _Draft:
    """A request to which records are added. ``size`` is the most bytes that they will take."""

    def __init__(self, service: str) -> None:
        self._message = ExportLogsServiceRequest()
        self._resource = self._message.resource_logs.add()
        attribute = self._resource.resource.attributes.add(key=_SERVICE)
        attribute.value.string_value = service
        self._schema = ""
        self._records: Any = None
        self._count = 0
        self._batches: list[Batch] = []
        self.size = 0
        self.complete: list[bytes] = []

    def add(self, batch: Batch, rows: Sequence[Row], uids: Sequence[str]) -> None:
        """Add records of a batch."""
        if not rows:
            return
        layout = layout_of(batch)
        if self._schema != layout.schema:
            scope = self._resource.scope_logs.add()
            scope.scope.name, _, scope.scope.version = layout.schema.partition("/")
            self._schema, self._records = layout.schema, scope.log_records
        names = [name for name, _ in layout.columns]
        _add_records(self._records, _nanoseconds(batch.received), names, rows, uids)
        self._count += len(rows)
        self._batches.append(batch)

    def request(self) -> ExportRequest:
        """Return the request."""
        body = self._message.SerializeToString()
        return ExportRequest(body, self._count, self._batches, self.complete)


def export_requests(
    batches: Iterable[Batch], service: str, most_bytes: int
) -> Iterator[ExportRequest]:
    """Yield the requests for batches. A request has at least one record; with several records it
    has at most ``most_bytes``. Records of a batch are in random order. ``service`` is the service
    name of the resource.

    Raises ``DeliveryError`` E507 for a batch that cannot be decoded, and E503 for one that is not
    from a spool.
    """
    draft = _Draft(service)
    for batch in batches:
        if batch.rows is None:
            raise DeliveryError("E503", "only batches of a spool can be exported")
        rows, lines = batch.rows(), batch.payload.split(b"\n")[:-1]
        uids, order = _uids(lines, batch.id), random_order(len(lines))
        lines, rows, uids = _picked(lines, order), _picked(rows, order), _picked(uids, order)
        start = 0
        for at, line in enumerate(lines):
            size = len(line) + _RECORD_BYTES + line.count(_MEMBER) * _MEMBER_BYTES
            if draft.size and draft.size + size > most_bytes:
                draft.add(batch, rows[start:at], uids[start:at])
                yield draft.request()
                draft, start = _Draft(service), at
            draft.size += size
        draft.add(batch, rows[start:], uids[start:])
        draft.complete.append(batch.id)
    if draft.size:
        yield draft.request()


def _picked(items: Sequence[_T], order: Iterable[int]) -> list[_T]:
    return [*map(items.__getitem__, order)]


def _uids(lines: Iterable[bytes], key: bytes) -> list[str]:
    """Return a unique name for each record. It is the same whenever the batch is sent, even if
    other records were removed from the batch. It is a hash keyed with the batch's id, which is
    random and never sent. So it reveals nothing, not even which records were stored together."""
    seen = Counter[bytes]()
    found = []
    for line in lines:
        salt = seen[line].to_bytes(16)
        seen[line] += 1
        found.append(blake2b(line, digest_size=16, key=key, salt=salt).hexdigest())
    return found


def _nanoseconds(received: str) -> int:
    return int(datetime.fromisoformat(received).timestamp()) * 1_000_000_000


def _add_records(
    records: Any,
    nanoseconds: int,
    names: Sequence[str],
    rows: Iterable[Row],
    uids: Iterable[str],
) -> None:
    """Add a log record for each row, whose last value is its count."""
    for row, uid in zip(rows, uids, strict=True):
        record = records.add(time_unix_nano=nanoseconds, observed_time_unix_nano=nanoseconds)
        add = record.attributes.add
        add(key=UID).value.string_value = uid
        for name, value in zip(names, row, strict=False):
            if value is None:
                continue
            if isinstance(value, str):
                add(key=name).value.string_value = value
            elif isinstance(value, bool):
                add(key=name).value.bool_value = value
            elif isinstance(value, int):
                add(key=name).value.int_value = value
            else:
                add(key=name).value.double_value = value
        if (count := row[-1]) != 1:
            add(key=COUNT).value.int_value = count


def rejected_records(body: bytes) -> int | None:
    """Return how many records the receiver says it has rejected; ``None`` if this is not an answer
    of OTLP. Other parts of the answer are ignored, because they may quote records."""
    with suppress(DecodeError):
        answer = ExportLogsServiceResponse.FromString(body)
        return int(answer.partial_success.rejected_log_records)
    return None


def retry_seconds(details: bytes) -> float | None:
    """Return the seconds of the RetryInfo in the details of a gRPC status; ``None`` without one."""
    from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped] # noqa: PLC0415
    from google.rpc.status_pb2 import Status  # type: ignore[import-untyped] # noqa: PLC0415

    with suppress(DecodeError):
        for detail in Status.FromString(details).details[:_MOST_DETAILS]:
            if detail.Is(RetryInfo.DESCRIPTOR):
                delay = RetryInfo.FromString(detail.value).retry_delay
                return float(delay.seconds + delay.nanos / 1e9)
    return None


def of_status(status: int, retry_after: str) -> Verdict:
    """Judge an HTTP status that is not a success. Redirects are not followed: records go only where
    the configuration says."""
    answer = f"HTTP {status}"
    pause = _seconds_after(retry_after) if status in _WITH_PAUSE else 0.0
    return Verdict(_STATUSES.get(status, "later"), answer, pause, cause_of_status(status))


def _seconds_after(header: str) -> float:
    """Return the seconds of a ``Retry-After`` (a number or a date), at most 300."""
    if header.isascii() and header.isdigit():
        return min(float(header[:9]), _LONGEST_PAUSE)
    left = 0.0
    if header and len(header) <= _LONGEST_HEADER:
        try:
            moment = parsedate_to_datetime(header)
            left = (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, OverflowError):
            pass
    return max(0.0, min(left, _LONGEST_PAUSE))


def of_code(code: int, retry: float | None) -> Verdict:
    """Judge a status code of gRPC that is not a success. ``retry`` are the seconds of its
    RetryInfo. Without RetryInfo, RESOURCE_EXHAUSTED may mean that the message is too large."""
    answer = f"gRPC {code}"
    if code == _RESOURCE_EXHAUSTED and retry is None:
        return Verdict("exhausted", answer, cause="busy")
    pause = max(0.0, min(retry or 0.0, _LONGEST_PAUSE))
    cause = "busy" if code == _RESOURCE_EXHAUSTED else _CODE_CAUSES.get(code, "refused")
    return Verdict(_CODES.get(code, "later"), answer, pause, cause)
