"""What is too much of OTLP: items, protobuf, levels; counted before it is decoded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from collector import ConfigError, Filter, load_schema
from collector.contracts import Signal
from collector.filter.otlp import protobuf_body
from collector.filter.records import MAX_ITEMS
from tests.filter.otlp_bodies import SIGNALS
from tests.filter.otlp_bombs import JSON, PROTOBUF, deep, field, logs, record
from tests.support.deadline import WAIT_SECONDS
from tests.support.latency import at_most
from tests.support.programs import script

CONFERENCING = Filter(load_schema("conferencing"))
MOST_MEGABYTES = 80
MOST_SECONDS = 6
"""2.3 s is the most that was seen."""
ALWAYS = {"nearly too many attributes", "items of many attributes", "long texts", "texts"}
"""Bodies that are not too large."""


@pytest.fixture(scope="module")
def measure() -> Iterator[Callable[[str], Any]]:
    """Has a bomb filtered in a process of its own: seconds, megabytes, tally."""
    command = [sys.executable, "-m", "tests.filter.otlp_bombs"]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        given, said = process.stdin, process.stdout
        assert given is not None
        assert said is not None

        def measure(name: str) -> Any:
            print(name, file=given, flush=True)
            return json.loads(said.readline())

        yield measure
        given.close()
        assert process.wait(WAIT_SECONDS) == 0


@pytest.mark.long
@pytest.mark.timed
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("name", [*PROTOBUF, *JSON])
def test_bombs(name: str, measure: Callable[[str], Any]) -> None:
    """No body of 16 MiB takes more memory than a few times its size, or more than seconds."""
    seconds, megabytes, tally = measure(name)
    assert megabytes < MOST_MEGABYTES
    assert seconds < at_most(MOST_SECONDS)
    assert tally["received"] == sum(tally["rejected"].values())
    if name in ALWAYS:
        assert set(tally["rejected"]) == {"nothing_admitted"}


@pytest.mark.parametrize("protobuf", [True, False])
@pytest.mark.parametrize("number", [0, 1, MAX_ITEMS, MAX_ITEMS + 1])
def test_the_most_items(protobuf: bool, number: int) -> None:
    """50,000 are looked at, one more and none is; they are counted either way."""
    body = logs(b"\x12\x00" * number)
    if not protobuf:
        items = b",".join([b"{}"] * number)
        body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%b]}]}]}' % items
    tally = CONFERENCING.admit_otlp("logs", body, protobuf=protobuf).tally
    reason = "too_large" if number > MAX_ITEMS else "nothing_admitted"
    assert tally.received == number
    assert tally.rejected == ({reason: number} if number else {})


@pytest.mark.parametrize("protobuf", [True, False])
def test_items_count_together(protobuf: bool) -> None:
    number = MAX_ITEMS // 2 + 1
    body = logs(b"\x12\x00" * number) * 2
    if not protobuf:
        resource = b'{"scopeLogs":[{"logRecords":[%b]}]}' % b",".join([b"{}"] * number)
        body = b'{"resourceLogs":[%b,%b]}' % (resource, resource)
    tally = CONFERENCING.admit_otlp("logs", body, protobuf=protobuf).tally
    assert tally.rejected == {"too_large": 2 * number}


@pytest.mark.parametrize("protobuf", [True, False])
def test_data_points_are_the_items_of_metrics(protobuf: bool) -> None:
    """Metrics are not."""
    gauge = field(5, b"\x0a\x00" * 3)
    body = field(1, field(2, (field(2, gauge) + field(2, b"")) * 2))
    if not protobuf:
        metric = b'{"gauge":{"dataPoints":[{},{},{}]}},{}'
        body = b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[%b,%b]}]}]}' % (metric, metric)
    tally = CONFERENCING.admit_otlp("metrics", body, protobuf=protobuf).tally
    assert tally.rejected == {"nothing_admitted": 6}


def nested(levels: int) -> bytes:
    """A JSON value of that many levels, each an array."""
    return b'{"arrayValue":{"values":[' * levels + b'{"boolValue":true}' + b"]}}" * levels


@pytest.mark.parametrize(
    ("levels", "verdict"), [(0, None), (1, None), (45, None), (51, "too_deep"), (9999, "too_deep")]
)
@pytest.mark.parametrize("where", ["body", "attribute", "listed", "list"])
def test_deep_protobuf(levels: int, verdict: str | None, where: str) -> None:
    """100 messages in one another are read, as every implementation does; more are too deep."""
    value = deep(levels)
    if where == "list":  # keys and values, which take three messages each
        levels, value = (levels * 2) // 3, b""
        for _ in range(levels):
            value = field(6, field(1, field(1, b"a") + field(2, value)))
    name = b"os" if where == "listed" else b"unlisted"
    attribute = field(6, field(1, name) + field(2, value))
    body = record(field(5, value) if where == "body" else attribute)
    tally = CONFERENCING.admit_otlp("logs", body, protobuf=True).tally
    assert tally.rejected == {verdict or "nothing_admitted": 1}


@pytest.mark.parametrize(("levels", "verdict"), [(30, None), (500, "too_deep"), (9999, "too_deep")])
def test_deep_json(levels: int, verdict: str | None) -> None:
    """100 levels are read, and never more than 1,000."""
    for member in (b'"body":%b', b'"attributes":[{"key":"a","value":%b}]', b'"unlisted":%b'):
        item = b"{%b}" % member % nested(levels)
        body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%b]}]}]}' % item
        tally = CONFERENCING.admit_otlp("logs", body, protobuf=False).tally
        assert tally.rejected == {verdict or "nothing_admitted": 1}


def test_without_protobuf(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which extra it takes; OTLP/JSON takes none."""
    protobuf_body.messages.cache_clear()
    monkeypatch.setitem(sys.modules, "google.protobuf.descriptor_pb2", None)
    with pytest.raises(ConfigError, match=r"E201") as caught:
        CONFERENCING.admit_otlp("traces", b"", protobuf=True)
    assert "data-minimisation-collector[sidecar]" in str(caught.value)
    assert (caught.value.__context__, caught.value.__cause__) == (None, None)
    assert CONFERENCING.admit_otlp("traces", b"{}", protobuf=False).tally.received == 0
    protobuf_body.messages.cache_clear()


def test_it_is_loaded_late() -> None:
    """Protobuf is loaded for the first body that is protobuf."""
    code = (
        "import sys; from collector import Filter, load_schema\n"
        "f = Filter(load_schema('conferencing'))\n"
        "f.admit({}); f.admit_otlp('logs', b'{}', protobuf=False)\n"
        "print('google.protobuf' in sys.modules)\n"
        "f.admit_otlp('logs', b'', protobuf=True)\n"
        "print('google.protobuf' in sys.modules, 'opentelemetry' in sys.modules)"
    )
    assert script(code).stdout.split() == ["False", "True", "False"]


def test_no_such_signal() -> None:
    """A fourth kind of body is the programmer's mistake."""
    signal: Any = "profiles"
    with pytest.raises(ConfigError, match=r"E107"):
        CONFERENCING.admit_otlp(signal, b"", protobuf=True)


def test_the_messages_are_those_of_otlp() -> None:
    """Every member that we name has that number and that type in the official descriptors."""
    for signal in SIGNALS:
        for one in _compared(signal):
            assert one[0] == one[1], signal


def _compared(signal: Signal) -> list[tuple[Any, Any]]:
    from tests.filter.otlp_reference import REQUESTS  # noqa: PLC0415

    found: list[tuple[Any, Any]] = []
    queue = [(protobuf_body.messages(signal).parts, REQUESTS[signal].DESCRIPTOR)]
    seen = set()
    for shape, descriptor in queue:
        if id(shape) in seen:
            continue
        seen.add(id(shape))
        for number, inner in shape.members.items():
            official = descriptor.fields_by_number[number]
            assert official.message_type is not None
            queue.append((inner, official.message_type))
            item = official.name in ("log_records", "spans", "data_points")
            found.append((inner.is_item, item))
    return found
