"""How requests are refused: one table of codes, statuses and sentences.

A refusal is made of constants. What was sent is never part of it.
"""

from __future__ import annotations

from typing import NamedTuple

from collector.errors import InputError

__all__ = [
    "BUSY",
    "CROWDED",
    "DAMAGED",
    "ENCODING",
    "FAILED",
    "FOREIGN_HOST",
    "FOREIGN_ORIGIN",
    "HEADERS_TOO_LARGE",
    "INFLATED",
    "KEY",
    "LATE",
    "MALFORMED",
    "METHOD",
    "METHODS",
    "NOT_KEPT",
    "NOWHERE",
    "OTHER_VERSION",
    "REFUSALS",
    "RETRY",
    "STOPPING",
    "TOO_LARGE",
    "TYPE",
    "UNAUTHENTICATED",
    "UNREADABLE",
    "Headers",
    "Refusal",
    "Refused",
]

Headers = tuple[tuple[bytes, bytes], ...]
RETRY: Headers = ((b"retry-after", b"5"),)
_BEARER: Headers = ((b"www-authenticate", b"Bearer"),)
METHODS: Headers = ((b"allow", b"OPTIONS, POST"),)
_ENCODINGS: Headers = ((b"accept-encoding", b"gzip, zstd, deflate"),)


class Refusal(NamedTuple):
    """One way to refuse a request.

    ``rpc`` is the number of the ``google.rpc.Code`` that says the same; ``headers`` belong to the
    answer; ``close`` says that the connection cannot be used any further.
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
    "the request is no complete, unambiguous HTTP/1.1 request: check length, chunks and headers",
    close=True,
)
UNAUTHENTICATED = Refusal(
    "E411", 401, 16, "authentication is missing or not accepted: send a valid bearer token", _BEARER
)
FOREIGN_ORIGIN = Refusal(
    "E412", 403, 7, "pages of this origin may not send: add it to the configured origins"
)
NOWHERE = Refusal(
    "E413",
    404,
    5,
    "there is nothing at this path: use /v1/events, /v1/records, /v1/logs, /v1/traces or"
    " /v1/metrics",
)
METHOD = Refusal("E414", 405, 12, "this path takes POST only", METHODS)
LATE = Refusal("E415", 408, 4, "the request took too long to arrive: send it again", close=True)
TOO_LARGE = Refusal("E416", 413, 3, "the body is too large: send it in smaller parts")
INFLATED = Refusal(
    "E417", 413, 3, "the body grows too much when it is decompressed: send it in smaller parts"
)
TYPE = Refusal(
    "E418",
    415,
    3,
    "the content type is not taken here: use application/json in UTF-8, for events also"
    " application/x-ndjson, for records only that, for OTLP also application/x-protobuf",
)
ENCODING = Refusal(
    "E419",
    415,
    3,
    "the content encoding is not taken: use gzip, zstd or deflate, and only one of them",
    _ENCODINGS,
)
DAMAGED = Refusal(
    "E420", 400, 3, "the compressed body is damaged, cut short, or more than one member or frame"
)
FOREIGN_HOST = Refusal("E421", 421, 3, "requests for this host are not answered here")
UNREADABLE = Refusal("E422", 400, 3, "the body cannot be decoded as what its content type says")
HEADERS_TOO_LARGE = Refusal("E423", 431, 3, "the headers are too large", close=True)
CROWDED = Refusal("E424", 503, 14, "too many connections: try again later", RETRY, close=True)
BUSY = Refusal("E425", 503, 14, "too many requests at once: try again later", RETRY)
NOT_KEPT = Refusal(
    "E426",
    503,
    14,
    "the events could not be kept, none of them was: try again later",
    RETRY,
)
STOPPING = Refusal("E427", 503, 14, "the collector is stopping: try again later", RETRY, close=True)
FAILED = Refusal("E428", 500, 13, "the collector failed on this request; nothing of it is shown")
OTHER_VERSION = Refusal(
    "E429",
    409,
    9,
    "the records are of another version of the schema, none of them was kept: send them to a"
    " collector that has it",
)
KEY = Refusal("E430", 400, 3, "the header Idempotency-Key must be there once, with 32 hex digits")

REFUSALS = (
    MALFORMED,
    UNAUTHENTICATED,
    FOREIGN_ORIGIN,
    NOWHERE,
    METHOD,
    LATE,
    TOO_LARGE,
    INFLATED,
    TYPE,
    ENCODING,
    DAMAGED,
    FOREIGN_HOST,
    UNREADABLE,
    HEADERS_TOO_LARGE,
    CROWDED,
    BUSY,
    NOT_KEPT,
    STOPPING,
    FAILED,
    OTHER_VERSION,
    KEY,
)
"""All of them, by code."""


class Refused(InputError):
    """E410 to E430: a request is refused, and ``refusal`` says how."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code, refusal.message)
        self.refusal = refusal

    def __reduce__(self) -> tuple[type[Refused], tuple[Refusal]]:
        return (Refused, (self.refusal,))
