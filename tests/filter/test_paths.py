"""Quoted names, elements of lists inside objects, and records in lists within lists."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collector import Admission, Filter
from collector.contracts import Tally
from collector.errors import InputError
from collector.filter import router
from collector.filter.admission import Bounds
from tests.support.make_schemas import REST, sample

_QUOTED = """
  os.type: {kind: enum, values: [linux, windows], from: ['attributes."os.type"'], REST}
  os.name: {kind: enum, values: [Ubuntu], from: ['systems[1]'], REST}
  os.version: {kind: version, from: ['systems[1].version'], REST}
  cpu.count: {kind: integer, minimum: 0, maximum: 64, step: 1, from: ['cpus[1][0].n'], REST}
"""
_NESTED = """
  os.type: {kind: enum, values: [linux, windows], REST}
  device.type: {kind: enum, values: [phone, desktop], REST}
  cpu.count: {kind: integer, minimum: 0, maximum: 64, step: 1, from: [n], REST}
"""
_OPTIONAL = """\
  choice: {use: essential.service.security, basis: consent, reason: Find slow calls, optional: true}
"""


def made(fields: str, more: str = "", purposes: str = "") -> Filter:
    """A filter of these fields."""
    return Filter(sample(fields, more, purposes))


def all_ways(filter_: Filter, event: Any) -> tuple[list[Any], Tally]:
    """The records and the counts of an event, as a mapping, as a document and as a line."""
    text = json.dumps(event).encode()
    mapped, *others = filter_.admit(event), filter_.admit(text), filter_.admit_lines(text)
    for other in others:
        assert other.encode() == mapped.encode()
        other.tally.bytes_in = 0
        assert other.tally == mapped.tally
    return [_values(record) for record in mapped.records], mapped.tally


def _values(record: Any) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "schema"}


@pytest.mark.parametrize(
    ("event", "kept"),
    [
        ({"attributes": {"os.type": "linux"}}, {"os.type": "linux"}),
        ({"attributes": {"os": {"type": "linux"}}}, {}),
        ({"attributes.os.type": "linux"}, {}),
        ({"systems": [0, "Ubuntu"]}, {"os.name": "Ubuntu"}),
        ({"systems": [0, "Ubuntu"], "attributes": []}, {"os.name": "Ubuntu"}),
        ({"systems": [0, {"version": "22.04"}]}, {"os.version": "22.04"}),
        ({"systems": [{"version": "22.04"}]}, {}),
        ({"systems": {"1": "Ubuntu"}}, {}),
        ({"systems[1]": "Ubuntu"}, {}),
        ({"systems": "Ubuntu"}, {}),
        ({"cpus": [None, [{"n": 4}], 3]}, {"cpu.count": 4}),
        ({"cpus": [None, {"0": {"n": 4}}]}, {}),
        ({"cpus": {"1": [{"n": 4}]}}, {}),
    ],
)
def test_names_and_elements(event: Any, kept: dict[str, Any]) -> None:
    """A path leads to exactly what it says, whether that is text, object or list."""
    records, _ = all_ways(made(_QUOTED), event)
    assert records == ([kept] if kept else [])


def test_records_take_what_is_around_them() -> None:
    """The innermost value wins; what has no list, or is none, is counted."""
    filter_ = made(_NESTED, "records: ['people[].qos[]', '.']")
    people = [
        {"device.type": "phone", "n": 7, "qos": [{"n": 1}, {"os.type": "windows"}, 3]},
        {"qos": []},
        {"n": 4},
        7,
        {"qos": {"n": 9}},
        {"qos": [{"n": 5, "device.type": "desktop"}]},
    ]
    records, tally = all_ways(filter_, {"os": {"type": "linux"}, "people": people})
    assert records == [
        {"os.type": "linux", "device.type": "phone", "cpu.count": 1},
        {"os.type": "windows", "device.type": "phone", "cpu.count": 7},
        {"os.type": "linux", "device.type": "desktop", "cpu.count": 5},
    ]
    assert (tally.received, tally.rejected) == (7, {"not_an_object": 4})
    assert all_ways(filter_, {"n": 4})[0] == [{"cpu.count": 4}]
    assert all_ways(filter_, {"n": 4, "people": []})[1].received == 0


def test_three_levels_and_objects() -> None:
    """The last level may be the members of an object."""
    filter_ = made(_NESTED, "records: ['a.b[].\"c.d\"[].reports.*']")
    event = {"a": {"b": [{"c.d": [{"reports": {"x": {"n": 1}, "y": {"n": 2}, "z": 3}}, {}]}, {}]}}
    records, tally = all_ways(filter_, event)
    assert records == [{"cpu.count": 1}, {"cpu.count": 2}]
    assert tally.rejected == {"not_an_object": 2}


def test_choices_at_any_level_hold_below() -> None:
    """Who refuses around a list is heard for all of its records, and for no others."""
    fields = _NESTED.replace("REST}", f"{REST.replace('[ops]', '[choice]')}}}", 1)
    filter_ = made(fields, "records: ['a[].b[]']\nconsent: choices", _OPTIONAL)
    inner = [{"os.type": "linux", "n": 1}, {"os.type": "linux", "n": 2, "choices": ["choice"]}]
    event = {"a": [{"choices": ["choice"], "b": inner[:1]}, {"b": inner}]}
    records, tally = all_ways(filter_, event)
    assert [record.get("os.type") for record in records] == [None, "linux", None]
    assert tally.dropped["os.type"] == {"purpose_refused": 2}


def _received(admission: Admission) -> tuple[int, object]:
    return admission.tally.received, admission.tally.rejected


def test_too_many_are_counted_before_any_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    filter_ = made(_NESTED, "records: ['a[].b[]']")
    event = {"a": [{"b": [{"n": 1}] * 3}, {"b": [{"n": 1}] * 2}, {}]}
    text = json.dumps(event).encode()
    with pytest.raises(InputError):
        filter_.admit_by_grant("json", text, bounds=Bounds(8, 1 << 20))
    assert filter_.admit_by_grant("json", text, bounds=Bounds(9, 1 << 20))[0].tally.received == 6
    monkeypatch.setattr(router, "MAX_ITEMS", 5)
    for form in (event, text):
        assert _received(filter_.admit(form)) == (6, {"too_large": 6})


def test_a_record_refuses_what_is_around_it_too() -> None:
    """A value of the document is withheld from the record that refuses, and from no other."""
    fields = _NESTED.replace("REST}", f"{REST.replace('[ops]', '[choice]')}}}", 1)
    filter_ = made(fields, "records: a\nconsent: choices", _OPTIONAL)
    event = {"os.type": "linux", "a": [{"n": 1, "choices": ["choice"]}, {"n": 2}]}
    records, _ = all_ways(filter_, event)
    assert records == [{"cpu.count": 1}, {"os.type": "linux", "cpu.count": 2}]


def test_a_tuple_is_a_list() -> None:
    """In a mapping, as its elements are read."""
    (record,) = made(_QUOTED).admit({"systems": (0, "Ubuntu")}).records
    assert record["os.name"] == "Ubuntu"
