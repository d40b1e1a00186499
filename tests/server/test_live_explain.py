"""What a worker says that it saw: only counts of closed vocabularies, which can be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from collector.contracts import PendingBatch, Request, Tally
from collector.errors import DeliveryError
from collector.filter import Filter
from collector.filter.live_sample import LiveSample
from collector.filter.sample_counts import CELLS, MOST_IN_SECOND, MOST_SEEN, VERDICTS, Seen, cell
from collector.schema import load_schema
from collector.server import live_explain as live_module
from collector.server.channel import BatchCode, framed, frames_of_workers
from collector.server.live_explain import LiveExplain, explained
from collector.server.messages import ChannelError, LiveSeen, SeenCounts
from tests.support.make_schemas import wide
from tests.support.rows import for_each

_SCHEMA = load_schema("conferencing")
_FILTER = Filter(_SCHEMA)
_CODE = BatchCode([_SCHEMA])
_DIGEST = _SCHEMA.layout.digest
_NONE = [0] * len(VERDICTS)
_EVENT = b'{"ip": 7, "os": {"type": "linux"}}'


def _sent(counts: SeenCounts) -> Seen:
    """Send it as a worker does, and read it as the keeper does."""
    ((message, _),) = frames_of_workers(lambda _: 1).feed(framed(LiveSeen(1, [counts])))
    assert isinstance(message, LiveSeen)
    name, seen = _CODE.read_seen(message.schemas[0])
    assert name == "conferencing"
    return seen


def _looked(*requests: Request, clock: Callable[[], float] = lambda: 0.0) -> Seen:
    sample = LiveSample(clock)
    for each in requests:
        sample.look(each, _FILTER)
    return sample.seen.get(_DIGEST, Seen())


def test_counts_come_through() -> None:
    seen = _looked(Request("json", _EVENT), Request("json", b"{"))
    counts = _CODE.seen(_DIGEST, seen)
    assert counts is not None
    assert _sent(counts) == seen
    assert (seen.verdicts["admitted"], seen.verdicts["malformed"]) == (1, 1)
    assert seen.fields["client.address"] == {cell("wrong_type", "number"): 1}
    tally = Tally(2, 1)
    facts = explained({}, {"conferencing": tally}, {"conferencing": seen})["conferencing"]
    assert facts["looked_at"] == facts["received"] == 2
    assert {"outcome": "kept", "type": "string", "events": 1} in facts["fields"]["os.type"]


@for_each(
    "counts",
    [
        SeenCounts(9, _NONE, {}),
        SeenCounts(0, _NONE[1:], {}),
        SeenCounts(0, [*_NONE, 0], {}),
        SeenCounts(0, [MOST_SEEN + 1, *_NONE[1:]], {}),
        SeenCounts(0, [-1, *_NONE[1:]], {}),
        SeenCounts(0, [MOST_SEEN, 1, *_NONE[2:]], {}),
        SeenCounts(0, _NONE, {999: {}}),
        SeenCounts(0, _NONE, {0: {0: 1}}),
        SeenCounts(0, [1, *_NONE[1:]], {0: {CELLS: 1}}),
        SeenCounts(0, [1, *_NONE[1:]], {0: {0: 1, 1: 1}}),
    ],
)
def test_what_cannot_be_is_refused(counts: SeenCounts) -> None:
    """Numbers of nothing, more events than there may be, more of a field than events."""
    with pytest.raises(ChannelError):
        _sent(counts)


class _Link:
    """A worker that is asked, and that the test answers for."""

    is_ready, code = True, _CODE

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.channel = self

    def send(self, message: bytes) -> None:
        self.heard.append(message)


def test_an_answer_is_taken_once() -> None:
    one, other, third = _Link(), _Link(), _Link()
    seen = SeenCounts(0, [3, *_NONE[1:]], {})

    async def ask() -> None:
        links: list[Any] = [one, other, third]
        live = LiveExplain(links)
        task = asyncio.create_task(live.ask(1e9))
        await asyncio.sleep(0)
        assert len(one.heard) == len(third.heard) == 1
        live.take(cast("Any", one), LiveSeen(1, [seen]))
        for link, said in ((one, [seen]), (other, [seen, seen]), (_Link(), [seen])):
            with pytest.raises(ChannelError):
                live.take(cast("Any", link), LiveSeen(1, said))
        with pytest.raises(DeliveryError):
            await live.ask(1)
        with pytest.raises(ChannelError):
            live.take(cast("Any", third), LiveSeen(2, [seen]))
        live.forget(cast("Any", other))
        live.take(cast("Any", third), LiveSeen(1, [seen]))
        workers, found = await task
        assert (workers, found["conferencing"].events) == (2, 6)

    asyncio.run(ask())


def test_a_late_answer_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may be busy: what it says after its time is over is passed over once, also while it
    is asked anew, and counts in no other answer. Without workers, the answer comes at once."""
    monkeypatch.setattr(live_module, "_LATE_SECONDS", 0.01)
    link, seen = _Link(), SeenCounts(0, [3, *_NONE[1:]], {})

    async def ask() -> None:
        links: list[Any] = [link]
        live = LiveExplain(links)
        assert await live.ask(0) == (0, {})
        assert await live.ask(0) == (0, {})
        live.take(links[0], LiveSeen(1, [seen]))
        with pytest.raises(ChannelError):
            live.take(links[0], LiveSeen(1, [seen]))
        task = asyncio.create_task(live.ask(60))
        await asyncio.sleep(0)
        live.take(links[0], LiveSeen(2, [seen]))
        assert not task.done()
        live.take(links[0], LiveSeen(3, []))
        assert await task == (1, {})
        assert await asyncio.wait_for(LiveExplain([]).ask(60), 30) == (0, {})

    asyncio.run(ask())


def test_a_sample_is_bounded() -> None:
    """In events of a request and of a second, and in bytes; the next second has its own."""
    seconds = [0.0]
    sample = LiveSample(lambda: seconds[0], lambda: 0.0)
    lines = Request("ndjson", b"\n".join([_EVENT] * 2_000))
    sample.look(lines, _FILTER)
    per_request = sample.seen[_DIGEST].events
    for _ in range(100):
        sample.look(lines, _FILTER)
    assert (per_request, sample.seen[_DIGEST].events) == (50, MOST_IN_SECOND)
    seconds[0] = 1.0
    sample.look(lines, _FILTER)
    assert sample.end()[_DIGEST].events == MOST_IN_SECOND + per_request
    sample.look(lines, _FILTER)
    assert sample.seen[_DIGEST].events == MOST_IN_SECOND + per_request
    assert _looked(Request("json", b"[" + b" " * (1 << 16) + b"{}]")).events == 0


def test_what_a_question_counts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_SEEN >= 60 * MOST_IN_SECOND
    monkeypatch.setattr("collector.filter.live_sample.MOST_SEEN", 2 * MOST_IN_SECOND)
    seconds = [0.0]
    sample = LiveSample(lambda: seconds[0], lambda: 0.0)
    lines = Request("ndjson", b"\n".join([_EVENT] * 50))
    for _ in range(5):
        seconds[0] += 1.0
        for _ in range(20):
            sample.look(lines, _FILTER)
    assert sample.end()[_DIGEST].events == 2 * MOST_IN_SECOND


def test_fewer_events_of_many_fields_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text(wide(range(400), "aa, bb"))
    request = Request("json", b"[" + b",".join([b"{}"] * 50) + b"]")
    sample = LiveSample(lambda: 0.0, lambda: 0.0)
    sample.look(request, Filter(load_schema(tmp_path / "wide.yaml")))
    (seen,) = sample.end().values()
    assert 1 <= seen.events <= 10
    assert len(seen.fields) == 400


def test_processor_time_is_bounded() -> None:
    """What has taken too much of a second is followed by nothing in it."""
    spent = iter(range(1_000))
    sample = LiveSample(lambda: 0.0, lambda: float(next(spent)))
    for _ in range(3):
        sample.look(Request("json", _EVENT), _FILTER)
    assert sample.seen[_DIGEST].events == 1


def test_what_is_refused_is_no_error_here() -> None:
    """Records of another schema, and telemetry that is none."""
    foreign = b'{"schema":"web/1.0.0","os.type":"linux"}\n'
    assert _looked(Request("records", foreign), Request("logs", b"\xff")).verdicts.total() <= 1


def test_records_of_an_sdk_are_counted() -> None:
    batch = _admitted()
    seen = _looked(Request("records", batch.payload))
    assert seen.fields["os.type"] == {cell("kept", None): 1}


def _admitted() -> PendingBatch:
    (batch,) = _FILTER.admit_records(_FILTER.admit(_EVENT).encode())
    return batch
