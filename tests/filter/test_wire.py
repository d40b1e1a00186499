"""The messages of a protobuf body are counted before it is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collector import Filter, load_schema
from collector.contracts import Signal
from collector.filter.otlp import protobuf_body, wire
from tests.filter.otlp_bodies import SIGNALS, bodies
from tests.filter.otlp_bombs import field, varint
from tests.filter.otlp_reference import events

CONFERENCING = Filter(load_schema("conferencing"))


@given(st.data(), st.sampled_from(SIGNALS))
def test_a_survey_counts_what_is_there(data: st.DataObject, signal: Signal) -> None:
    """The items of a body, and no fewer messages than there are ways to items."""
    request = data.draw(bodies(CONFERENCING.schema, signal))
    body, known = request.SerializeToString(), protobuf_body.messages(signal)
    number = len(list(events(request)))
    items, parts = wire.count_messages(body, known.items), wire.count_messages(body, known.parts)
    assert items.items == parts.items == number
    assert items.parts <= parts.parts
    assert not items.is_too_large
    assert not parts.is_too_deep


@given(st.binary(max_size=300))
def test_a_survey_of_noise(body: bytes) -> None:
    """It ends, with counts or without."""
    for signal in SIGNALS:
        try:
            found = wire.count_messages(body, protobuf_body.messages(signal).parts)
        except wire.NotProtobuf:
            continue
        assert found.parts + found.items <= len(body) // 2


def short_fields() -> st.SearchStrategy[bytes]:
    number = st.sampled_from([1, 2, 3, 5, 6, 15, 16, 2047, 2048, 99_999])
    text = st.binary(max_size=40)
    return st.one_of(
        st.builds(field, number, text),
        st.builds(lambda n, v: varint(n << 3) + varint(v), number, st.integers(0, 2**64 - 1)),
        st.builds(lambda n, v: varint(n << 3 | 1) + v, number, st.binary(min_size=8, max_size=8)),
        st.builds(lambda n, v: varint(n << 3 | 5) + v, number, st.binary(min_size=4, max_size=4)),
    )


@given(st.lists(short_fields(), max_size=30))
def test_short_fields_are_counted_in_runs(fields: list[bytes]) -> None:
    shape = wire.MessageShape({2: wire.MessageShape(is_item=True), 5: wire.MessageShape()})
    found = wire.count_messages(b"".join(fields), shape)
    assert found.items == sum(each[0] == 2 << 3 | 2 for each in fields)
    assert found.parts == sum(each[0] == 5 << 3 | 2 for each in fields)


_Tree = list[tuple[int, Any]]
"""A message: the numbers of its members, and the messages that they are."""
_NOTHING: _Tree = []
_TREES: st.SearchStrategy[_Tree] = st.recursive(
    st.just(_NOTHING),
    lambda inner: st.lists(st.tuples(st.sampled_from([1, 2, 3, 15, 2047]), inner), max_size=4),
)


@given(_TREES)
@example([(1, [(2, []), (15, [(2, []), (3, [])])]), (2, []), (2047, [(1, [])]), (1, [])])
def test_nested_messages_are_counted(tree: _Tree) -> None:
    """Each member that is known, where it is known, empty or not."""
    part = wire.MessageShape({2: wire.MessageShape(is_item=True), 3: wire.MessageShape()})
    part.members |= {1: part, 15: part}

    def written(tree: _Tree) -> bytes:
        return b"".join(field(number, written(inner)) for number, inner in tree)

    def known(tree: _Tree) -> Iterator[int]:
        for number, inner in tree:
            if number != 2047:
                yield number
            if number in (1, 15):
                yield from known(inner)

    found, numbers = wire.count_messages(written(tree), part), [*known(tree)]
    assert (found.items, found.items + found.parts) == (numbers.count(2), len(numbers))


@given(st.binary(max_size=30) | _TREES.map(lambda tree: b"\x12" * len(tree)), st.integers(0, 5))
def test_a_quick_count_misses_no_message(body: bytes, most: int) -> None:
    tags = bytes(number << 3 | 2 for number in (1, 2, 3, 15))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "MAX_PARTS", most)
        patch.setattr(wire, "PIECE", 4)
        expected = len(body) > 2 * most and sum(byte & 0x7F in tags for byte in body) > most
        assert wire.may_exceed(body, tags) == expected


@pytest.mark.parametrize("size", [0, 31, 32, 127, 128, 129, 255, 256, 16_383, 16_384])
def test_messages_of_any_length(size: int) -> None:
    """Their lengths are read, whether they have one byte or several, and so are numbers of fields;
    what they hold is looked at, and what follows them."""
    leaf = wire.MessageShape()
    part = wire.MessageShape({1: leaf, 3: wire.MessageShape({1: leaf})})
    for spare in range(6):  # one of which makes the outer message as long as that, too
        inner = field(9, bytes(max(0, size - spare))) + field(1, b"")
        for number in (3, 15, 16, 17, 2047, 2048):
            body = field(number, inner) + field(1, b"\xff" * size) + field(1, b"")
            found = wire.count_messages(body, part)
            assert (found.items, found.parts) == (0, 4 if number == 3 else 2)


@pytest.mark.parametrize(
    "body",
    [
        *(b"\x08", b"\x08\x80", b"\x08" + b"\x80" * 10 + b"\x01"),  # numbers
        *(b"\x09" + bytes(7), b"\x0d" + bytes(3)),
        *(
            b"\x12",
            b"\x12\x05abcd",
            b"\x12\x80",
            b"\x12\x80\x00",
            b"\x12\x80\x00\x01" + bytes(128),
        ),  # lengths
        *(b"\x80", b"\x90\x00", b"\x80" * 11 + b"\x01"),  # tags
        *(b"\x0b\x00", b"\x0c", b"\x0e", b"\x0f"),  # groups, and what is nothing
        *(b"\x83\x01" + bytes(4), b"\x86\x01\x00", b"\x87\x01" + bytes(8)),
    ],
)
def test_what_is_no_protobuf(body: bytes) -> None:
    """Alone, after a field, and inside a message, of which it has one byte too few."""
    inner = wire.MessageShape({2: wire.MessageShape()})
    shape = wire.MessageShape({1: inner})
    for damaged in (body, b"\x10\x01" + body, field(1, body), field(1, b"\x10\x01" + body)):
        with pytest.raises(wire.NotProtobuf):
            wire.count_messages(damaged, shape)
    wire.count_messages(field(1, b"\x10\x01") * 2, shape)


def test_a_quick_count_knows_each_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag, and one that is written longer than needed; no other byte. Nothing has no levels."""
    monkeypatch.setattr(wire, "MAX_PARTS", 4)
    for byte in range(256):
        found = [wire.may_exceed(bytes([byte]) * size, b"\x0a\x12") for size in (8, 9)]
        assert found == [False, byte in b"\x0a\x12\x8a\x92"]
    assert wire.may_exceed(b"\x0a" * 5 + bytes(4), b"\x0a")
    assert not wire.may_exceed(b"\x0a" * 4 + bytes(5), b"\x0a")
    assert wire.count_messages(b"", wire.MessageShape()) == wire.MessageCounts(0, 0, 0)


def test_when_a_walk_ends() -> None:
    for parts, levels, is_beyond in (
        (wire.MAX_PARTS, wire.MAX_LEVELS, False),
        (400_001, 101, True),
    ):
        counts = wire.MessageCounts(0, parts, levels)
        assert (counts.is_too_large, counts.is_too_deep) == (is_beyond, is_beyond)
