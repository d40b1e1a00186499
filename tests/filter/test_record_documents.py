"""Documents around records, which are decoded whole if they are small."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collector import load_schema
from collector.filter.records import MAX_ITEMS, may_be_typed
from tests.filter.test_laws import made, reference, same

PLAIN = [{"ip_address": "203.0.113.7", "device": "iOS"}, {"unlisted": [1]}, {"ip_address": 5}]


def text_of(document: Any) -> bytes:
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "document",
    [
        {"participants": PLAIN},
        {"participants": PLAIN, "device": "Windows", "chat": "x", "unlisted": {"chat": 1}},
        {"participants": [*PLAIN, {"chat": ["x"]}, {"transcript": None}], "ip_address": "::1"},
        {"participants": [{}], "ip_address": {"a": 1}},
        {"participants": []},
        {"participants": [*PLAIN, 5]},
        {"participants": [{"client": 5}]},
        {"participants": {"0": PLAIN[0]}},
        {"participants": None},
        {},
        [],
    ],
)
def test_documents(document: Any) -> None:
    """A record of a wrong type costs itself, not the document, whatever its size."""
    schema, text = load_schema("participants-qos"), text_of(document)
    tested, expected = made(schema), reference(schema)
    for payload in (text, text_of({"large": "x" * (1 << 18)} | document) if document else text):
        same(tested.admit(payload), expected.admit(payload))
        same(tested.admit_lines(payload), expected.admit_lines(payload))


def test_a_document_is_small_for_its_objects() -> None:
    """Decoded into their types, objects of three bytes would take a hundred times as much."""
    dense = b'{"participants":[' + b"{}," * (MAX_ITEMS - 1) + b"{}]}"
    assert not may_be_typed(dense)
    assert not may_be_typed(memoryview(dense))
    assert may_be_typed(dense[: 1 << 15])
    usual = b'{"ip_address": "203.0.113.7", "device": "iOS", "user_id": "0123"},'
    assert may_be_typed(usual * 1000)
    assert not may_be_typed(usual * 5000)
