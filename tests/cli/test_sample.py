"""Schemas and samples of events: what matches, what is near, and a schema that is proposed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from collector.errors import SchemaError
from collector.filter.explain import unmatched
from collector.samples import Sample
from collector.schema import Schema, load_schema, resources
from tests.support.command import Ended, run
from tests.support.raising import raises

_CANARY = "canary"
_EVENTS = [
    {"ip_address": "203.0.113.7", "deviceType": _CANARY, "os": {"name": "iOS", _CANARY: 1}},
    {"client.address": "::1", "device": {"Manufacturer": _CANARY}, "os": {"version": "10.2"}},
    {"client.address": "canary", "model": "canary-7", _CANARY: {"os_type": "linux"}},
]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a directory of its own with the sample."""
    monkeypatch.chdir(tmp_path)
    Path("events.ndjson").write_bytes(b"".join(orjson.dumps(each) + b"\n" for each in _EVENTS))


def _written(name: str) -> Schema:
    """The schema of a proposal whose author has written what it asks for."""
    path = Path(name)
    with raises("E106", SchemaError):
        load_schema(path)
    path.write_text(path.read_text().replace("FILL IN", "Say"))
    return load_schema(path)


def _check(schema: str, sample: str, *more: str) -> Ended:
    return run("schema", "check", schema, "--against", sample, *more)


def _new(sample: str, name: str = "ours") -> Ended:
    return run("schema", "new", name, "--from", sample)


def _is_silent(ended: Ended) -> bool:
    written = [path.read_bytes() for path in Path().glob("*.yaml")]
    return _CANARY.encode() not in b"".join([ended.out, ended.err, *written]).lower()


def test_what_never_matched_and_what_is_near() -> None:
    """Of the events only their number is shown."""
    ended = _check("conferencing", "events.ndjson", "--json")
    assert ended.code == 0
    notes = [each for each in orjson.loads(ended.out) if each["code"] == "never-matched"]
    said = {each["message"].split("`")[1]: each["message"] for each in notes}
    assert not {"ip", "ip_address", "client.address", "os.name", "os.version"} & set(said)
    assert said["os_build"] == "`os_build` never matched in 3 events"
    assert said["device_type"].endswith("; `device_type` is there in another spelling")
    near = "; `manufacturer` is there in another spelling in `device`"
    assert said["device.manufacturer"].endswith(near)
    assert said["os.type"].endswith("; `os` is there, without `type`")
    assert all(each["line"] > 1 and each["severity"] == "note" for each in notes)
    plain = _check("conferencing", "events.ndjson", "--strict")
    assert plain.code == 0
    assert plain.err.count(b"[never-matched]") == len(notes)
    assert _is_silent(ended)
    assert _is_silent(plain)


def test_explain_says_the_same() -> None:
    text = run("explain", "events.ndjson", env={"COLUMNS": "100"}).out.decode()
    assert "os.type" in text.partition("path that never matched")[2].partition("never matched,")[0]
    others = text.partition("never matched,")[2]
    assert others
    assert " ip," not in others
    lines = run("explain", "events.ndjson", "--json").lines
    assert lines[0]["unmatched"]["os.version"] == "`os` is there, without `version`"
    assert "os.version" not in lines[1]["unmatched"]


def test_a_schema_is_proposed() -> None:
    """It loads and admits what it was made of."""
    ended = _new("events.ndjson")
    assert (ended.code, ended.out) == (0, b"")
    assert re.search(rb"\b3 fields\b.*\b3 events\b", ended.err)
    schema = _written("ours.yaml")
    assert list(schema.fields) == ["client.address", "os.name", "os.version"]
    assert schema.fields["client.address"].sources == ("ip_address", "client.address")
    assert all(field.reason.startswith("Say") for field in schema.fields.values())
    filtered = run("filter", "events.ndjson", "-s", "ours.yaml")
    assert filtered.tally["admitted"] == 2
    assert _is_silent(ended)
    checked = _check("ours.yaml", "events.ndjson")
    assert (checked.code, b"never-matched" in checked.err) == (0, False)
    again = _new("events.ndjson")
    assert (again.code, b"E203" in again.err) == (78, True)


@pytest.mark.parametrize(
    ("event", "proposed"),
    [
        ({"clientIp": "203.0.113.7"}, {"client.address": "clientIp"}),
        ({"payload": {"IP-Address": "203.0.113.7"}}, {"client.address": "payload.IP-Address"}),
        ({"client.ip": "203.0.113.7"}, {"client.address": "client.ip"}),
        (
            {"event": {"device": {"brand": "Google", "model": "iPhone 15"}}},
            {
                "device.manufacturer": "event.device.brand",
                "device.model.name": "event.device.model",
            },
        ),
        (
            {"client_info": {"os": "Android", "os_version": "14"}},
            {
                "os.type": "client_info.os",
                "os.name": "client_info.os",
                "os.version": "client_info.os_version",
            },
        ),
        (
            {
                "operating_system": {"version": "14.2"},
                "ip": "203.0.113.7",
                "ip_addr": "203.0.113.8",
            },
            {"client.address": "ip", "os.version": "operating_system.version"},
        ),
    ],
)
def test_names_that_are_known_in_telemetry(event: dict[str, Any], proposed: dict[str, str]) -> None:
    """They are known however they are spelled."""
    Path("a.ndjson").write_bytes(orjson.dumps({_CANARY: {"ip": "203.0.113.7"}} | event))
    ended = _new("a.ndjson")
    assert ended.code == 0, ended.err
    fields = _written("ours.yaml").fields
    assert fields.keys() == proposed.keys()
    assert all(source in (fields[name].sources or ()) for name, source in proposed.items())
    assert _is_silent(ended)
    assert _CANARY not in Path("ours.yaml").read_text()


@pytest.mark.parametrize(
    "event",
    [
        *({"server": {"ip": "203.0.113.7"}}, {"chat": {"ip": "203.0.113.7"}}),
        *({"payload": [{"ip": "203.0.113.7"}]}, {"client": {"ip ": "203.0.113.7"}}),
        *({"i__p": "203.0.113.7"}, {"device": {"os": {"chat": {"version": "14"}}}}),
        *({"client_ip": "canary"}, {"userAgent": "canary"}, {"ip": {"canary": 1}}),
    ],
)
def test_what_is_not_known_in_telemetry(event: dict[str, Any]) -> None:
    Path("a.ndjson").write_bytes(orjson.dumps(event))
    ended = _new("a.ndjson")
    assert (ended.code, Path("ours.yaml").exists()) == (2, False)
    assert b"`collector schema new ours`" in ended.err


def test_a_user_agent_fills_fields() -> None:
    agent = "Mozilla/5.0 (Linux; Android 13; SM-S918B) AppleWebKit/537.36 Chrome/112.0.0.0 Mobile"
    event = {"headers": {"User-Agent": agent}, "os_version": "9"}
    Path("a.ndjson").write_bytes(orjson.dumps(event))
    assert _new("a.ndjson").code == 0
    schema = _written("ours.yaml")
    assert schema.user_agent == ("headers.User-Agent",)
    assert schema.fields["device.model.identifier"].derive == "user_agent"
    (record,) = run("filter", "-s", "ours.yaml", "a.ndjson").lines
    assert (record["device.type"], record["os.version"]) == ("phone", "9")


def test_lists_of_records_are_proposed_too() -> None:
    """The shipped schema that finds most records is chosen."""
    reports = {"C1": {"type": "local-candidate", "id": _CANARY, "address": "203.0.113.7"}}
    Path("stats.ndjson").write_bytes(orjson.dumps(["getstats", "PC", reports, 1]))
    ended = _new("stats.ndjson", "stats")
    assert ended.code == 0
    assert _written("stats.yaml").records == ("[2].*", ".")
    assert run("filter", "-s", "stats.yaml", "stats.ndjson").tally["admitted"] == 1
    assert _is_silent(ended)


def test_a_bare_map_of_reports() -> None:
    reports = {
        "A": {"type": "inbound-rtp", "kind": "audio", "jitter": 0.01, "packetsLost": 20},
        "B": {"type": "candidate-pair", "currentRoundTripTime": 0.04, "canary": "canary"},
    }
    text = orjson.dumps(reports)
    for name, data in (("a.json", b"[%b]" % text), ("a.ndjson", b"%b\n%b\n" % (text, text))):
        Path(name).write_bytes(data)
        Path("ours.yaml").unlink(missing_ok=True)
        ended = _new(name)
        assert ended.code == 0
        proposed = Path("ours.yaml").read_text("utf-8")
        assert 'records: "*"\n' in proposed
        Path("ours.yaml").write_text(proposed.replace("FILL IN", "Say in words"), "utf-8")
        done = run("filter", "--schema", "ours.yaml", name)
        assert done.tally["admitted"] == done.tally["received"] == 2 * (1 + (name == "a.ndjson"))
        assert b"canary" not in ended.err + done.out + proposed.encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", " is empty"),
        (b"a,canary\n1,2\n", " looks like CSV"),
        (b'{"canary": 1}\n', "`collector schema new ours`"),
        (b"[" * 100_000 + b"]" * 100_000, "`collector schema new ours`"),
    ],
)
def test_a_sample_of_nothing(data: bytes, says: str) -> None:
    Path("odd.ndjson").write_bytes(data)
    ended = _new("odd.ndjson")
    assert (ended.code, Path("ours.yaml").exists()) == (2, False)
    assert all(part in ended.err.decode() for part in ("odd.ndjson", says))
    assert _is_silent(ended)
    for name in ("none.ndjson", "ours.yaml"):
        assert _new(name).code == 2


_JITTER = """\
schema: calls
version: 1.0.0
title: Calls
owner: a
purposes:
  ops: {use: essential.service.operations, basis: contract, reason: Find out why calls fail}
fields:
  network.jitter:
    {kind: number, from: [jitter], minimum: 0, maximum: 1000, step: STEP, category: user.telemetry,
    purposes: [ops], retention: 30d, reason: Jitter makes calls sound broken}
  os.type:
    {kind: enum, values: [linux], category: user.device, purposes: [ops], retention: 30d,
    reason: Faults go by system}
"""


def test_how_far_a_schema_reaches_and_where_values_collapse() -> None:
    """Values collapse where a step makes several numbers one."""
    events: list[dict[str, Any]] = [{"jitter": 0.1 * number} for number in range(7)]
    events += [{"jitter": 5 * number, "os": {"type": "linux"}} for number in (1, 2)]
    events += [{"jitter": _CANARY}, {_CANARY: 1}]
    Path("calls.ndjson").write_bytes(b"nope\n" + b"\n".join(map(orjson.dumps, events)))
    Path("coarse.yaml").write_text(_JITTER.replace("STEP", "5"))
    ended = _check("coarse.yaml", "calls.ndjson")
    text = ended.out.decode()
    assert re.search(r"\b9 of 11 events\b.*\b1 more\b", text)
    shown = {line.split()[0]: line.split()[1] for line in text.splitlines() if "%" in line}
    assert shown == {"network.jitter": "82%", "os.type": "18%"}
    assert re.search(r"78% of `network.jitter` .* 0.0; .*`step`", ended.err.decode())
    listed = _check("coarse.yaml", "calls.ndjson", "--json").json
    assert {each["code"] for each in listed} >= {"reached", "collapsed"}
    assert _is_silent(ended)
    Path("fine.yaml").write_text(_JITTER.replace("STEP", "0.05"))
    assert b"collapsed" not in _check("fine.yaml", "calls.ndjson").err
    Path("same.ndjson").write_bytes(b'{"jitter": 0.1}\n' * 9)
    assert b"collapsed" not in _check("coarse.yaml", "same.ndjson").err


@pytest.mark.parametrize("name", resources.names())
def test_a_field_that_is_kept_is_never_called_unmatched(name: str) -> None:
    schema = load_schema(name)
    for trial in schema.tests:
        sample = Sample(orjson.dumps(trial.event), lines=False)
        for each in sample.explained(schema):
            near = unmatched([each])
            for field, outcome in each.fields.items():
                if outcome.outcome == "kept":
                    assert not near.keys() & {*schema.fields[field].paths(field)}


def test_many_events_begin_with_a_summary() -> None:
    Path("many.ndjson").write_bytes(orjson.dumps(_EVENTS[0]) + b"\n" + b"{}\nnope\n" * 20)
    text = run("explain", "many.ndjson", "--limit", 2).out.decode()
    first, *_ = text.splitlines()
    assert first == "41 events: 1 admitted, 20 nothing_admitted, 20 malformed"
    assert "5%" in text
    assert text.count("event 1:") == text.count("event 2:") == 1
    assert "event 3:" not in text
    assert "--limit" in text
    assert "--limit" not in run("explain", "events.ndjson").out.decode()
