"""The context of a record: what is around it counts for each record, as its own would."""

from __future__ import annotations

from typing import Any

import pytest

from tests.filter.test_derive import WINDOWS
from tests.filter.test_paths import all_ways, made
from tests.filter.test_sender_info import filled

_FIELDS = """
  os.type: {kind: enum, values: [linux, windows], derive: user_agent, REST}
  cpu.count: {kind: integer, minimum: 0, maximum: 64, step: 1, REST}
  device.type: {kind: enum, values: [phone], expires: 2020-01-01, REST}
"""
_TWO = {"list": [{"cpu.count": 1}, {"cpu.count": 2, "os.type": "linux"}]}
_ONE, _OTHER = {"cpu.count": 1}, {"os.type": "linux", "cpu.count": 2}


@pytest.mark.parametrize(
    ("around", "records", "dropped", "content"),
    [
        ({}, [_ONE, _OTHER], {}, {}),
        ({"os.type": "windows"}, [{"os.type": "windows"} | _ONE, _OTHER], {}, {}),
        ({"os.type": "plan9"}, [_ONE, _OTHER], {"os.type": {"invalid_value": 1}}, {}),
        ({"os.type": []}, [_ONE, _OTHER], {"os.type": {"wrong_type": 1}}, {}),
        ({"device.type": "phone"}, [_ONE, _OTHER], {"device.type": {"expired": 2}}, {}),
        ({"chat": ["x"]}, [_ONE, _OTHER], {}, {"chat": 2}),
        ({"chat": None}, [_ONE, _OTHER], {}, {}),
        ({"user_agent.original": WINDOWS}, [{"os.type": "windows"} | _ONE, _OTHER], {}, {}),
        (
            {"user_agent.original": WINDOWS, "os.type": "linux"},
            [{"os.type": "linux"} | _ONE, _OTHER],
            {},
            {},
        ),
    ],
)
def test_what_is_around_counts_for_each(
    around: Any, records: Any, dropped: Any, content: Any
) -> None:
    found, tally = all_ways(made(_FIELDS, "records: list"), around | _TWO)
    assert found == records
    assert (tally.dropped, tally.content) == (dropped, content)


def test_the_sender_is_around_everything() -> None:
    """It fills what the document around the only record does not have, and is no record alone."""
    filter_ = filled(document="records: people\n")
    says: Any = {"peer": "203.0.113.7", "user_agent": WINDOWS}
    for around, kept in (
        ({}, {"client.address": "203.0.113.7", "os.type": "windows"}),
        ({"ip": "::1"}, {"client.address": "::1", "os.type": "windows"}),
        ({"user_agent.original": "curl/8"}, {"client.address": "203.0.113.7"}),
    ):
        event = {**around, "people": [{"device.type": "kiosk"}]}
        (record,) = filter_.admit(event, **says).records
        assert {name: record[name] for name in kept} == kept
        assert ("os.type" in record) == ("os.type" in kept)
    assert filter_.admit({"people": [{}]}, **says).tally.rejected == {"nothing_admitted": 1}
