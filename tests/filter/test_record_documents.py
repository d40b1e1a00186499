"""The fast path of documents around records: that it is taken, and means what the others mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import Filter, Schema, load_schema
from collector.filter.records import MAX_ITEMS, may_be_typed
from collector.filter.router import EventRouter
from tests.filter.test_laws import NOW, fresh, granted, made, reference, same
from tests.strategies import events, schemas

PLAIN = [{"ip_address": "203.0.113.7", "device": "iOS"}, {"unlisted": [1]}, {"ip_address": 5}]


def slowly(schema: Schema, purposes: Any = None) -> Filter:
    """A filter that decodes documents and records apart."""
    made_so = fresh(schema, purposes)
    made_so.router._documents = lambda _: None  # type: ignore[assignment]
    return made_so


def text_of(document: Any) -> bytes:
    return json.dumps(document).encode()


@given(st.data(), schemas().filter(lambda schema: schema.records is not None), granted)
def test_both_paths_agree(data: st.DataObject, schema: Schema, purposes: Any) -> None:
    """Fast path = slow path = reference, for documents and lines of them."""
    drawn = data.draw(st.lists(events(schema, plain=True, now=NOW), min_size=1, max_size=3))
    lines = b"\n".join(map(text_of, drawn))
    expected = reference(schema, purposes).admit_lines(lines)
    for tested in (made(schema, purposes), slowly(schema, purposes)):
        same(tested.admit_lines(lines), expected)
        same(tested.admit(text_of(drawn[0])), reference(schema, purposes).admit(text_of(drawn[0])))


@pytest.mark.parametrize(
    "document",
    [
        {"participants": PLAIN},
        {"participants": PLAIN, "device": "Windows", "chat": "x", "unlisted": {"chat": 1}},
        {"participants": [*PLAIN, {"chat": ["x"]}, {"transcript": None}], "ip_address": "::1"},
        {"participants": [{}], "ip_address": {"a": 1}},
        {"participants": []},
    ],
)
def test_usual_documents_take_the_fast_path(document: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With content and without, and whatever stands around the records."""
    schema, text = load_schema("participants-qos"), text_of(document)
    expected = slowly(schema).admit(text)
    tested = Filter(schema)
    monkeypatch.setattr(EventRouter, "_read", None)
    for found in (tested.admit(text), tested.admit_lines(text), tested.admit(memoryview(text))):
        assert (found.encode(), found.tally) == (expected.encode(), expected.tally)


@pytest.mark.parametrize(
    "document",
    [
        {"participants": [*PLAIN, 5]},
        {"participants": [{"client": 5}]},
        {"participants": {"0": PLAIN[0]}},
        {"participants": None},
        {},
        [],
    ],
)
def test_unusual_documents_are_read_apart(document: Any) -> None:
    """A record of a wrong type costs itself, not the document."""
    schema, text = load_schema("participants-qos"), text_of(document)
    found, expected = made(schema).admit(text), slowly(schema).admit(text)
    assert (found.encode(), found.tally) == (expected.encode(), expected.tally)
    same(found, reference(schema).admit(text))


def test_a_document_is_small_for_its_objects() -> None:
    """Decoded into their types, objects of three bytes would take a hundred times as much."""
    dense = b'{"participants":[' + b"{}," * (MAX_ITEMS - 1) + b"{}]}"
    assert not may_be_typed(dense)
    assert not may_be_typed(memoryview(dense))
    assert may_be_typed(dense[: 1 << 15])
    usual = b'{"ip_address": "203.0.113.7", "device": "iOS", "user_id": "0123"},'
    assert may_be_typed(usual * 1000)
    assert not may_be_typed(usual * 5000)
