"""What a request may become: counted before work is done, whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import intake
from collector.contracts import (
    MOST_EVENTS,
    Form,
    PendingBatch,
    Request,
    Tally,
    TooManyBytes,
    TooManyEvents,
)
from collector.errors import DeliveryError
from collector.filter import Filter
from collector.filter.text import has_more_lines
from collector.ingest.memory import Turns
from collector.intake import SLICE, Intake
from collector.intake import _awaited as awaited
from collector.intake import _blocking as blocking
from collector.schema import load_schema
from tests.filter.otlp_bombs import logs
from tests.raising import raises

CONFERENCING = Filter(load_schema("conferencing"))
PARTICIPANTS = Filter(load_schema("participants-qos"))
ADDRESS = b'{"ip":"203.0.113.7"}'
RECORD = b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.7"%b}'
_MOST = 1000
_CHOICES = """
schema: survey
version: 1.0.0
title: A survey
owner: tests
consent: choices
purposes:
  service: {use: essential.service.operations, basis: contract, reason: A test}
  planning:
    use: analytics.reporting.system.performance
    basis: consent
    reason: A test
    optional: true
fields:
  client.address:
    kind: ip
    category: user.device.ip_address
    from: [ip]
    purposes: [service]
    retention: 30d
    reason: A test
"""
"""A schema with an optional purpose, which an event may refuse."""


def _nested(number: int) -> bytes:
    """A document of records, each of which gets the address of the document."""
    return b'{"ip_address":"203.0.113.7","participants":[%b]}' % b",".join([b"{}"] * number)


def _items(number: int) -> bytes:
    return b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%b]}]}]}' % b",".join([b"{}"] * number)


MAKERS: dict[str, tuple[Filter, Form, Callable[[int], bytes]]] = {
    "lines": (CONFERENCING, "ndjson", lambda n: (ADDRESS + b"\n") * n),
    "blank lines": (CONFERENCING, "ndjson", lambda n: b"\n \r\n" + (ADDRESS + b"\n\t\n") * n),
    "lines of garbage": (CONFERENCING, "ndjson", lambda n: b"x\n" * n),
    "an array": (CONFERENCING, "json", lambda n: b"[%b]" % b",".join([ADDRESS] * n)),
    "a nested list": (PARTICIPANTS, "json", _nested),
    "nested lists": (PARTICIPANTS, "json", lambda n: b"[%b,%b]" % (_nested(300), _nested(n - 300))),
    "lists in lines": (PARTICIPANTS, "ndjson", lambda n: _nested(300) + b"\n" + _nested(n - 300)),
    "lists in slices": (
        PARTICIPANTS,
        "ndjson",
        lambda n: (_nested(1) + b"\n") * 600 + _nested(n - 600),
    ),
    "records": (CONFERENCING, "records", lambda n: (RECORD % b"" + b"\n") * n),
    "records for many events": (
        CONFERENCING,
        "records",
        lambda n: (
            (RECORD % b',"count":1023' + b"\n") * (n // 10) + (RECORD % b"" + b"\n") * (n % 10)
        ),
    ),
    "items": (CONFERENCING, "logs", _items),
    "items, protobuf": (CONFERENCING, "logs", lambda n: logs(b"\x12\x00" * n)),
}


def _batches(
    filter_: Filter, request: Request, most: int = _MOST, *, waits: bool
) -> Sequence[PendingBatch]:
    """What becomes of a request."""
    taken = Intake([filter_], most)

    async def awaited() -> Sequence[PendingBatch]:
        async with taken.filtered(request) as found:
            return found.batches()

    try:
        if not waits:
            return asyncio.run(awaited())
        with taken.filtered_now(request) as found:
            return found.batches()
    finally:
        taken.close()


def _filtered(filter_: Filter, request: Request, *, waits: bool) -> tuple[Tally, list[bytes]]:
    """The tally and the records of a request."""
    found = _batches(filter_, request, waits=waits)
    total = sum((batch.tally for batch in found), Tally())
    return total, [batch.payload for batch in found]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("form", MAKERS)
def test_events_are_counted_together(form: str, waits: bool) -> None:
    """As many as are allowed are filtered as ever; of one more nothing is kept."""
    filter_, kind, make = MAKERS[form]
    protobuf = "protobuf" in form
    tally, _ = _filtered(filter_, Request(kind, make(_MOST), protobuf=protobuf), waits=waits)
    assert tally.received >= _MOST
    with raises("E416", TooManyEvents):
        _filtered(filter_, Request(kind, make(_MOST + 1), protobuf=protobuf), waits=waits)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("form", ["lines", "an array", "lists in lines", "records", "items"])
def test_bytes_of_records_are_bounded(
    form: str, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one list becomes them."""
    filter_, kind, make = MAKERS[form]
    body = make(_MOST)
    if kind == "logs":
        item = b'{"attributes":[{"key":"os.build_id","value":{"stringValue":"21E%d"}}]}'
        body = _items(1).replace(b"{}", b",".join(item % n for n in range(100, 500)))
    request = Request(kind, body)
    _, payloads = _filtered(filter_, request, waits=waits)
    size = sum(map(len, payloads))
    monkeypatch.setattr(intake, "MOST_BYTES", size)
    assert _filtered(filter_, request, waits=waits)[1] == payloads
    monkeypatch.setattr(intake, "MOST_BYTES", size - 1)
    with raises("E416", TooManyBytes):
        _filtered(filter_, request, waits=waits)


@pytest.mark.parametrize("waits", [False, True])
def test_a_request_is_one_batch_for_each_set_of_purposes(tmp_path: Path, waits: bool) -> None:
    """However many events it has, in however many pieces they are filtered; each batch counts what
    it holds."""
    path = tmp_path / "survey.yaml"
    path.write_text(_CHOICES)
    lines = (ADDRESS[:-1] + b',"choices":{"planning":%b}}\n' % word for word in (b"true", b"false"))
    body = b"".join(lines) * (MOST_EVENTS // 2)
    found = _batches(Filter(load_schema(path)), Request("ndjson", body), MOST_EVENTS, waits=waits)
    half = MOST_EVENTS // 2
    assert [(each.granted, each.record_count) for each in found] == [
        (None, half),
        (("service",), half),
    ]
    assert [each.tally.admitted for each in found] == [half, half]


@given(st.lists(st.sampled_from([b"\n", b" ", b"\t\r", b"x", b"{}", b"x" * 50])), st.integers(0, 9))
def test_lines_that_are_not_blank_are_counted(parts: list[bytes], most: int) -> None:
    """In pieces of any size."""
    payload = b"".join(parts)
    number = sum(bool(line.strip(b" \t\r")) for line in payload.split(b"\n"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("collector.filter.text.PIECE", 7)
        assert has_more_lines(payload, most) is (number > most)


def test_no_call_counts_much_of_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold the interpreter's lock, and others up; enough lines end both counts, of line
    ends and of lines that are not blank."""
    counted: list[int] = []

    class Body(bytes):
        def __getitem__(self, part: Any) -> Any:
            counted.append(len(range(len(self))[part]))
            return super().__getitem__(part)

        def count(self, *_: Any) -> int:
            raise AssertionError

    monkeypatch.setattr("collector.filter.text.PIECE", 1000)
    assert has_more_lines(Body(b"x\n" * 50_000), 5_000)
    assert (max(counted), sum(counted)) == (1000, 10_000 + 11_000)
    assert not has_more_lines(Body(b"x" * 50_000), 5_000)
    assert max(counted) == 1000


@pytest.mark.parametrize("waits", [False, True])
def test_a_list_beyond_all_limits(waits: bool) -> None:
    """It is refused as any other request that is too much, though the filter counts its elements
    only."""
    body = b"[%b{}]" % (b"{}," * 50_000)
    with raises("E416", TooManyEvents):
        _filtered(CONFERENCING, Request("json", body), waits=waits)


@pytest.mark.parametrize("number", [1, 3])
def test_turns_are_taken_in_order_and_never_lost(number: int) -> None:
    """Also when some are cancelled while they wait, and beside threads."""
    turns, inside, most, order = Turns(number), 0, 0, []

    async def take(name: int) -> None:
        nonlocal inside, most
        async with awaited(turns):
            inside += 1
            most = max(most, inside)
            order.append(name)
            await asyncio.sleep(0)
            inside -= 1

    def block() -> None:
        with blocking(turns):
            pass

    async def run() -> None:
        tasks = [asyncio.create_task(take(name)) for name in range(30)]
        threads = [asyncio.create_task(asyncio.to_thread(block)) for _ in range(5)]
        await asyncio.sleep(0)
        for task in tasks[4:30:3]:
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, *threads, return_exceptions=True), 30)
        async with AsyncExitStack() as stack:
            for _ in range(number):  # all slots are free again
                await asyncio.wait_for(stack.enter_async_context(awaited(turns)), 30)

    asyncio.run(run())
    assert most <= number
    assert order == sorted(order)
    assert len(order) == 30 - len(range(4, 30, 3))


def test_a_thread_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.intake._SLOT_SECONDS", 0.01)
    turns = Turns(1)
    with blocking(turns), pytest.raises(DeliveryError, match="E425"), blocking(turns):
        pass
    with blocking(turns):
        pass


def test_many_requests_share_a_commit() -> None:
    """Requests of a few hundred events do not wait for one another's commit."""
    line = b'{"ip": "203.0.113.7", "note": "%s"}\n' % (b"x" * 1000)
    request, number = Request("ndjson", line * 300), 40
    assert len(request.body) > SLICE

    async def run() -> int:
        intake, together, all_here = Intake([CONFERENCING]), 0, asyncio.Event()

        async def accept() -> None:
            nonlocal together
            async with intake.filtered(request):
                together += 1
                if together == number:
                    all_here.set()
                await asyncio.wait_for(all_here.wait(), 30)

        await asyncio.gather(*(accept() for _ in range(number)))
        return together

    assert asyncio.run(run()) == number
