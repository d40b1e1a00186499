"""Answers to what was filtered: counts in our words, and when they are an error instead."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from collector.contracts import REJECTIONS, Signal, Tally
from collector.ingest.answers import EVENTS, Dialect, counted


def _tally(received: int = 1, admitted: int = 0, **rejected: int) -> Tally:
    tally = Tally(received, admitted)
    tally.rejected = Counter({reason: rejected.get(reason, 0) for reason in REJECTIONS})
    return tally


def test_counts() -> None:
    """Reasons in the order of the contract, zeros left out."""
    tally = _tally(9, 4, too_large=2, malformed=3, nothing_admitted=0)
    answer = counted(EVENTS, tally)
    assert (answer.status, answer.close) == (200, False)
    assert answer.body == (b'{"received":9,"admitted":4,"rejected":{"malformed":3,"too_large":2}}')
    assert list(json.loads(answer.body)["rejected"]) == [r for r in REJECTIONS if tally.rejected[r]]


@pytest.mark.parametrize(
    ("tally", "status", "of_lines"),
    [
        (_tally(0), 200, 200),
        (_tally(1, 1), 200, 200),
        (_tally(1, malformed=1), 400, 200),
        (_tally(2, 1, malformed=1), 200, 200),
        (_tally(1, too_large=1), 413, 200),
        (_tally(60_000, too_large=60_000), 413, 200),
        (_tally(2, 1, too_large=1), 200, 200),
        (_tally(1, nothing_admitted=1), 200, 200),
        (_tally(1, not_an_object=1), 200, 200),
    ],
)
def test_statuses(tally: Tally, status: int, of_lines: int) -> None:
    """A document that does not parse, or is too large as a whole, is an error; of lines none is."""
    assert counted(EVENTS, tally).status == status
    assert counted(EVENTS, tally, lines=True).status == of_lines


@pytest.mark.parametrize("signal", ["logs", "traces", "metrics"])
def test_otlp(signal: Signal) -> None:
    """The type of the request; nothing is said of full success."""
    for protobuf, body in ((True, b""), (False, b"{}")):
        answer = counted(Dialect(signal, protobuf), _tally(3, 3))
        assert (answer.status, answer.body) == (200, body)
        assert dict(answer.headers)[b"content-type"].endswith(b"protobuf") == protobuf
        answer = counted(Dialect(signal, protobuf), _tally(3, 1, missing_required=2))
        assert answer.status == 200
        assert b"missing_required 2" in answer.body
