"""What a request says of its sender, and that it counts only where its one event says nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collector import Filter, load_schema
from collector.errors import InputError
from collector.filter.admission import Bounds
from tests.filter.test_derive import PHONE, WINDOWS
from tests.filter.test_laws import AS_OF
from tests.support.make_schemas import sample


def filled(more: str = "", document: str = "") -> Filter:
    """A filter whose address and system a request may fill."""
    schema = sample(
        f"  client.address: {{kind: ip, from: [ip], source: peer{more}, REST}}\n"
        "  os.type: {kind: enum, values: [windows, android], derive: user_agent, REST}\n"
        "  device.type: {kind: enum, values: [phone, kiosk], REST}\n",
        document,
    )
    return Filter(schema, as_of=AS_OF)


def fields_of(admission: Any) -> list[dict[str, Any]]:
    return [{key: r[key] for key in r if key != "schema"} for r in admission.records]


KIOSK = {"device.type": "kiosk"}
FILLED = KIOSK | {"client.address": "203.0.113.7", "os.type": "windows"}
SAYS: Any = {"peer": "203.0.113.7", "user_agent": WINDOWS}


def test_a_request_may_say_one_of_both() -> None:
    """Its address without a user agent, and the other way round."""
    tested = filled()
    for name, field in (("peer", "client.address"), ("user_agent", "os.type")):
        for event in (KIOSK, json.dumps(KIOSK).encode()):
            admission = tested.admit(event, **{name: SAYS[name]})
            assert fields_of(admission) == [KIOSK | {field: FILLED[field]}]


@pytest.mark.parametrize(
    ("event", "record"),
    [
        (KIOSK, FILLED),
        (KIOSK | {"ip": None}, FILLED),
        (KIOSK | {"ip": "198.51.100.1"}, FILLED | {"client.address": "198.51.100.1"}),
        (KIOSK | {"user_agent.original": PHONE}, FILLED | {"os.type": "android"}),
        (KIOSK | {"ip": "not an address"}, KIOSK | {"os.type": "windows"}),
        (KIOSK | {"os.type": "plan9"}, KIOSK | {"client.address": "203.0.113.7"}),
        (KIOSK | {"user_agent.original": "curl/8"}, KIOSK | {"client.address": "203.0.113.7"}),
        ({"user_agent.original": WINDOWS}, {"client.address": "203.0.113.7", "os.type": "windows"}),
        ({}, None),
        ({"unlisted": 1}, None),
        ({"device.type": "toaster"}, None),
        ({"user_agent.original": "curl/8"}, None),
    ],
)
def test_only_where_the_event_says_nothing(
    event: dict[str, Any], record: dict[str, Any] | None
) -> None:
    """A value of the event wins, even one that is refused; and what a request says is no record."""
    filter_ = filled()
    text = json.dumps(event)
    for admission in (
        filter_.admit(text, **SAYS),
        filter_.admit(f"[{text}]", **SAYS),
        filter_.admit(event, **SAYS),
        filter_.admit_lines(f"\n{text}\n\n", **SAYS),
    ):
        assert fields_of(admission) == ([] if record is None else [record])
        rejected = {} if record else {"nothing_admitted": 1}
        assert admission.tally.rejected == rejected
        assert admission.tally.received == 1


def test_only_for_one_event() -> None:
    """Two events, or an event and what is none, are not filled."""
    filter_, text = filled(), json.dumps(KIOSK)
    assert fields_of(filter_.admit(f"[{text},{text}]", **SAYS)) == [KIOSK, KIOSK]
    assert fields_of(filter_.admit_lines(f"{text}\n{text}", **SAYS)) == [KIOSK, KIOSK]
    assert fields_of(filter_.admit_lines(f"{text}\n!", **SAYS)) == [KIOSK]


def test_one_record_of_a_document() -> None:
    """A document around a single record is one event; around two it is two."""
    filter_ = filled(document="records: people\n")
    for number, record in ((1, FILLED), (2, KIOSK)):
        event = {"people": [KIOSK] * number}
        for given_ in (event, json.dumps(event)):
            assert fields_of(filter_.admit(given_, **SAYS)) == [record] * number


def test_what_comes_of_it_is_judged() -> None:
    admission = filled().admit(KIOSK, peer="fe80::1", user_agent=WINDOWS)
    assert fields_of(admission) == [KIOSK | {"os.type": "windows"}]
    assert admission.tally.dropped == {"client.address": {"invalid_value": 1}}


def test_a_required_address() -> None:
    """The peer is the address that is required; alone it is still no record."""
    filter_ = filled(", required: true")
    assert fields_of(filter_.admit(KIOSK, **SAYS)) == [FILLED]
    assert filter_.admit(KIOSK).tally.rejected == {"missing_required": 1}
    assert filter_.admit({}, **SAYS).tally.rejected == {"nothing_admitted": 1}


def test_withheld_fields_are_not_filled() -> None:
    admission = filled(", expires: 2026-01-01").admit(KIOSK, **SAYS)
    assert fields_of(admission) == [KIOSK | {"os.type": "windows"}]
    assert not admission.tally.dropped


@pytest.mark.parametrize("odd", [7, b"203.0.113.7", ["203.0.113.7"], object()])
def test_only_texts_are_taken(odd: Any) -> None:
    """Anything else says nothing."""
    assert fields_of(filled().admit(KIOSK, peer=odd, user_agent=odd)) == [KIOSK]


def test_schemas_that_do_not_say_so() -> None:
    """Nothing is filled, whatever a request says."""
    filter_ = Filter(load_schema("conferencing"), as_of=AS_OF)
    assert fields_of(filter_.admit({"device.type": "phone"}, **SAYS)) == [{"device.type": "phone"}]


def test_elements_around_a_single_event_count_once() -> None:
    tested = filled(document="records: ['a[].b[]']\n")
    event: dict[str, Any] = {"a": [{"b": []}] * 5 + [{"b": [KIOSK]}]}
    for form in (event, json.dumps(event).encode()):
        (admission,) = tested.admit_by_grant("json", form, bounds=Bounds(7, 1000), **SAYS)
        assert fields_of(admission) == [FILLED]
        with pytest.raises(InputError):
            tested.admit_by_grant("json", form, bounds=Bounds(6, 1000), **SAYS)
