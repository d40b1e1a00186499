"""Events that are Python objects: what counts in them, and that nothing of them is kept."""

from __future__ import annotations

import sys
from collections import Counter, UserDict
from types import MappingProxyType
from typing import Any

import pytest

from collector import Filter, load_schema
from collector.errors import InputError
from collector.filter.admission import Bounds
from tests.filter.schema_cases import schema_case
from tests.filter.test_foreign import Key, Text, hostile
from tests.filter.test_laws import NOW, made

EVENT = b'{"ip_address": "203.0.113.7", "os": {"type": "linux"}, "chat": ["never decoded"]}'
ADDRESS = b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.7"}\n'
ODD_KEYS: tuple[Any, ...] = (7, None, b"ip", ("ip",), "\ud800", Text("os"), Key("os"))


def test_other_keys_are_not_looked_at() -> None:
    """Among the members of the event, of an object above a field, or elsewhere."""
    tested = made(load_schema("conferencing"))
    for key in ODD_KEYS:
        odd = {key: "canary"}
        for event in (
            odd | {"ip": "203.0.113.7"},
            {"device": {"model": odd}, "ip": "203.0.113.7"},
            {"unlisted": odd, "ip": "203.0.113.7"},
        ):
            assert tested.admit(event).encode() == ADDRESS


class Like:
    """What ``msgspec.convert`` would ask for its members."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)

    def __getitem__(self, key: str) -> Any:
        raise AssertionError(key)


def test_what_is_like_a_dictionary_is_none() -> None:
    """On the way to a field only a plain dictionary is an object; nothing else is asked."""
    tested = made(load_schema("conferencing"))
    for inner in (
        *(type("Object", (dict,), {})(type="linux"), MappingProxyType({"type": "linux"})),
        *(UserDict(type="linux"), Like(), hostile(dict), hostile(object), [("type", "linux")]),
    ):
        assert tested.admit({"os": inner, "ip": "203.0.113.7"}).encode() == ADDRESS


def test_what_kinds_raise_is_not_taken_for_a_faulty_key() -> None:
    """An error of the caller's own ``keys``, of whatever class, comes out."""
    schema = schema_case("every-kind").schema
    calls = iter([bytes(32)])

    def keys(_reference: str, _period: int) -> bytes:
        for key in calls:
            return key
        raise ValueError("the caller's")

    tested = Filter(schema, as_of=NOW, keys=keys)
    for event in ({"device.id": "anything"}, b'{"device.id": "anything"}'):
        with pytest.raises(ValueError, match="the caller's"):
            tested.admit(event)


def test_nothing_of_the_event_is_kept() -> None:
    """Neither an event nor a part of it is referenced once it is admitted, except admitted texts;
    the same event gives the same again."""
    tested = made(load_schema("conferencing"))
    event: Any = {"os": {"type": "linux"}, "chat": [object()], "unlisted": [object()]}
    parts = (event, event["os"], event["chat"], event["unlisted"], event["chat"][0])
    before = list(map(sys.getrefcount, parts))
    first, second = tested.admit(event), tested.admit(event)
    assert list(map(sys.getrefcount, parts)) == before
    assert first.encode() == second.encode()
    assert first.tally == second.tally
    assert first.tally.content == Counter(chat=1)


@pytest.mark.parametrize("text", [b'{"x": "\xff"}', b'{"x":' * 1001 + b"1" + b"}" * 1001])
def test_what_must_not_be_parsed_is_not(text: bytes) -> None:
    """No UTF-8, and too deep a nesting."""
    assert made(load_schema("conferencing")).admit(text).tally.rejected.total() == 1


def test_the_record_of_a_single_event_is_bounded() -> None:
    """By its bytes, as those of others are."""
    tested = made(load_schema("conferencing"))
    (admission,) = tested.admit_by_grant("json", EVENT, bounds=Bounds(1, 1000))
    assert admission.tally.admitted == 1
    with pytest.raises(InputError, match="E416"):
        tested.admit_by_grant("json", EVENT, bounds=Bounds(1, 10))
