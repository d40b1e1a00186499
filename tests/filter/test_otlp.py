"""OTLP means the same as protobuf, as JSON, and in a reference that follows the specification."""

from __future__ import annotations

import json
import random
from datetime import date
from typing import Any, get_type_hints

import msgspec
import pytest
from google.protobuf import json_format  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from collector import Admission, Filter, Schema, load_schema
from collector.contracts import REJECTIONS, Signal
from collector.filter.otlp import json_body
from collector.testing.laws import fixed_key as key
from tests.filter.otlp_bodies import SIGNALS, bodies, fill
from tests.filter.otlp_reference import REQUESTS, OtlpReference, scopes
from tests.filter.reference import Outcome
from tests.filter.schema_cases import schema_case
from tests.filter.test_laws import AS_OF, SAYS, granted, made, same
from tests.strategies import schemas

signals = st.sampled_from(SIGNALS)


def as_json(request: Any, seed: int = 0) -> bytes:
    """A request as OTLP/JSON, 64-bit numbers as texts or as numbers."""
    choose = random.Random(seed)

    def numbers(value: Any) -> Any:
        if isinstance(value, list):
            return [numbers(each) for each in value]
        if not isinstance(value, dict):
            return value
        return {
            key: int(each) if key == "intValue" and choose.random() < 0.5 else numbers(each)
            for key, each in value.items()
        }

    return json.dumps(numbers(json_format.MessageToDict(request))).encode()


def agree(schema: Schema, expected: Outcome, *admissions: tuple[Admission, bytes]) -> None:
    """The same, in the same order, unless items are taken apart by what they refuse."""
    for admission, body in admissions:
        expected.tally.bytes_in = len(body)
        if schema.consent is None:
            same(admission, expected)
        found, wanted = (sorted(each.encode().splitlines()) for each in (admission, expected))
        assert (found, admission.tally) == (wanted, expected.tally)


@given(st.data(), schemas(), granted, signals, st.integers(), SAYS)
def test_one_meaning(
    data: st.DataObject, schema: Schema, purposes: Any, signal: Signal, seed: int, says: Any
) -> None:
    """Protobuf = JSON = reference. The sender's address and user agent are used for a single item
    only."""
    request = data.draw(bodies(schema, signal))
    tested = made(schema, purposes)
    reference = OtlpReference(schema, purposes=purposes, as_of=AS_OF, keys=key)
    expected = reference.admit_otlp(request, **says)
    binary, text = request.SerializeToString(), as_json(request, seed)
    agree(
        schema,
        expected,
        (tested.admit_otlp(signal, binary, protobuf=True, **says), binary),
        (tested.admit_otlp(signal, text, protobuf=False, **says), text),
    )


@pytest.mark.parametrize("protobuf", [True, False])
@pytest.mark.parametrize("number", [1, 2])
def test_the_sender_is_asked_for_a_single_item(number: int, protobuf: bool) -> None:
    """Its address is that of no other item's."""
    schema = schema_case("web").schema
    (name,) = (name for name, field in schema.fields.items() if field.source == "peer")
    request: Any = REQUESTS["logs"]()
    scope = scopes(request.resource_logs.add()).add()
    for _ in range(number):
        fill(scope.log_records.add().attributes, [("os.type", "linux")])
    body = request.SerializeToString() if protobuf else as_json(request)
    admission = Filter(schema).admit_otlp("logs", body, protobuf=protobuf, peer="203.0.113.7")
    assert [name in record for record in admission.records] == [number == 1]


@given(st.data(), schemas(), signals)
def test_one_meaning_of_damaged_bodies(data: st.DataObject, schema: Schema, signal: Signal) -> None:
    """Any bytes: no exception, everything is counted, and what is called malformed is unreadable
    for the reference too; what is read has the same meaning."""
    body = bytearray(data.draw(bodies(schema, signal)).SerializeToString())
    for _ in range(data.draw(st.integers(0, 3))):
        if body:
            where = data.draw(st.integers(0, len(body) - 1))
            body[where] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del body[data.draw(st.integers(0, len(body))) :]
    admission = made(schema).admit_otlp(signal, bytes(body), protobuf=True)
    conserved(admission)
    request: Any = REQUESTS[signal]()
    try:
        request.ParseFromString(bytes(body))
    except DecodeError:
        return
    expected = OtlpReference(schema, as_of=AS_OF, keys=key).admit_otlp(request)
    agree(schema, expected, (admission, bytes(body)))


@given(st.binary(max_size=200), signals, st.booleans())
def test_any_bytes(body: bytes, signal: Signal, protobuf: bool) -> None:
    """Noise is malformed, or says nothing."""
    tally = conserved(CONFERENCING.admit_otlp(signal, body, protobuf=protobuf)).tally
    assert tally.rejected.total() == tally.received


@given(st.data(), schemas(), signals)
def test_damaged_json(data: st.DataObject, schema: Schema, signal: Signal) -> None:
    """A JSON body with a piece taken out or put in is counted, and raises nothing."""
    text = as_json(data.draw(bodies(schema, signal)))
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    piece = data.draw(
        st.sampled_from([b"", b"null", b"{}", b"[]", b'"x"', b"1e999", b"\xff", b","])
    )
    changed = text[:start] + piece + text[end:]
    tested = made(schema)
    for body in (changed, bytearray(changed), memoryview(changed)):
        conserved(tested.admit_otlp(signal, body, protobuf=False))


@pytest.mark.parametrize("protobuf", [True, False])
@pytest.mark.parametrize("signal", SIGNALS)
def test_usual_bodies_are_decoded_at_once(
    signal: Signal, protobuf: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts, content, and attributes of any type that are not wanted: no item is read twice."""
    request: Any = REQUESTS[signal]()
    ((_, resources),) = [(f.name, getattr(request, f.name)) for f in request.DESCRIPTOR.fields]
    scope = scopes(
        resources.add(),
    ).add()
    for number in range(3):
        if signal == "metrics":
            item = scope.metrics.add().gauge.data_points.add()
        else:
            item = (scope.log_records if signal == "logs" else scope.spans).add()
        if signal == "logs":
            item.body.string_value = "said"
        values = {"client.address": f"203.0.113.{number}", "os.type": "linux", "chat": "said"}
        others = {"unlisted": 1, "flag": True, "ratio": 0.5, "list": ["a"], "map": {"os": "linux"}}
        fill(item.attributes, list((others | values).items()))
    body = as_json(request)
    monkeypatch.setattr(json_body, "_loose_decoder", None)
    monkeypatch.setattr(json_body.JsonBody, "_find_items", None)
    tested = Filter(load_schema("conferencing"))
    text = request.SerializeToString() if protobuf else body
    admission = tested.admit_otlp(signal, text, protobuf=protobuf)
    assert [record["client.address"] for record in admission.records] == [
        f"203.0.113.{number}" for number in range(3)
    ]
    assert admission.tally.content == {"chat": 3}


def test_no_text_is_decoded_before_it_is_wanted() -> None:
    """A value may be content: each of its forms stays undecoded."""
    assert set(get_type_hints(json_body._Value).values()) == {msgspec.Raw}


@pytest.mark.parametrize("protobuf", [True, False])
def test_what_is_around_an_item_counts_by_nearness(protobuf: bool) -> None:
    """Its own value, then that of its scope, then that of its resource; of no other one."""
    request: Any = REQUESTS["logs"]()
    for system, version in (("linux", "1.2"), ("windows", None)):
        resource = request.resource_logs.add()
        fill(resource.resource.attributes, [("os.type", system), ("device.type", "phone")])
        scope = scopes(resource).add()
        fill(scope.scope.attributes, [("os.version", version)] if version else [])
        fill(scope.log_records.add().attributes, [("device.type", "tablet")])
        scopes(resource).add().log_records.add()
    body = request.SerializeToString() if protobuf else as_json(request)
    admission = Filter(load_schema("conferencing")).admit_otlp("logs", body, protobuf=protobuf)
    names = "device.type", "os.type", "os.version"
    assert [tuple(record.get(name) for name in names) for record in admission.records] == [
        ("tablet", "linux", "1.2"),
        ("phone", "linux", None),
        ("tablet", "windows", None),
        ("phone", "windows", None),
    ]


_ODD = ["1", "null", '"x"', "[]", '{"key": 1, "value": {"stringValue": "macos"}}', '{"key": []}']


@pytest.mark.parametrize("odd", _ODD)
def test_an_element_that_is_no_attribute_costs_itself(odd: str) -> None:
    linux = '{"key": "os.type", "value": {"stringValue": "linux"}}'
    item = f'{{"attributes": [{odd}, {linux}], "body": null}}'
    text = f'{{"resourceLogs": [{{"scopeLogs": [{{"logRecords": [{item}]}}]}}]}}'
    admission = Filter(load_schema("conferencing")).admit_otlp("logs", text, protobuf=False)
    assert [record["os.type"] for record in admission.records] == ["linux"]
    assert not admission.tally.content


@pytest.mark.parametrize("other", ['"intValue": 1', '"boolValue": true', '"kvlistValue": {}'])
def test_a_value_of_two_forms_is_of_no_type(other: str) -> None:
    item = (
        '{"attributes": [{"key": "ip", "value": {"stringValue": "::1"}},'
        f' {{"key": "os.type", "value": {{"stringValue": "linux", {other}}}}}]}}'
    )
    text = f'{{"resourceLogs": [{{"scopeLogs": [{{"logRecords": [{item}]}}]}}]}}'
    admission = Filter(load_schema("conferencing")).admit_otlp("logs", text, protobuf=False)
    assert (admission.tally.admitted, dict(admission.tally.dropped)) == (
        1,
        {"os.type": {"wrong_type": 1}},
    )


@pytest.mark.parametrize("value", ["null", "{}", '{"stringValue": null}', '{"intValue": null}'])
def test_what_has_no_value_is_absent(value: str) -> None:
    item = (
        '{"attributes": [{"key": "os.type", "value": {"stringValue": "linux"}},'
        ' {"key": "ip", "value": {"stringValue": "::1"}},'
        ' {"key": "chat", "value": {"stringValue": "x"}},'
        f' {{"key": "os.type", "value": {value}}}, {{"key": "chat", "value": {value}}}]}}'
    )
    text = f'{{"resourceLogs": [{{"scopeLogs": [{{"logRecords": [{item}, {item}]}}]}}]}}'
    admission = CONFERENCING.admit_otlp("logs", text, protobuf=False)
    assert admission.records == [
        {"schema": "conferencing/1.0.0", "client.address": "::1", "count": 2}
    ]
    assert not admission.tally.content


def conserved(admission: Admission) -> Admission:
    """Everything received is admitted or rejected, and records are as many as were admitted."""
    tally = admission.tally
    assert tally.received == tally.admitted + sum(tally.rejected.values())
    assert tally.admitted == sum(int(record.get("count", 1)) for record in admission.records)
    assert set(tally.rejected) <= set(REJECTIONS)
    assert tally.bytes_out == len(admission.encode())
    assert all(tally.content.values())
    return admission


CONFERENCING = Filter(load_schema("conferencing"), as_of=date(2026, 6, 1))


@pytest.mark.parametrize("protobuf", [True, False])
def test_of_equal_keys_the_last_counts_and_costs_only_its_field(protobuf: bool) -> None:
    """In both encodings: a number is no text."""
    request: Any = REQUESTS["logs"]()
    attributes = request.resource_logs.add().scope_logs.add().log_records.add().attributes
    fill(attributes, [("os.type", "linux"), ("ip", "::2"), ("ip", "::1"), ("os.type", 5)])
    body = request.SerializeToString() if protobuf else as_json(request)
    admission = CONFERENCING.admit_otlp("logs", body, protobuf=protobuf)
    assert admission.records == [{"schema": "conferencing/1.0.0", "client.address": "::1"}]
    assert admission.tally.dropped == {"os.type": {"wrong_type": 1}}


def test_a_body_is_chat_and_an_integer_has_64_bits() -> None:
    value = '{"key": "cpu.count", "value": {"intValue": "9223372036854775808"}}'
    record = f'{{"attributes": [{value}], "body": {{"stringValue": "x"}}}}'
    text = f'{{"resourceLogs": [{{"scopeLogs": [{{"logRecords": [{record}]}}]}}]}}'
    tally = schema_case("every-kind").filter.admit_otlp("logs", text, protobuf=False).tally
    assert tally.dropped == {"cpu.count": {"wrong_type": 1}}
    request: Any = REQUESTS["logs"]()
    request.resource_logs.add().scope_logs.add().log_records.add().body.string_value = "x"
    binary = CONFERENCING.admit_otlp("logs", request.SerializeToString(), protobuf=True).tally
    assert CONFERENCING.admit_otlp("logs", text, protobuf=False).tally.content == {"chat": 1}
    assert binary.content == {"chat": 1}
