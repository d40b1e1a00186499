"""What is counted of a sample of requests, and where the sample ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collector import Filter
from collector.contracts import Form, Request
from collector.filter import live_sample
from collector.filter.live_sample import LiveSample
from collector.filter.sample_counts import Seen, cell
from tests.support.make_schemas import NOW, sample

_FIELDS = """\
  os.type: {kind: enum, values: [linux, windows], from: [o, {path: p, when: {q: 1}}], REST}
  client.address: {kind: ip, from: [ip], source: peer, REST}
"""
FILTER = Filter(sample(_FIELDS), as_of=NOW)
LINUX = b'{"o":"linux"}'
PEER = "192.0.2.1"


def looked(*requests: Request, filter_: Filter = FILTER, **options: Any) -> Seen:
    """What a sample of requests holds of one schema."""
    made = LiveSample(**({"clock": lambda: 1.0, "spent": lambda: 0.0} | options))
    for request in requests:
        made.look(request, filter_)
    assert repr(made) == "<LiveSample of 1 schemas>"
    (seen,) = made.end().values()
    return seen


def otlp(*values: object) -> bytes:
    """Log records, each with the attribute ``o``."""
    logs = [
        {"attributes": [{"key": "o", "value": {"stringValue": value}}]} if value else {}
        for value in values
    ]
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": logs}]}]}).encode()


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        ({"o": "linux"}, ("kept", "string")),
        ({"o": "other"}, ("invalid_value", "string")),
        ({"o": 1}, ("wrong_type", "number")),
        ({"a": 1}, ("absent", None)),
        ({"O": "linux"}, ("near", None)),
        ({"p": "linux"}, ("near", None)),
    ],
)
def test_the_outcome_of_a_field(event: object, outcome: tuple[str, str | None]) -> None:
    seen = looked(Request("json", json.dumps(event).encode()))
    assert seen.fields["os.type"] == {cell(*outcome): 1}


def test_the_fields_of_telemetry() -> None:
    seen = looked(Request("logs", otlp("linux", "linux", "other", "")))
    assert seen.verdicts == {"admitted": 2, "nothing_admitted": 2}
    outcomes = {"kept": 2, "invalid_value": 1, "absent": 1}
    assert seen.fields["os.type"] == {
        cell(outcome, None): times for outcome, times in outcomes.items()
    }


@pytest.mark.parametrize(
    ("form", "body", "is_used"),
    [
        ("json", LINUX, True),
        ("json", b"[%b]" % LINUX, False),
        ("ndjson", LINUX, False),
        ("logs", otlp("linux"), True),
        ("logs", otlp("linux", "linux"), False),
    ],
)
def test_the_sender_of_a_single_event(form: Form, body: bytes, is_used: bool) -> None:
    seen = looked(Request(form, body, peer=PEER))
    outcome = cell("kept" if is_used else "absent", None)
    assert seen.fields["client.address"].keys() == {outcome}


def test_the_sender_of_records_in_a_document() -> None:
    filter_ = Filter(sample(_FIELDS, "records: list"))
    seen = looked(Request("json", b'{"list":[%b]}' % LINUX, peer=PEER), filter_=filter_)
    assert seen.fields["client.address"] == {cell("absent", None): 1}


def records(*minutes: int) -> bytes:
    """As many records in each minute."""
    record = '{"schema":"sample/1.0.0","os.type":"linux","received":"2026-11-24T10:%02d:00Z"}\n'
    return "".join(record % at * number for at, number in enumerate(minutes)).encode()


@pytest.mark.parametrize(
    ("form", "fits", "exceeds"),
    [
        ("logs", otlp(*["linux"] * 3), otlp(*["linux"] * 4)),
        ("records", records(3), records(4)),
        ("records", records(2, 1), records(4, 4)),
    ],
)
def test_a_request_that_is_counted_whole_or_not_at_all(
    form: Form, fits: bytes, exceeds: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_sample, "MOST_IN_SECOND", 3)
    assert looked(Request(form, fits)).events == 3
    assert looked(Request(form, exceeds)).events == 0
    again = looked(Request(form, exceeds), Request(form, fits), Request(form, fits))
    assert (again.events, again.fields["os.type"]) == (3, {cell("kept", None): 3})


def test_minutes_of_records_are_counted_while_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_sample, "MOST_IN_SECOND", 3)
    assert looked(Request("records", records(2, 2, 1))).events == 3


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_the_longest_document(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_sample, "_MOST_BYTES", len(LINUX))
    assert looked(Request(form, LINUX)).verdicts == {"admitted": 1}
    assert looked(Request(form, LINUX + b" ")).events == 0


@pytest.mark.parametrize("most", range(2 * len(LINUX) + 2, 3 * len(LINUX) + 2))
def test_whole_lines_of_a_long_body(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_sample, "_MOST_BYTES", most)
    seen = looked(Request("ndjson", b"\n".join([LINUX] * 5)))
    assert seen.verdicts == {"admitted": 2}


def test_the_limit_of_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two fields each."""
    monkeypatch.setattr(live_sample, "_MOST_FIELDS", 7)
    assert looked(Request("ndjson", b"\n".join([LINUX] * 50))).events == 4


def test_the_limit_of_processor_time() -> None:
    """The next second has its own."""
    request = Request("json", LINUX)
    moments = [1000.0, 1000.5, 2000.0, 2000.5]
    assert looked(request, request, spent=iter(moments).__next__).events == 1
    assert looked(*[request] * 3, spent=lambda: 1000.0).events == 3
    moments = [0.0, live_sample._SECONDS, 1.0, 1.0]
    assert looked(request, request, spent=iter(moments).__next__).events == 1
    seconds = iter([1.0, 2.0])
    moments = [0.0, 1.0, 1.0, 1.0]
    spent = iter(moments).__next__
    assert looked(request, request, clock=seconds.__next__, spent=spent).events == 2


@pytest.mark.timeout(30)
def test_a_request_that_comes_while_another_is_looked_at() -> None:
    """It is passed over."""
    asked: list[int] = []

    def clock() -> float:
        asked.append(1)
        made.look(Request("json", LINUX), FILTER)
        return 1.0

    made = LiveSample(clock)
    made.look(Request("json", LINUX), FILTER)
    (seen,) = made.end().values()
    assert (seen.events, asked) == (1, [1])
