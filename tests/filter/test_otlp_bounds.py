"""The bounds of OTLP bodies, made small: items, lists above them, attributes and bytes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from math import inf, nan
from typing import Any

import pytest

from collector import ConfigError, Filter, InputError
from collector.contracts import Signal
from collector.filter import otlp, records
from collector.filter.admission import Bounds
from collector.filter.otlp import OtlpFilter, json_body, protobuf_body, wire
from collector.filter.otlp.attributes import UNREAD
from tests.filter.otlp_bodies import SIGNALS
from tests.filter.otlp_bombs import field
from tests.filter.test_paths import _OPTIONAL
from tests.support.make_schemas import sample
from tests.support.raising import raises

OS_FROM_O = "  os.type: {kind: enum, values: [linux], from: [o], REST}\n"
TESTED = Filter(sample(OS_FROM_O))
ATTRIBUTE = {"key": "o", "value": {"stringValue": "linux"}}
ITEM = {"attributes": [ATTRIBUTE]}
MANY: Any = {"attributes": [ATTRIBUTE, *[{}] * 6]}
WRITTEN = field(1, b"o") + field(2, field(1, b"linux"))
"""The attribute as protobuf."""
_NUMBERS = {"logs": 6, "traces": 9, "metrics": 7}
"""The number of an item's attributes, by signal."""


@pytest.fixture(params=[True, False], ids=["typed", "in steps"])
def five(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body may have five items, and a list five elements; it is read at once or in steps."""
    for module in (records, json_body, protobuf_body):
        monkeypatch.setattr(module, "MAX_ITEMS", 5)
    for name, value in {"_MAX_UNCOUNTED": 20, "_MAX_COMMAS": 30}.items():
        monkeypatch.setattr(records, name, value)
    monkeypatch.setattr(wire, "MAX_PARTS", 30)
    if not request.param:
        monkeypatch.setattr(json_body.JsonBody, "_find_typed_items", lambda *_: False)


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def written(signal: Signal, resources: list[list[int]], item: Any = ITEM) -> bytes:
    """A body as JSON, with a number of items for each scope of each resource."""
    outer, middle, inner = json_body._NAMES[signal]

    def items(number: int) -> list[Any]:
        if signal != "metrics":
            return [item] * number
        return [{"name": "m"}, {"gauge": {"dataPoints": [item] * number}}, {"sum": {}}]

    made = [{middle: [{inner: items(number)} for number in scopes]} for scopes in resources]
    return compact({outer: made})


def encoded(signal: Signal, resources: list[list[int]]) -> bytes:
    """The same body as protobuf."""
    item = field(_NUMBERS[signal], WRITTEN)

    def scope(number: int) -> bytes:
        if signal == "metrics":
            return field(2, field(5, field(1, item) * number))
        return field(2, item) * number

    return b"".join(field(1, b"".join(field(2, scope(n)) for n in each)) for each in resources)


def tally_of(body: bytes, signal: Signal = "logs", *, protobuf: bool = False) -> tuple[int, Any]:
    """How many items are admitted, and how many are rejected for which reason."""
    found = TESTED.admit_otlp(signal, body, protobuf=protobuf)
    assert sum(int(record.get("count", 1)) for record in found.records) == found.tally.admitted
    return found.tally.admitted, dict(found.tally.rejected)


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("write", [written, encoded])
@pytest.mark.parametrize("shape", [[[5]], [[2, 3]], [[1], [0, 4]], [[6]], [[3, 3]], [[3], [0, 3]]])
def test_as_many_items_as_allowed(
    signal: Signal, write: Callable[[Signal, list[list[int]]], bytes], shape: list[list[int]]
) -> None:
    total = sum(map(sum, shape))
    expected = (5, {}) if total == 5 else (0, {"too_large": total})
    body = write(signal, shape)
    if write is encoded and total > 5:
        body += field(9, b"\x0a" * 40)  # only a body with many tags is counted
    assert tally_of(body, signal, protobuf=write is encoded) == expected


@pytest.mark.usefixtures("five")
def test_as_many_elements_as_allowed() -> None:
    many = b",".join([b"{}"] * 7)
    for body in (b'{"resourceLogs":[%b]}', b'{"resourceLogs":[{"scopeLogs":[%b]}]}'):
        assert tally_of(body % many) == (0, {"too_large": 1})
    metrics = b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[%b]}]}]}' % many
    assert tally_of(metrics, "metrics") == (0, {"too_large": 1})


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (field(6, WRITTEN) * 7, (2, {})),
        (field(6, WRITTEN) * 8, (0, {"too_large": 2})),
    ],
)
def test_as_many_messages_as_allowed(item: bytes, expected: Any) -> None:
    """Two items of seven attributes have thirty messages with the two around them."""
    body = field(1, field(2, field(2, item) * 2))
    assert tally_of(body + field(9, b"\x0a" * 40), protobuf=True) == expected


@pytest.mark.usefixtures("five")
def test_many_messages_without_an_item() -> None:
    assert tally_of(field(1, b"") * 31, protobuf=True) == (0, {"too_large": 1})
    assert tally_of(field(1, b"") * 30, protobuf=True) == (0, {})


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize("number", [1, 2])
def test_attributes_of_a_long_item_are_counted_undecoded(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, longest = written("logs", [[number]], MANY), len(compact(MANY))
    for size in (longest, len(body)):
        monkeypatch.setattr(json_body, "_MAX_STRICT", size)
        assert tally_of(body) == (number, {})
    monkeypatch.setattr(json_body, "_MAX_STRICT", longest - 1)
    assert tally_of(body) == (0, {"too_large": 1})


@pytest.mark.usefixtures("five")
def test_attributes_around_items_are_counted_undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body in which they are too many is rejected as a whole."""
    body = json.loads(written("logs", [[1]]))
    body["resourceLogs"] += [{"resource": MANY, "scopeLogs": [{"logRecords": [ITEM]}]}]
    assert tally_of(compact(body)) == (2, {})
    monkeypatch.setattr(json_body, "_MAX_STRICT", len(compact(MANY)) - 1)
    assert tally_of(compact(body)) == (0, {"too_large": 1})


def test_as_many_bytes_as_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    body = written("logs", [[1]])
    monkeypatch.setattr(otlp, "MAX_DOCUMENT", len(body))
    assert tally_of(body) == (1, {})
    assert tally_of(body + b" ") == (0, {"too_large": 1})


def test_bounds_of_a_caller() -> None:
    tested = OtlpFilter(TESTED.router.plan)
    for events in (3, 2):
        with nullcontext() if events == 3 else pytest.raises(InputError, match="E416"):
            tested.admit(
                "logs",
                written("logs", [[3]]),
                protobuf=False,
                sender=None,
                bounds=Bounds(events, 1 << 20),
            )


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize("text", [b'{"resourceLogs":5}', b'{"resourceLogs":[5]}', b"{", b"", b"5"])
def test_what_is_no_document(text: bytes) -> None:
    assert tally_of(text) == (0, {"malformed": 1})


@pytest.mark.usefixtures("five")
def test_a_byte_order_mark() -> None:
    assert tally_of(b"\xef\xbb\xbf" + written("logs", [[2]])) == (2, {})


def test_a_text_that_is_not_utf8() -> None:
    item = field(6, field(1, b"o") + field(2, field(1, b"\xff")))
    assert tally_of(field(1, field(2, field(2, item))), protobuf=True) == (0, {"malformed": 1})


_LONG = "9" * 400


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{"stringValue":"linux"}', "linux"),
        ('{"stringValue":5}', UNREAD),
        ('{"boolValue":true}', True),
        ('{"intValue":9223372036854775807}', (1 << 63) - 1),
        ('{"intValue":"-9223372036854775808"}', -(1 << 63)),
        ('{"intValue":-9223372036854775809}', UNREAD),
        ('{"intValue":9223372036854775808}', UNREAD),
        ('{"intValue":"9223372036854775808"}', UNREAD),
        ('{"intValue":"01"}', UNREAD),
        ('{"intValue":1.5}', UNREAD),
        ('{"doubleValue":1.5}', 1.5),
        ('{"doubleValue":5}', 5.0),
        ('{"doubleValue":"1.5e1"}', 15.0),
        ('{"doubleValue":"NaN"}', nan),
        ('{"doubleValue":"-Infinity"}', -inf),
        ('{"doubleValue":"1_0"}', UNREAD),
        ('{"doubleValue":true}', UNREAD),
        (f'{{"doubleValue":{_LONG}}}', UNREAD),
        (f'{{"doubleValue":{_LONG}.5}}', UNREAD),
        ('{"bytesValue":"AA=="}', UNREAD),
        ('{"arrayValue":{}}', UNREAD),
        ('{"stringValue":"a","arrayValue":{}}', UNREAD),
        ('{"stringValue":"a","bytesValue":""}', UNREAD),
        ('{"stringValue":"a","doubleValue":1}', UNREAD),
        ("5", UNREAD),
        ("null", None),
        ("{}", None),
    ],
)
def test_values(value: str, expected: Any) -> None:
    """In a body that is read at once, and in one with an element that is no attribute."""
    reader = OtlpFilter(TESTED.router.plan).reader
    for others in ("", "5,"):
        attributes = f'[{others}{{"key":"o","value":{value}}}]'
        written_item = f'{{"attributes":{attributes}}}'
        text = f'{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{written_item}]}}]}}]}}'
        body = json_body.JsonBody("logs", text.encode())
        ((_, _, (item,)),) = body.scopes()
        assert repr(body.item_members(item, reader)) == repr({"o": expected})


@pytest.mark.parametrize("outer", ["5", "null", "[]"])
def test_what_is_around_items_may_be_no_object(outer: str) -> None:
    """Also where choices are looked for in it."""
    around = b'{"resource":%b,"scopeLogs"' % outer.encode()
    refusals = {"key": "choices", "value": {"arrayValue": {"values": []}}}
    chosen = compact({"attributes": [ATTRIBUTE, refusals]})
    item = compact(ITEM)
    text = written("logs", [[2]]).replace(b'{"scopeLogs"', around).replace(item, chosen, 1)
    assert tally_of(text) == (2, {})
    choosing = Filter(sample(OS_FROM_O, "consent: choices", _OPTIONAL))
    assert choosing.admit_otlp("logs", text, protobuf=False).tally.admitted == 2


def test_it_shows_nothing() -> None:
    """Its name says which schema it is for."""
    assert repr(OtlpFilter(TESTED.router.plan)) == "<OtlpFilter of sample/1.0.0>"


_PAIR = field(1, field(1, b"b") + field(2, field(1, b"linux")))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("o", field(1, b"linux"), "linux"),
        ("o", field(1, b""), ""),
        ("o", b"\x10\x01", True),
        ("o", b"\x18\x05", 5),
        ("o", field(5, b""), UNREAD),
        ("o", field(6, _PAIR), UNREAD),
        ("o", field(7, b"a"), UNREAD),
        ("o", b"", None),
        ("a", field(6, _PAIR), {"b": "linux"}),
        ("a", field(6, b""), {}),
        ("a", field(1, b"linux"), UNREAD),
        ("a", b"\x10\x01", UNREAD),
        ("a", field(5, b""), UNREAD),
    ],
)
def test_values_in_protobuf(key: str, value: bytes, expected: Any) -> None:
    """Where a text is wanted, and where a list of keys and values is."""
    plan = Filter(sample("  os.type: {kind: enum, values: [linux], from: [o, a.b], REST}\n")).router
    item = field(6, field(1, b"x") + field(2, b"")) + field(
        6, field(1, key.encode()) + field(2, value)
    )
    body = protobuf_body.ProtobufBody("logs", field(1, field(2, field(2, item))))
    ((_, _, (found,)),) = body.scopes()
    assert body.item_members(found, OtlpFilter(plan.plan).reader) == {key: expected}


def test_protobuf_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.protobuf.message", None)
    protobuf_body.messages.cache_clear()
    with raises("E201", ConfigError):
        TESTED.admit_otlp("logs", b"", protobuf=True)
