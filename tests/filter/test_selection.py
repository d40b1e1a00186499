"""Records of which only those count whose members have listed values."""

from __future__ import annotations

import json
from typing import Any

from collector import Filter
from collector.filter.explain import explain, unmatched
from collector.ingest.responses import export_json, export_protobuf
from collector.sdk.objects import ObjectReader
from tests.filter.otlp_reference import REQUESTS, key_value
from tests.filter.test_conditions import FOREIGN, LISTED, OTHERS
from tests.filter.test_paths import all_ways, made
from tests.support.rows import for_each

_FIELDS = """
  os.type: {kind: enum, values: [linux, windows], from: [os], REST}
  cpu.count: {kind: integer, minimum: 0, maximum: 64, step: 1, from: [n], REST}
"""
_ONE = "records: {path: list, when: {type: [a, 1, true], x.y: z}}"
_ITSELF = "records: [{path: ., when: {type: [a, 1, true], x.y: z}}]"
_FITS = {"type": "a", "x.y": "z"}


def _filter(records: str) -> Filter:
    return made(_FIELDS, records)


@for_each("value", LISTED)
def test_listed_values_select(value: Any) -> None:
    """A record of a list, and an event that is the record itself."""
    record = {"os": "linux", "type": value, "x.y": "z"}
    for records, event in ((_ONE, {"list": [record]}), (_ITSELF, record)):
        found, tally = all_ways(_filter(records), event)
        assert (found, tally.rejected) == ([{"os.type": "linux"}], {})


@for_each("value", OTHERS)
def test_others_are_counted_and_nothing_of_them(value: Any) -> None:
    record = {"os": 7, "chat": ["canary"], "type": value, "x.y": "z"}
    for records, event in ((_ONE, {"list": [record]}), (_ITSELF, record)):
        found, tally = all_ways(_filter(records), event)
        assert (found, tally.received, tally.rejected) == ([], 1, {"not_selected": 1})
        assert (tally.dropped, tally.content, tally.refused) == ({}, {}, 0)


def test_the_record_itself_is_looked_at() -> None:
    filter_ = _filter(_ONE)
    for around, record in (
        (_FITS, {"os": "linux"}),
        ({}, {"os": "linux", "type": "a"}),
        ({"x.y": "z"}, {"os": "linux", "type": "a"}),
        ({}, {"os": "linux", "type": "a", "x": {"y": "z"}}),
    ):
        assert all_ways(filter_, {**around, "list": [record]})[1].rejected == {"not_selected": 1}


def test_no_other_way_is_tried() -> None:
    filter_ = _filter("records: [{path: list, when: {type: a}}, '.']")
    assert all_ways(filter_, {"list": [], "os": "linux"})[1].received == 0
    event = {"list": [{"n": 1}], "os": "linux"}
    assert all_ways(filter_, event)[1].rejected == {"not_selected": 1}
    assert all_ways(filter_, {"os": "linux"})[0] == [{"os.type": "linux"}]
    assert all_ways(filter_, {"list": 1, "os": "linux"})[1].rejected == {"not_an_object": 1}


def test_each_way_has_its_own() -> None:
    """A list, the members of an object, and the event itself, which is one event of a batch."""
    asked = {"list": "a", "by.*": "b", ".": "c"}
    ways = ", ".join(f"{{path: {way}, when: {{type: {one}}}}}" for way, one in asked.items())
    filter_ = _filter(f"records: [{ways}]")
    records = [{"n": 1, "type": "a"}, {"n": 2, "type": "b"}, {"n": 3, "type": "c"}, 4, {"n": "x"}]
    named = dict(zip("pqrst", records, strict=True))
    assert all_ways(filter_, {"list": records})[0] == [{"cpu.count": 1}]
    assert all_ways(filter_, {"by": named})[0] == [{"cpu.count": 2}]
    assert [all_ways(filter_, event)[0] for event in records[:3]] == [[], [], [{"cpu.count": 3}]]
    tally = all_ways(filter_, {"list": records})[1]
    assert tally.rejected == {"not_selected": 3, "not_an_object": 1}
    lines = b"\n".join(json.dumps(event).encode() for event in ({"list": records}, *records[:3]))
    counted = filter_.admit_lines(lines).tally
    assert (counted.received, counted.admitted, counted.refused) == (8, 2, 1)


def test_records_in_lists_of_lists() -> None:
    """The condition is one of the innermost; elements without a list are no objects."""
    filter_ = _filter("records: {path: 'people[].qos[]', when: {type: a}}")
    people = [{"type": "a", "qos": [{"n": 1}, {"n": 2, "type": "a"}]}, {"type": "a"}]
    found, tally = all_ways(filter_, {"people": people, "type": "a", "os": "linux"})
    assert found == [{"os.type": "linux", "cpu.count": 2}]
    assert tally.rejected == {"not_selected": 1, "not_an_object": 1}


def test_events_that_are_lists_have_no_members() -> None:
    fields = _FIELDS.replace("[os]", "['[1].os']")
    event = ["x", {"os": "linux", **_FITS}]
    filter_ = made(fields, _ITSELF)
    assert filter_.admit_lines(json.dumps(event)).tally.rejected == {"not_selected": 1}
    filter_ = made(fields, _ONE)
    assert all_ways(filter_, {"list": [event]})[1].rejected == {"not_selected": 1}


@for_each("size", [1, 600, 5000])
def test_small_and_large_documents(size: int) -> None:
    """Decoded whole, or record by record; and records whose types take the slow path."""
    records: list[Any] = [
        {"n": number % 64, "type": ["a", "b"][number % 2], "x.y": "z", "pad": "x" * 40}
        for number in range(size)
    ]
    records += [{"n": 1, "os": {}, **_FITS}, {"n": {}, "type": []}]
    found, tally = all_ways(_filter(_ONE), {"list": records})
    assert len(found) == (size + 1) // 2 + 1
    assert tally.rejected == {"not_selected": size // 2 + 1}


def test_consent_decides_nothing_about_it() -> None:
    """What is not selected is so whatever is refused, and withheld fields of it do not count."""
    filter_ = _filter(_ONE)
    event = {"list": [{"os": "linux"}, {"os": "linux", **_FITS}]}
    for chosen in (filter_, Filter(filter_.schema, purposes=())):
        tally = all_ways(chosen, event)[1]
        assert tally.rejected["not_selected"] == 1
        assert tally.dropped.get("os.type", {}) in ({}, {"purpose_refused": 1})


@for_each("value", FOREIGN)
def test_foreign_values_select_nothing(value: Any) -> None:
    record = {"os": "linux", "type": value, "x.y": "z"}
    for records, event in ((_ONE, {"list": [record]}), (_ITSELF, record)):
        assert _filter(records).admit(event).tally.rejected == {"not_selected": 1}


def test_what_is_compared_is_nowhere() -> None:
    filter_ = _filter(_ONE)
    text = json.dumps({"list": [{"n": 1, **_FITS}, {"n": 1, "type": "canary"}]}).encode()
    admission = filter_.admit(text)
    found = list(explain(filter_.router, text, lines=False))
    said = repr(admission) + repr(admission.tally) + admission.encode().decode() + repr(found)
    assert "canary" not in said
    assert [each.verdict for each in found] == ["admitted", "not_selected"]


def test_explain_says_what_is_asked_for() -> None:
    """In words of the schema, as long as no record of a sample has it."""
    filter_ = _filter("records: {path: list, when: {type: a}}")
    asked = 'list when type is "a"'
    without = list(explain(filter_.router, b'{"list":[{"n":1},{"type":3}]}', lines=False))
    assert "`when`" in unmatched(without)[asked]
    assert not without[0].fields
    (found,) = explain(filter_.router, b'{"list":[{"n":1,"type":"a"}]}', lines=False)
    assert asked not in unmatched([*without, found])


def test_an_object_of_a_program_is_read_for_it() -> None:
    """A dataclass or a model is asked for the members that are compared too."""
    filter_ = _filter(_ITSELF)
    assert {"type", "x.y"} <= ObjectReader(filter_)._tree.keys()


def test_records_of_an_sdk_were_selected_before() -> None:
    """They have canonical names, and what was compared is not in them."""
    line = b'{"schema":"sample/1.0.0","os.type":"linux"}\n'
    (batch,) = _filter(_ITSELF).admit_records(line)
    assert batch.payload == line


def _logs(*records: dict[str, Any]) -> bytes:
    request = REQUESTS["logs"]()
    scope = request.resource_logs.add().scope_logs.add()
    for record in records:
        item = scope.log_records.add()
        item.attributes.extend(key_value(pair) for pair in record.items())
    return request.SerializeToString()  # type: ignore[no-any-return]


_ITEMS = {"os": "linux", **_FITS}, {"os": "linux"}, {"os": "windows", "type": "b", "x.y": "z"}


@for_each(
    ("records", "kept"),
    [
        (_ITSELF, 1),
        (_ONE, 1),
        ("records: [{path: list, when: {type: b}}, {path: ., when: {type: a}}]", 1),
        ("records: [{path: list, when: {type: b}}, {path: way, when: {type: a}}]", 2),
        ("records: [{path: list, when: {type: b}}, way]", 3),
    ],
)
def test_items_of_opentelemetry(records: str, kept: int) -> None:
    """Each is a record: of `.` where the schema has that, else of whichever way it fits."""
    filter_ = _filter(records)
    admission = filter_.admit_otlp("logs", _logs(*_ITEMS), protobuf=True)
    assert admission.tally.admitted == kept
    assert admission.tally.rejected == ({"not_selected": 3 - kept} if kept < 3 else {})
    for item in _ITEMS:
        alone = filter_.admit_otlp("logs", _logs(item), protobuf=True, peer="203.0.113.7").tally
        assert alone.received == 1
        mapped = filter_.admit(dict(item)).tally
        if "." in filter_.schema.ways:
            assert (alone.admitted, alone.rejected) == (mapped.admitted, mapped.rejected)
    batch = filter_.otlp_items(dict)
    context = batch.context({"service.name": "x", "type": "a"}, {})
    assert sum(batch.admit(context, item) is not None for item in _ITEMS) == kept
    assert batch.tally().rejected == admission.tally.rejected


def test_a_partial_success_leaves_them_out() -> None:
    """Items that nobody asks for are no failure of the sender, who would count them as lost."""
    filter_ = _filter(_ITSELF)
    tally = filter_.admit_otlp("logs", _logs(*_ITEMS), protobuf=True).tally
    assert (export_json("logs", tally), export_protobuf(tally)) == (b"{}", b"")
    items = {"os": "linux"}, {**_FITS}
    tally = filter_.admit_otlp("logs", _logs(*items), protobuf=True).tally
    partial = json.loads(export_json("logs", tally))["partialSuccess"]
    assert partial == {
        "rejectedLogRecords": "1",
        "errorMessage": "rejected: nothing_admitted 1; `collector explain --live` says why",
    }
    assert b"not_selected" not in export_protobuf(tally)
