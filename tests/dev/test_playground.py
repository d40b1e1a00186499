"""The playground: a confined process says what the filter makes of a text, whatever that is."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.dev.playground import FORMS, MOST_BYTES, Pasted, Playground, answer
from collector.errors import InputError
from collector.filter import Filter
from collector.keyring import Keyring
from collector.sandbox import support
from collector.schema import load_schema

_CANARY = "hunter2-canary"
_EVENT = {"ip": "203.0.113.7", "os": {"type": "linux", "version": 7}, "chat": [_CANARY], _CANARY: 1}


@pytest.fixture(scope="module")
def playground() -> Iterator[Playground]:
    """One for all tests: a process that answers stays."""
    made = Playground("conferencing")
    yield made
    made.close()


def _told(playground: Playground, form: Pasted, text: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(playground.ask(form, text))
    return found


def test_an_event_is_explained(playground: Playground) -> None:
    """Each field with its outcome and the rule of its kind. Nothing else of the text comes back."""
    found = _told(playground, "json", json.dumps(_EVENT).encode())
    (event,) = found["events"]
    by_name = {field["name"]: field for field in event["fields"]}
    assert event["record"] == {
        "schema": "conferencing/1.0.0",
        "client.address": "203.0.113.7",
        "os.type": "linux",
    }
    assert by_name["os.version"]["outcome"] == "wrong_type"
    assert by_name["client.address"]["rule"].startswith("An IPv4 or IPv6 address")
    assert (event["content"], event["unlisted"]) == (["chat"], 1)
    assert _CANARY not in json.dumps(found)


_ATTRIBUTES = [{"key": "os.type", "value": {"stringValue": "linux"}}]
_LOGS = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"attributes": _ATTRIBUTES}] * 60}]}]}


def test_telemetry_is_explained(playground: Playground) -> None:
    """Alike log records become one, as they do in the sidecar."""
    found = _told(playground, "logs", json.dumps(_LOGS).encode())
    assert found["tally"]["admitted"] == 60
    assert {event["record"]["os.type"] for event in found["events"]} == {"linux"}


_HOSTILE: dict[str, tuple[Pasted, bytes, dict[str, int]]] = {
    "deep": ("json", b"[" * 1_200 + b"]" * 1_200, {"too_deep": 1}),
    "deep objects": ("json", b'{"a":' * 100_000, {"too_deep": 1}),
    "no UTF-8": ("json", b"\xff\xfe", {"malformed": 1}),
    "HTML": ("ndjson", b"<script>alert(1)</script>\n{}", {"malformed": 1, "nothing_admitted": 1}),
    "a number": ("json", b"9" * MOST_BYTES, {"not_an_object": 1}),
    "no telemetry": ("traces", b"\xff", {"malformed": 1}),
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_hostile_text_gets_a_reason(playground: Playground, name: str) -> None:
    form, text, rejected = _HOSTILE[name]
    assert _told(playground, form, text)["tally"]["rejected"] == rejected


def test_one_byte_too_many_is_refused(playground: Playground) -> None:
    with pytest.raises(InputError, match="1,048,576 bytes at most"):
        playground.ask("json", b"x" * (MOST_BYTES + 1))


def test_it_is_confined(playground: Playground) -> None:
    playground.ask("json", b"{}")
    assert playground.is_confined is (not support().lacks)


def test_a_process_that_ends_is_replaced(playground: Playground) -> None:
    """The request that it had fails with a reason; the next one is answered."""
    playground.ask("json", b"{}")
    assert playground.process is not None
    os.kill(playground.process.pid, signal.SIGKILL)
    playground.process.wait()
    with pytest.raises(InputError):
        playground.ask("json", b"{}")
    assert _told(playground, "json", b"{}")["tally"]["received"] == 1


def test_a_faulty_schema_does_not_start(tmp_path: Path) -> None:
    """It is an error with a reason."""
    faulty = Playground(str(tmp_path / "none.yaml"))
    with pytest.raises(InputError, match="does not start"):
        faulty.ask("json", b"{}")


_CHOSEN = Filter(load_schema("conferencing"), keys=Keyring())
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("os.type"), inner),
)


@settings(max_examples=50)
@given(st.sampled_from(FORMS), st.binary() | _JSON.map(lambda each: json.dumps(each).encode()))
def test_any_text_is_answered(form: Pasted, text: bytes) -> None:
    """What is shown is JSON, and the counts add up."""
    tally = json.loads(json.dumps(answer(_CHOSEN, form, text)))["tally"]
    assert tally["received"] == tally["admitted"] + sum(tally["rejected"].values())
