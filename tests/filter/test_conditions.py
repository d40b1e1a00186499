"""Sources that count only where members beside them have listed values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collector import Filter, load_schema
from collector.filter.explain import explain
from tests.filter.test_paths import all_ways, made
from tests.support.make_schemas import REST, sample
from tests.support.rows import for_each

_FIELDS = """
  os.type:
    kind: enum
    values: [linux, windows]
    from:
      - {path: c.os, when: {kind: [a, 1, true]}}
      - {path: os, when: {kind: b, on: false}}
      - {path: '"x.y".os', when: {"k.l": 1.5}}
    REST
"""
_OS = _FIELDS.replace("REST", REST.replace(", ", "\n    "))


@pytest.fixture(scope="module")
def filter_() -> Filter:
    """A field with three conditional sources."""
    return made(_OS)


LISTED = ("a", 1, 1.0, True)
OTHERS: tuple[Any, ...] = (
    "A",
    "a ",
    "1",
    "true",
    0,
    1.5,
    False,
    None,
    [],
    ["a"],
    {},
    {"a": 1},
    2**70,
    "\u0430",
)
"""Values of which ``[a, 1, true]`` lists none."""


@for_each("value", LISTED)
def test_listed_values_match(filter_: Filter, value: Any) -> None:
    """Texts, numbers however they are written, and booleans; nested, and as flat keys."""
    for event in ({"c": {"os": "linux", "kind": value}}, {"c.os": "linux", "c.kind": value}):
        assert all_ways(filter_, event)[0] == [{"os.type": "linux"}]


@for_each("value", OTHERS)
def test_other_values_do_not(filter_: Filter, value: Any) -> None:
    for event in ({"c": {"os": "linux", "kind": value}}, {"c.os": "linux", "c.kind": value}):
        records, tally = all_ways(filter_, event)
        assert (records, tally.rejected, tally.dropped) == ([], {"nothing_admitted": 1}, {})


@for_each(
    ("listed", "value"), [("1", True), ("0", False), ("true", 1), ("false", 0), ("true", 1.0)]
)
def test_a_flag_is_no_number(listed: str, value: Any) -> None:
    alone = made(_OS.replace("[a, 1, true]", f"[{listed}]"))
    event = {"c": {"os": "linux", "kind": value}}
    assert all_ways(alone, event)[0] == []
    event["c"]["kind"] = json.loads(listed)
    assert all_ways(alone, event)[0] == [{"os.type": "linux"}]


def test_a_condition_looks_beside_the_value_only(filter_: Filter) -> None:
    for event in (
        {"c": {"os": "linux"}, "kind": "a"},
        {"c.os": "linux", "kind": "a"},
        {"c": {"os": "linux"}, "c.kind": "a"},
        {"os": {"type": "linux"}, "kind": "a"},
        {"os.type": "linux"},
    ):
        assert all_ways(filter_, event)[0] == []


def test_the_next_source_is_tried(filter_: Filter) -> None:
    event = {"c": {"os": "linux", "kind": "z"}, "os": "windows", "kind": "b", "on": False}
    assert all_ways(filter_, event)[0] == [{"os.type": "windows"}]
    assert all_ways(filter_, {**event, "on": 0})[0] == []
    last = {"x.y": {"os": "linux", "k.l": 1.5}}
    assert all_ways(filter_, {**event, "on": True, **last})[0] == [{"os.type": "linux"}]


def test_a_refused_value_decides_where_the_condition_holds(filter_: Filter) -> None:
    event = {"c": {"os": "plan9", "kind": "a"}, "os": "windows", "kind": "b", "on": False}
    _, tally = all_ways(filter_, event)
    assert tally.dropped == {"os.type": {"invalid_value": 1}}


class _Hostile:
    """Compares as equal to anything, and breaks when it is hashed."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise AssertionError


class _Text(str):
    __slots__ = ()


FOREIGN = (_Hostile(), _Text("a"), b"a", float("nan"), 1j, {"a"})


@for_each("value", FOREIGN)
def test_hostile_values_are_never_called(filter_: Filter, value: Any) -> None:
    assert not filter_.admit({"c": {"os": "linux", "kind": value}}).records


@for_each("text", ['"\\ud800"', "1e999", "-0", '"a\\u0000"', "[[[[1]]]]", '"' + "a" * 99_999 + '"'])
def test_hostile_texts_match_nothing(filter_: Filter, text: str) -> None:
    """Values that cannot be decoded, or are long."""
    payload = b'{"c":{"os":"linux","kind":%b}}' % text.encode()
    assert not filter_.admit(payload).records
    assert not filter_.admit_lines(payload).records


def test_what_is_compared_is_nowhere(filter_: Filter) -> None:
    for event in ({"c": {"os": "linux", "kind": "a"}}, {"c": {"os": "linux", "kind": "canary"}}):
        admission = filter_.admit(json.dumps(event).encode())
        said = repr(admission) + repr(admission.tally) + admission.encode().decode()
        assert "canary" not in said
        assert "kind" not in said


def test_withheld_fields_count_where_the_condition_holds() -> None:
    filter_ = Filter(sample(_OS), purposes=())
    _, tally = all_ways(filter_, {"c": {"os": "linux", "kind": "a"}})
    assert tally.dropped == {"os.type": {"purpose_refused": 1}}
    assert all_ways(filter_, {"c": {"os": "linux", "kind": "z"}})[1].dropped == {}


@for_each("kind", [{"stringValue": "a"}, {"intValue": "1"}, {"boolValue": True}])
def test_attributes_of_opentelemetry(filter_: Filter, kind: Any) -> None:
    """A member is one of the same attributes; the resource is another object than the item."""
    os = {"key": "c.os", "value": {"stringValue": "linux"}}
    compared = {"key": "c.kind", "value": kind}
    for own, outer, is_kept in (
        ([os, compared], [], True),
        ([], [os, compared], True),
        ([os], [compared], False),
        ([os, {"key": "c.kind", "value": {"stringValue": "z"}}], [compared], False),
    ):
        record = {"attributes": own}
        scopes = [{"logRecords": [record]}]
        body = {"resourceLogs": [{"resource": {"attributes": outer}, "scopeLogs": scopes}]}
        admission = filter_.admit_otlp("logs", json.dumps(body).encode(), protobuf=False)
        assert bool(admission.records) == is_kept


def test_explain_says_which_condition_fails(filter_: Filter) -> None:
    """In names of the schema, and never with the value."""
    (found,) = explain(filter_.router, b'{"c":{"os":"linux","kind":"canary"}}', lines=False)
    assert "when" in str(found.paths["c.os"])
    assert "canary" not in repr(found)


def test_the_record_of_an_sdk_needs_no_condition(filter_: Filter) -> None:
    """It has canonical names, and was filtered once."""
    line = b'{"schema":"sample/1.0.0","os.type":"linux"}\n'
    (batch,) = filter_.admit_records(line)
    assert batch.payload == line


def test_a_schema_without_conditions_has_the_same_code() -> None:
    """The field's own name is the last source of one, and of no other."""
    plain = load_schema("conferencing")
    assert not any(any(column.conditions) for column in Filter(plain).plan.columns)
