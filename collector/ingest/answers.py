"""What is sent back over HTTP: counts, or why not. Made of constants and counts.

OTLP's paths are answered in OTLP's words, all others in ours; an error in OTLP/JSON is in both, as
members that a client does not know are passed over.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from collector.contracts import REJECTIONS, Signal, Tally
from collector.ingest.otlp_answers import export_json, export_protobuf, outcome, status_protobuf
from collector.ingest.refusals import TOO_LARGE, UNREADABLE, Headers, Refusal

__all__ = ["EVENTS", "GPC", "Answer", "Dialect", "counted", "refused"]

_JSON: Headers = ((b"content-type", b"application/json"),)
_PROTOBUF: Headers = ((b"content-type", b"application/x-protobuf"),)


class Dialect(NamedTuple):
    """The words of an answer: those of an OTLP signal, as protobuf or as JSON, or our own."""

    signal: Signal | None = None
    protobuf: bool = False


EVENTS = Dialect()
"""Our own words, in JSON."""


class Answer(NamedTuple):
    """A status, headers and a body; ``close`` says that it is the last on its connection."""

    status: int
    headers: Headers = ()
    body: bytes = b""
    close: bool = False


GPC = Answer(200, _JSON, b'{"gpc":true,"lastUpdate":"2026-11-26"}')
"""That Global Privacy Control is respected, and since when: https://www.w3.org/TR/gpc/."""


def counted(dialect: Dialect, tally: Tally, *, lines: bool = False) -> Answer:
    """The answer to a request that was filtered and kept.

    A document that could not be decoded, or is too large as a whole, is an error of its sender's.
    Of ``lines`` the good ones were kept, so the counts say what happened.
    """
    fate = "taken" if lines else outcome(tally)
    if fate != "taken":
        return refused(UNREADABLE if fate == "malformed" else TOO_LARGE, dialect)
    if dialect.signal is None:
        return Answer(200, _JSON, _counts(tally))
    if dialect.protobuf:
        return Answer(200, _PROTOBUF, export_protobuf(tally))
    return Answer(200, _JSON, export_json(dialect.signal, tally))


@cache
def refused(refusal: Refusal, dialect: Dialect = EVENTS) -> Answer:
    """The answer that refuses a request."""
    kind, body = _JSON, f'{{"error":{_error(refusal)}}}'.encode()
    if dialect.protobuf:
        said = f"{refusal.message} [{refusal.code}]"
        kind, body = _PROTOBUF, status_protobuf(refusal.rpc, said)
    elif dialect.signal is not None:
        status = f'"code":{refusal.rpc},"message":"{refusal.message}"'
        body = f'{{{status},"error":{_error(refusal)}}}'.encode()
    return Answer(refusal.status, kind + refusal.headers, body, refusal.close)


def _error(refusal: Refusal) -> str:
    return f'{{"code":"{refusal.code}","message":"{refusal.message}"}}'


def _counts(tally: Tally) -> bytes:
    rejected = ",".join(
        f'"{reason}":{tally.rejected[reason]}' for reason in REJECTIONS if tally.rejected[reason]
    )
    return (
        f'{{"received":{tally.received},"admitted":{tally.admitted},"rejected":{{{rejected}}}}}'
    ).encode()
