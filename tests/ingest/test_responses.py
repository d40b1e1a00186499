"""Responses: counts in our words and in OTLP's, as the real message types read them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import Parse  # type: ignore[import-untyped]
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from collector.contracts import REJECTIONS, SIGNALS, Signal, Tally
from collector.ingest.refusals import TOO_LARGE, UNREADABLE
from collector.ingest.responses import (
    EVENTS,
    Dialect,
    export_json,
    export_protobuf,
    refused_whole,
    retry_protobuf,
    status_protobuf,
    tally_response,
)
from tests.support.rows import for_each

_MESSAGES: dict[Signal, tuple[Any, str]] = {
    "logs": (logs_service_pb2.ExportLogsServiceResponse, "rejected_log_records"),
    "traces": (trace_service_pb2.ExportTraceServiceResponse, "rejected_spans"),
    "metrics": (metrics_service_pb2.ExportMetricsServiceResponse, "rejected_data_points"),
}


def _tally(admitted: int = 0, **rejected: int) -> Tally:
    tally = Tally(received=admitted + sum(rejected.values()), admitted=admitted)
    tally.rejected.update(rejected)  # type: ignore[arg-type]
    return tally


@for_each("signal", SIGNALS)
def test_full_success_says_nothing(signal: Signal) -> None:
    """``partial_success`` is unset; dropped fields and content are no rejections."""
    tally = _tally(3)
    tally.content["chat"] = 3
    for each in (tally, Tally()):
        assert export_protobuf(each) == b""
        assert export_json(signal, each) == b"{}"


@pytest.mark.parametrize("signal", SIGNALS)
@given(
    st.integers(0, 1 << 40),
    st.dictionaries(
        st.sampled_from([r for r in REJECTIONS if r != "not_selected"]),
        st.integers(1, 1 << 40),
        min_size=1,
    ),
    st.integers(0, 1 << 40),
)
def test_partial_success(
    signal: Signal, admitted: int, rejected: dict[str, int], others: int
) -> None:
    """The number of rejected items and why, to the byte as the real message types write it; items
    that the schema does not select are no failure of the sender."""
    tally = _tally(admitted, **rejected, not_selected=others)
    kind, name = _MESSAGES[signal]
    read = kind.FromString(export_protobuf(tally))
    assert getattr(read.partial_success, name) == sum(rejected.values())
    reasons = ", ".join(f"{r} {rejected[r]}" for r in REJECTIONS if r in rejected)
    why = "; `collector explain --live` says why" if "nothing_admitted" in rejected else ""
    assert read.partial_success.error_message == f"rejected: {reasons}{why}"
    assert read.SerializeToString() == export_protobuf(tally)
    assert Parse(export_json(signal, tally), kind()) == read
    partial = json.loads(export_json(signal, tally))["partialSuccess"]
    assert {str} == {type(value) for value in partial.values()}, "64-bit integers are strings"


def test_what_became_of_a_body() -> None:
    """One undecodable body, one that is too large as a whole, everything else."""
    assert refused_whole(_tally(malformed=1)) is UNREADABLE
    assert {refused_whole(_tally(too_large=n)) for n in (1, 60_000)} == {TOO_LARGE}
    for taken in (
        Tally(),
        _tally(1),
        _tally(malformed=2),
        _tally(1, malformed=1),
        _tally(1, too_large=5),
        _tally(too_large=5, malformed=1),
        _tally(nothing_admitted=1),
    ):
        assert refused_whole(taken) is None


@given(st.integers(1, 16), st.text(st.characters(codec="ascii"), min_size=1), st.integers(1, 9999))
def test_statuses(code: int, message: str, seconds: int) -> None:
    """``google.rpc.Status``, with and without ``RetryInfo``, as the real type writes it."""
    status = status_pb2.Status(code=code, message=message)
    assert status_protobuf(code, message) == status.SerializeToString()
    again = error_details_pb2.RetryInfo()
    again.retry_delay.seconds = seconds
    status.details.add().Pack(again)
    assert retry_protobuf(code, message, seconds) == status.SerializeToString()


# -- HTTP


def test_counts() -> None:
    """Reasons in the order of the contract, zeros left out."""
    tally = _tally(4, too_large=2, malformed=3, nothing_admitted=0)
    answer = tally_response(EVENTS, tally)
    assert (answer.status, answer.close) == (200, False)
    assert answer.body == (b'{"received":9,"admitted":4,"rejected":{"malformed":3,"too_large":2}}')
    assert list(json.loads(answer.body)["rejected"]) == [r for r in REJECTIONS if tally.rejected[r]]


def test_it_says_how_to_find_out_why_nothing_is_admitted() -> None:
    found = json.loads(tally_response(EVENTS, _tally(1, nothing_admitted=2)).body)
    assert (found["rejected"], found["why"]) == (
        {"nothing_admitted": 2},
        "collector explain --live",
    )
    assert "why" not in json.loads(tally_response(EVENTS, _tally(1, missing_required=2)).body)


@for_each(
    ("tally", "status", "of_lines"),
    [
        (_tally(), 200, 200),
        (_tally(1), 200, 200),
        (_tally(malformed=1), 400, 200),
        (_tally(1, malformed=1), 200, 200),
        (_tally(too_large=1), 413, 200),
        (_tally(too_large=60_000), 413, 200),
        (_tally(1, too_large=1), 200, 200),
        (_tally(nothing_admitted=1), 200, 200),
        (_tally(not_an_object=1), 200, 200),
    ],
)
def test_statuses_of_http(tally: Tally, status: int, of_lines: int) -> None:
    """A document that does not parse, or is too large as a whole, is an error; of lines none is."""
    assert tally_response(EVENTS, tally).status == status
    assert tally_response(EVENTS, tally, lines=True).status == of_lines


@for_each("signal", ["logs", "traces", "metrics"])
def test_otlp(signal: Signal) -> None:
    """The type of the request; nothing is said of full success."""
    for protobuf, body in ((True, b""), (False, b"{}")):
        answer = tally_response(Dialect(signal, protobuf), _tally(3))
        assert (answer.status, answer.body) == (200, body)
        assert dict(answer.headers)[b"content-type"].endswith(b"protobuf") == protobuf
        answer = tally_response(Dialect(signal, protobuf), _tally(1, missing_required=2))
        assert answer.status == 200
        assert b"missing_required 2" in answer.body
