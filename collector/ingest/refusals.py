"""Refusals of requests: one table of codes, statuses and messages.

A refusal is made of constants, and never contains a part of a request.
"""

from __future__ import annotations

from typing import NamedTuple

from collector.contracts import (
    MOST_BYTES,
    MOST_EVENTS,
    OtherSchema,
    TooManyBytes,
    TooManyEvents,
    UnknownSchema,
)
from collector.errors import DeliveryError, InputError, Overloaded, SpoolFull
from collector.ingest.limits import IngestLimits
from collector.units import size_text

Headers = tuple[tuple[bytes, bytes], ...]
RETRY_SECONDS = 5
RETRY: Headers = ((b"retry-after", b"%d" % RETRY_SECONDS),)
_BEARER: Headers = ((b"www-authenticate", b"Bearer"),)
ALLOW: Headers = ((b"allow", b"OPTIONS, POST"),)
_DEFAULTS = IngestLimits()
_MOST = size_text(MOST_BYTES)
_ENCODINGS: Headers = ((b"accept-encoding", b"gzip, zstd, deflate"),)


class Refusal(NamedTuple):
    """One way to refuse a request.

    ``rpc`` is the number of the matching ``google.rpc.Code``; ``headers`` belong to the
    response; ``close`` closes the connection.
    """

    code: str
    status: int
    rpc: int
    message: str
    headers: Headers = ()
    close: bool = False


MALFORMED = Refusal(
    "E410",
    400,
    3,
    "this is not a complete, unambiguous HTTP/1.1 request: check length, chunks and headers",
    close=True,
)
UNAUTHENTICATED = Refusal(
    "E411", 401, 16, "authentication is missing or not accepted: send a valid bearer token", _BEARER
)
FOREIGN_ORIGIN = Refusal(
    "E412", 403, 7, "pages of this origin may not send: add it to the configured origins"
)
NOT_FOUND = Refusal(
    "E413",
    404,
    5,
    "there is nothing at this path: use /v1/events, /v1/records, /v1/logs, /v1/traces or"
    " /v1/metrics",
)
METHOD_NOT_ALLOWED = Refusal(
    "E413",
    405,
    12,
    "this path does not take the method: the header Allow lists those that it takes",
    ALLOW,
)
REQUEST_TIMEOUT = Refusal(
    "E416", 408, 4, "the request took too long to arrive: send it again", close=True
)
TOO_LARGE = Refusal(
    "E416",
    413,
    8,
    f"the body is larger than limits.wire allows, by default {_MOST}: send it in smaller parts",
)
BODY_TOO_LARGE = Refusal(
    "E416",
    413,
    8,
    "the body, once decompressed, is larger than limits.body allows, by default"
    f" {_MOST}: send it in smaller parts",
)
INFLATED = Refusal(
    "E416",
    413,
    8,
    "the body grows by more than limits.ratio allows when it is decompressed, by default"
    f" {_DEFAULTS.ratio} times: send it in smaller parts",
)
UNSUPPORTED_MEDIA_TYPE = Refusal(
    "E410",
    415,
    3,
    "the content type is not taken here: use application/json in UTF-8, for events also"
    " application/x-ndjson, for records only that, for OTLP also application/x-protobuf",
)
UNSUPPORTED_ENCODING = Refusal(
    "E410",
    415,
    3,
    "the content encoding is not taken: use gzip, zstd or deflate, and only one of them",
    _ENCODINGS,
)
DAMAGED = Refusal(
    "E422",
    400,
    3,
    "the compressed body is damaged, cut short, more than one member or frame, or has a zstd window"
    " of more than 8 MiB",
)
FOREIGN_HOST = Refusal(
    "E412",
    421,
    3,
    "requests for this host are not answered here: use a configured name, or add this one to"
    " http.hosts",
)
UNREADABLE = Refusal(
    "E422",
    400,
    3,
    "the body is not what its content type says: send a whole, valid document of that type",
)
HEADERS_TOO_LARGE = Refusal(
    "E416",
    431,
    8,
    "the headers are larger than limits.header allows, by default"
    f" {size_text(_DEFAULTS.header_bytes)}: send fewer or shorter ones",
    close=True,
)
TOO_MANY_CONNECTIONS = Refusal(
    "E425", 503, 14, "too many connections: try again later", RETRY, close=True
)
BUSY = Refusal("E425", 503, 14, "too many requests at once: try again later", RETRY)
NOT_STORED = Refusal(
    "E506",
    503,
    14,
    "the events could not be stored, and none was kept: try again later",
    RETRY,
)
STOPPING = Refusal("E425", 503, 14, "the collector is stopping: try again later", RETRY, close=True)
INTERNAL_ERROR = Refusal(
    "E428", 500, 13, "the collector failed on this request; nothing of it is shown"
)
SCHEMA_MISMATCH = Refusal(
    "E429",
    409,
    9,
    "the records belong to another schema, and none was kept: send them to a collector that has it",
)
INVALID_KEY = Refusal(
    "E410", 400, 3, "the header Idempotency-Key must be there at most once, with 32 hex digits"
)
TOO_MANY_EVENTS = Refusal(
    "E416",
    413,
    8,
    "the body holds more events than limits.events allows, by default"
    f" {MOST_EVENTS}; none of them was kept: send it in smaller parts",
)
TOO_MANY_BYTES = Refusal(
    "E416",
    413,
    8,
    f"the records of the body would take more than {_MOST}; none of them was kept: send it in"
    " smaller parts",
)
UNKNOWN_SCHEMA = Refusal(
    "E413",
    404,
    5,
    "no configured schema has the name in the request, or the request has several names: name one"
    " of the configured schemas, or none for the default",
)
KEY_REUSED = Refusal(
    "E435",
    409,
    6,
    "other records were stored under this Idempotency-Key, and nothing of these was: the counts"
    " are those of the others; use a new key for a new body",
)
SPOOL_FULL = Refusal(
    "E505",
    503,
    14,
    "there is no room for the events because a sink does not take what waits for it; none was"
    " kept: try again later",
    RETRY,
)

REFUSALS: tuple[Refusal, ...] = tuple(
    sorted(each for each in tuple(globals().values()) if isinstance(each, Refusal))
)
"""All refusals, by code and status."""

_OF_ERRORS: dict[type[BaseException], Refusal] = {
    OtherSchema: SCHEMA_MISMATCH,
    Overloaded: BUSY,
    SpoolFull: SPOOL_FULL,
    TooManyBytes: TOO_MANY_BYTES,
    TooManyEvents: TOO_MANY_EVENTS,
    UnknownSchema: UNKNOWN_SCHEMA,
}


class RequestRefused(InputError):
    """A request is refused with ``refusal``."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code, refusal.message)
        self.refusal = refusal

    def __reduce__(self) -> tuple[type[RequestRefused], tuple[Refusal]]:
        return (RequestRefused, (self.refusal,))


def refusal_of(error: BaseException) -> Refusal:
    """Return the refusal for an error. An unexpected error is reported as the server's."""
    if isinstance(error, RequestRefused):
        return error.refusal
    other = NOT_STORED if isinstance(error, DeliveryError) else INTERNAL_ERROR
    return _OF_ERRORS.get(type(error), other)
