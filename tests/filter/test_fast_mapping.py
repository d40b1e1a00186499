"""The fast path of mappings: that it means what the slow one means, and what it leaves to it."""

from __future__ import annotations

import sys
from collections import Counter, UserDict
from functools import cache
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import Filter, Schema, load_schema
from collector.filter.admission import Admission
from collector.filter.mapping import unsupported
from tests.filter.schema_cases import EVERY_FIELD, outcome, schema_case
from tests.filter.test_foreign import FOREIGN, Key, Text, hostile
from tests.filter.test_laws import NOW, SHIPPED, fresh, granted, load_once, made, reference, same
from tests.strategies import events, schemas

ADDRESS = b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.7"}\n'
ODD_KEYS: tuple[Any, ...] = (7, None, b"ip", ("ip",), "\ud800", Text("os"), Key("os"))


def slowly(schema: Schema, purposes: Any = None) -> Filter:
    """A filter that leaves every mapping to the slow path."""
    made_so = fresh(schema, purposes)
    made_so.router.admit_mapping = unsupported
    return made_so


@cache
def both(name: str) -> tuple[Filter, Filter]:
    return made(load_once(name)), slowly(load_once(name))


@given(st.data(), schemas(), granted)
def test_both_paths_agree(data: st.DataObject, schema: Schema, purposes: Any) -> None:
    """Fast path = slow path = reference, for any mapping, foreign types and keys included."""
    event = data.draw(events(schema, now=NOW))
    expected = reference(schema, purposes).admit(event)
    same(made(schema, purposes).admit(event), expected)
    same(slowly(schema, purposes).admit(event), expected)


@pytest.mark.parametrize("name", SHIPPED)
@given(st.data())
def test_both_paths_agree_under_the_shipped_schemas(name: str, data: st.DataObject) -> None:
    """The same for the schemas that are shipped, whose names of content are many."""
    event = data.draw(events(load_once(name), now=NOW))
    fast, slow = both(name)
    same(fast.admit(event), slow.admit(event))


@given(st.data(), schemas())
def test_the_fast_path_takes_all_that_json_can_say(data: st.DataObject, schema: Schema) -> None:
    """Every mapping whose keys are texts, unless records may lie in it, or something is read below
    content, or as an object and as a list."""
    event = data.draw(events(schema, plain=True, now=NOW))
    router = made(schema).router
    paths = [path for path in router.plan.paths if type(path[0]) is str]  # others are of lists
    below = {(path[:at], type(path[at])) for path in paths for at in range(1, len(path))}
    is_both = len({above for above, _ in below}) < len(below)
    is_taken = router.admit_mapping(event) is not None
    is_usual = not router.plan.records and not router.plan.reads_below_content
    assert is_taken == (is_usual and not is_both)


def test_other_keys_are_left_to_the_slow_path() -> None:
    """Among the members of the event or of an object above a field; elsewhere they are not read."""
    tested = made(load_schema("conferencing"))
    for key in ODD_KEYS:
        odd = {key: "canary"}
        for event in (odd | {"ip": "203.0.113.7"}, {"device": {"model": odd}, "ip": "203.0.113.7"}):
            assert tested.router.admit_mapping(event) is None
            assert tested.admit(event).encode() == ADDRESS
        taken = {"unlisted": odd, "chat": odd, "ip": "203.0.113.7"}
        assert tested.router.admit_mapping(taken) is not None


@pytest.mark.parametrize(("schema", "is_asked"), [("conferencing", True), ("web", False)])
def test_what_a_request_says_is_left_to_the_slow_path(schema: str, is_asked: bool) -> None:
    """Where the schema looks at it; elsewhere it changes nothing."""
    tested, asked = fresh(load_schema(schema)), list[Any]()
    fast = tested.router.admit_mapping

    def admit_mapping(event: dict[Any, Any]) -> Admission | None:
        asked.append(event)
        return fast(event)

    tested.router.admit_mapping = admit_mapping
    admission = tested.admit({"device.type": "phone"}, peer="192.0.2.1", user_agent="canary")
    assert len(asked) == is_asked
    (record,) = admission.records
    assert record.get("client.address") == (None if is_asked else "192.0.2.1")


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
        admission = tested.router.admit_mapping({"os": inner, "ip": "203.0.113.7"})
        assert admission is not None
        assert admission.encode() == ADDRESS


@pytest.mark.parametrize(("schema", "name"), EVERY_FIELD)
def test_foreign_values_are_taken_and_dropped(schema: str, name: str) -> None:
    """A foreign value costs its field, and no second look at the event."""
    made_case = schema_case(schema)
    if made_case.schema.records is not None:
        return
    slow = slowly(made_case.schema)
    for field_path in made_case.field_paths(name):
        for value in FOREIGN:
            admission = made_case.filter.router.admit_mapping(field_path.event(value))
            assert admission is not None
            assert outcome(admission) == outcome(slow.admit(field_path.event(value)))


def test_what_kinds_raise_is_not_taken_for_a_faulty_key() -> None:
    """An error of the caller's own ``keys``, of whatever class, comes out."""
    schema = schema_case("every-kind").schema
    calls = iter([bytes(32)])

    def keys(_reference: str, _period: int) -> bytes:
        for key in calls:
            return key
        raise ValueError("the caller's")

    tested = Filter(schema, as_of=NOW, keys=keys)
    with pytest.raises(ValueError, match="the caller's"):
        tested.admit({"device.id": "anything"})


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
