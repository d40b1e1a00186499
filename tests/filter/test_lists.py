"""Events that are lists, and records under several ways: dumps of WebRTC statistics."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collector import Filter, load_schema
from collector.filter.records import MAX_ITEMS
from tests.filter.schema_cases import counts
from tests.support.make_schemas import sample

WEBRTC = Filter(load_schema("webrtc"))


def made(records: Any, sources: list[str]) -> Filter:
    """A filter of one address."""
    field = f"  client.address: {{kind: ip, from: {json.dumps(sources)}, REST}}\n"
    return Filter(sample(field, f"records: {json.dumps(records)}"))


def addresses(filter_: Filter, *events: Any) -> list[str | None]:
    """The addresses of the records of lines."""
    payload = b"\n".join(json.dumps(event).encode() for event in events)
    records = filter_.admit_lines(payload).records
    return [record.get("client.address") for record in records]  # type: ignore[misc]


def test_a_dump() -> None:
    """Each candidate is a record, so is a lone report; everything else is counted."""
    dump = [
        "RTCStatsDump",
        '{"path":"/","userAgent":"Mozilla/5.0 (X11; Ubuntu; Linux x86_64)","url":"https://a.example"}',
        '["create","PC_0",{"iceServers":[{"urls":"turn:192.0.2.1"}]},1]',
        '["setLocalDescription","PC_0",{"type":"offer","sdp":"c=IN IP4 192.0.2.2"},2]',
        '["getstats","PC_0",{"a":{"ip":"192.0.2.3","type":"localcandidate"},"timestamp":3},3]',
        '["getstats","PC_0",{"b":{"address":"192.0.2.4","type":"local-candidate"}},3]',
        '["getstats","PC_0",{"ipAddress":"192.0.2.5","type":"local-candidate"},4]',
        '["getstats","PC_0",{},5]',
        '{"type":"local-candidate","address":"192.0.2.6"}',
        '["getstats","PC_0",{"a":{"ip":"192.0.2.7:50000"},"b":{"label":"Ana\'s microphone"}},6]',
        "[]",
        "7",
    ]
    admission = WEBRTC.admit_lines("\n".join(dump))
    found = [record.get("client.address") for record in admission.records]
    assert found == [None, "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"]
    assert admission.records[0]["os.name"] == "Ubuntu"
    assert counts(admission) == {
        "admitted": 5,
        "malformed": 1,
        "not_an_object": 1,
        "nothing_admitted": 6,
    }


def test_without_an_index_a_list_is_no_event() -> None:
    line = json.dumps(["getstats", "PC_0", {"address": "192.0.2.1"}])
    for filter_ in (Filter(load_schema("conferencing")), made(".", ["address"])):
        assert counts(filter_.admit_lines(line)) == {"admitted": 0, "not_an_object": 1}


def test_elements() -> None:
    filter_ = made(".", ["[2].net.ip", "[0]", "ip"])
    ip, other = "192.0.2.1", "192.0.2.2"
    for event, found in (
        *(([None, 1, {"net": {"ip": ip}}], ip), ([None, 1, {"net.ip": ip}], ip)),
        *(([other, 1, {"net.ip": ip}], ip), ([other, 1, {"net.ip": None}], other)),
        *(([other], other), ([other, *range(10_000)], other), ({"ip": ip}, ip)),
    ):
        assert addresses(filter_, event) == [found]
    refused: tuple[Any, ...] = (
        *([], [None], [1], [[ip]], {"2": {"net.ip": ip}}, {"[0]": ip}, {"0": ip}, [1, 2, 3]),
    )
    assert addresses(filter_, *refused) == []


def test_a_document_is_many_events() -> None:
    """The outer list of a document holds events, which may be lists."""
    filter_ = made(".", ["[1]"])
    admission = filter_.admit(b'[["a","192.0.2.1"],"b",["c","192.0.2.2"]]')
    assert [record["client.address"] for record in admission.records] == ["192.0.2.1", "192.0.2.2"]
    assert counts(admission) == {"admitted": 2, "not_an_object": 1}
    assert counts(filter_.admit(b'["a","192.0.2.1"]')) == {"admitted": 0, "not_an_object": 2}


def test_the_first_way_that_is_there_decides() -> None:
    """A list, then the objects in an object, then the event itself."""
    filter_ = made(["list", "objects.*", "."], ["ip"])
    ips = [f"192.0.2.{number}" for number in range(9)]
    one, two, three = ({"ip": ip} for ip in ips[:3])
    for event, found in (
        ({"list": [one, two], "objects": {"a": three}, "ip": ips[3]}, ips[:2]),
        ({"list": None, "objects": {"a": one, "b": two}}, ips[:2]),
        ({"objects": {"a": 1, "b": one, "c": [two]}}, ips[:1]),
        ({"objects": {"a": {}}, "ip": ips[3]}, [ips[3]]),  # the outer value is merged in
        ({"objects": {"a": 1}, "ip": ips[3]}, [ips[3]]),
        ({"objects": [one], "ip": ips[3]}, [ips[3]]),
        ({"objects": 1, "ip": ips[3]}, [ips[3]]),
        ({"ip": ips[3]}, [ips[3]]),
        ({"list": [], "ip": ips[3]}, []),
        ({"list": 1, "ip": ips[3]}, []),
    ):
        assert addresses(filter_, event) == found
        assert [r["client.address"] for r in filter_.admit(event).records] == found
    assert counts(filter_.admit({"list": 1})) == {"admitted": 0, "not_an_object": 1}
    assert counts(filter_.admit({"list": []})) == {"admitted": 0}


def test_without_a_way() -> None:
    """If no way is there, the event is none."""
    filter_ = made(["a", "b.*"], ["ip"])
    events: list[dict[str, Any]] = [{}, {"a": None}, {"b": {}}, {"b": {"x": 1}}]
    for event in (*events, {"b": [{"ip": "192.0.2.1"}]}):
        assert counts(filter_.admit(event)) == {"admitted": 0, "not_an_object": 1}
        assert counts(filter_.admit_lines(json.dumps(event))) == {"admitted": 0, "not_an_object": 1}


@pytest.mark.parametrize(
    "member", [b'"%d":{"ip":"192.0.2.1"}', b'"%d":0'], ids=["objects", "numbers"]
)
def test_too_many_members(member: bytes) -> None:
    """An object of more members than a document may have records is not taken apart."""
    filter_ = made(["b.*", "."], ["ip"])
    for number in (MAX_ITEMS, MAX_ITEMS + 1):
        payload = b'{"b":{%b}}' % b",".join(member % n for n in range(number))
        expected = (
            {"admitted": 0, "too_large": 1}
            if number > MAX_ITEMS
            else {"admitted": 0, "nothing_admitted": 1}
            if member.endswith(b"0")
            else {"admitted": MAX_ITEMS}
        )
        assert counts(filter_.admit_lines(payload)) == expected
        assert counts(filter_.admit(json.loads(payload))) == expected


def test_members_of_many_documents_count_together() -> None:
    filter_ = made(["b.*"], ["ip"])
    half = b",".join(b'"%d":{"ip":"192.0.2.1"}' % n for n in range(MAX_ITEMS // 2 + 1))
    admission = filter_.admit(b'[{"b":{%b}},{"b":{%b}}]' % (half, half))
    assert counts(admission) == {"admitted": MAX_ITEMS // 2 + 1, "too_large": MAX_ITEMS // 2 + 1}


def test_what_is_granted_does_not_decide_what_an_event_is() -> None:
    """Although the only path into lists, the user agent's, is not looked at without its purpose."""
    schema = sample(
        "  os.type: {kind: enum, values: [windows], derive: user_agent, REST}",
        "user_agent: ['[0]']",
    )
    for purposes in (None, ()):
        filter_ = Filter(schema, purposes=purposes)
        assert counts(filter_.admit_lines("[]\n[1]")) == {"admitted": 0, "nothing_admitted": 2}


def test_an_object_where_a_text_is_wanted() -> None:
    """A member that is a value of one field and the way to another's: each takes its own."""
    filter_ = Filter(
        sample(
            "  os: {kind: enum, values: [linux], REST}\n"
            "  os.name: {kind: token, pattern: '[a-z]{1,3}', REST}\n"
            "  os.name.x: {kind: boolean, expires: 2020-01-01, REST}\n"
        )
    )
    cases: list[tuple[Any, dict[str, str], dict[str, Any]]] = [
        ({"os": "linux"}, {"os": "linux"}, {}),
        ({"os": {"name": "a"}}, {"os.name": "a"}, {"os": {"wrong_type": 1}}),
        ({"os": {"name": {"x": 1}}}, {}, {"os": {"wrong_type": 1}, "os.name": {"wrong_type": 1}}),
        ({"os": 1}, {}, {"os": {"wrong_type": 1}}),
        ({"os": [1]}, {}, {"os": {"wrong_type": 1}}),
        ({"os": "plan9"}, {}, {"os": {"invalid_value": 1}}),
    ]
    for event, record, dropped in cases:
        for given in (event, json.dumps(event)):
            admission = filter_.admit(given)
            found = [{k: r[k] for k in r if k != "schema"} for r in admission.records]
            assert found == ([record] if record else [])
            counted: Any = admission.tally.as_dict().get("dropped", {})
            assert {k: v for k, v in counted.items() if k != "os.name.x"} == dropped
