"""Maps of events, ``records: "*"``: each object in what arrives is an event."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collector import Filter
from collector.contracts import Tally
from collector.schema import Schema
from tests.support.make_schemas import REST, sample

_REPORTS: dict[str, Any] = {
    "IT01V": {"os": {"name": "iOS"}, "inner": {"os": {"name": "Android"}}},
    "OT02A": {"os.name": "Android", "kind": "out"},
    "version": 3,
    "os": [{"name": "iOS"}],
}


def _made(records: Any, more: str = "", purposes: str = "", used: str = "ops") -> Schema:
    field = f"  os.name: {{kind: enum, values: [iOS, Android], {REST.replace('ops', used)}}}"
    return sample(field, f"records: {json.dumps(records)}\n{more}", purposes)


def _names(tested: Filter, payload: Any) -> list[Any]:
    return [record.get("os.name") for record in tested.admit(payload).records]


@pytest.mark.parametrize("records", ["*", ["*"]])
@pytest.mark.parametrize("form", [lambda event: event, lambda event: json.dumps(event).encode()])
def test_each_object_is_an_event(records: Any, form: Any) -> None:
    assert _names(Filter(_made(records)), form(_REPORTS)) == ["iOS", "Android"]


def test_lists_and_lines_of_maps() -> None:
    """Each map of a document's list and of lines gives its events, in order."""
    tested, text = Filter(_made("*")), json.dumps(_REPORTS).encode()
    whole = tested.admit(b"[%b,%b]" % (text, text))
    lines = tested.admit_lines(b"%b\n\n{bad\n%b" % (text, text))
    assert whole.encode() == lines.encode()
    assert (whole.tally.received, lines.tally.received) == (4, 5)
    assert lines.tally.rejected == {"malformed": 1}


def test_content_is_counted_and_no_event() -> None:
    """An object under a name of content is never looked into."""
    event = _REPORTS | {"chat": {"os": {"name": "iOS"}}, "audio": [1], "video": None}
    for payload in (event, json.dumps(event).encode()):
        tally = Filter(_made("*")).admit(payload).tally
        assert (tally.received, tally.content) == (2, {"chat": 1, "audio": 1})


def test_content_counts_whatever_the_events_refuse() -> None:
    """It lies around the events, so it is counted with what refuses nothing."""
    use = "{use: functional.service.improve, basis: consent, optional: true, reason: Improve it}"
    tested = Filter(_made("*", "consent: choices", f"  more: {use}\n", "ops, more"))
    event = {"a": {"os.name": "iOS", "choices": {"more": False}}, "chat": "x"}
    for payload in (event, json.dumps(event).encode()):
        found = [each.tally for each in tested.admit_by_grant("json", payload)]
        assert [(tally.received, dict(tally.content)) for tally in found] == [
            (0, {"chat": 1}),
            (1, {}),
        ]


def test_content_is_never_compared() -> None:
    class Foreign:
        def __eq__(self, other: object) -> bool:
            raise AssertionError

        __hash__ = None  # type: ignore[assignment]

    event = {"a": {"os.name": "iOS"}, "chat": Foreign()}
    assert Filter(_made("*")).admit(event).tally.content == {"chat": 1}


def test_a_deep_map_is_no_event() -> None:
    tested = Filter(_made("*"))
    verdicts = set()
    for depth in range(1, 1010):
        deep = b"[" * depth + b"]" * depth
        admission = tested.admit(
            b'{"os": {"name": "iOS"}, "a": {"os": {"name": 3}}, "": %b}' % deep
        )
        assert not admission.records
        verdicts |= {*admission.tally.rejected}
    assert verdicts == {"nothing_admitted", "too_deep"}


def test_a_condition_selects_events() -> None:
    """The others are counted."""
    found = Filter(_made({"path": "*", "when": {"kind": "out"}})).admit(_REPORTS)
    assert [record.get("os.name") for record in found.records] == ["Android"]
    assert found.tally.rejected == {"not_selected": 1}


@pytest.mark.parametrize("payload", [b"{}", b'{"a": 1}', b"3", b"[3]", {}, {"a": [{}]}])
def test_what_holds_no_event_is_counted_once(payload: Any) -> None:
    """It is no object, or holds none."""
    tally = Filter(_made("*")).admit(payload).tally
    assert tally.rejected == {"not_an_object": 1}


@pytest.mark.parametrize("member", [{}, 0, "x" * 60])
def test_too_many_are_too_large(member: Any) -> None:
    """All members count, whatever they are and however long they are; nothing else is counted."""
    event: dict[str, Any] = {str(number): member for number in range(50_000)} | {"chat": "x"}
    for payload in (event, json.dumps(event).encode()):
        tally: Tally = Filter(_made("*")).admit(payload).tally
        assert (tally.received, tally.rejected) == (50_001, {"too_large": 50_001})
        assert not tally.content


def test_a_long_list_is_no_map() -> None:
    """Among lines, it is one event that is no object."""
    tally = Filter(_made("*")).admit_lines(b"[%b]" % b",".join([b"0"] * 60_000)).tally
    assert (tally.received, tally.rejected) == (1, {"not_an_object": 1})


def test_it_stands_alone() -> None:
    """Beside other paths it is a fault, since each of them would decide for the other."""
    with pytest.raises(AssertionError):
        _made(["items", "*"])
