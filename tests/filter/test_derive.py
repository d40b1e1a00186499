"""What is taken from a user-agent string, and that nothing else of it is."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import ConfigError, Filter, Schema, load_schema
from collector.filter.derive import MAX_BYTES, Agents, parse_user_agent
from collector.schema.policy import DERIVABLE
from collector.testing import canaries
from tests.support.latency import within
from tests.support.make_schemas import sample
from tests.support.programs import script

WINDOWS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/124.0.0.0 Safari/537.36"
)
PHONE = (
    "Mozilla/5.0 (Linux; Android 13; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/112.0.0.0 Mobile Safari/537.36"
)

_NAMES = (
    *("os.type", "os.name", "os.version", "device.type", "device.manufacturer"),
    *("device.model.name", "device.model.identifier"),
)


def says(text: str = "") -> dict[str, str]:
    """Values of the fields that may be derived, in this order; an empty one is absent."""
    return {name: value for name, value in zip(_NAMES, text.split("|"), strict=False) if value}


SAID: list[tuple[str, dict[str, str]]] = [
    (WINDOWS, says("windows|Windows|10|desktop|||")),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.1",
        says("darwin|macOS|10.15.7|desktop|Apple|Mac|"),
    ),
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1_2 like Mac OS X) AppleWebKit/605.1 Mobile/15E148",
        says("ios|iOS|17.1.2|phone|Apple|iPhone|"),
    ),
    (
        "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
        says("ios|iOS|16.6|tablet|Apple|iPad|"),
    ),
    (PHONE, says("android|Android|13|phone|Samsung||SM-S918B")),
    (
        PHONE.replace("SM-S918B", "SM-X906C").replace(" Mobile", ""),
        says("android|Android|13|tablet|Samsung||SM-X906C"),
    ),
    (
        PHONE.replace("SM-S918B", "Pixel 8 Pro"),
        says("android|Android|13|phone|Google|Pixel 8 Pro|"),
    ),
    (PHONE.replace("SM-S918B", "K"), says("android|Android|13|phone|||")),
    (
        "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0",
        says("linux|Ubuntu||desktop|||"),
    ),
    (
        "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 Chrome/124.0 Safari/537.36",
        says("chromeos|Chrome OS|14541.0.0||||"),
    ),
    ("curl/8.5.0", says()),
    ("", says()),
    ("hello, my name is Ana and this is what I said", says()),
    (WINDOWS + " " * (MAX_BYTES - len(WINDOWS) + 1), says()),
    ("Windows NT 10.0 " + "é" * 256, says()),
    ("Windows NT 10.0 \ud800", says()),
]


@pytest.mark.parametrize(("agent", "values"), SAID, ids=range(len(SAID)))
def test_what_it_says(agent: str, values: dict[str, str]) -> None:
    """Devices and systems; nothing for what is no user agent, or is too long, or is no text."""
    assert parse_user_agent(agent) == values
    assert set(values) <= set(DERIVABLE)


def test_the_longest_that_is_looked_at() -> None:
    """512 bytes are, one more is not."""
    longest = WINDOWS + " " * (MAX_BYTES - len(WINDOWS))
    assert parse_user_agent(longest)["os.type"] == "windows"


def agents(more: str = "", document: str = "") -> Schema:
    """A schema whose ``os.*`` is derived, from ``ua`` or ``user_agent.original``."""
    version = "kind: version, parts: 1, maximum: [12], derive: user_agent"
    return sample(
        "  client.address: {kind: ip, from: [ip], REST}\n"
        "  os.type: {kind: enum, values: [windows, android], derive: user_agent, REST}\n"
        f"  os.version: {{{version}, REST{more}}}\n",
        f"user_agent: [ua]\n{document}",
    )


def both(filter_: Filter, event: Any) -> tuple[list[Any], dict[str, Any]]:
    """Records and tally of an event, the same as JSON and as a mapping."""
    written = filter_.admit(json.dumps(event))
    if type(event) is dict:
        assert filter_.admit(event).encode() == written.encode()
    tally = written.tally.as_dict()
    fields = [{key: r[key] for key in r if key != "schema"} for r in written.records]
    return fields, {key: tally[key] for key in tally if not key.startswith("bytes")}


def test_only_where_the_event_has_nothing() -> None:
    """A value of the event wins, even one that is refused; null is none."""
    filter_ = Filter(agents())
    windows = {"os.type": "windows", "os.version": "10"}
    for event, fields, dropped in (
        ({"ua": WINDOWS}, windows, {}),
        ({"user_agent": {"original": WINDOWS}}, windows, {}),
        ({"user_agent.original": WINDOWS}, windows, {}),
        ({"ua": WINDOWS, "user_agent.original": PHONE}, windows, {}),
        ({"ua": None, "user_agent.original": WINDOWS}, windows, {}),
        ({"ua": WINDOWS, "os": {"type": "android"}}, windows | {"os.type": "android"}, {}),
        ({"ua": WINDOWS, "os": {"type": None}}, windows, {}),
        (
            {"ua": WINDOWS, "os": {"type": "plan9"}},
            {"os.version": "10"},
            {"os.type": {"invalid_value": 1}},
        ),
        ({"ua": WINDOWS, "os.type": 1}, {"os.version": "10"}, {"os.type": {"wrong_type": 1}}),
        ({"ua": PHONE}, {"os.type": "android"}, {"os.version": {"invalid_value": 1}}),
    ):
        records, tally = both(filter_, event)
        assert (records, tally.get("dropped", {})) == ([fields], dropped)


@pytest.mark.parametrize("agent", [1, True, [WINDOWS], {"ua": WINDOWS}, "curl/8.5.0", "", None])
def test_no_user_agent(agent: Any) -> None:
    """What is no text, or says nothing, changes nothing; the first that is there decides."""
    event = {"ip": "203.0.113.7", "ua": agent}
    later = {} if agent is None else {"user_agent.original": WINDOWS}
    records, tally = both(Filter(agents()), {**event, **later})
    assert records == [{"client.address": "203.0.113.7"}]
    assert "dropped" not in tally


def test_withheld_fields_are_not_derived() -> None:
    expired = Filter(agents(", expires: 2026-01-01"))
    records, tally = both(expired, {"ua": WINDOWS})
    assert records == [{"os.type": "windows"}]
    assert "dropped" not in tally
    refused = Filter(agents(), purposes=())
    assert refused.plan.user_agent == ()
    assert both(refused, {"ua": WINDOWS})[1]["rejected"] == {"nothing_admitted": 1}


def test_records_have_agents_of_their_own() -> None:
    """An element's values and agent win over those of the document around it."""
    filter_ = Filter(agents(document="records: people\n"))
    people = [{}, {"ua": PHONE}, {"os": {"type": "android"}}, {"ua": 1, "ip": "203.0.113.7"}]
    windows = {"os.type": "windows", "os.version": "10"}
    assert both(filter_, {"ua": WINDOWS, "people": people})[0] == [
        windows,
        {"os.type": "android"},
        windows | {"os.type": "android"},
        {"client.address": "203.0.113.7"},
    ]
    around = {"os": {"type": "android"}, "ua": WINDOWS, "people": [{}]}
    assert both(filter_, around)[0] == [windows | {"os.type": "android"}]
    refused = {"os": {"type": "plan9"}, "ua": WINDOWS, "people": [{}]}
    assert both(filter_, refused)[0] == [{"os.version": "10"}]


def test_agents_remember_little() -> None:
    agents = Agents(["os.type", "os.version"])
    assert agents["curl/8.5.0"] == (None, None)
    assert not agents
    assert agents["Windows NT 10.0"] == ("windows", "10")
    assert "Windows" not in f"{agents!r}"


@cache
def _webrtc() -> Filter:
    return Filter(load_schema("webrtc"))


@given(st.data())
def test_nothing_of_the_text_comes_out(data: st.DataObject) -> None:
    filter_ = _webrtc()
    (canary,) = canaries(1)
    before, after = data.draw(st.sampled_from(SAID))[0], data.draw(st.text(max_size=20))
    where = data.draw(st.integers(0, len(before)))
    agent = before[:where] + canary + before[where:] + after
    for event in ({"userAgent": agent}, ["create", None, {"userAgent": agent}]):
        admission = filter_.admit_lines(json.dumps(event).encode(errors="surrogatepass"))
        assert canary.encode() not in admission.encode()
        assert canary not in repr(admission.tally.as_dict())


@pytest.mark.timed
@pytest.mark.parametrize(
    "agent",
    [
        *("Mozilla/5.0 (" + "Android " * 62, "Mozilla/5.0 (Linux; Android 13; " + "A" * 470),
        *("(" * 512, "Opera/" + "1." * 250, "a " * 256, "Windows Phone OS 7" * 28),
    ],
    ids=range(6),
)
def test_no_agent_takes_long(agent: str) -> None:
    """The engine is linear: no text of 512 bytes costs more than a few milliseconds."""
    parse_user_agent(WINDOWS)  # the table is loaded once
    with within(0.4):
        for number in range(20):
            parse_user_agent(f"{agent[: MAX_BYTES - 2]}{number}")


def test_without_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """A schema that derives says which extra it needs; others do not."""
    monkeypatch.setattr("collector.extras.is_installed", lambda _: False)
    with pytest.raises(ConfigError, match=r"E201") as caught:
        Filter(load_schema("webrtc"))
    assert "data-minimisation-collector[user-agent]" in str(caught.value)
    assert Filter(load_schema("conferencing")).admit({"ip": "203.0.113.7"}).records


def test_it_is_loaded_late() -> None:
    """A schema that derives nothing does not pay for the parser."""
    code = (
        "import sys; from collector import Filter, load_schema\n"
        "Filter(load_schema('conferencing')).admit({'userAgent': 'x'})\n"
        "Filter(load_schema('webrtc')).admit({'address': '203.0.113.7'})\n"
        "print('ua_parser' in sys.modules)"
    )
    assert script(code).stdout == "False\n"
