"""The fast path of single documents: that it is taken, and means what the slow path means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import Filter, InputError, Schema, load_schema
from collector.filter.admission import Bounds
from collector.filter.mapping import unsupported
from tests.filter.test_laws import NOW, fresh, granted, made, reference, same
from tests.strategies import events, schemas

EVENT = b'{"ip_address": "203.0.113.7", "os": {"type": "linux"}, "chat": ["never decoded"]}'


def slowly(schema: Schema, purposes: Any = None) -> Filter:
    """A filter that leaves every document to the slow path."""
    made_so = fresh(schema, purposes)
    made_so.router._admit_document = unsupported
    return made_so


@given(st.data(), schemas(), granted)
def test_both_paths_agree(data: st.DataObject, schema: Schema, purposes: Any) -> None:
    """Fast path = slow path = reference, for whatever JSON can say."""
    text = json.dumps(data.draw(events(schema, plain=True, now=NOW))).encode()
    expected = reference(schema, purposes).admit(text)
    for tested in (made(schema, purposes), slowly(schema, purposes)):
        same(tested.admit(text), expected)
        (admission,) = tested.admit_by_grant("json", text)[:1]
        if schema.consent is None:
            same(admission, expected)


def test_usual_documents_take_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """With content, fields of a wrong type or with invalid values, keys in any spelling."""
    tested = Filter(load_schema("conferencing"))
    texts = [
        EVENT,
        b" {}",
        b'{"ip": 5, "os": {"type": null}}',
        b'{"os": {"version": "call me"}, "\\u0069p": 1}',
    ]
    expected = [slowly(tested.schema).admit(text) for text in texts]
    monkeypatch.setattr(Filter, "_admissions", None)
    for text, wanted in zip(texts, expected, strict=True):
        found = tested.admit(text)
        assert (found.encode(), found.tally, found.records) == (
            wanted.encode(),
            wanted.tally,
            wanted.records,
        )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"\xef\xbb\xbf" + EVENT,
        b"[" + EVENT + b"]",
        b"5",
        b"null",
        b'{"os": 5}',
        EVENT[:-1],
    ],
)
def test_unusual_documents_are_left_to_the_slow_path(text: bytes) -> None:
    """Byte order marks, lists, and all that the types refuse."""
    assert made(load_schema("conferencing")).router.admit_document(text) is None


@pytest.mark.parametrize("text", [b'{"x": "\xff"}', b'{"x":' * 1001 + b"1" + b"}" * 1001])
def test_what_must_not_be_parsed_is_not(text: bytes) -> None:
    """No UTF-8, and too deep a nesting."""
    assert made(load_schema("conferencing")).admit(text).tally.rejected.total() == 1


def test_its_records_are_bounded() -> None:
    """By their bytes, as those of the slow path are."""
    tested = made(load_schema("conferencing"))
    (admission,) = tested.admit_by_grant("json", EVENT, bounds=Bounds(1, 1000))
    assert admission.tally.admitted == 1
    with pytest.raises(InputError, match="E416"):
        tested.admit_by_grant("json", EVENT, bounds=Bounds(1, 10))
