"""Explanations of events: how many are made, and what is said of members that are near a path."""

from __future__ import annotations

import json

import pytest

from collector import Filter, load_schema
from collector.filter import explain as module
from collector.filter import router as router_module
from collector.filter.explain import (
    ELSEWHERE,
    Explanation,
    FieldOutcome,
    explain,
    known_places,
    unmatched,
)
from collector.filter.judge import OUTSIDE
from tests.filter.test_paths import _OPTIONAL as OPTIONAL
from tests.support.make_schemas import REST, sample

_FILTER = Filter(load_schema("conferencing"), keys=lambda _reference, _period: bytes(32))
_ROUTER = _FILTER.router


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The explanations that are made, whether or not they are given out."""
    found: list[object] = []

    class Counted(module.Explanation):
        def __init__(self, *parts: object, **others: object) -> None:
            super().__init__(*parts, **others)  # type: ignore[arg-type]
            found.append(self)

    monkeypatch.setattr(module, "Explanation", Counted)
    return found


@pytest.mark.parametrize("lines", [True, False])
def test_no_more_are_made_than_asked_for(made: list[object], lines: bool) -> None:
    event = b'{"ip": "203.0.113.7", "device": {"type": "iPhone"}}'
    text = (
        b"\n".join([event, b"{", *[event] * 998]) if lines else b"[%b]" % b",".join([event] * 999)
    )
    assert len(list(explain(_ROUTER, text, lines, 3))) == len(made) == 3
    assert len(list(explain(_ROUTER, text, lines))) in (999, 1000)


def test_what_is_near_a_path() -> None:
    spelled, null, flat = (
        next(explain(_ROUTER, text, lines=True)).paths
        for text in (
            b'{"IP": "203.0.113.7", "Device": 1, "device": {"Type": "iPhone"}}',
            b'{"ip": null, "device": {"type": null}}',
            b'{"device": "iPhone"}',
        )
    )
    assert spelled["ip"] == "`ip` is there in another spelling"
    assert spelled["device.type"] == "`type` is there in another spelling in `device`"
    assert (null["ip"], null["device.type"]) == ("", "`device` is there, without `type`")
    assert flat["device.type"] == "`device` is there, and is no object"


def test_what_is_near_a_path_that_is_withheld() -> None:
    withheld = _FILTER.without(_FILTER.schema.purposes).router
    text = b'{"IP": "203.0.113.7"}'
    assert (
        next(explain(withheld, text, lines=True)).paths
        == next(explain(_ROUTER, text, lines=True)).paths
    )


def test_the_source_is_the_path_that_the_judge_took() -> None:
    for path in ("ip_address", "ip"):
        text = f'{{"{path}": "203.0.113.7"}}'.encode()
        (found,) = explain(_ROUTER, text, lines=False)
        assert found.fields["client.address"].source == path


def test_what_cannot_be_read_is_explained_by_its_reason() -> None:
    for text, reason in ((b'"\xff"', "malformed"), (b"[" * 2000, "too_deep")):
        assert [one.verdict for one in explain(_ROUTER, text, lines=False)] == [reason]


@pytest.mark.parametrize("lines", [True, False])
def test_a_byte_order_mark_is_no_part_of_the_text(lines: bool) -> None:
    text = b'\xef\xbb\xbf{"ip": "203.0.113.7"}'
    (found,) = explain(_ROUTER, text, lines)
    admission = (_FILTER.admit_lines if lines else _FILTER.admit)(text)
    assert (found.verdict, admission.tally.admitted) == ("admitted", 1)


def test_members_of_no_field_are_counted() -> None:
    text = b'{"ip": "::1", "a": 1, "b": {"c": 2}, "device": {"type": "x", "mac": 1}, "chat": [1]}'
    (found,) = explain(_ROUTER, text, lines=False)
    assert (found.unlisted, found.content) == (3, ("chat",))


_OS = "  os.type: {kind: enum, values: [linux, windows], from: [%s], REST}\n"


def one(fields: str, event: object, more: str = "") -> Explanation:
    """The explanation of the only event, or record, under a schema of these fields."""
    filter_ = Filter(sample(fields, more))
    (found,) = explain(filter_.router, json.dumps(event).encode(), lines=True)
    return found


def test_the_paths_of_a_field_with_a_value_are_not_looked_at() -> None:
    both = _OS % "a, b" + _OS.replace("os.type", "os.name") % "c.d, e"
    found = {"os.type": None, "a": None, "b": None, "os.name": "", "e": ""}
    assert one(both, {"a": "linux"}).paths == found | {"c.d": ""}
    near = {"c.d": "`c.d` is there in another spelling"}
    assert one(both, {"a": "other", "C": {"D": 1}}).paths == found | near


def test_the_paths_that_no_event_has() -> None:
    near = [Explanation("", paths={"a": said}) for said in (None, "", "near", "as near")]
    assert unmatched(near) == unmatched(near[2::-1]) == {}
    assert unmatched(near[1:]) == unmatched(near[2:0:-1]) == {"a": "near"}
    assert unmatched(near[1:2]) == {"a": ""}


def test_a_condition_that_is_not_met() -> None:
    field = _OS % "{path: a, when: {k: x}}, {path: a, when: {k: y}}, b"
    wanted = "`a` is there, without what `when` asks for beside it"
    assert one(field, {"a": "linux", "k": "z"}).paths == {"a": wanted, "b": ""}
    assert one(field, {"k": "x"}).paths == {"a": "", "b": ""}


@pytest.mark.parametrize(
    ("event", "source"),
    [
        ({"a": ["linux"]}, "a[0]"),
        ({"b": "linux"}, "b"),
        ([0, {"a": "linux"}], "[1].a"),
        (["linux"], "[0]"),
    ],
)
def test_sources_in_lists(event: object, source: str) -> None:
    found = one(_OS % "'[1].a', 'a[0]', '[0]', b", event)
    assert found.fields["os.type"] == FieldOutcome("kept", source, "linux", "string")


def test_each_event_has_its_own_record() -> None:
    router = Filter(sample(_OS % "o")).router
    found = explain(router, b'{"o":"linux"}\n{"o":"windows"}', lines=True)
    records = [each.record for each in found]
    assert records == [{"schema": "sample/1.0.0", "os.type": o} for o in ("linux", "windows")]


def test_a_record_that_is_not_selected() -> None:
    selects = "records: {path: ., when: {t: x}}"
    chosen, other = (one(_OS % "o", {"o": "linux", "t": t}, selects) for t in "xy")
    selected = '. when t is "x"'
    assert (chosen.verdict, chosen.paths[selected]) == ("admitted", None)
    said = "a record is there, without what `when` asks for"
    assert (other.verdict, other.paths) == ("not_selected", {selected: said})


def test_choices_in_events() -> None:
    """Each event is explained without the purposes that it refuses."""
    fields = (_OS % "o").replace("REST", REST.replace("[ops]", "[choice]"))
    router = Filter(sample(fields, "consent: choices", OPTIONAL)).router
    events = [{"o": "linux", "choices": choices} for choices in (["choice"], [], ["choice"])]
    found = explain(router, b"\n".join(json.dumps(each).encode() for each in events), lines=True)
    outcomes = [each.fields["os.type"].outcome for each in found]
    assert outcomes == ["purpose_refused", "kept", "purpose_refused"]


def test_a_source_outside_the_records() -> None:
    found = one(_OS % "o", {"o": "linux", "list": [{"a": 1}]}, "records: list")
    assert found.fields["os.type"] == FieldOutcome("kept", ELSEWHERE[OUTSIDE], "linux")


@pytest.mark.parametrize(
    ("value", "json_type"),
    [("x", "string"), (1, "number"), (True, "boolean"), (False, "boolean"), ([], "array")],
)
def test_the_type_of_a_value(value: object, json_type: str) -> None:
    found = one(_OS % "o", {"o": value}).fields["os.type"]
    assert (found.source, found.json_type) == ("o", json_type)


@pytest.mark.parametrize(
    ("event", "unlisted"),
    [
        ({"a": [{"b": 1, "c": 2}, 5], "d": {"e": 1, "f": {"g": 1}}}, 3),
        ({"a": {"b": 1}, "d": [1, 2]}, 1),
        ({"a": 1, "d": {"e": 1, "x": 1}, "o": 1}, 2),
        ({"a": []}, 0),
        ([{"b": 1}], 1),
    ],
)
def test_unlisted_members_and_elements(event: object, unlisted: int) -> None:
    assert one(_OS % "'a[0].b', d.e, '[0].c'", event).unlisted == unlisted


def test_lines_that_are_not_read_come_last() -> None:
    text = b'{\n"\xff"\n{"ip": "203.0.113.7"}\n[]\n"\xff"'
    verdicts = [each.verdict for each in explain(_ROUTER, text, lines=True)]
    assert verdicts == ["malformed", "admitted", "not_an_object", "malformed", "malformed"]
    verdicts = [each.verdict for each in explain(_ROUTER, text, lines=True, most=4)]
    assert verdicts == ["malformed", "admitted", "not_an_object", "malformed"]


def test_more_records_than_are_filtered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that is left out gets one explanation, if there is room for it."""
    monkeypatch.setattr(router_module, "MAX_ITEMS", 3)
    router = Filter(sample(_OS % "o", "records: list")).router
    two = {"list": [{"o": "linux"}] * 2}
    text = json.dumps([two, two]).encode()
    every = ["admitted", "admitted", "too_large"]
    for most in range(1, 5):
        found = explain(router, text, lines=False, most=most)
        assert [each.verdict for each in found] == every[:most]


# -- known names -----------------------------------------------------------------------------------


def known(event: object, *places: str, around: tuple[str, ...] = ()) -> dict[str, set[str]]:
    """The known places in one event."""
    return known_places(json.dumps(event).encode(), False, places, around)


def test_known_names() -> None:
    assert known({"a": 1, "b": 2}, "a", "c") == {"a": {"a"}}
    assert known({"Os-Type": 1}, "os.type", "os_type") == {"Os-Type": {"os.type", "os_type"}}
    assert known({"os": {"type": 1, "x": 2}, "type": 1}, "os.type") == {"os.type": {"os.type"}}
    assert known({"os": {"type": 1}}, "type") == {}
    assert known({"os": {"type": 1}, "x": {"type": 1}}, "type", around=("os",)) == {
        "os.type": {"type"}
    }
    assert known({"os type": 1, "os": 1, "": 1}, "os.type") == {}


def test_the_depth_of_known_names() -> None:
    """A place has at most three parts; they end a path of at most six."""
    nested = {"e": {"b": {"c": {"d": 1}}, "d": 1}}
    assert known(nested, "b.c.d", around=("e",)) == {"e.b.c.d": {"b.c.d"}}
    assert known(nested, "e.d", "c.d", around=("e", "b")) == {
        "e.d": {"e.d"},
        "e.b.c.d": {"c.d"},
    }
    assert known(nested, "e.b.c.d") == {}
    deep: object = 1
    for _ in range(8):
        deep = {"a": deep}
    assert known(deep, "a", around=("a",)) == {
        ".".join("a" * depth): {"a"} for depth in range(1, 7)
    }


def test_the_events_with_known_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_EVENTS", 3)
    lines = b'{"a": 1}\n{\n{"b": 1}\n{"c": 1}'
    assert known_places(lines, True, "abc", ()) == {"a": {"a"}, "b": {"b"}}
    events = [{"a": [{"b": 1}]}, 1, {"b": 1}, {"c": 1}]
    assert known(events, *"abc") == {"a": {"a"}, "b": {"b"}}
    assert known_places(b'[{"a": 1}]', True, "a", ()) == {}
    assert known({"a": [{"b": 1}]}, "a.b") == {}
