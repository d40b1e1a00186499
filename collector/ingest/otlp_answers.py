"""What OTLP clients are answered: Export responses and status messages, as protobuf and as JSON.

Every answer is made of constants and counts, so it is written by hand: a message of two small
fields needs no library. The three Export responses differ only in a JSON name; in protobuf they are
alike: field 1 is ``partial_success``, whose field 1 counts what was rejected, and 2 says why.
Of full success nothing is said, as OTLP demands; fields that were dropped are no rejections.
"""

from __future__ import annotations

from typing import Literal

from collector.contracts import REJECTIONS, Signal, Tally

__all__ = [
    "Outcome",
    "export_json",
    "export_protobuf",
    "outcome",
    "retry_protobuf",
    "status_protobuf",
]

Outcome = Literal["taken", "malformed", "too_large"]

_REJECTED: dict[Signal, str] = {
    "logs": "rejectedLogRecords",
    "traces": "rejectedSpans",
    "metrics": "rejectedDataPoints",
}
_LENGTH_DELIMITED = 2
_VARINT = 0


def outcome(tally: Tally) -> Outcome:
    """What became of a body: ``malformed`` if it could not be decoded, ``too_large`` if all of it
    was refused for its size; else it was ``taken``, rejected items and all."""
    if tally.received == tally.rejected["malformed"] == 1:
        return "malformed"
    if tally.received and tally.received == tally.rejected["too_large"]:
        return "too_large"
    return "taken"


def export_protobuf(tally: Tally) -> bytes:
    """An Export response of any of the three services; empty on full success."""
    if not (rejected := tally.rejected.total()):
        return b""
    partial = _number(1, rejected) + _text(2, _why(tally))
    return _bytes(1, partial)


def export_json(signal: Signal, tally: Tally) -> bytes:
    """The same as OTLP/JSON, in which 64-bit integers are strings."""
    if not (rejected := tally.rejected.total()):
        return b"{}"
    partial = f'{{"{_REJECTED[signal]}":"{rejected}","errorMessage":"{_why(tally)}"}}'
    return f'{{"partialSuccess":{partial}}}'.encode()


def status_protobuf(code: int, message: str) -> bytes:
    """A ``google.rpc.Status`` for an error; ``message`` is one of our constants."""
    return _number(1, code) + _text(2, message)


def retry_protobuf(code: int, message: str, seconds: int) -> bytes:
    """The same with a ``google.rpc.RetryInfo``: when to try again."""
    delay = _bytes(1, _number(1, seconds))
    detail = _text(1, "type.googleapis.com/google.rpc.RetryInfo") + _bytes(2, delay)
    return status_protobuf(code, message) + _bytes(3, detail)


def _why(tally: Tally) -> str:
    """Reasons of the closed list with their counts: ``rejected: missing_required 3``."""
    reasons = (f"{name} {tally.rejected[name]}" for name in REJECTIONS if tally.rejected[name])
    return f"rejected: {', '.join(reasons)}"


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value) if value else b""


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode()) if value else b""


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | _LENGTH_DELIMITED) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """A non-negative number in base 128, least significant first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
