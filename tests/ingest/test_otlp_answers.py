"""Answers to OTLP clients: what the real message types read in them."""

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
from collector.ingest import otlp_answers
from collector.ingest.otlp_answers import (
    export_json,
    export_protobuf,
    outcome,
    retry_protobuf,
    status_protobuf,
)

_MESSAGES: dict[Signal, tuple[Any, str]] = {
    "logs": (logs_service_pb2.ExportLogsServiceResponse, "rejected_log_records"),
    "traces": (trace_service_pb2.ExportTraceServiceResponse, "rejected_spans"),
    "metrics": (metrics_service_pb2.ExportMetricsServiceResponse, "rejected_data_points"),
}


def _tally(admitted: int = 0, **rejected: int) -> Tally:
    tally = Tally(received=admitted + sum(rejected.values()), admitted=admitted)
    tally.rejected.update(rejected)  # type: ignore[arg-type]
    return tally


@pytest.mark.parametrize("signal", SIGNALS)
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
    st.dictionaries(st.sampled_from(REJECTIONS), st.integers(1, 1 << 40), min_size=1),
)
def test_partial_success(signal: Signal, admitted: int, rejected: dict[str, int]) -> None:
    """The number of rejected items and why, to the byte as the real message types write it."""
    tally = _tally(admitted, **rejected)
    kind, name = _MESSAGES[signal]
    read = kind.FromString(export_protobuf(tally))
    assert getattr(read.partial_success, name) == sum(rejected.values())
    reasons = ", ".join(f"{r} {rejected[r]}" for r in REJECTIONS if r in rejected)
    assert read.partial_success.error_message == f"rejected: {reasons}"
    assert read.SerializeToString() == export_protobuf(tally)
    assert Parse(export_json(signal, tally), kind()) == read
    partial = json.loads(export_json(signal, tally))["partialSuccess"]
    assert {str} == {type(value) for value in partial.values()}, "64-bit integers are strings"


def test_what_became_of_a_body() -> None:
    """One undecodable body, one that is too large as a whole, everything else."""
    assert outcome(_tally(malformed=1)) == "malformed"
    assert outcome(_tally(too_large=1)) == outcome(_tally(too_large=60_000)) == "too_large"
    for taken in (
        Tally(),
        _tally(1),
        _tally(malformed=2),
        _tally(1, malformed=1),
        _tally(1, too_large=5),
        _tally(too_large=5, malformed=1),
        _tally(nothing_admitted=1),
    ):
        assert outcome(taken) == "taken"


@given(st.integers(1, 16), st.text(st.characters(codec="ascii"), min_size=1), st.integers(1, 9999))
def test_statuses(code: int, message: str, seconds: int) -> None:
    """``google.rpc.Status``, with and without ``RetryInfo``, as the real type writes it."""
    status = status_pb2.Status(code=code, message=message)
    assert status_protobuf(code, message) == status.SerializeToString()
    again = error_details_pb2.RetryInfo()
    again.retry_delay.seconds = seconds
    status.details.add().Pack(again)
    assert retry_protobuf(code, message, seconds) == status.SerializeToString()


def test_names() -> None:
    """``__all__`` is the whole of the module."""
    public = {"Outcome", "export_json", "export_protobuf", "outcome", "retry_protobuf"}
    assert set(otlp_answers.__all__) == public | {"status_protobuf"}
