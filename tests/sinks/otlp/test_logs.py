"""Records become log records: every one once, with what it says and nothing more."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import chain
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from collector.contracts import Batch, Layout
from collector.errors import DeliveryError
from collector.filter.stored import read
from collector.sinks.otlp.logs import ExportRequest, export_requests, rejected_records
from collector.sinks.otlp.settings import COUNT, UID
from tests.support.otlp_receivers import ECHO, attributes, records

_COLUMNS = (("a.text", "TEXT"), ("a.flag", "INTEGER"), ("a.number", "INTEGER"), ("a.real", "REAL"))
_LAYOUT = Layout("survey/1.2.0", "0" * 64, "survey", _COLUMNS)
_MINUTE, _NANOSECONDS = "2026-11-27T10:05:00Z", 1795773900 * 10**9
_LONGEST = 1 << 20
_RECORDS = st.fixed_dictionaries(
    {"a.text": st.text()},
    optional={
        "a.flag": st.booleans(),
        "a.number": st.integers(-(2**63), 2**63 - 1),
        "a.real": st.floats(allow_nan=False, allow_infinity=False),
        "count": st.sampled_from([2, 4, 1 << 20]),
    },
)
_CONTENT = st.lists(st.lists(_RECORDS, max_size=8), max_size=4)


def _batch(number: int, *rows: dict[str, Any], layout: Layout = _LAYOUT) -> Batch:
    encode = msgspec.json.encode
    payload = b"".join(encode({"schema": layout.schema} | row) + b"\n" for row in rows)
    return read(Batch(number.to_bytes(16), _MINUTE, layout=layout, payload=payload))


def _requests(*batches: Batch, most: int = _LONGEST) -> list[ExportRequest]:
    return list(export_requests(batches, "meetings", most))


def _sent(*batches: Batch, most: int = _LONGEST) -> list[Any]:
    bodies = (each.body for each in _requests(*batches, most=most))
    return list(chain(*(records(ExportLogsServiceRequest.FromString(each)) for each in bodies)))


def _typed(record: dict[str, Any]) -> str:
    return repr(sorted(record.items()))


@given(_CONTENT, st.integers(1, 4000))
def test_every_record_is_sent_once_and_as_it_is(
    content: list[list[dict[str, Any]]], most: int
) -> None:
    """A request is above its limit only with a single record, and completes its batches once."""
    batches = [_batch(number, *rows) for number, rows in enumerate(content)]
    found = [attributes(each) for each in _sent(*batches, most=most)]
    uids = [each.pop(UID) for each in found]
    for each in found:
        if COUNT in each:
            each["count"] = each.pop(COUNT)
    for rows in content:
        here, found = found[: len(rows)], found[len(rows) :]
        assert sorted(map(_typed, here)) == sorted(map(_typed, rows))
    assert found == []
    assert len(set(uids)) == len(uids)
    requests = _requests(*batches, most=most)
    fixed = 64  # the resource and a scope
    assert all(
        each.records == 1 or len(each.body) <= most + fixed * len(each.batches) for each in requests
    )
    assert all(each.records >= 1 for each in requests)
    complete = Counter(chain(*(each.complete for each in requests)))
    with_records = {batch.id for batch in batches if batch.payload}
    assert with_records <= set(complete)
    assert set(complete.values()) <= {1}


def test_records_of_a_batch_are_shuffled() -> None:
    """Neither order nor names tell the order of arrival, and names stay when the order differs."""
    batch = _batch(1, *({"a.text": f"{number}"} for number in range(100)))
    first, second = ([attributes(each) for each in _sent(batch, most=500)] for _ in range(2))
    came = [f"{number}" for number in range(100)]
    assert came != [each["a.text"] for each in first] != [each["a.text"] for each in second]
    named = {each["a.text"]: each[UID] for each in first}
    assert sorted(named) == sorted(came)
    assert named == {each["a.text"]: each[UID] for each in second}


def test_a_record_has_nothing_but_its_fields() -> None:
    (request,) = _requests(_batch(1, {"a.text": "x"}))
    message = ExportLogsServiceRequest.FromString(request.body)
    (resource,) = message.resource_logs
    (scope,) = resource.scope_logs
    (record,) = scope.log_records
    assert [each.name for each, _ in record.ListFields()] == [
        "time_unix_nano",
        "attributes",
        "observed_time_unix_nano",
    ]
    assert (record.time_unix_nano, record.observed_time_unix_nano) == (_NANOSECONDS, _NANOSECONDS)
    assert attributes(resource.resource) == {"service.name": "meetings"}
    assert (scope.scope.name, scope.scope.version) == ("survey", "1.2.0")
    assert [each.name for each, _ in scope.scope.ListFields()] == ["name", "version"]
    assert [each.name for each, _ in resource.ListFields()] == ["resource", "scope_logs"]
    assert set(attributes(record)) == {UID, "a.text"}


def test_schemas_are_scopes() -> None:
    other = replace(_LAYOUT, schema="survey/2.0.0")
    batches = [_batch(1, {"a.text": "x"}), _batch(2, {"a.text": "y"})]
    (request,) = _requests(*batches, _batch(3, {"a.text": "z"}, layout=other))
    scopes = ExportLogsServiceRequest.FromString(request.body).resource_logs[0].scope_logs
    assert [(each.scope.version, len(each.log_records)) for each in scopes] == [
        ("1.2.0", 2),
        ("2.0.0", 1),
    ]


def _uids(batch: Batch) -> list[tuple[Any, str]]:
    sent = map(attributes, _sent(batch))
    return sorted((each["a.text"], each[UID]) for each in sent)


def test_a_name_stays_when_a_batch_comes_again() -> None:
    """Erasing a person changes no other name; equal records differ, and so do names of two
    batches."""
    rows = [{"a.text": each} for each in "xyxz"]
    names = _uids(_batch(1, *rows))
    assert _uids(_batch(1, *rows)) == names
    assert _uids(_batch(1, *rows[:1], *rows[2:])) == [each for each in names if each[0] != "y"]
    assert not set(_uids(_batch(2, *rows))) & set(names)
    assert len({uid for _, uid in names}) == len(names)
    assert all(len(uid) == 32 for _, uid in names)


def test_what_is_no_batch_of_a_spool() -> None:
    with pytest.raises(DeliveryError, match="E503"):
        _requests(Batch(b"1" * 16, _MINUTE, given=[{"a.text": "x"}]))
    with pytest.raises(DeliveryError, match="E507"):
        _requests(read(Batch(b"1" * 16, _MINUTE, layout=_LAYOUT, payload=b"[]\n")))


def test_what_a_receiver_rejects() -> None:
    message = ExportLogsServiceResponse()
    assert rejected_records(b"") == 0
    message.partial_success.error_message = ECHO
    assert rejected_records(message.SerializeToString()) == 0
    message.partial_success.rejected_log_records = 3
    assert rejected_records(message.SerializeToString()) == 3
    assert rejected_records(b"<html>") is None


@given(st.binary(max_size=200))
def test_any_answer_is_judged(body: bytes) -> None:
    found = rejected_records(body)
    assert found is None or isinstance(found, int)
