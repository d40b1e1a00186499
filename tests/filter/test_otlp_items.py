"""Items that are Python objects mean what they would mean as a body, and keep to their places."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import Filter, Schema, load_schema
from collector.contracts import CATEGORIES, Record, Signal
from collector.filter.otlp.items import ItemBatch
from tests.filter.otlp_bodies import bodies
from tests.filter.otlp_reference import items as items_of
from tests.filter.otlp_reference import scopes
from tests.filter.test_laws import granted, made
from tests.strategies import schemas
from tests.support.make_schemas import sample

_NO_METRICS = st.sampled_from([signal for signal in get_args(Signal) if signal != "metrics"])


def _plain(value: Any) -> Any:
    """A value of OTLP as the SDK has it."""
    which = value.WhichOneof("value")
    if which == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    if which == "array_value":
        return tuple(map(_plain, value.array_value.values))
    return None if which is None else getattr(value, which)


def _no_array(value: Any) -> Any:
    """A value without an array on top: a body's are not looked into, these would be."""
    return b"" if type(value) is tuple else value


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _no_array(_plain(pair.value)) for pair in pairs}


def _each(request: Any) -> Iterator[tuple[Any, Any, Any]]:
    """The resource, the scope and the item of each item of a request."""
    for _, resources in request.ListFields():
        for resource, scope in ((one, scope) for one in resources for scope in scopes(one)):
            yield from ((resource.resource, scope.scope, item) for item in items_of(scope))


def _in_order(schema: Schema, *parts: Record) -> str:
    """A record out of its parts, which have nothing in common."""
    values = {name: value for part in parts for name, value in part.items()}
    assert len(values) == sum(map(len, parts))
    return json.dumps({name: values[name] for name in schema.fields if name in values})


@given(st.data(), schemas(), granted, _NO_METRICS)
def test_one_meaning(data: st.DataObject, schema: Schema, purposes: Any, signal: Signal) -> None:
    """An item and its resource together are the record that a body gives, and the counts agree."""
    request = data.draw(bodies(schema, signal))
    tested = made(schema, purposes)
    expected = tested.admit_otlp(signal, request.SerializeToString(), protobuf=True)
    items: ItemBatch[Record] = tested.otlp_items(dict)
    found: Counter[str] = Counter()
    for resource, scope, item in _each(request):
        place = items.context(_attributes(resource.attributes), _attributes(scope.attributes))
        body = signal == "logs" and item.HasField("body")
        admitted = items.admit(place, _attributes(item.attributes), body=body)
        if admitted is not None:
            assert [*admitted[0]] == [name for name in schema.fields if name in admitted[0]]
            found[_in_order(schema, *admitted)] += 1
    counted: Counter[str] = Counter()
    for record in expected.records:
        del record["schema"]
        number = int(record.pop("count", 1))
        counted[json.dumps(record)] += number
    assert found == +counted
    for tally in (expected.tally, items.tally()):
        tally.bytes_in = tally.bytes_out = 0
    assert items.tally().as_dict() == expected.tally.as_dict()


_CONFERENCING = Filter(load_schema("conferencing"))
_LINUX = {"os.type": "Linux", "os.name": "Ubuntu"}


def _admitted(resource: Any, scope: Any, item: Any) -> tuple[Record, Record] | None:
    items: ItemBatch[Record] = _CONFERENCING.otlp_items(dict)
    return items.admit(items.context(resource, scope), item)


@pytest.mark.parametrize(
    ("scope", "item", "own", "rest"),
    [
        ({}, {}, {}, {"os.type": "linux", "os.name": "Ubuntu"}),
        ({}, {"ip": "::1"}, {"client.address": "::1"}, {"os.type": "linux", "os.name": "Ubuntu"}),
        ({}, {"os_type": "iOS"}, {"os.type": "ios"}, {"os.name": "Ubuntu"}),
        ({"os_type": "iOS"}, {}, {"os.type": "ios"}, {"os.name": "Ubuntu"}),
        ({"os_type": "iOS"}, {"os.type": "macOS"}, {"os.type": "darwin"}, {"os.name": "Ubuntu"}),
        ({}, {"os.type": "linux"}, {"os.type": "linux"}, {"os.name": "Ubuntu"}),
        ({}, {"os.type": "a word"}, {}, {"os.name": "Ubuntu"}),
        ({}, {"os.type": 1}, {}, {"os.name": "Ubuntu"}),
        ({}, {"os": {"type": "iOS"}, "os.type": None}, {"os.type": "ios"}, {"os.name": "Ubuntu"}),
    ],
)
def test_what_an_item_says_stays_with_it(scope: Any, item: Any, own: Any, rest: Any) -> None:
    """It comes before the scope, which comes before the resource. What is refused of an item is no
    longer its resource's, either: the record has nothing there."""
    assert _admitted(_LINUX, scope, item) == (own, rest)


class _Name(str):
    """A text of a foreign class, which must not be asked whether it equals another."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        raise AssertionError


class _Text(_Name):
    """One that must not be asked for anything else, either."""

    __slots__ = ()

    def __hash__(self) -> int:
        raise AssertionError


def test_foreign_objects_are_not_asked() -> None:
    plain = {"os.type": "linux", "os.version": _Text("1.2"), "os": {"build_id": _Text("22A1")}}
    pairs = [*plain.items(), (_Name("os.name"), "Ubuntu"), (b"name", "Ubuntu"), (1, "Ubuntu")]
    assert _admitted({}, {}, dict(pairs)) == ({"os.type": "linux"}, {})


def test_resources_are_made_once() -> None:
    items: ItemBatch[object] = _CONFERENCING.otlp_items(lambda _: object())
    places = [items.context({"os.type": "linux", "user": name}, {}) for name in ("Ana", "Ben")]
    made = [items.admit(place, {"ip": f"192.0.2.{n}"}) for n, place in enumerate(places)]
    assert made[0] is not None
    assert made[1] is not None
    assert made[0][1] is made[1][1]


@pytest.mark.parametrize("resource", [{}, {"chat": "ho"}, {"os.type": "a word"}])
def test_content_and_bodies_are_counted(resource: Any) -> None:
    items: ItemBatch[Record] = _CONFERENCING.otlp_items(dict)
    place = items.context(resource, {})
    items.admit(place, {"chat": "hi", "ip": "::1"}, body=True)
    items.admit(place, {"chat": None, "audio": "hi", "ip": "::1"})
    items.admit(place, {"ip": "::1"}, body=True)
    items.reject("malformed")
    tally = items.tally()
    assert (tally.received, tally.admitted, tally.rejected["malformed"]) == (4, 3, 1)
    expected = {"chat": 3 if "chat" in resource else 2, "audio": 1}
    assert {name: tally.content[name] for name in CATEGORIES if tally.content[name]} == expected


_MAC = {"user_agent.original": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari/605.1.15"}


@pytest.mark.parametrize("of_scope", [False, True])
def test_what_a_user_agent_says_belongs_to_its_place(of_scope: bool) -> None:
    """The scope's counts as the item's own."""
    items: ItemBatch[Record] = Filter(load_schema("web")).otlp_items(dict)
    place = items.context({} if of_scope else _MAC, _MAC if of_scope else {"os.type": None})
    found = items.admit(place, {"client.address": "192.0.2.1"})
    assert found is not None
    assert ["os.type" in part for part in found] == [of_scope, not of_scope]


def test_lists_are_not_read() -> None:
    """An item has no elements, even if the schema names one."""
    fields = "  os.type: {kind: enum, values: [linux], from: ['a[0]', b], REST}\n"
    items: ItemBatch[Record] = Filter(sample(fields)).otlp_items(dict)
    nothing = items.context({}, {})
    assert items.admit(nothing, {"a": ["linux"]}) is None
    assert items.admit(nothing, {"b": "linux"}) == ({"os.type": "linux"}, {})


_ONE_USE = "  os.type: {kind: enum, values: [linux], from: [a.b], REST}\n"
_TWO_USES = f"{_ONE_USE}  c: {{kind: boolean, from: [a], expires: 2026-01-01, REST}}\n"


@pytest.mark.parametrize("schema", [sample(_ONE_USE), sample(_TWO_USES)])
def test_any_mapping_has_attributes(schema: Schema) -> None:
    items: ItemBatch[Record] = Filter(schema).otlp_items(dict)
    linux: Any = MappingProxyType({"a.b": "linux", 5: 6})
    found = {"os.type": "linux"}
    assert items.admit(items.context(linux, {}), {}) == ({}, found)
    assert items.admit(items.context({}, linux), {}) == (found, {})
    assert items.admit(items.context({}, {}), linux) == (found, {})


def test_a_batch_shows_its_schema() -> None:
    assert repr(_CONFERENCING.otlp_items(dict)) == f"<ItemBatch of {_CONFERENCING.schema.id}>"
