"""Telemetry of other products: each template admits what its tests expect, and nothing else.

The events are made up after the public documentation that the head of each file names.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from typing import Any

import orjson

from collector import Filter, Schema, load_schema
from collector.filter.schema_test import run_tests
from collector.schema import resources
from collector.schema.lints import lint
from tests.support.rows import for_each

FILES = resources.templates()
MOST_FIELDS = 12
CANARIES: tuple[Any, ...] = (
    *("canary-42", 4111111111111111, -41111111.5, "4111111111111111 ms"),
    *(["canary-42"], {"canary-42": "canary-42"}, True),
)


@cache
def schema(product: str) -> Schema:
    return load_schema(FILES[product])


@cache
def filter_of(product: str) -> Filter:
    return Filter(schema(product))


def records(product: str, event: Any) -> bytes:
    """The records of an event, which are the same of a text and of a mapping; of a list, those of
    its lines."""
    lines = event if isinstance(event, list) else [event]
    found = filter_of(product).admit_lines(b"\n".join(map(orjson.dumps, lines))).encode()
    if isinstance(event, dict):
        assert filter_of(product).admit(event).encode() == found
    return found


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of an event that holds something: objects and lists, and what is in them."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def replaced(event: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = inner = deepcopy(event)
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


@for_each("product", FILES)
def test_exactly_the_expected_records(product: str) -> None:
    """A schema has few fields and nothing that looks like a mistake, and its tests pass."""
    assert 1 <= len(schema(product).fields) <= MOST_FIELDS
    assert lint(schema(product), FILES[product]) == []
    outcomes = [*run_tests(schema(product))]
    assert outcomes
    assert [outcome for outcome in outcomes if not outcome.passed] == []


@for_each("product", FILES)
def test_nothing_else(product: str) -> None:
    """A text, a number, a list or an object that stands in place of anything never comes out."""
    for test in schema(product).tests:
        assert records(product, test.event).count(b"\n") == len(expected(test.keeps))
        for path in places(test.event):
            for canary in CANARIES:
                found = records(product, replaced(test.event, path, canary))
                assert b"canary" not in found
                assert b"4111" not in found


@for_each("product", FILES)
def test_what_is_not_listed_changes_nothing(product: str) -> None:
    """Further members of any object make no difference."""
    for test in schema(product).tests:
        usual = records(product, test.event)
        for path in places(test.event):
            added: Any = deepcopy(test.event)
            inner = added
            for key in path:
                inner = inner[key]
            if isinstance(inner, dict):
                inner["canary-42"] = "canary-42"
                assert records(product, added) == usual


def test_otlp() -> None:
    (test,) = schema("otel").tests
    event: Any = test.event
    attributes: list[Any] = [{"key": name, "value": _any(event[name])} for name in event]
    of_resource = [each for each in attributes if each["key"][:3] in ("os.", "dev", "hos", "ser")]
    body = {
        "resourceLogs": [
            {
                "resource": {"attributes": of_resource},
                "scopeLogs": [
                    {
                        "scope": {"name": "canary", "attributes": []},
                        "logRecords": [
                            {
                                "timeUnixNano": "1700000000000000000",
                                "body": {"stringValue": "canary"},
                                "attributes": [a for a in attributes if a not in of_resource],
                            }
                        ],
                    }
                ],
            }
        ]
    }
    admitted = filter_of("otel").admit_otlp("logs", orjson.dumps(body), protobuf=False)
    assert admitted.encode() == records("otel", test.event)
    assert admitted.tally.content == {"chat": 1}


def _any(value: Any) -> dict[str, Any]:
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_any(each) for each in value]}}
    return {"stringValue": value}


def expected(keeps: Any) -> list[Any]:
    return keeps if isinstance(keeps, list) else [keeps] if keeps else []
