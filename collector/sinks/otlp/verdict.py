"""What a receiver says to a request, by the rules of OTLP for HTTP and for gRPC."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple

__all__ = ["Outcome", "Verdict", "of_code", "of_status", "seconds_after"]

Outcome = Literal["taken", "rejected", "refused", "too_large", "exhausted", "denied", "later"]
"""``rejected``: the receiver took the request, but not all of its records. ``refused``: it will
never take the request. ``exhausted``: the request is too large, or the receiver has no resources
for it. ``denied``: it wants other credentials. ``later``: it does not take anything now, or is no
receiver of OTLP."""


class Verdict(NamedTuple):
    """What comes of a request; what the answer was, in constants and numbers; and the seconds for
    which the receiver wants nothing."""

    outcome: Outcome
    answer: str
    pause: float = 0.0


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
"""The statuses with which ``Retry-After`` counts: those that OTLP has clients retry."""
_CODES: dict[int, Outcome] = {3: "refused", 7: "denied", 16: "denied"}
"""INVALID_ARGUMENT, PERMISSION_DENIED and UNAUTHENTICATED of gRPC."""
_OK, _RESOURCE_EXHAUSTED = 0, 8


def of_status(status: int, retry_after: str) -> Verdict:
    """Judge an HTTP status that is no success. A redirect is not followed: records go where the
    configuration says, and nowhere else."""
    answer = f"HTTP status {status}"
    pause = seconds_after(retry_after) if status in _WITH_PAUSE else 0.0
    return Verdict(_STATUSES.get(status, "later"), answer, pause)


def seconds_after(header: str) -> float:
    """Return the seconds of a ``Retry-After``, which has a number or a date; at most 300."""
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
    """Judge a status code of gRPC that is no success; ``retry`` are the seconds of its RetryInfo.
    Without one, RESOURCE_EXHAUSTED may mean that the message is too large."""
    answer = f"gRPC status {code}"
    if code == _RESOURCE_EXHAUSTED and retry is None:
        return Verdict("exhausted", answer)
    pause = max(0.0, min(retry or 0.0, _LONGEST_PAUSE))
    return Verdict(_CODES.get(code, "later"), answer, pause)
